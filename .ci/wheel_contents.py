"""Fail unless the wheel given holds gpunn, gpunn.kernels and the data, and nothing else."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def expected() -> set[str]:
    """Return what belongs in the wheel, by what is in the checkout."""
    files = (ROOT / "gpunn").rglob("*")
    package = [
        path for path in files if path.suffix in {".py", ".gz", ".html", ".css", ".js"} or path.name == "py.typed"
    ]
    kernels = (ROOT / "kernels").rglob("*.py")
    return {str(path.relative_to(ROOT)) for path in package} | {f"gpunn/{path.relative_to(ROOT)}" for path in kernels}


def main(wheel: str) -> None:
    """Compare, and say what is missing or too much."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if names != expected():
        sys.exit(f"{wheel}: missing {sorted(expected() - names)}, too much {sorted(names - expected())}")
    print(f"{wheel}: {len(names)} files, as expected")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])

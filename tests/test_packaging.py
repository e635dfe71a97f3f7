"""Costs of imports, and gpunn as a checkout and as an installed package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
HEAVY = [
    "PIL",
    "click",
    "cupy",
    "mpi4py",
    "joblib",
    "llvmlite",
    "matplotlib",
    "numba",
    "onnx",
    "pandas",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "threadpoolctl",
    "torch",
]


def python(code: str, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_gpunn_imports_nothing_heavy() -> None:
    assert python(f"import sys, gpunn; print([name for name in {HEAVY} if name in sys.modules])", ROOT) == "[]"


def test_training_on_the_cpu_needs_numpy_alone() -> None:
    code = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None
import numpy, gpunn
split = gpunn.Split(numpy.eye(8, dtype=numpy.uint8), numpy.arange(8, dtype=numpy.uint8))
print(gpunn.train(gpunn.MLP([8, 8]), split, epochs=1, batch_size=2, learning_rate=1.0).engine)
"""
    assert python(code, ROOT) == "plain"


def test_without_scikit_learn_asking_for_an_estimator_names_the_extra() -> None:
    code = """
import sys
sys.modules["sklearn"] = None
import gpunn
try:
    gpunn.MLPClassifier
except ImportError as error:
    print(error)
"""
    expected = (
        "gpunn.MLPClassifier and gpunn.MLPRegressor need scikit-learn 1.7 or newer, which is not installed: "
        'pip install "gpunn[sklearn]"'
    )
    assert python(code, ROOT) == expected


def test_estimators_are_documented_attributes() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, which the estimators need, is not installed: gpunn[sklearn]")
    import gpunn

    for name in ("MLPClassifier", "MLPRegressor"):
        assert name in dir(gpunn)
        assert getattr(gpunn, name).__doc__
    with pytest.raises(AttributeError, match="module 'gpunn' has no attribute 'MLPRanker'"):
        gpunn.MLPRanker  # noqa: B018


def test_a_bare_checkout_finds_its_kernels(tmp_path: Path) -> None:
    for package in ("gpunn", "kernels"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    code = "import gpunn.kernels.contract as r, gpunn; print(gpunn.__file__, r.__file__)"
    expected = f"{tmp_path / 'gpunn' / '__init__.py'} {tmp_path / 'kernels' / 'contract.py'}"
    assert python(code, tmp_path) == expected
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert python(code, elsewhere, PYTHONPATH=str(tmp_path)) == expected


def test_an_installed_package_does_not_look_beside_itself(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "gpunn", tmp_path / "gpunn", ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    shutil.copytree(ROOT / "kernels", tmp_path / "gpunn" / "kernels")
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").touch()
    code = "import gpunn, gpunn.kernels.contract as r; print(len(gpunn.__path__), r.__file__)"
    assert python(code, tmp_path) == f"1 {tmp_path / 'gpunn' / 'kernels' / 'contract.py'}"


def test_every_name_is_exported_and_documented() -> None:
    import gpunn

    for name in gpunn.__all__:
        assert getattr(gpunn, name).__doc__, name


def test_only_what_is_public_is_listed() -> None:
    import gpunn

    assert set(dir(gpunn)) - {"MLPClassifier", "MLPRegressor"} == set(gpunn.__all__)
    assert not [name for name in dir(gpunn) if name.startswith("_") and name != "__version__"]


def test_a_network_is_loaded_and_a_picture_read_by_the_packages_own_names(tmp_path: Path) -> None:
    import gpunn

    gpunn.MLP([784, 3, 10], seed=1).save(tmp_path / "net")
    assert str(gpunn.load(tmp_path / "net")) == "784-3-10"
    np.save(tmp_path / "digit.npy", np.tri(28, dtype=np.uint8) * 200)
    assert gpunn.read_digit(tmp_path / "digit.npy").shape == (784,)


@pytest.mark.parametrize("name", ["gpunn", "kernels", "benchmarks"])
def test_every_module_says_what_it_is(name: str) -> None:
    modules = sorted((ROOT / name).rglob("*.py"))
    assert modules
    for module in modules:
        assert module.read_text().startswith(('"""', 'r"""')), module

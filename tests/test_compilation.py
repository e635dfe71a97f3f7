"""The cache of compiled kernels: kept for later processes, and never used when out of date or damaged."""

import logging
import os
import pickle
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numba
import pytest

from gpunn.kernels import cache
from gpunn.kernels.cache import Shelf

ROOT = Path(__file__).parent.parent

SIGMOID_OF_ZERO = """
import logging, re, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
import numpy
from gpunn.kernels.cpu import contract as cpu
from gpunn.kernels.announcement import announced
z = numpy.zeros((1, 1), numpy.float32)
with announced("a sigmoid"):
    cpu.bias_activate(z, numpy.zeros(1, numpy.float32), out=z)
print(z[0, 0])
"""
FIRST = "compiling kernels for a sigmoid"


def python(code: str, folder: Path, **environment: str) -> list[str]:
    """Return the lines that `code` prints, with the gpunn in `folder`, whose cache is there too; times become T."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "user")} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [re.sub(r"\d+\.\d s\b", "T", line) for line in done.stdout.splitlines()]


def compiled(kept: Path) -> list[str]:
    """Return the output when kernels are compiled, and then kept in `kept`."""
    return [FIRST, f"compiled in T, and kept in {kept}", "0.5"]


def copy_packages(folder: Path) -> Path:
    for package in ("gpunn", "kernels"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    return folder


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_packages(tmp_path)


@pytest.fixture(scope="module")
def first_use(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A checkout with cached kernels, and what was printed when they were compiled."""
    folder = copy_packages(tmp_path_factory.mktemp("used"))
    return folder, python(SIGMOID_OF_ZERO, folder)


@pytest.fixture
def used_checkout(first_use: tuple[Path, list[str]], tmp_path: Path) -> Path:
    """A copy of it: keys of kernels don't depend on where it is."""
    folder, _ = first_use
    return shutil.copytree(folder, tmp_path / "copy")


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_kernels_are_compiled_once_and_this_is_logged(first_use: tuple[Path, list[str]], used_checkout: Path) -> None:
    folder, printed = first_use
    assert printed == compiled(folder / "user/gpunn/kernels")
    assert python(SIGMOID_OF_ZERO, used_checkout) == ["0.5"]


def test_nothing_but_bytecode_is_put_beside_the_source(used_checkout: Path) -> None:
    suffixes = {".py", ".pyc", ".typed", ".html", ".css", ".js"}
    added = [path for path in files(used_checkout) if path.suffix not in suffixes]
    assert added
    assert all(path.is_relative_to(used_checkout / "user") for path in added)


def test_numba_cache_dir_wins(checkout: Path) -> None:
    kept = {"NUMBA_CACHE_DIR": str(checkout / "kept")}
    assert python(SIGMOID_OF_ZERO, checkout, **kept) == compiled(checkout / "kept/gpunn")
    assert python(SIGMOID_OF_ZERO, checkout, **kept) == ["0.5"]
    assert not (checkout / "user").exists()


@pytest.mark.parametrize("name", ["", "somewhere"])
def test_a_cache_folder_that_is_not_absolute_is_ignored(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.folder() == tmp_path / ".cache/gpunn/kernels"


def test_kernels_are_compiled_again_when_a_function_that_they_call_changes(used_checkout: Path) -> None:
    formulas = used_checkout / "kernels" / "cpu" / "activations.py"
    changed = formulas.read_text().replace("F(0.5) * z), F(0.5), F(0.5))", "F(0.5) * z), F(0.5), F(0.25))")
    formulas.write_text(changed)
    assert python(SIGMOID_OF_ZERO, used_checkout)[-1] == "0.25"


def test_kernels_are_compiled_again_for_another_cpu(used_checkout: Path) -> None:
    assert python(SIGMOID_OF_ZERO, used_checkout, NUMBA_CPU_NAME="generic")[0] == FIRST


CANNOT = "compiled kernels can't be kept, and every process will compile them again: "
ADVICE = "; set NUMBA_CACHE_DIR to a folder that can be written to"


def test_without_a_cache_folder_kernels_are_compiled_every_time(checkout: Path) -> None:
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null"}
    word = f"{CANNOT}[Errno 20] Not a directory: '/dev/null/gpunn/kernels'{ADVICE}"
    assert python(SIGMOID_OF_ZERO, checkout, **nowhere) == [FIRST, word, "compiled in T", "0.5"]


FULL_DISK = """
from gpunn.kernels import cache
def replace(*arguments):
    raise OSError(28, "No space left on device")
cache.Path.replace = replace
"""


def test_kernels_run_although_the_disk_is_full(checkout: Path) -> None:
    word = f"{CANNOT}[Errno 28] No space left on device{ADVICE}"
    assert python(FULL_DISK + SIGMOID_OF_ZERO, checkout) == [FIRST, word, "compiled in T", "0.5"]
    assert files(checkout / "user") == []


def a_flipped_bit(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_damaged_kernels_are_compiled_again_and_replaced(used_checkout: Path) -> None:
    kept = files(used_checkout / "user")
    for path in kept:
        path.write_bytes(a_flipped_bit(path.read_bytes()))
    word, *lines = python(SIGMOID_OF_ZERO, used_checkout)
    assert re.match(r"a cached kernel can't be used, and is compiled again: it was damaged: /", word)
    assert lines == compiled(used_checkout / "user/gpunn/kernels")
    assert python(SIGMOID_OF_ZERO, used_checkout) == ["0.5"]
    assert files(used_checkout / "user") == kept


def written(damage: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(damage(content))

    return write


def replaced_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        make(path)

    return replace


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (written(lambda _: b""), "it was damaged: /"),
        (written(lambda content: content[: len(content) // 2]), "it was damaged: /"),
        (written(a_flipped_bit), "it was damaged: /"),
        (written(lambda _: pickle.dumps(7)), "it was damaged: /"),
        (replaced_by(lambda path: (path / "more").mkdir(parents=True)), "it is not a regular file"),
        (replaced_by(os.mkfifo), "it is not a regular file"),
    ],
    ids=["empty", "cut", "a flipped bit", "foreign", "a folder", "a pipe"],
)
def test_whatever_is_in_place_of_a_kernel_is_not_used_and_replaced(
    damage: Callable[[Path], None], message: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    shelf = Shelf(tmp_path)
    shelf.write("a.nbc", b"code" * 100)
    damage(tmp_path / "a.nbc")
    assert shelf.read("a.nbc") is None
    assert message in caplog.text
    shelf.write("a.nbc", b"other code")
    assert shelf.read("a.nbc") == b"other code"
    assert shelf.keeps


def test_kernels_that_this_numba_cannot_load_are_compiled_again(used_checkout: Path) -> None:
    for content in (b"not a pickle", pickle.dumps(7)):
        for path in files(used_checkout / "user"):
            path.write_bytes(cache._sealed(content))
        assert "a cached kernel can't be used" in python(SIGMOID_OF_ZERO, used_checkout)[0]
    assert python(SIGMOID_OF_ZERO, used_checkout) == ["0.5"]


OUT_OF_BOUNDS = """
from gpunn.kernels.cpu import memory, vector_math, vectors
from gpunn.kernels.compilation import compiled
import numpy
four = vectors.Static(4)

@compiled
def read(array, index):
    return memory.at(memory.pointer(array), index)

@compiled
def read_lanes(array, index):
    return vector_math.lane_sum(memory.load(memory.pointer(array), index, four))

array = numpy.ones(64, numpy.float32)
print(read(array, 63), read_lanes(array, 0))
for function, index in ((read, 64), (read, -1), (read_lanes, 1), (read_lanes, -1)):
    try:
        function(array, index)
    except IndexError as error:
        print(error)
"""


def test_bounds_are_checked_on_request(checkout: Path) -> None:
    (checkout / "use.py").write_text(OUT_OF_BOUNDS)
    lines = python("import runpy; runpy.run_path('use.py')", checkout, NUMBA_BOUNDSCHECK="1")
    assert lines == ["1.0 64.0", *["a kernel accessed an array out of bounds"] * 4]


def test_a_disabled_compiler_is_an_error_only_when_a_kernel_is_called(checkout: Path) -> None:
    code = """
import importlib, pkgutil
import gpunn, gpunn.kernels, numpy
for module in pkgutil.walk_packages(gpunn.kernels.__path__, "gpunn.kernels."):
    if "cuda" not in module.name:
        importlib.import_module(module.name)
from gpunn.kernels.cpu import contract as cpu
z = numpy.zeros((1, 1), numpy.float32)
try:
    cpu.bias_activate(z, z[0].copy(), out=z)
except RuntimeError as error:
    print(error)
"""
    expected = "Numba's compiler is switched off (NUMBA_DISABLE_JIT): unset it to use gpunn's kernels"
    assert python(code, checkout, NUMBA_DISABLE_JIT="1") == [expected]


def test_what_was_written_is_read_and_nothing_else(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "new" / "kernels")
    assert shelf.read("a.nbc") is None
    for content in (b"code", b"other code", b""):
        shelf.write("a.nbc", content)
        assert shelf.read("a.nbc") == content
    assert shelf.keeps
    assert [path.name for path in files(tmp_path)] == ["a.nbc"]
    assert Shelf(None).read("a.nbc") is None


def test_kernels_that_others_could_have_put_there_are_not_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    shelf = Shelf(tmp_path / "kernels")
    shelf.write("a.nbc", b"code")
    assert stat.S_IMODE((tmp_path / "kernels").stat().st_mode) & stat.S_IWOTH == 0
    (tmp_path / "kernels").chmod(0o777)
    assert Shelf(tmp_path / "kernels").read("a.nbc") is None
    assert "everybody can write to the folder" in caplog.text
    (tmp_path / "kernels").chmod(0o755)
    assert Shelf(tmp_path / "kernels").read("a.nbc") == b"code"
    os.chown(tmp_path / "kernels", 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(
        os, "geteuid", lambda: 12345
    )
    other = Shelf(tmp_path / "kernels")
    assert other.read("a.nbc") is None
    other.write("a.nbc", b"code")
    assert not other.keeps
    assert "the folder belongs to another user" in caplog.text


def test_unreadable_kernels_count_as_missing(locked_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gpunn")
    shelf = Shelf(locked_folder / "kernels")
    assert shelf.read("a.nbc") is None
    shelf.write("a.nbc", b"code")
    assert not shelf.keeps
    assert [record.getMessage().count("Permission denied") for record in caplog.records] == [1, 1]


def test_the_least_recently_used_kernels_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(tmp_path)
    for age, name in enumerate("dcba"):
        shelf.write(f"{name}.nbc", bytes(100))
        os.utime(tmp_path / f"{name}.nbc", (10**9 - age, 10**9 - age))
    (tmp_path / "left.part").write_bytes(bytes(100))
    os.utime(tmp_path / "left.part", (0, 0))
    (tmp_path / "not ours").write_bytes(bytes(1000))
    monkeypatch.setattr(cache, "MOST", 499)
    shelf.write("e.nbc", b"")  # it looks around once
    assert len(files(tmp_path)) == 7
    assert shelf.read("a.nbc") == bytes(100)
    Shelf(tmp_path).write("f.nbc", b"")
    assert [path.name for path in files(tmp_path)] == ["a.nbc", "d.nbc", "e.nbc", "f.nbc", "not ours"]

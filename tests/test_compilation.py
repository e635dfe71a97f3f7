"""Compiled kernels: kept for the next process, but never longer than they are right."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SIGMOID_OF_ZERO = """
import logging, sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
import numpy
from gpunn.kernels import cpu
z = numpy.zeros((1, 1), numpy.float32)
cpu.bias_activate(z, numpy.zeros(1, numpy.float32), out=z)
print(z[0, 0])
"""
ONCE = "compiling kernels for this CPU, once: a few seconds"
ALWAYS = (
    "compiling kernels for this CPU, for this run, as no folder for them can be written (set NUMBA_CACHE_DIR): "
    "a few seconds"
)


def python(code: str, folder: Path, **environment: str) -> list[str]:
    """Return the lines that `code` prints, with the gpunn in `folder`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for package in ("gpunn", "kernels"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("*.gz", "__pycache__"))
    return tmp_path


def test_kernels_are_compiled_once_and_it_is_said(checkout: Path) -> None:
    assert python(SIGMOID_OF_ZERO, checkout) == [ONCE, "0.5"]
    assert python(SIGMOID_OF_ZERO, checkout) == ["0.5"]


def test_kernels_are_compiled_again_when_a_function_that_they_call_changes(checkout: Path) -> None:
    assert python(SIGMOID_OF_ZERO, checkout) == [ONCE, "0.5"]
    formulas = checkout / "kernels" / "activations.py"
    changed = formulas.read_text().replace("F(0.5) * z), F(0.5), F(0.5))", "F(0.5) * z), F(0.5), F(0.25))")
    formulas.write_text(changed)
    assert python(SIGMOID_OF_ZERO, checkout) == [ONCE, "0.25"]


def test_kernels_are_compiled_again_for_another_cpu(checkout: Path) -> None:
    assert python(SIGMOID_OF_ZERO, checkout) == [ONCE, "0.5"]
    assert python(SIGMOID_OF_ZERO, checkout, NUMBA_CPU_NAME="generic") == [ONCE, "0.5"]


def test_without_a_folder_to_keep_them_in_kernels_are_compiled_every_time(checkout: Path) -> None:
    (checkout / "kernels" / "__pycache__").write_text("not a folder")
    nowhere = {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1"}
    for _ in range(2):
        assert python(SIGMOID_OF_ZERO, checkout, **nowhere) == [ALWAYS, "0.5"]
    kept = {"NUMBA_CACHE_DIR": str(checkout / "kept")}
    assert python(SIGMOID_OF_ZERO, checkout, **nowhere, **kept) == [ONCE, "0.5"]
    assert python(SIGMOID_OF_ZERO, checkout, **nowhere, **kept) == ["0.5"]


FULL_DISK = """
from numba.core import caching
def save(*arguments):
    raise OSError(28, "No space left on device")
caching.IndexDataCacheFile.save = save
"""


def test_a_full_disk_is_no_reason_not_to_compute(checkout: Path) -> None:
    word = "compiled kernels can't be kept, and will be compiled again: [Errno 28] No space left on device"
    assert python(FULL_DISK + SIGMOID_OF_ZERO, checkout) == [ONCE, word, "0.5"]


OUT_OF_BOUNDS = """
from gpunn.kernels import lanes, memory, simd
from gpunn.kernels.compilation import compiled
import numpy
four = simd.Static(4)

@compiled
def read(array, index):
    return memory.at(memory.pointer(array), index)

@compiled
def read_lanes(array, index):
    return lanes.total(memory.load(memory.pointer(array), index, four))

array = numpy.ones(64, numpy.float32)
print(read(array, 63), read_lanes(array, 0))
for function, index in ((read, 64), (read, -1), (read_lanes, 1), (read_lanes, -1)):
    try:
        function(array, index)
    except IndexError as error:
        print(error)
"""


def test_bounds_are_checked_where_it_is_asked_for(checkout: Path) -> None:
    (checkout / "use.py").write_text(OUT_OF_BOUNDS)
    lines = python("import runpy; runpy.run_path('use.py')", checkout, NUMBA_BOUNDSCHECK="1")
    assert lines == ["1.0 64.0", *["a kernel left the bounds of its array"] * 4]

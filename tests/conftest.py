"""Shared fixtures: small data sets, writers of MNIST's files, the command line, and machines without a GPU."""

import gzip
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from gpunn import MLP, Dataset, Split, load_mnist
from gpunn.backends import cuda
from gpunn.cli import main
from gpunn.engines import tuned
from gpunn.engines.speed import Cost, Speeds

from .processes import end_all

ROOT = Path(__file__).parent.parent

pytest.register_assert_rewrite("tests.kernel_contract", "tests.kernel_cases")


def outer_environment() -> dict[str, str]:
    """The environment without the variables that pytest and its plugins set for their own processes."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


class Simulation:
    """The tests of `tests/simulator` in a process of their own, which runs beside this one: threads of one core."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "tests/simulator", "-p", "no:cacheprovider"],
            cwd=ROOT,
            env=outer_environment() | {"NUMBA_ENABLE_CUDASIM": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self) -> tuple[int, str]:
        """Return the exit code and the output."""
        output, _ = self._process.communicate()
        return self._process.returncode, output

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


SIMULATION = pytest.StashKey[Simulation]()


def _waits(item: pytest.Item) -> bool:
    return "simulation" in getattr(item, "fixturenames", ())


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is a worker process of pytest-xdist."""
    return hasattr(config, "workerinput")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave for the end what waits for the simulation; among several workers one begins with it."""
    items.sort(key=_waits, reverse=_is_worker(config))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the simulation before the first test, unless one of several workers will have to."""
    wanted = any(map(_waits, session.items)) and not session.config.option.collectonly
    if wanted and not _is_worker(session.config):
        session.config.stash[SIMULATION] = Simulation()


def pytest_configure() -> None:
    """Heed Ctrl-C, as tests send it, also where a shell has started pytest in the background and let it be ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config: pytest.Config) -> None:
    if SIMULATION in config.stash:
        config.stash[SIMULATION].stop()


@pytest.fixture
def simulation(pytestconfig: pytest.Config) -> Simulation:
    if SIMULATION not in pytestconfig.stash:
        pytestconfig.stash[SIMULATION] = Simulation()
    return pytestconfig.stash[SIMULATION]


@pytest.fixture
def launches() -> None:
    """Ways to launch kernels, in turn: in `tests/simulator` there are several."""


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    return load_mnist()


@pytest.fixture
def small() -> Split:
    """200 random sparse images of 12 pixels in 3 classes: small enough for float64 comparisons."""
    return random_split(200, 12, 3)


def random_split(n: int, n_pixels: int, n_classes: int, seed: int = 0) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, n_pixels), dtype=np.uint8) * (rng.random((n, n_pixels)) < 0.5)
    return Split(images.astype(np.uint8), rng.integers(0, n_classes, n, dtype=np.uint8))


def parameters(net: MLP) -> list[np.ndarray]:
    return [*net.weights, *net.biases]


def idx_bytes(array: NDArray[Any], code: int = 0x08) -> bytes:
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_data_set(
    folder: Path, *, n: int = 60, side: int = 4, n_classes: int = 10, compress: bool = False
) -> dict[str, NDArray[np.uint8]]:
    """Write a random data set in MNIST's four-file form; return its arrays by file name."""
    rng = np.random.default_rng(1)
    arrays: dict[str, NDArray[np.uint8]] = {}
    for prefix, count in (("train", n), ("t10k", max(1, n // 6))):
        arrays[f"{prefix}-images-idx3-ubyte"] = rng.integers(0, 256, (count, side, side), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = (np.arange(count) % n_classes).astype(np.uint8)
    for name, array in arrays.items():
        content = idx_bytes(array)
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return arrays


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Outcome]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command line inside this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        return Outcome(int(done.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_data_set(folder)
    return folder


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make `import cupy` return what the test passes (None: CuPy is missing), and clear what was cached before."""

    def pretend(cupy: Any) -> None:
        monkeypatch.setitem(sys.modules, "cupy", cupy)

    for cached in (cuda._tried, cuda._import_cupy):
        cached.cache_clear()
    yield pretend
    for cached in (cuda._tried, cuda._import_cupy):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for settings: tests go by the built-in speeds, whether or not this machine is tuned."""
    folder: Path = tmp_path_factory.mktemp("settings")
    for name in ("XDG_CONFIG_HOME", "APPDATA"):
        monkeypatch.setenv(name, str(folder))
    return folder


@pytest.fixture
def swift_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every GPU faster than this machine's CPU, whatever there is to do."""
    free = Cost("made up")
    speeds = Speeds(gpu_epoch=free, gpu_fused=free, gpu_plain=free, gpu_start=0.0, gpu_load=0.0)
    monkeypatch.setattr(tuned, "BUILT_IN", speeds)


@pytest.fixture
def locked_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not enter; root drops its privileges meanwhile."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o000)
    powerful = os.geteuid() == 0
    if powerful:
        tmp_path.chmod(0o755)
        os.seteuid(65534)
    yield folder
    if powerful:
        os.seteuid(0)
    folder.chmod(0o755)


@pytest.fixture
def nothing_left_running() -> Iterator[None]:
    """End processes left by a failed test."""
    yield
    end_all()

"""`gpunn tune`: constants are fitted to times, kept for this machine alone, and used by "auto"."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gpunn import DeviceError, OutputError, get_backend, tuning
from gpunn.backends.base import Backend
from gpunn.backends.limits import at_most_cores
from gpunn.engines import Parameters, Recipe, choose_engine, speed, tuned
from gpunn.engines.devices import Job
from gpunn.engines.speed import BUILT_IN, TIMES, Cost, Speeds, Work, constants, threads_of

from .conftest import Run
from .strict_cupy import StrictCupy

CPU = get_backend("cpu")
LARGE = Parameters([np.zeros((1200, 4), np.float32), np.zeros((1200, 1200), np.float32)], [np.zeros(1200)] * 2)


@pytest.fixture(autouse=True)
def _idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))


@pytest.fixture
def place(settings: Path) -> Path:
    return settings / "gpunn" / "speeds.json"


def samples_of(cost: Cost, noise: float = 0.0) -> list[tuple[dict[str, float], float]]:
    rng, found = np.random.default_rng(0), []
    for sizes in tuning.NETWORKS:
        for batch_size in (1, 8, 32, 128, 1024):
            work = Work(sizes, 8192, batch_size, 0.2)
            counts = cost.counts(work, threads_of("epoch", work))
            nanoseconds: float = sum(getattr(cost, name) * count for name, count in counts.items())
            found.append((counts, nanoseconds / 1e9 * (1 + noise * rng.standard_normal())))
    return found


@pytest.mark.parametrize("part", [part.name for part in fields(Speeds) if part.type is Cost])
def test_a_fit_finds_the_constants_that_times_were_made_of(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "usable_cores", lambda: 4)
    built_in: Cost = getattr(BUILT_IN, part)
    factors = dict(zip(TIMES, (1.5, 3, 2, 2.5, 2, 1, 4, 2), strict=True))
    real = replace(built_in, **{name: getattr(built_in, name) * factor for name, factor in factors.items()})
    for noise, tolerance in ((0.0, 0.15), (0.1, 0.4)):
        samples = samples_of(real, noise)
        found = tuning.fitted(built_in, samples)
        assert set(found) == {name for name in TIMES if getattr(built_in, name)}
        assert all(value > 0 for value in found.values())
        for counts, seconds in samples:
            estimate = sum(found[name] * counts[name] for name in found) / 1e9
            assert estimate == pytest.approx(seconds, rel=tolerance)


def test_a_machine_twice_as_slow_doubles_constants_that_hardly_matter() -> None:
    cost = Cost("made up", layer=1000, example=10, product=0.001)
    samples = [({"layer": 0.0, "example": n, "product": 1e4 * n}, 4e-8 * n) for n in (1.0, 2.0, 3.0)]
    assert tuning.fitted(cost, samples) == pytest.approx({"layer": 2000, "example": 20, "product": 0.002})


def test_times_that_no_positive_constants_explain_are_fitted_by_positive_ones() -> None:
    cost = Cost("made up", batch=100.0, example=1.0)
    # Fewer batches took longer.
    samples = [({"batch": 100.0, "example": 1000.0}, 1e-6), ({"batch": 1.0, "example": 1000.0}, 1e-4)]
    assert min(tuning.fitted(cost, samples).values()) > 0


class Made:
    """A machine that takes as long as a table says, and a clock that goes on meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, speeds: Speeds, large: int = 3_000_000) -> None:
        self.now, self.speeds, self.large, self.steps = 0.0, speeds, large, 0
        monkeypatch.setattr(tuning, "perf_counter", lambda: self.now)
        monkeypatch.setattr(tuning._Tuner, "seconds_of", lambda tuner, backend, job: self.seconds(backend, job))

    def seconds(self, backend: Backend, job: Job) -> float:
        self.now += 1.0
        self.steps += 1
        sizes = job.start.sizes
        if job.recipe.batch_size == 128:
            return 1.0 if job.engine == "epoch" else self.large / (sizes[1] * sizes[2])
        return self.speeds.seconds("cpu" if backend.name == "cpu" else "gpu", job.engine, job.work)


def slower(factor: float) -> Speeds:
    values = {name: factor * constant.value for name, constant in constants(BUILT_IN).items()}
    return speed.with_constants(BUILT_IN, values)


def test_measuring_finds_the_table_of_the_machine(monkeypatch: pytest.MonkeyPatch, install: Any) -> None:
    install(StrictCupy())
    Made(monkeypatch, slower(3))
    found = tuning.measure(seconds=100)
    assert found.gpu is not None
    expected = constants(slower(3))
    measured = {name: value for name, value in found.values.items() if "." in name}
    assert set(measured) == {name for name in expected if "." in name}
    for name, value in measured.items():
        assert value == pytest.approx(expected[name].value, rel=1e-3), name
    # Between 1,448 x 1,448 and 2,048 x 2,048.
    assert found.values["large_for_blas"] == pytest.approx(1448 * 2048, rel=1e-3)


@pytest.mark.parametrize(("large", "expected"), [(10**9, 2 * 2048**2), (1, 724**2)])
def test_the_largest_weights_for_epoch_stay_within_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, install: Any, large: int, expected: int
) -> None:
    install(None)
    Made(monkeypatch, BUILT_IN, large)
    assert tuning.measure().values["large_for_blas"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("seconds", [0, 5, 15])
def test_measuring_ends_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch, install: Any, seconds: int) -> None:
    install(None)
    made = Made(monkeypatch, BUILT_IN)
    said: list[str] = []
    found = tuning.measure(said.append, seconds)
    assert made.now == made.steps == seconds
    assert ("cpu_epoch.product" in found.values) == (seconds > 0)
    assert "cpu_plain.product" not in found.values
    assert "large_for_blas" not in found.values


def test_a_gpu_that_fails_on_the_way_is_left_out(
    monkeypatch: pytest.MonkeyPatch, install: Any, caplog: pytest.LogCaptureFixture
) -> None:
    install(StrictCupy())
    made = Made(monkeypatch, BUILT_IN)
    working = made.seconds

    def seconds(backend: Backend, job: Job) -> float:
        if backend.name != "cpu" and job.engine == "plain":
            raise DeviceError("cuda:0 failed")
        return working(backend, job)

    monkeypatch.setattr(made, "seconds", seconds)
    found = tuning.measure()
    assert found.gpu is None
    assert {name[:4] for name in found.values} == {"cpu_", "larg"}
    assert "the GPU is left out: cuda:0 failed" in caplog.messages


def test_real_engines_are_measured_shown_used_and_forgotten(
    run: Run, place: Path, install: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(None)
    monkeypatch.setattr(tuning, "NETWORKS", ((784, 3, 10),))
    monkeypatch.setattr(tuning, "WIDTHS", (6, 5))
    monkeypatch.setattr(tuning, "ENOUGH", 1e-3)
    outcome = run("tune")
    assert (outcome.code, outcome.err) == (0, "")
    *rows, note, written = outcome.out.splitlines()
    assert written == f"written to {place}"
    assert note.startswith("* reckoned, not measured")
    assert rows[0].split() == ["constant", "unit", "built", "in", "here"]
    measured = {name for name, *_, here in map(str.split, rows[1:]) if here != "-"}
    assert {"cpu_epoch.sparse", "cpu_fused.layer", "cpu_plain.product", "large_for_blas"} <= measured
    assert not any(name.startswith("gpu_") for name in measured)
    assert len(rows) == 1 + len(constants(BUILT_IN))
    assert sorted(os.listdir(place.parent)) == ["speeds.json"]  # noqa: PTH208 - hidden files too

    document = json.loads(run("tune", "--show", "--json").out)
    assert document["tuned"]
    found = {name: row["measured"] for name, row in document["constants"].items() if row["measured"] is not None}
    assert found == tuned.measured()
    assert set(found) == measured
    assert tuned.speeds().cpu_plain.product == found["cpu_plain.product"]
    assert run("tune", "--show").out.splitlines() == [*rows, note]
    assert run("devices").out.splitlines()[-1] == "speeds  measured here by gpunn tune"

    assert run("tune", "--reset").out == f"removed {place}\n"
    assert run("tune", "--reset").out == f"there is no {place}\n"
    assert not place.exists()
    assert tuned.speeds() == BUILT_IN
    assert json.loads(run("tune", "--show", "--json").out)["tuned"] is False


def test_what_was_measured_decides_on_the_engine(place: Path) -> None:
    start = replace(LARGE, biases=[np.zeros(1200, np.float32)] * 2)
    assert choose_engine("auto", CPU, start, Recipe(32, 0.1)).name == "epoch"
    tuned.keep({"large_for_blas": 1e6}, None)
    assert choose_engine("auto", CPU, start, Recipe(32, 0.1)).name == "fused"
    tuned.forget()
    assert choose_engine("auto", CPU, start, Recipe(32, 0.1)).name == "epoch"


def spoil(change: Callable[[dict[str, Any]], None]) -> Callable[[str], str]:
    def spoiled(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document)

    return spoiled


@pytest.mark.parametrize(
    ("spoiled", "why"),
    [
        (lambda text: text[:-20], "it can't be read"),
        (lambda text: "", "it can't be read"),
        (lambda text: "[]", "it is no such file"),
        (lambda text: "\x00", "it can't be read"),
        (lambda text: "[" * 100_000, "it can't be read"),
        (spoil(lambda document: document.update({"gpunn speeds": 2})), "of another version"),
        (spoil(lambda document: document.pop("values")), "it is incomplete"),
        (spoil(lambda document: document["values"].update({"gpu_start": -1})), "found 'gpu_start': -1"),
        (spoil(lambda document: document["values"].update({"gpu_start": 10**400})), "found 'gpu_start'"),
        (spoil(lambda document: document["values"].update({"gpu_start": float("nan")})), "found 'gpu_start': nan"),
        (spoil(lambda document: document["values"].update({"gpu_start": True})), "found 'gpu_start': True"),
        (spoil(lambda document: document["values"].update({"warp": 1})), "found 'warp': 1"),
        (spoil(lambda document: document["cpu"].update({"name": "Z80"})), "another machine (name Z80, here "),
        (spoil(lambda document: document["cpu"].update({"cores": "999"})), "another machine (cores 999, here "),
        (spoil(lambda document: document["cpu"].update({"numpy": "1.0"})), "another machine (numpy 1.0, here "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_that_is_damaged_or_of_another_machine_is_ignored_in_one_line(
    place: Path, caplog: pytest.LogCaptureFixture, spoiled: Callable[[str], str], why: str
) -> None:
    caplog.set_level("INFO", "gpunn")
    assert tuned.keep({"large_for_blas": 1.0}, None) == place
    assert tuned.speeds().large_for_blas == 1.0
    place.write_text(spoiled(place.read_text("utf-8")), "utf-8")
    tuned._read.cache_clear()
    for _ in range(3):
        assert tuned.speeds() == BUILT_IN
    assert tuned.measured() == {}
    (line,) = caplog.messages
    assert line.startswith(f"speeds in {place} are not used, as ")
    assert why in line
    assert line.endswith(": gpunn tune measures them again")


def test_a_folder_in_place_of_the_file_is_ignored_too(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "gpunn")
    place.mkdir(parents=True)
    assert tuned.speeds() == BUILT_IN
    assert len(caplog.messages) == 1


def test_a_gpus_constants_are_for_that_gpu_alone(install: Any) -> None:
    cupy = StrictCupy()
    install(cupy)
    gpu = get_backend("cuda")
    tuned.keep({"gpu_load": 7.0, "large_for_blas": 5.0}, gpu)
    assert (tuned.speeds(gpu).gpu_load, tuned.speeds(gpu).large_for_blas) == (7.0, 5.0)
    assert tuned.speeds(CPU).large_for_blas == 5.0
    properties = cupy.cuda.runtime.getDeviceProperties(0) | {"name": b"Another"}
    cupy.cuda.runtime.getDeviceProperties = lambda index: properties
    assert (tuned.speeds(gpu).gpu_load, tuned.speeds(gpu).large_for_blas) == (BUILT_IN.gpu_load, 5.0)


def test_a_place_that_cannot_be_written_gets_one_line_before_anything_is_measured(
    run: Run, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "measure", None)
    (settings / "gpunn").write_text("a file")
    outcome = run("tune")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith(f"gpunn: cannot write {settings / 'gpunn' / 'speeds.json'}: File exists")
    assert (settings / "gpunn").read_text() == "a file"


def test_a_locked_folder_gets_one_line_and_stays_empty(
    run: Run, locked_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(locked_folder))
    outcome = run("tune")
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert "cannot write" in outcome.err


def test_writing_that_fails_leaves_the_old_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned.keep({"large_for_blas": 1.0}, None)
    before = place.read_bytes()

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        tuned.keep({"large_for_blas": 2.0}, None)
    assert place.read_bytes() == before
    assert [each.name for each in place.parent.iterdir()] == [place.name]
    assert tuned.speeds().large_for_blas == 1.0


def test_without_a_folder_for_settings_built_in_speeds_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda name: name)
    assert tuned.path() is None
    assert tuned.speeds() == BUILT_IN
    assert not tuned.forget()
    with pytest.raises(OutputError, match="no folder for settings"):
        tuned.writable_path()


def test_interrupted_measuring_writes_nothing(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "measure", interrupt)
    outcome = run("tune")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "\ngpunn: interrupted\n")
    assert not place.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_measuring_that_a_signal_ends_has_its_exit_code(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(tuning, "measure", lambda _: os.kill(os.getpid(), number))
    outcome = run("tune")
    assert (outcome.code, outcome.out, outcome.err) == (128 + number, "", "gpunn: interrupted\n")
    assert not place.exists()


def test_show_says_why_a_file_is_not_used(run: Run, place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_text("{")
    outcome = run("tune", "--show")
    assert outcome.code == 0
    assert outcome.err.startswith(f"speeds in {place} are not used, as it can't be read (")
    assert outcome.err.count("\n") == 1


def test_speeds_are_used_where_the_cores_are_divided_among_threads(place: Path) -> None:
    tuned.keep({"gpu_start": 2.0}, None)
    with at_most_cores(1):
        assert tuned.measured() == {"gpu_start": 2.0}
    assert place.exists()


def test_a_busy_machine_gets_a_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1234.5, 0.0, 0.0))
    monkeypatch.setattr(tuning, "measure", lambda say: tuning.Measurements({"gpu_start": 2.0}))
    outcome = run("tune")
    assert outcome.code == 0
    assert outcome.err == "gpunn: other programs are busy (load 1234.5): run gpunn tune again when they aren't\n"
    assert tuned.measured() == {"gpu_start": 2.0}


def test_show_and_reset_exclude_each_other(run: Run) -> None:
    outcome = run("tune", "--show", "--reset")
    assert outcome.code == 2
    assert outcome.err == "gpunn: --show and --reset can't be combined\n"

"""Limits of a process: system files as in containers, and environment variables."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpunn import MLP, Split, train
from gpunn.backends.limits import VARIABLES, available_memory, usable_cores

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _many_cores_and_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


V2 = "29 23 0:26 {top} /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
V1 = (
    "30 23 0:27 {top} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "31 23 0:28 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)


def machine(root: Path, mounts: str, cgroup: str, **files: str) -> Path:
    """Write system files: mounts, the process's control groups, and files in /sys/fs/cgroup, with __ for /."""
    written = {"proc/self/mountinfo": mounts, "proc/self/cgroup": cgroup}
    written |= {f"sys/fs/cgroup/{name.replace('__', '/')}": text for name, text in files.items()}
    for name, text in written.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


QUOTAS = {
    "200000 100000": 2,
    "150000 100000": 1,
    "50000 100000": 1,
    "350000 100000": 3,
    "1600000 100000": 8,
    "max 100000": 8,
    "": 8,
    "much": 8,
    "0 100000": 8,
    "100000 0": 8,
}


@pytest.mark.parametrize(("quota", "cores"), QUOTAS.items())
def test_a_quota_of_cpu_time_limits_threads(tmp_path: Path, quota: str, cores: int) -> None:
    root = machine(tmp_path, V2.format(top="/"), "0::/\n", **{"cpu.max": f"{quota}\n"})
    assert usable_cores(root) == cores


@pytest.mark.parametrize(
    ("own", "above", "cores"), [("max", "300000", 3), ("200000", "max", 2), ("500000", "400000", 4)]
)
def test_the_quotas_of_all_groups_above_count(tmp_path: Path, own: str, above: str, cores: int) -> None:
    files = {"user__app__cpu.max": f"{own} 100000", "user__cpu.max": f"{above} 100000"}
    root = machine(tmp_path, V2.format(top="/"), "0::/user/app\n", **files)
    assert usable_cores(root) == cores


@pytest.mark.parametrize(("quota", "cores"), [("250000", 2), ("-1", 8), ("20000", 1)])
def test_quotas_of_the_first_version_count(tmp_path: Path, quota: str, cores: int) -> None:
    files = {"cpu,cpuacct__job__cpu.cfs_quota_us": quota, "cpu,cpuacct__job__cpu.cfs_period_us": "100000"}
    root = machine(tmp_path, V1.format(top="/"), "4:memory:/job\n3:cpu,cpuacct:/job\n0::/\n", **files)
    assert usable_cores(root) == cores


def test_in_a_container_the_part_of_the_groups_that_is_seen_counts(tmp_path: Path) -> None:
    root = machine(
        tmp_path, V2.format(top="/docker/1a2b"), "0::/docker/1a2b/inner\n",
        **{"cpu.max": "400000 100000", "inner__cpu.max": "300000 100000"},
    )  # fmt: skip
    assert usable_cores(root) == 3
    (tmp_path / "proc/self/cgroup").write_text("0::/../../somewhere\n")
    assert usable_cores(root) == 4


@pytest.mark.parametrize("mounts", ["", "odd", "29 23 0:26 / /sys/fs/cgroup rw -", V2])
@pytest.mark.parametrize("cgroup", ["", "odd", "0:", "::::", "\n\n"])
def test_odd_files_of_the_system_limit_nothing(tmp_path: Path, mounts: str, cgroup: str) -> None:
    root = machine(tmp_path, mounts, cgroup)
    assert usable_cores(root) == 8
    assert (available_memory(root) or 1) > 0
    assert usable_cores(tmp_path / "none") == 8


@pytest.mark.parametrize("name", VARIABLES)
def test_the_usual_variables_limit_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for value, cores in {
        "1": 1,
        " 3 ": 3,
        "4,2": 4,
        "64": 8,
        "0": 8,
        "-1": 8,
        "many": 8,
        "": 8,
        "2.5": 8,
        "²": 8,
    }.items():
        monkeypatch.setenv(name, value)
        assert usable_cores(tmp_path) == cores, value


def test_the_smallest_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = machine(tmp_path, V2.format(top="/"), "0::/\n", **{"cpu.max": "400000 100000"})
    for number, name in enumerate(VARIABLES):
        monkeypatch.setenv(name, str(6 - number))
    assert usable_cores(root) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert usable_cores(root) == 1


def test_joblib_limits_the_threads_of_what_runs_inside_of_it(tmp_path: Path) -> None:
    import joblib

    with joblib.parallel_config("loky", inner_max_num_threads=3):
        assert usable_cores(tmp_path) == 3
    assert usable_cores(tmp_path) == 8


@pytest.mark.parametrize(("limit", "memory"), [("1048576\n", 2**20), ("max\n", None), ("9223372036854771712\n", None)])
def test_a_containers_memory_is_what_there_is(tmp_path: Path, limit: str, memory: int | None) -> None:
    everything = available_memory(tmp_path / "none")
    new = machine(tmp_path / "2", V2.format(top="/"), "0::/app\n", **{"app__memory.max": limit})
    old = machine(tmp_path / "1", V1.format(top="/"), "4:memory:/app\n", memory__memory_limit="")
    (old / "sys/fs/cgroup/memory/app").mkdir()
    (old / "sys/fs/cgroup/memory/app/memory.limit_in_bytes").write_text(limit)
    assert available_memory(new) == available_memory(old) == (memory or everything)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_a_limit_of_the_shell_is_what_there_is() -> None:
    code = """
import resource
from gpunn.backends.limits import available_memory
resource.setrlimit(resource.RLIMIT_AS, (2**33, resource.RLIM_INFINITY))
assert available_memory() <= 2**33
"""
    subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)


def test_a_limit_of_threads_is_one_of_the_engines(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mnist: object
) -> None:
    split: Split = mnist.train[:256]  # type: ignore[attr-defined]
    caplog.set_level("INFO", "gpunn")
    for value, said in {"1": "engine epoch: 1 thread,", "2": "engine epoch: 2 threads,"}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        train(MLP([784, 128, 10]), split, epochs=1, batch_size=64, learning_rate=0.1, device="cpu", engine="epoch")
        assert said in caplog.text
        caplog.clear()

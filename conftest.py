"""`pytest --benchmark` runs `benchmarks/` instead of the tests; plain `pytest` knows nothing of pytest-benchmark."""

import os
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.options import add_options

BENCHMARKS = Path(__file__).resolve().parent / "benchmarks"

MOST_PROCESSES = 4
"""For the tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the benchmarks."""
    add_options(parser.getgroup("gpunn", "gpunn's benchmarks").addoption)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the tests on several cores where all of them are asked for, and pytest-xdist is there.

    Each process then has its share of the cores: threads that wait for each other, and those of BLAS, spin, and would
    take the cores from other processes' tests. Tests of threads ask for their number.
    """
    option = config.option
    if option.benchmark or not hasattr(option, "numprocesses") or hasattr(config, "workerinput"):
        return
    from gpunn.backends.limits import usable_cores

    whole = config.args_source is not pytest.Config.ArgsSource.ARGS and not (option.keyword or option.markexpr)
    if whole and not (option.usepdb or option.collectonly) and option.numprocesses is None and option.dist == "no":
        # The tests on GPUs keep to one process.
        option.numprocesses, option.dist = min(MOST_PROCESSES, usable_cores()), "loadgroup"
    if option.numprocesses:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // option.numprocesses)))


def pytest_configure(config: pytest.Config) -> None:
    """Turn to the benchmarks if they were asked for, or say in one line why they can't be run."""
    option = config.option
    by_name = config.args_source is pytest.Config.ArgsSource.ARGS
    for path in [config.invocation_params.dir / name.partition("::")[0] for name in config.args if by_name]:
        if option.benchmark and not path.resolve().is_relative_to(BENCHMARKS):
            raise pytest.UsageError(f"--benchmark runs what is in benchmarks/ alone, found {path}")
        if not option.benchmark and path.resolve().is_relative_to(BENCHMARKS):
            raise pytest.UsageError("benchmarks are run by: pytest --benchmark")
    if not option.benchmark:
        if config.pluginmanager.hasplugin("benchmark"):
            option.benchmark_disable = True  # its older versions warn of pytest-xdist otherwise, which is an error here
        return
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("--benchmark needs pytest-benchmark: pip install -e '.[bench]'")
    if option.benchmark_disable or option.benchmark_skip or getattr(option, "numprocesses", None):
        raise pytest.UsageError("--benchmark can't be combined with --benchmark-disable, --benchmark-skip or -n")
    try:
        from benchmarks import plugin
        from benchmarks.harness import HARNESS, Harness
    except ModuleNotFoundError as error:
        raise pytest.UsageError(f"--benchmark needs {error.name}: pip install -e '.[bench]'") from error
    from gpunn.errors import GpunnError

    try:
        config.stash[HARNESS] = Harness(option, config.rootpath)
    except GpunnError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(plugin, "gpunn-benchmarks")
    # Our tables say it all, unless pytest-benchmark was asked for something.
    asked = (option.benchmark_compare, option.benchmark_json, option.benchmark_save, option.benchmark_autosave)
    option.benchmark_quiet = not any((*asked, option.benchmark_histogram, option.benchmark_verbose))
    if not by_name:
        config.args = [str(BENCHMARKS / f"test_{name}.py") for name in ("epochs", "kernels", "time_to_accuracy")]
        config.args_source = pytest.Config.ArgsSource.ARGS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests were skipped for each reason, one line a reason."""
    # A skip's report has where it happened, and "Skipped: " before the reason.
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])
    )
    for reason, count in reasons.most_common():
        terminalreporter.line(f"skipped {count}: {' '.join(reason.split())}")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect either the benchmarks or the rest."""
    if config.option.benchmark:
        aside = not (collection_path.is_relative_to(BENCHMARKS) or BENCHMARKS.is_relative_to(collection_path))
    else:
        aside = collection_path.is_relative_to(BENCHMARKS)
    return True if aside else None

"""`pytest --benchmark` runs `benchmarks/` instead of the tests; plain `pytest` knows nothing of pytest-benchmark."""

from collections import Counter
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parent / "benchmarks"

MOST_PROCESSES = 4
"""For the tests; each has threads of its own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the benchmarks."""
    group = parser.getgroup("gpunn", "gpunn's benchmarks")
    add = group.addoption
    add("--benchmark", action="store_true", help="Time epochs of MNIST, kernels and the way to an accuracy.")
    add("--network", action="append", default=[], metavar="SIZES", help="Layer sizes: 784-16-10; can be repeated.")
    add("--batch-sizes", default="1,10,32,128,1024,8192,60000", metavar="SIZES", help="Default: %(default)s")
    add("--devices", default="all", metavar="NAMES", help="Such as cpu,cuda:0; by default all that can be used.")
    add("--engines", default="all", metavar="NAMES", help="Such as epoch,plain; by default all but auto.")
    peers = "Other libraries, such as torch,jax; all of them where none is named."
    add("--peers", nargs="?", const="all", metavar="NAMES", help=peers)
    add("--dense", action="store_true", help="Train on images without a zero pixel.")
    add("--images", default=None, metavar="N", help="Train on the first N images only.")
    add("--seconds", default="3", metavar="S", help="For the rounds of each row, of which there are three at least.")
    add("--assert-speed", action="store_true", help="Fail where gpunn is slower beside its peers than it has to be.")
    # With a space, pytest would take the folder of a file that is there already for the root of the tests.
    results = "Write all numbers there, with = before the path; by default into .benchmarks/."
    add("--results", default=None, metavar="PATH", help=results)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the tests on several cores where all of them are asked for, and pytest-xdist is there."""
    option = config.option
    whole = config.args_source is not pytest.Config.ArgsSource.ARGS and not (option.keyword or option.markexpr)
    if not whole or option.benchmark or option.usepdb or option.collectonly or hasattr(config, "workerinput"):
        return
    if getattr(option, "numprocesses", 0) is None and option.dist == "no":
        from gpunn.backends.limits import usable_cores

        # Compiled kernels use several cores by themselves. The tests on GPUs keep to one process.
        option.numprocesses, option.dist = min(MOST_PROCESSES, usable_cores()), "loadgroup"


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
    if option.benchmark_compare or option.benchmark_json or option.benchmark_save or option.benchmark_autosave:
        raise pytest.UsageError(
            "pytest-benchmark's files don't hold these results: write them with --results=PATH, and compare two such "
            "files with: python -m benchmarks.report"
        )

    from benchmarks import plugin
    from benchmarks.choices import choices_of
    from benchmarks.harness import HARNESS, Harness
    from gpunn.errors import GpunnError

    try:
        config.stash[HARNESS] = Harness(choices_of(option), config.rootpath)
    except GpunnError as error:
        raise pytest.UsageError(str(error)) from error
    config.pluginmanager.register(plugin, "gpunn-benchmarks")
    # Our table says it all; --benchmark-verbose brings back that of pytest-benchmark.
    option.benchmark_quiet, option.benchmark_only = True, False
    if not by_name:
        config.args, config.args_source = [str(BENCHMARKS)], pytest.Config.ArgsSource.ARGS


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

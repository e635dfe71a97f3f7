"""The documents are true: figures are those of a committed result, and files, names, links and options exist."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.report.readme import PAGE, README, ROOT, committed_result, picture_of, rewritten, section, summary
from benchmarks.schema import read
from gpunn.activations import HIDDEN, OUTPUT
from gpunn.backends.cpu import CpuBackend
from gpunn.cli.train import train as train_command
from gpunn.defaults import BATCH_SIZE, EPOCHS
from gpunn.engines import CUDA_ENGINES, ENGINES, Engine, Examples, Parameters, Recipe
from gpunn.errors import DataError
from gpunn.initialization import DIVISORS
from gpunn.losses import LOSSES
from gpunn.optimizers import OPTIMIZERS
from gpunn.schedules import SCHEDULES

GUIDE, ARCHITECTURE, CONTRIBUTING = ROOT / "docs" / "guide.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"

DOCUMENTS = {path.name: path.read_text("utf-8") for path in (README, PAGE, GUIDE, ARCHITECTURE, CONTRIBUTING)}

TEXT = DOCUMENTS[README.name]

RESULT = committed_result(TEXT)


@pytest.fixture
def tables() -> None:
    pytest.importorskip("pandas", reason='needs pandas: pip install "gpunn[bench]"')


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("path", [README, PAGE], ids=lambda path: path.name)
def test_performance_is_that_of_its_result(path: Path) -> None:
    text = DOCUMENTS[path.name]
    assert committed_result(text) == RESULT
    assert rewritten(path, text, RESULT) == text


def test_its_picture_and_its_result_are_there() -> None:
    result = ROOT / RESULT
    picture = result.with_suffix(".svg")
    assert f"](../{picture.relative_to(ROOT).as_posix()})" in DOCUMENTS[PAGE.name]
    assert picture.read_bytes().startswith(b"<?xml")
    # Versions of Matplotlib draw a little differently, but the same labels.
    pytest.importorskip("matplotlib", reason='needs Matplotlib: pip install "gpunn[report]"')
    drawn, there = picture_of(result).wide.decode(), picture.read_text("utf-8")
    texts = [re.findall(r"<text[^>]*>([^<]*)</text>", svg) for svg in (drawn, there)]
    assert texts[0] == texts[1] != []
    run = read(result)
    problems = [each.problem for row in run.rows for each in row.results] + [race.problem for race in run.races]
    problems += [kernel.problem for kernel in run.kernels]
    assert problems
    assert set(problems) == {None}


@pytest.mark.usefixtures("tables")
def test_the_page_names_the_versions_and_every_batch_size() -> None:
    found = section(RESULT)
    run = read(ROOT / RESULT)
    assert run.machine.versions["numpy"] in found
    for row in run.rows:
        assert f"| {row.task.batch_size:,} |" in found
        assert f" {row.task.batch_size:,} |" in summary(RESULT)


@pytest.mark.usefixtures("tables")
def test_the_summary_compares_with_the_fastest_library_of_each_batch_size() -> None:
    run = read(ROOT / RESULT)
    header, _, ours, theirs, ratios = [line.split(" | ") for line in summary(RESULT).splitlines() if line[:1] == "|"]
    sizes = [size.strip(" |") for size in header[1:]]
    assert len(ours) == len(theirs) == len(ratios) == 1 + len(sizes)
    for size, peer, ratio in zip(sizes, theirs[1:], ratios[1:], strict=True):
        (row,) = [row for row in run.rows if row.task.batch_size == int(size.replace(",", ""))]
        seconds = {each.contestant: each.steady.median for each in row.results if each.steady}
        fastest = min((who for who in seconds if who.is_peer), key=seconds.__getitem__)
        own = min(took for who, took in seconds.items() if not who.is_peer)
        assert peer.strip(" |").split()[1] == fastest.name
        assert float(ratio.strip(" |")) == pytest.approx(seconds[fastest] / own, rel=0.05)


def test_a_document_without_the_section_is_refused() -> None:
    with pytest.raises(DataError, match=r"README\.md has no lines"):
        rewritten(README, "# gpunn", RESULT)
    with pytest.raises(ValueError, match="found no performance"):
        committed_result("# gpunn")


def test_the_result_is_in_the_repository() -> None:
    assert Path(RESULT).parts[:2] == ("benchmarks", "results")


def test_the_readme_is_two_screens_with_the_speed_on_the_first() -> None:
    lines = TEXT.splitlines()
    assert len(lines) <= 130
    assert lines.index("<!-- end of performance -->") <= 32


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    path = next(path for path in (README, PAGE, GUIDE, ARCHITECTURE, CONTRIBUTING) if path.name == name)
    links = [link for link in re.findall(r"\]\(([^)]+)\)", DOCUMENTS[name]) if "://" not in link]
    for link in links:
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("name", DOCUMENTS)
def test_examples_are_python(name: str) -> None:
    for code in re.findall(r"```python\n(.*?)```", DOCUMENTS[name], re.DOTALL):
        ast.parse(code)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_benchmarks_that_are_named_exist(name: str) -> None:
    for module in re.findall(r"python -m benchmarks\.(\w+)", DOCUMENTS[name]):
        there = [ROOT / "benchmarks" / f"{module}.py", ROOT / "benchmarks" / module / "__main__.py"]
        assert any(path.exists() for path in there), module


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_and_functions_that_are_named_exist(name: str) -> None:
    for file, function in re.findall(r"`((?:gpunn|kernels|tests)/[\w/]+\.py):([\w.]+)`", DOCUMENTS[name]):
        node: Any = ast.parse((ROOT / file).read_text("utf-8"))
        for part in function.split("."):
            found = [each for each in ast.walk(node) if getattr(each, "name", None) == part]
            assert found, f"{file}:{function}"
            node = found[0]
    for file in re.findall(r"`((?:gpunn|kernels|tests|benchmarks|docs|\.ci)/[\w/.]*)`", DOCUMENTS[name]):
        assert (ROOT / file).exists(), file


def _rows() -> Iterator[str]:
    """Yield the files and folders in the tables of the layout."""
    layout = DOCUMENTS[ARCHITECTURE.name].partition("## Layout")[2].partition("## Import rules")[0]
    yield from re.findall(r"^\| `([^`]+)` \|", layout, re.MULTILINE)


def test_the_layout_has_each_file_once() -> None:
    rows = list(_rows())
    assert len(rows) == len(set(rows))
    whole = {"gpunn/", "kernels/", "gpunn/engines/"}  # whose files have rows of their own
    folders = tuple(row for row in rows if row.endswith("/") and row not in whole)
    missing = []
    for path in [*(ROOT / "gpunn").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]:
        file = path.relative_to(ROOT).as_posix()
        says_what_its_folder_is = path.name == "__init__.py" and len(ast.parse(path.read_text("utf-8")).body) == 1
        if file not in rows and not file.startswith(folders) and not says_what_its_folder_is:
            missing.append(file)
    assert not missing, f"ARCHITECTURE.md has no row for {missing}"


def test_every_option_of_training_is_in_the_guide() -> None:
    rows = re.findall(r"^\| `(--[\w-]+)[^`]*` \| .* \| (.*) \|$", DOCUMENTS[GUIDE.name], re.MULTILINE)
    named = dict(rows)
    options = {option.opts[0]: option for option in train_command.params}
    assert options.keys() - {"--help"} == named.keys()
    for name, option in options.items():
        default = option.default
        if isinstance(default, str | int | float) and not isinstance(default, bool):
            assert named[name] in {str(default), f"{default:g}" if not isinstance(default, str) else default}, name
    assert named["--batch-size"].startswith(str(BATCH_SIZE))
    assert named["--epochs"] == str(EPOCHS)


def test_every_choice_of_a_recipe_is_in_the_guide() -> None:
    recipes = DOCUMENTS[GUIDE.name].partition("## Recipes")[2].partition("## Estimators")[0]
    for name in (*HIDDEN, *OUTPUT, *LOSSES, *DIVISORS, *OPTIMIZERS, *SCHEDULES):
        assert name in recipes, name


GREY, LABELS = np.zeros((4, 6), np.uint8), np.zeros(4, np.uint8)
FLOATS, ROWS = np.zeros((4, 6), np.float32), np.zeros((4, 2), np.float32)


def unsupported_reason(
    engine: type[Engine], *, dtype: type = np.float32, examples: Examples, **recipe: Any
) -> str | None:
    """Return why `engine` can't train a network on `examples`; engines for GPUs answer without one."""
    start = Parameters([np.zeros((2, 6), dtype)], [np.zeros(2, dtype)])
    return engine.unsupported_reason(CpuBackend(), start, Recipe(2, 0.1, **recipe), examples)


@pytest.mark.parametrize("name", ENGINES)
def test_engines_lack_what_the_readme_says(name: str) -> None:
    on_cpu, common = ENGINES[name], Examples(GREY, LABELS)
    lacks = set() if name == "plain" else {"float64", "weights"}
    found = {
        "float64": unsupported_reason(on_cpu, examples=common, dtype=np.float64),
        "weights": unsupported_reason(on_cpu, examples=Examples(GREY, LABELS, np.ones(4, np.float32))),
        "dropout": unsupported_reason(on_cpu, examples=common, dropout=0.5),
        "floats": unsupported_reason(on_cpu, examples=Examples(FLOATS, LABELS)),
        "rows": unsupported_reason(on_cpu, examples=Examples(GREY, ROWS)),
        "max-norm": unsupported_reason(on_cpu, examples=common, max_norm=1.0),
        "optimiser": unsupported_reason(on_cpu, examples=common, optimizer=OPTIMIZERS["adamw"], l2=0.1),
    }
    lacks |= {"max-norm"} if name == "epoch" else set()
    assert {what for what, reason in found.items() if reason is not None} == lacks
    assert unsupported_reason(on_cpu, examples=common, precision="tf32") is not None


def test_on_gpus_epoch_also_lacks_float_inputs_and_rows_and_fused_max_norm() -> None:
    epoch, fused = CUDA_ENGINES["epoch"], CUDA_ENGINES["fused"]
    assert "its inputs must be grey levels" in (unsupported_reason(epoch, examples=Examples(FLOATS, LABELS)) or "")
    for engine in (epoch, fused):
        assert "max-norm" in (unsupported_reason(engine, examples=Examples(GREY, LABELS), max_norm=1.0) or "")
    assert "its targets must be classes" in (unsupported_reason(epoch, examples=Examples(GREY, ROWS)) or "")
    assert unsupported_reason(fused, examples=Examples(FLOATS, ROWS)) is None

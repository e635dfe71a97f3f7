import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.schema import ResultsFileError, read, write
from tests.benchmark_runs import sample_run


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = sample_run(gpu=True)
    write(tmp_path / "run.json", run)
    assert read(tmp_path / "run.json") == run


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda it: it["rows"][0]["task"].update(batch_size="x"), r"got `str` - at `\$.rows\[0\].task.batch_size`"),
        (lambda it: it["rows"][2]["results"][0]["rounds"][0].update(seconds=-1), r"`\$.rows\[2\].results\[0\].rounds"),
        (lambda it: it["machine"].pop("name"), r"missing required field `name` - at `\$.machine`"),
        (lambda it: it["machine"].update(name="a\x1bb"), r"`\$.machine.name`"),
        (lambda it: it["rows"][0]["task"].update(network="784-x-10"), r"`\$.rows\[0\].task.network`"),
        (lambda it: it.update(version=3), "its layout is version 3, and version 2 is read here"),
        (lambda it: it.update(format="other"), "another kind of JSON"),
        (lambda it: it.update({"gpunn benchmarks": 1}), "its layout is version 1"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_in_one_line_that_names_file_and_field(
    tmp_path: Path, change: Callable[[Any], object], expected: str
) -> None:
    write(tmp_path / "run.json", sample_run())
    found = json.loads((tmp_path / "run.json").read_text())
    change(found)
    (tmp_path / "run.json").write_text(json.dumps(found))
    with pytest.raises(ResultsFileError, match=expected) as raised:
        read(tmp_path / "run.json")
    assert "run.json" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b'{"a": 1}', b"[" * 100_000])
def test_what_is_no_result_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.json").write_bytes(content)
    with pytest.raises(ResultsFileError, match=r"other\.json"):
        read(tmp_path / "other.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultsFileError, match="cannot read"):
        read(tmp_path / "none.json")

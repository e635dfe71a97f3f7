"""Mutated model files, checkpoints and IDX files are read, or refused in one line."""

from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from gpunn import DataError

from . import mutations
from .mutations import KINDS, Reader, faults_of, main, mutated

INPUTS = 300


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_are_read_or_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    refused, faults = faults_of(KINDS[kind](tmp_path), tmp_path, INPUTS, seed=0)
    assert not faults
    assert INPUTS / 2 < refused < INPUTS


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_always_makes_the_same_input(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    first, again = (KINDS[kind](tmp_path_factory.mktemp(kind)) for _ in range(2))
    assert first.files == again.files
    made = [[mutated(Random(seed), first.files[0], first.described) for seed in range(200)] for _ in range(2)]
    assert made[0] == made[1]


def test_each_distinct_fault_is_printed_with_a_seed_that_repeats_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sound, kept = bytes(range(200)), []

    def read(path: Path, _: int) -> None:
        content = path.read_bytes()
        if len(content) < 100:
            raise DataError("two\nlines")
        if content[:8] != sound[:8]:
            raise KeyError(content[0])
        if content != sound:
            kept.append(bytes(1_000_000))

    monkeypatch.setitem(mutations.KINDS, "idx", lambda _: Reader([sound], read, described=False))
    outcome = CliRunner().invoke(main, ["idx", "--inputs", "200"])
    first, *faults = outcome.output.splitlines()
    assert outcome.exit_code == 1
    assert first.startswith("idx: 200 inputs, ")
    assert first.endswith(" refused, 3 distinct faults")
    assert sorted(fault.split()[0] for fault in faults) == ["DataError", "KeyError", "memory:"]
    for fault in faults:
        seed = fault.split("seed ")[1].split(":")[0]
        again = CliRunner().invoke(main, ["idx", "--inputs", "1", "--seed", seed])
        assert fault.split(":")[0] in again.output


def test_sound_readers_make_the_exit_code_0() -> None:
    outcome = CliRunner().invoke(main, ["idx", "--inputs", "20"])
    assert (outcome.exit_code, outcome.output.splitlines()[1:]) == (0, [])

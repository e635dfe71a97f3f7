"""Mutated model files, checkpoints and IDX files, which gpunn reads or refuses.

    python -m tests.mutations model|checkpoint|idx [--inputs N] [--seed S]

A file is refused in one printable line of at most 1,000 characters. No other exception, a second of the processor's
time at most, and no more memory than 4 times the file's size and 400 kB; memory is measured for each seed that 20
divides. Each input depends on its seed alone: they are S, S + 1, ... A line of counts is printed, and one for each
distinct fault with the first seed that shows it, which `--inputs 1 --seed` repeats; faults make the exit code 1.
"""

import contextlib
import copy
import gzip
import io
import json
import logging
import random
import struct
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from gpunn import MLP, EarlyStopping, Ensemble, GpunnError, train
from gpunn.checkpoint_file import is_checkpoint
from gpunn.checkpoints import saved
from gpunn.cli.info import info
from gpunn.datasets import ImageKind
from gpunn.datasets.idx import read_idx
from gpunn.plan import plan_for

from .conftest import idx_bytes, random_split

LONGEST, SECONDS, TIMES, BYTES, MEASURED = 1000, 1.0, 4, 400_000, 20
EPOCHS = 4
TOKENS = [*b'0 -1 1e999 NaN -0.0 99999999999999999999 null true [] {} [[]] "" "a" \\u001b \\ud800'.split(), b"1" * 400]
TOKENS += [b"[" * 50, b"\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"]
NAMES = [*b"epochs weights.0 sizes data version F64 U8 I64 BF16 \\n".split(), b"", b"x" * 300]
KEYS = ("x", "", "\n", "epochs", "run", "y" * 500)
VALUES: list[Any] = [0, -1, 1, 2**31, 2**63, 2**64, 10**300, 1e308, -0.5, float("nan"), float("inf"), True, False, None]
VALUES += ["", "x", "\x1b[2J", "\ud800", "F64", "cuda:0", "a" * 2000, [], {}, [[]], {"": 1}, [0] * 3000, [1, "a"]]


class Reader(NamedTuple):
    """Sound files of a kind; `read(path, number)` reads one made of the file with this number."""

    files: list[bytes]
    read: Callable[[Path, int], object]
    described: bool = True
    """Whether they are safetensors files with a description in JSON."""


def models(folder: Path) -> Reader:
    nets = [MLP([12, 5, 3], hidden="relu", output="softmax", seed=seed) for seed in range(2)]
    for seed, net in enumerate(nets):
        train(net, random_split(60, 12, 3), epochs=EPOCHS, learning_rate=0.01, device="cpu", engine="plain", seed=seed)
        net.kind = ImageKind("shapes", (3, 4), "whole", ("a", "b", "c"), digest="0" * 32)
    files, path = [], folder / "sound"
    for each in (nets[0], Ensemble(nets), MLP([4, 3, 2])):
        each.save(path)
        files.append(path.read_bytes())
    return Reader(files, _read_model)


def _read_model(path: Path, _: int) -> None:
    assert info.callback is not None
    for as_json in (True, False):
        with contextlib.redirect_stdout(io.StringIO()) as shown:
            info.callback(path, as_json)
        if not all(line.isprintable() for line in shown.getvalue().splitlines()):
            raise ValueError("gpunn info shows what isn't printable")


def checkpoints(folder: Path) -> Reader:
    split, path = random_split(60, 12, 3), folder / "sound"
    first = {
        "early_stopping": EarlyStopping(3),
        "optimizer": "adam",
        "test": split[:20],
        "dropout": 0.0,
        "average": 0.5,
    }
    second = {"early_stopping": None, "optimizer": "momentum", "test": None, "dropout": 0.1, "average": None}
    common: dict[str, Any] = {"epochs": EPOCHS, "batch_size": 16, "learning_rate": 0.01, "engine": "plain", "seed": 0}
    common |= {"precision": "float32", "loss": None, "l2": 0.0, "schedule": "constant"}
    files, plans = [], []
    for own in (first, second):
        net = MLP([12, 5, 3], hidden="relu", output="softmax")
        plans.append(plan_for(net, split, **common | own))
        train(net, split, **common | own, device="cpu", checkpoint=path)
        files.append(_without_times(path.read_bytes()))
        path.unlink()
    known = [(plan, plan.run()) for plan in plans]

    def read(path: Path, number: int) -> None:
        is_checkpoint(path)
        plan, run = known[number]
        _, found = saved(None, path, run, net=plan.net, recipe=plan.recipe, epochs=EPOCHS)
        assert found is not None
        rng = np.random.default_rng(0)
        rng.bit_generator.state = found.state.order
        rng.permutation(5)
        found.changes({"device": "elsewhere"})
        for epoch in found.epochs:
            epoch.line(EPOCHS)
            epoch.to_dict()
        assert len(found.kept) == 2

    return Reader(files, read)


def _without_times(content: bytes) -> bytes:
    """Return a checkpoint with the same times in each process, so that a seed's input is the same too."""
    header, data = _parts(content)
    start, end = header["epochs"]["data_offsets"]
    epochs = np.frombuffer(data[start:end]).reshape(EPOCHS, 3).copy()
    epochs[:, 1:] = 1
    return content[: len(content) - len(data)] + data[:start] + epochs.tobytes() + data[end:]


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header of a safetensors file, and the data after it."""
    end = 8 + struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8:end]), content[end:]


def idx_files(_: Path) -> Reader:
    images = np.random.default_rng(0).integers(0, 256, (20, 5, 5), dtype=np.uint8)
    raw = [idx_bytes(images), idx_bytes(np.arange(40, dtype=np.uint8))]
    raw.append(idx_bytes(np.arange(24, dtype=np.int32).reshape(3, 8), 0x0C))
    return Reader(raw + [gzip.compress(each, mtime=0) for each in raw], lambda path, _: read_idx(path), described=False)


KINDS: dict[str, Callable[[Path], Reader]] = {"model": models, "checkpoint": checkpoints, "idx": idx_files}


def mutated(rng: random.Random, sound: bytes, described: bool) -> bytes:
    """Return a mutated file."""
    if described and rng.random() < 0.5:
        return _redescribed(rng, sound)
    found = bytearray(sound)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        if found:
            _mutate(rng, found)
    if described and rng.random() < 0.7 and len(found) > 8:  # a header as long as it says
        length = struct.unpack("<Q", sound[:8])[0] + len(found) - len(sound)
        found[:8] = struct.pack("<Q", max(0, length))
    return gzip.compress(found, mtime=0) if not described and rng.random() < 0.1 else bytes(found)


def _mutate(rng: random.Random, content: bytearray) -> None:
    """Change bytes, or a number or name in text, most of which is near the beginning."""
    n = len(content)
    at, other, length, early = rng.randrange(n), rng.randrange(n), rng.randrange(1, 60), rng.randrange(min(n, 4000))
    match rng.randrange(9):
        case 0 | 1:
            content[rng.choice((at, at % 16))] = rng.randrange(256)
        case 2:
            del content[at : at + length]
        case 3:
            content[at:at] = rng.choice(TOKENS)
        case 4:
            content[at : at + length] = content[other : other + length]
        case 5:
            del content[at:]
        case 6:
            start = next((i for i in range(early, n) if 48 <= content[i] < 58), n)
            end = next((i for i in range(start, n) if not 48 <= content[i] < 58), n)
            content[start:end] = rng.choice(TOKENS)
        case 7:
            content[at] ^= 1 << rng.randrange(8)
        case _:
            start = content.find(b'"', early) + 1
            end = content.find(b'"', start)
            if 0 < start <= end:
                content[start:end] = rng.choice(NAMES)


def _redescribed(rng: random.Random, sound: bytes) -> bytes:
    """Return a file with a mutated description, or names, types and places of arrays, in a whole header."""
    header, data = _parts(sound)
    about = json.loads(header.pop("__metadata__")["gpunn"])
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = rng.choice((about, about, header))
        places = list(_places(tree))
        if places:
            _change(rng, *rng.choice(places), rng.choice(places))
    header["__metadata__"] = {"gpunn": json.dumps(about)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container in the tree with each of its keys."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _change(rng: random.Random, holder: Any, key: Any, other: tuple[Any, Any]) -> None:
    match rng.randrange(4):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[rng.choice(KEYS)] = copy.deepcopy(holder[key])
        case 2:
            holder[key] = copy.deepcopy(other[0][other[1]])
        case _:
            holder[key] = copy.deepcopy(rng.choice(VALUES))


def fault_of(read: Callable[[], object], size: int, measured: bool) -> tuple[bool, str, str]:
    """Return whether reading a file of so many bytes is refused, and a fault, "" if there is none, with details."""
    refused, fault, text, start = False, "", "", time.thread_time()
    if measured:
        tracemalloc.start()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic in Rust is no Exception
        refused, text = isinstance(error, GpunnError), str(error)
        if not refused or not text.isprintable() or len(text) > LONGEST:
            place = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"{type(error).__name__} in {place.name}, {Path(place.filename).name}:{place.lineno}"
    took, peak = time.thread_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    if not fault and took > SECONDS:
        fault, text = "slow", f"{took:.1f} s"
    if not fault and peak > TIMES * size + BYTES:
        fault, text = "memory", f"{peak:,} bytes for a file of {size:,}"
    return refused, fault, ascii(text[:300])


def faults_of(reader: Reader, folder: Path, inputs: int, seed: int) -> tuple[int, dict[str, str]]:
    """Return how many of so many inputs, written into `folder`, are refused, and distinct faults with details."""
    path, n_refused, faults = folder / "file", 0, dict[str, str]()
    for number, sound in enumerate(reader.files):
        path.write_bytes(sound)
        reader.read(path, number)
    for own in range(seed, seed + inputs):
        rng = random.Random(own)
        number = rng.randrange(len(reader.files))
        content = mutated(rng, reader.files[number], reader.described)
        path.write_bytes(content)
        refused, fault, text = fault_of(partial(reader.read, path, number), len(content), own % MEASURED == 0)
        n_refused += refused
        if fault:
            faults.setdefault(fault, f"seed {own}: {text}")
    return n_refused, faults


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)))
@click.option("--inputs", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of the first input.")
def main(kind: str, inputs: int, seed: int) -> None:
    """Read mutated files of a KIND."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        refused, faults = faults_of(KINDS[kind](folder), folder, inputs, seed)
    click.echo(f"{kind}: {inputs:,} inputs, {refused:,} refused, {len(faults)} distinct faults")
    for fault, text in faults.items():
        click.echo(f"{fault}: {text}")
    if faults:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    logging.getLogger("gpunn").addHandler(logging.NullHandler())  # that the networks learn nothing is no news
    main()

"""What a run of `pytest --benchmark` has found: the layout of its file, shared by who writes it and who reads it.

All times are in seconds. Absent values are None; nothing is NaN or infinite.
"""

import os
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from gpunn.errors import GpunnError
from gpunn.files import open_file, write_whole
from gpunn.printing import printable

VERSION = 2
"""Of the layout. Files of version 1 had contestants timed one after another, whose ratios don't compare."""

LARGEST_FILE = 8 << 20
"""Bytes of such a file: none has more."""

FULL = 60_000
"""The images of all of MNIST."""

# No control characters, and none that turns the direction of a line.
Text = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]*$", max_length=4000)]
Device = Annotated[str, Meta(pattern=r"^(cpu|cuda:[0-9]{1,4})$")]
Network = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,8}(-[1-9][0-9]{0,8})+$")]
Number = Annotated[float, Meta(ge=0, le=1e18)]
Count = Annotated[int, Meta(ge=0, le=10**15)]
Whole = Annotated[int, Meta(ge=1, le=10**15)]
Verdict = Literal["met", "missed", "undecided", "no result"]
"""Of a target: "undecided" where its interval spans the bar; "no result" without a right result of both sides."""


class ResultsFileError(GpunnError, ValueError):
    """A file that isn't one of results, or is damaged; the message is one line with its name and the field."""


class Base(Struct, frozen=True, omit_defaults=True):
    """What all parts have in common: they don't change, and values that are the default aren't written."""


class Recipe(Base, frozen=True):
    """How networks are trained; names are those of `gpunn.MLP` and `gpunn.train`."""

    hidden: Text = "sigmoid"
    output: Text = "sigmoid"
    loss: Text = "squared_error"
    optimizer: Text = "sgd"
    """One of sgd, momentum, nesterov and adam."""
    learning_rate: Number = 0.1

    @property
    def label(self) -> str:
        """The recipe in a few words, without its learning rate."""
        functions = self.hidden if self.hidden == self.output else f"{self.hidden}, {self.output}"
        return f"{functions}, {self.loss.replace('_', ' ')}, {self.optimizer}"


class Task(Base, frozen=True):
    """What is timed: `epochs` epochs of `networks` networks of one shape over so many images."""

    network: Network
    batch_size: Whole
    recipe: Recipe = Recipe()
    dense: bool = False
    """Whether the images are without a zero pixel."""
    images: Whole = FULL
    networks: Whole = 1
    epochs: Whole = 1
    """Of each network in a round."""
    precision: Literal["float32", "tf32"] = "float32"

    @property
    def full(self) -> bool:
        """Whether all images were trained on: others are tries, never to be mixed with full runs."""
        return self.images == FULL

    @property
    def examples(self) -> int:
        """The images that a round trains on, of all networks and epochs."""
        return self.images * self.networks * self.epochs

    @property
    def label(self) -> str:
        """The task in a line."""
        parts = [self.network, f"batch size {self.batch_size}", self.recipe.label]
        parts += ["dense"] * self.dense + [self.precision] * (self.precision != "float32")
        parts += [f"{self.networks:,} networks"] * (self.networks > 1) + [f"{self.epochs} epochs"] * (self.epochs > 1)
        return ", ".join([*parts, *[f"{self.images:,} images"] * (not self.full)])


class Contestant(Base, frozen=True):
    """An engine of gpunn or a peer, on a device."""

    name: Text
    device: Device
    is_peer: bool = False
    threads: Whole | None = None
    """The number that was the fastest, of those tried; None where the contestant chooses it itself, and on a GPU."""

    @property
    def key(self) -> tuple[bool, str, str]:
        """What tells contestants apart, whatever their threads."""
        return self.is_peer, self.device, self.name

    def __str__(self) -> str:
        return f"{self.name} on {self.device}"


class Estimate(Base, frozen=True):
    """The median of undisturbed rounds, and an interval that holds the true median with this confidence.

    The interval's ends are order statistics, which assumes nothing of the distribution: the narrowest pair with at
    least 95 % where there are six rounds; from fewer it is their range, whose `confidence` is lower.
    """

    median: Number
    low: Number
    high: Number
    confidence: Number
    variation: Number
    """The coefficient of variation: standard deviation over mean; 0 of a single round."""
    rounds: Whole

    @property
    def sure(self) -> bool:
        """Whether the interval is one of 95 %."""
        return self.confidence >= 0.95


class Round(Base, frozen=True):
    """One round of one contestant. Rounds of one number in a row ran right after one another, in random order."""

    number: Count
    seconds: Number
    disturbed: Text | None = None
    """Why it doesn't count: what kept the process from its cores; None where nothing did."""


class Result(Base, frozen=True):
    """A contestant's rounds in a row: the steady state."""

    contestant: Contestant
    rounds: list[Round] = []
    """Empty where it was too slow to run more than its first epoch, or wrong."""
    steady: Estimate | None = None
    """Of the undisturbed rounds."""
    first: Number | None = None
    """Seconds of its first epoch in this process, which warms up and isn't one of the rounds."""
    preparation: Number | None = None
    """Seconds before that: data scaled and copied, code compiled."""
    deviation: Number | None = None
    """How far its network is from that of float64 after the first epoch, relative as the tolerance is."""
    accuracy: Number | None = None
    """The share of the test images that it then gets right."""
    is_auto: bool = False
    """Whether this is the engine that gpunn chooses by itself."""
    problem: Text | None = None
    """Why its times count for nothing: wrong, not synchronised, hung, or broken."""


class Absent(Base, frozen=True):
    """Who didn't take part in a row, or was left out of its rounds, and why."""

    contestant: Contestant
    reason: Text


class Target(Base, frozen=True):
    """What gpunn should reach, and whether it does."""

    kind: Literal["times the best peer", "seconds"]
    """At least so many times the best peer's speed, or at most so many seconds a round."""
    bar: Number
    verdict: Verdict


class Comparison(Base, frozen=True):
    """gpunn beside the best peer on one device."""

    device: Device
    ours: Text | None = None
    """The engine that gpunn chooses by itself; of those that were timed the fastest, where that one wasn't."""
    best_peer: Text | None = None
    ratio: Estimate | None = None
    """How many times the best peer's speed gpunn has, by the ratios of each round."""
    targets: list[Target] = []


class Row(Base, frozen=True):
    """A task, and all who took part."""

    task: Task
    results: list[Result] = []
    absent: list[Absent] = []
    comparisons: list[Comparison] = []
    seconds: Number = 0.0
    """What the row took in all."""


class Start(Base, frozen=True):
    """Seconds from the start of a fresh process to the end of its first epoch, imports included."""

    task: Task
    contestant: Contestant
    cold: list[Number] = []
    """With an empty kernel cache."""
    warm: list[Number] = []
    """With a full one."""
    problem: Text | None = None


class RaceRun(Base, frozen=True):
    """A way to the goal from one seed."""

    seed: Count
    epochs: Whole
    seconds: Number
    """Of all its epochs; preparing and evaluating isn't part of them."""
    accuracy: Number
    reference_epochs: Whole | None = None
    """What the float64 network of the same seed takes."""


class Race(Base, frozen=True):
    """A contestant's way to a share of the test images, in the setting that is the fastest for it."""

    task: Task
    goal: Number
    contestant: Contestant
    runs: list[RaceRun] = []
    p_value: Number | None = None
    """Of as many epochs more than the reference's, if it took as many: a one-sided test of random signs."""
    problem: Text | None = None

    @property
    def worse(self) -> bool:
        """Whether it takes more epochs than the reference, by more than chance."""
        return self.p_value is not None and self.p_value <= 0.05


class Kernel(Base, frozen=True):
    """A fused kernel, what it replaces, and a copy of as many bytes; no times where there is a `problem`."""

    device: Device
    name: Text
    shape: tuple[Whole, Whole]
    n_bytes: Whole
    """Read and written."""
    fused: Estimate | None = None
    unfused: Estimate | None = None
    copy: Estimate | None = None
    ratio: Estimate | None = None
    """The unfused time over the fused one, by round."""
    problem: Text | None = None

    @property
    def label(self) -> str:
        """The name and the shape."""
        return f"{self.name} {'x'.join(map(str, self.shape))}"


class Published(Base, frozen=True):
    """A test error that others published, and those of gpunn's networks, in %."""

    network: Network
    source: Text
    published: Number
    at_best: bool
    """Whether errors are those of the best epoch, instead of the last one."""
    recipe: Text
    device: Device
    engine: Text
    errors: list[Number]
    """One a seed, from 0 on."""
    seconds: list[Number]
    """Of each training."""
    verdict: Verdict


class EstimatorTimes(Base, frozen=True):
    """An epoch of `fit`, gpunn's and scikit-learn's in turn."""

    hidden: Whole
    batch_size: Whole
    solver: Text
    engine: Text
    device: Device
    images: Whole
    """That gpunn trained on."""
    their_images: Whole
    """That scikit-learn trained on; its times are scaled to `images`."""
    ours: Estimate
    theirs: Estimate
    ratio: Estimate
    our_first: Number
    """Of a `fit` of one epoch, with all that comes before it; median."""
    their_first: Number
    deviation: Number
    """Of our loss from theirs, relatively, after an epoch over the first images."""
    problem: Text | None = None


class EstimatorAccuracies(Base, frozen=True):
    """What both learn from the same seeds: accuracies on unseen images in %, one a seed from 0 on."""

    data: Text
    hidden: Whole
    solver: Text
    epochs: Whole
    engine: Text
    device: Device
    ours: list[Number]
    theirs: list[Number]
    chance: Number
    """What the means of networks that learn equally well may differ by."""
    problem: Text | None = None


class Machine(Base, frozen=True):
    """What the numbers depend on."""

    name: Text
    cores: Whole
    """That the process may use."""
    versions: dict[Text, Text] = {}
    """Of Python and of libraries; "none" where one isn't installed."""
    devices: dict[Device, dict[Text, Text]] = {}
    """What is known of each device that was used: "name", "driver" and others."""
    absent_devices: dict[Text, Text] = {}
    """Those that can't be used, and why."""
    load: Number | None = None
    """Processes that were running when the run began, in the mean of a minute."""


class Run(Struct, frozen=True, kw_only=True):
    """One file."""

    format: Literal["gpunn benchmarks"] = "gpunn benchmarks"
    version: int = VERSION
    started: Text
    """Local time: 2026-11-25 14:03:00."""
    finished: Text | None = None
    """None where the run was stopped early."""
    revision: Text
    machine: Machine
    options: dict[Text, Any] = {}
    rows: list[Row] = []
    starts: list[Start] = []
    races: list[Race] = []
    kernels: list[Kernel] = []
    published: list[Published] = []
    estimator_times: list[EstimatorTimes] = []
    estimator_accuracies: list[EstimatorAccuracies] = []
    left_out: list[Text] = []
    """What wasn't timed, and why, in a line each."""
    failures: list[Text] = []
    """What went wrong, in a line each."""


class _Head(Struct):
    format: str | None = None
    version: Any = None
    first_version: Any = msgspec.field(name="gpunn benchmarks", default=None)


def read(path: str | os.PathLike[str]) -> Run:
    """Return what is in the file at `path`; raises `ResultsFileError`, in one line, where it isn't such a file."""
    name = printable(os.fspath(path))
    expected = "expected a file that pytest --benchmark wrote"
    try:
        with open_file(path) as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise ResultsFileError(f"cannot read {name}: {error.strerror or error}") from error
    if len(content) > LARGEST_FILE:
        raise ResultsFileError(f"{name} has more than {LARGEST_FILE:,} bytes: {expected}")
    try:
        head = msgspec.json.decode(content, type=_Head)
        version = head.first_version or head.version
        if head.first_version is None and head.format != "gpunn benchmarks":
            raise ResultsFileError(f"{name} is another kind of JSON: {expected}")
        if version != VERSION:
            raise ResultsFileError(
                f"{name}: its layout is version {version!r:.20}, and version {VERSION} is read here; run it again"
            )
        return msgspec.json.decode(content, type=Run)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise ResultsFileError(f"{name}: {printable(str(error)[:300])}; {expected}") from error


def write(path: str | os.PathLike[str], run: Run) -> None:
    """Write `run` to `path`, whole or not at all; raises `OutputError` where that can't be done."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(run), indent=1))

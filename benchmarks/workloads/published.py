"""Test errors on MNIST that others have published, and how gpunn trains the same networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpunn.early_stopping import EarlyStopping
from gpunn.recipes import FUNCTIONS, RECIPES

NIELSEN = "Nielsen, Neural Networks and Deep Learning, 2015"
LECUN = "LeCun et al., Gradient-based learning, 1998"
SIMARD = "Simard et al., Best practices, 2003"
SRIVASTAVA = "Srivastava et al., Dropout, 2014"
CIRESAN = "Ciresan et al., Deep, big, simple neural nets, 2010"
COMMITTEE = "Ciresan et al., Handwritten digit recognition with a committee of deep neural nets on GPUs, 2011"

NIELSENS_PENALTY = 5 / 50_000
"""His lambda of 5, over the number of training images."""


@dataclass(frozen=True)
class Published:
    """A network, the test error that `source` gives for it in %, and the arguments of `MLP` and `train` to meet it."""

    name: str
    """To ask for it by: `-k NAME`."""
    sizes: tuple[int, ...]
    error: float
    source: str
    recipe: Mapping[str, Any]
    network: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, int] = (28, 28)
    """Shape (rows, columns) that images are padded to."""
    at_best: bool = False
    """Whether the error is that of the best epoch: here of the one that held-out images prefer."""
    members: int = 1
    """Networks whose outputs are averaged."""
    long: bool = False
    """Whether a seed takes a CPU more than a quarter of an hour."""

    @property
    def layers(self) -> str:
        """The layer sizes, and of how many networks."""
        sizes = "-".join(map(str, self.sizes))
        return sizes if self.members == 1 else f"{self.members} networks {sizes}"


HELD_OUT = EarlyStopping(patience=1000, share=1 / 6)
"""The 10,000 images by which the best epoch is chosen, as in Nielsen's book; training doesn't end earlier."""


def _nielsen(hidden: int, error: float) -> Published:
    # His cost is half of ours, so that his learning rate of 3 is 1.5 here. Weights are drawn as in his chapter 3: with
    # those of chapter 1 some digits are never learnt, from some seeds.
    recipe = {"epochs": 30, "batch_size": 10, "learning_rate": 1.5, "early_stopping": HELD_OUT}
    return Published(f"nielsen-{hidden}", (784, hidden, 10), error, f"{NIELSEN}, chapter 1", recipe, at_best=True)


def _lecun(hidden: tuple[int, ...], error: float, rate: float = 0.6) -> Published:
    recipe = {"epochs": 12, "batch_size": 10, "learning_rate": rate}
    return Published(f"lecun-{'-'.join(map(str, hidden))}", (784, *hidden, 10), error, LECUN, recipe)


def _srivastava(hidden: tuple[int, ...], error: float, max_norm: float = 0.0) -> Published:
    recipe: dict[str, Any] = {"epochs": 100, "batch_size": 128, "learning_rate": 1e-3, "optimizer": "adam"}
    recipe |= {"schedule": "cosine", "dropout": 0.5}
    name, source = f"srivastava-{len(hidden)}x{hidden[0]}", f"{SRIVASTAVA}: ReLU and dropout"
    if max_norm:
        recipe["max_norm"] = max_norm
        name, source = f"{name}-max-norm", f"{source} and max-norm"
    return Published(name, (784, *hidden, 10), error, source, recipe, FUNCTIONS, long=True)


def _ciresan(hidden: tuple[int, ...], error: float, recipe: str, members: int = 1) -> Published:
    """Return a row for a network on 29 x 29 pixels, trained as the recipe of that name says."""
    known = RECIPES[recipe]
    name = f"ciresan-{'-'.join(map(str, hidden))}" if members == 1 else f"committee-of-{members}"
    source = f"{CIRESAN if members == 1 else COMMITTEE}: elastic and affine distortions"
    training, sizes = known.training, (841, *hidden, 10)
    return Published(name, sizes, error, source, training, FUNCTIONS, known.shape, members=members, long=True)


PUBLISHED = (
    _nielsen(30, 4.6),
    _nielsen(100, 3.4),
    Published(
        "nielsen-100-cross-entropy",
        (784, 100, 10),
        2.0,
        f"{NIELSEN}, chapter 3: cross-entropy and L2",
        {
            "epochs": 60,
            "batch_size": 10,
            "learning_rate": 0.1,
            "l2": NIELSENS_PENALTY,
            "loss": "binary_cross_entropy",
            "early_stopping": HELD_OUT,
        },
        at_best=True,
    ),
    _lecun((300,), 4.7),
    _lecun((1000,), 4.5, rate=0.2),
    _lecun((300, 100), 3.05),
    _lecun((500, 150), 2.95),
    Published(
        "simard-plain",
        (784, 800, 10),
        1.6,
        f"{SIMARD}: cross-entropy, no distortions",
        {"epochs": 25, "batch_size": 10, "learning_rate": 0.15, "schedule": "cosine"},
        FUNCTIONS,
    ),
    Published(
        "simard-distorted",
        (784, 800, 10),
        0.7,
        f"{SIMARD}: cross-entropy, elastic distortions",
        RECIPES["simard"].training,
        FUNCTIONS,
    ),
    _srivastava((1024,) * 3, 1.25),
    _srivastava((1024,) * 3, 1.06, max_norm=2.0),
    _srivastava((4096,) * 2, 1.01, max_norm=2.0),
    _srivastava((8192,) * 2, 0.95, max_norm=2.0),
    _ciresan((1000, 500), 0.49, "ciresan-small"),
    _ciresan((1500, 1000, 500), 0.46, "ciresan-small"),
    _ciresan((2000, 1500, 1000, 500), 0.41, "ciresan"),
    _ciresan((2500, 2000, 1500, 1000, 500), 0.35, "ciresan"),
    _ciresan((1000,) * 9, 0.44, "ciresan"),
    _ciresan((1000, 500), 0.31, "ciresan-small", members=7),
)
"""What takes a CPU long is trained where it is asked for by name."""

"""Recipes by name: all that trains one of the networks that others are known for, or one that is better than theirs.

from gpunn.recipes import RECIPES

recipe = RECIPES["ciresan-small"]
data = recipe.prepared(gpunn.load_mnist())
net = recipe.network(data, seed=0)
gpunn.train(net, data, seed=0, **recipe.training)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from gpunn.datasets.split import Dataset
from gpunn.network import MLP

FUNCTIONS = {"hidden": "relu", "output": "softmax", "init": "he"}
"""Arguments of `MLP` that all recipes have in common."""


@final
@dataclass(frozen=True)
class NamedRecipe:
    """A network and its training.

    `about` is a line about both; `hidden` are the sizes of the hidden layers, and `FUNCTIONS` says of what neurons;
    `training` are arguments of `gpunn.train`, of plain types; `shape`, (rows, columns), is that of the images, which
    are padded if theirs is smaller.
    """

    about: str
    hidden: tuple[int, ...]
    training: Mapping[str, Any]
    shape: tuple[int, int] = (28, 28)

    def prepared(self, data: Dataset) -> Dataset:
        """Return `data` with images of the recipe's shape; raises `DataError` if they are larger."""
        return data.padded(self.shape)

    def network(self, data: Dataset, seed: int = 0) -> MLP:
        """Return the network for `data`, as `prepared` returns it, with random weights from `seed`."""
        return MLP((data.train.images.shape[1], *self.hidden, data.n_classes), seed=seed, **FUNCTIONS)


COMMON = {
    "batch_size": 64,
    "learning_rate": 0.5,
    "schedule": "cosine",
    "label_smoothing": 0.03,
    "distort": "ciresan",
}
"""The rate was chosen by 5,000 held-out images, of which 784-800-10 read wrong after 10 epochs: 1.88 % at 0.1, 1.14 %
at 0.4, 0.86 % at 0.8. A deep network diverged at 0.4. Smoothing labels made no difference that so few images could
show; nor did averaging weights, or dropout, which `record` has because it trains longest. Numbers of epochs are what
fits the time that each is for on two cores: 5 minutes, 45 minutes, hours."""

RECIPES = {
    "simard": NamedRecipe("784-800-10; 0.7 % (Simard et al., 2003)", (800,), {**COMMON, "epochs": 150}),
    "ciresan-small": NamedRecipe(
        "841-1000-500-10; 0.49 % (Ciresan et al., 2010)", (1000, 500), {**COMMON, "epochs": 320}, (29, 29)
    ),
    "ciresan": NamedRecipe(
        "841-2500-2000-1500-1000-500-10; 0.35 % (Ciresan et al., 2010)",
        (2500, 2000, 1500, 1000, 500),
        {**COMMON, "learning_rate": 0.15, "epochs": 250},
        (29, 29),
    ),
    "record": NamedRecipe(
        "841-2500-2000-1500-1000-500-10; to get below 0.35 %",
        (2500, 2000, 1500, 1000, 500),
        {**COMMON, "learning_rate": 0.15, "epochs": 400, "dropout": 0.1},
        (29, 29),
    ),
}
"""By name."""

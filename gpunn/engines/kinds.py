"""Kinds of networks: networks of one kind are trained by the same machine code, whatever their sizes."""

from gpunn.engines.base import Examples, Parameters, Recipe
from gpunn.optimizers import PLAIN, SGD


def kind_of(
    engine: str, start: Parameters, recipe: Recipe, examples: Examples, *, sparse: bool, wide: bool = False
) -> str:
    """Describe the kind of a network: activation functions, loss, optimiser, data and engine.

    `wide` tells that layers are so wide that the engine uses other code for them.
    """
    same = len(set(start.functions)) == 1
    functions = f"{start.functions[0]} layers" if same else f"layers of {', '.join(start.functions)}"
    optimizer = "gradient descent" if recipe.optimizer == PLAIN else type(recipe.optimizer).__name__
    if isinstance(recipe.optimizer, SGD) and recipe.optimizer.momentum:
        optimizer = "Nesterov momentum" if recipe.optimizer.nesterov else "momentum"
    inputs = ("sparse" if sparse else "dense") + (" images" if examples.grey else " numbers")
    parts = [functions, recipe.loss.replace("_", " "), optimizer, inputs]
    parts += ["L2 penalty"] * bool(recipe.l2) + ["dropout"] * bool(recipe.dropout)
    parts += ["rows of targets"] * (not examples.labeled) + ["wide layers"] * wide + [f"engine {engine}"]
    return f"networks of this kind ({'; '.join(parts)})"

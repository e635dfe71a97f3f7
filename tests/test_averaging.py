"""Averages of weights over epochs."""

from typing import Any

import numpy as np
import pytest

from gpunn import MLP, Averaging, ConfigurationError, EarlyStopping, Split, evaluate, train
from gpunn.backends import Backend

from .conftest import parameters, random_split
from .strict_kernels import strict_gpu


def trained(split: Split, epochs: int = 5, **options: Any) -> MLP:
    net = MLP((12, 5, 3), seed=1, dtype=np.float64)
    settings: dict[str, Any] = {"batch_size": 7, "learning_rate": 0.3, "engine": "plain", "device": "cpu", "seed": 2}
    train(net, split, epochs=epochs, **(settings | options))
    return net


@pytest.fixture(scope="module")
def split() -> Split:
    return random_split(50, 12, 3)


@pytest.fixture(scope="module")
def after_each(split: Split) -> list[list[np.ndarray]]:
    """The parameters after each of five epochs."""
    return [parameters(trained(split, epochs)) for epochs in range(1, 6)]


@pytest.mark.parametrize(("share", "n"), [(0.05, 1), (0.4, 2), (0.6, 3), (1, 5)])
def test_the_network_is_the_mean_of_the_last_epochs(
    split: Split, after_each: list[list[np.ndarray]], share: float, n: int
) -> None:
    for mine, *others in zip(parameters(trained(split, average=share)), *after_each[-n:], strict=True):
        np.testing.assert_allclose(mine, np.mean(others, axis=0), atol=1e-14)


def test_with_decay_it_is_an_exponential_moving_average(split: Split, after_each: list[list[np.ndarray]]) -> None:
    found = parameters(trained(split, average=Averaging(0.6, decay=0.8)))
    for mine, *others in zip(found, *after_each[-3:], strict=True):
        np.testing.assert_allclose(mine, 0.8 * (0.8 * others[0] + 0.2 * others[1]) + 0.2 * others[2], atol=1e-14)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_averages_are_what_is_evaluated(split: Split, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: str | Backend = "cpu" if device == "cpu" else strict_gpu(monkeypatch)
    net, losses = MLP((12, 5, 3), seed=1), []

    def check(history: Any) -> None:
        losses.append((evaluate(net, split, device="cpu").loss, history.epochs[-1].test.loss))

    history = train(net, split, epochs=4, test=split, device=backend, engine="plain", average=1, on_epoch=check)
    ours, theirs = np.array(losses).T
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert len(losses) == 4
    assert history.to_dict()["average"] == {"share": 1}


def test_early_stopping_judges_averages(split: Split) -> None:
    net = MLP((12, 5, 3), seed=1)
    history = train(net, split, epochs=6, device="cpu", average=0.5, early_stopping=EarlyStopping(9), seed=3)
    _, held_out = EarlyStopping(9).divide(split, 3)
    kept = history.epochs[history.kept - 1].held_out
    assert kept is not None
    assert evaluate(net, held_out, device="cpu").loss == pytest.approx(kept.loss, rel=1e-5)


@pytest.mark.parametrize(
    ("average", "message"),
    [
        (0, "averaging share must be a finite number > 0 and <= 1, got 0"),
        (1.5, "averaging share must be a finite number > 0 and <= 1, got 1.5"),
        ("swa", "average must be a share of the epochs or a gpunn.Averaging, got 'swa'"),
    ],
)
def test_averages_of_nothing_are_refused(split: Split, average: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        trained(split, average=average)


def test_decays_of_one_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="averaging decay must be a finite number >= 0 and < 1, got 1"):
        Averaging(decay=1)

"""Optimisers (compared with PyTorch step by step), schedules, L2, dropout and early stopping."""

import math
from typing import Any, final

import numpy as np
import pytest

from gpunn import MLP, ConfigurationError, Split, get_backend, train
from gpunn.dropout import keys, mask
from gpunn.early_stopping import EarlyStopping
from gpunn.engines import Parameters, Recipe, choose_engine
from gpunn.kernels.formulas.steps import Numbers
from gpunn.optimizers import PLAIN, SGD, Adam, Optimizer, Stepper
from gpunn.schedules import CONSTANT, Cosine, Exponential, OneCycle, Schedule, Steps

from .conftest import parameters, random_split

CPU = get_backend("cpu")

OPTIMIZERS = [PLAIN, SGD(0.9), SGD(0.9, nesterov=True), Adam(), Adam(0.8, 0.95, 1e-6), Adam(decoupled=True)]


def torch_optimizer(torch: Any, optimizer: Optimizer, groups: list[dict[str, Any]], rate: float) -> Any:
    if isinstance(optimizer, SGD):
        return torch.optim.SGD(groups, lr=rate, momentum=optimizer.momentum, nesterov=optimizer.nesterov)
    assert isinstance(optimizer, Adam)
    kind = torch.optim.AdamW if optimizer.decoupled else torch.optim.Adam
    return kind(groups, lr=rate, betas=(optimizer.beta1, optimizer.beta2), eps=optimizer.epsilon)


@pytest.mark.parametrize("l2", [0.0, 0.03])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
def test_50_steps_are_those_of_pytorch(small: Split, optimizer: Optimizer, l2: float) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch, the oracle of this test, is not installed: pip install torch")
    net = MLP([12, 5, 3], hidden="tanh", output="softmax", dtype=np.float64)
    weights = [torch.tensor(W, requires_grad=True) for W in net.weights]
    biases = [torch.tensor(b, requires_grad=True) for b in net.biases]
    groups = [{"params": weights, "weight_decay": l2}, {"params": biases, "weight_decay": 0.0}]
    rate = 0.02 if isinstance(optimizer, Adam) else 0.1
    theirs = torch_optimizer(torch, optimizer, groups, rate)
    rng = np.random.default_rng(4)
    for _ in range(10):
        order = rng.permutation(200)
        for first in range(0, 200, 40):
            batch = order[first : first + 40]
            X, y = torch.tensor(small.images[batch] / 255), torch.tensor(small.labels[batch].astype(np.int64))
            z = torch.tanh(X @ weights[0].T + biases[0]) @ weights[1].T + biases[1]
            theirs.zero_grad()
            torch.nn.functional.cross_entropy(z, y).backward()
            theirs.step()

    train(net, small, epochs=10, batch_size=40, learning_rate=rate, optimizer=optimizer, l2=l2, seed=4, device="cpu")
    for mine, other in zip(parameters(net), (*weights, *biases), strict=True):
        np.testing.assert_allclose(mine, other.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(1.0), "momentum must be a finite number >= 0 and < 1, got 1.0"),
        (lambda: SGD(nesterov=True), "nesterov=True requires momentum > 0, got 0.0"),
        (lambda: Adam(beta2=-1), "beta2 must be a finite number >= 0 and < 1, got -1"),
        (lambda: Adam(epsilon=0), "epsilon must be a finite number > 0, got 0"),
        (lambda: Steps(every=0), "schedule step: every must be an integer >= 1, got 0"),
        (lambda: Exponential(1.5), "schedule exponential: by must be a finite number > 0 and <= 1, got 1.5"),
        (lambda: OneCycle(0), "schedule one-cycle: rising must be a finite number > 0 and < 1, got 0"),
        (lambda: EarlyStopping(0), "early-stopping patience must be an integer >= 1, got 0"),
        (lambda: EarlyStopping(share=1), "early-stopping share must be a finite number > 0 and < 1, got 1"),
    ],
)
def test_invalid_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make()


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (CONSTANT, [1, 1, 1, 1, 1, 1]),
        (Steps(every=2, by=0.5), [1, 1, 0.5, 0.5, 0.25, 0.25]),
        (Exponential(0.5), [1, 0.5, 0.25, 0.125, 0.0625, 0.03125]),
        (Cosine(), [1, 0.9330127, 0.75, 0.5, 0.25, 0.0669873]),
        (OneCycle(0.5), [0.04, 0.28, 0.76, 1, 0.75, 0.25]),
    ],
    ids=str,
)
def test_schedules_have_their_factors(schedule: Schedule, expected: list[float]) -> None:
    assert [schedule.factor(epoch, 6) for epoch in range(6)] == pytest.approx(expected)
    for epoch in range(6):
        factors = schedule.factors(epoch, 6, 4)
        assert factors[0] == pytest.approx(expected[epoch])
        assert factors[2] == pytest.approx(schedule.factor(epoch + 0.5, 6))


@pytest.mark.parametrize("engine", ["plain", "fused", "epoch"])
@pytest.mark.parametrize("batch_size", [1, 7, 40])
def test_every_engine_follows_a_schedule(small: Split, engine: str, batch_size: int) -> None:
    recipe: dict[str, Any] = {"epochs": 3, "batch_size": batch_size, "learning_rate": 0.5, "device": "cpu"}
    found = []
    for name in ("plain", engine):
        net = MLP([12, 5, 3])
        train(net, small, **recipe, schedule=OneCycle(), engine=name)
        found.append(net)
    constant = MLP([12, 5, 3])
    train(constant, small, **recipe)
    for mine, plain, other in zip(*map(parameters, (found[1], found[0], constant)), strict=True):
        np.testing.assert_allclose(mine, plain, atol=2e-5)
        assert np.abs(mine - other).max() > 1e-3


RECIPES: list[dict[str, Any]] = [
    {"loss": "binary_cross_entropy"},
    {"optimizer": SGD(0.9, nesterov=True)},
    {"optimizer": Adam()},
    {"l2": 0.1},
    {"dropout": 0.1},
]


@pytest.mark.parametrize("options", RECIPES, ids=str)
def test_compiled_engines_take_every_recipe(options: dict[str, Any]) -> None:
    net, recipe = MLP([12, 5, 3]), Recipe(32, 0.1, **options)
    start = Parameters(net.weights, net.biases, net.functions)
    assert choose_engine("fused", CPU, start, recipe).name == "fused"
    assert choose_engine("auto", CPU, start, recipe).name == "epoch"


@final
class Unknown(Optimizer):
    """An optimiser that only `plain` supports."""

    decays_apart, rule = False, "descent"

    def numbers(self, steps: int, rates: Any, l2: float) -> Any:
        return SGD().numbers(steps, rates, l2)


def test_custom_optimisers_need_plain() -> None:
    net, recipe = MLP([12, 5, 3]), Recipe(32, 0.1, optimizer=Unknown())
    start = Parameters(net.weights, net.biases, net.functions)
    for name in ("fused", "epoch"):
        with pytest.raises(ConfigurationError, match="it takes only SGD and Adam, got the optimiser"):
            choose_engine(name, CPU, start, recipe)
    assert choose_engine("auto", CPU, start, recipe).name == "plain"


class SignStepper(Stepper):
    def step(self, parameters: Any, gradients: Any, of_weights: Numbers, of_biases: Numbers) -> None:
        self.steps += 1
        for number, (w, g) in enumerate(zip(parameters, gradients, strict=True)):
            c = of_weights if number < len(parameters) // 2 else of_biases
            w -= c.rate * np.sign(g + c.l2 * w)


@final
class Sign(Optimizer):
    """Steps of one size, by the signs of the gradients."""

    decays_apart, rule = False, "descent"

    def numbers(self, steps: int, rates: Any, l2: float) -> Any:
        return SGD().numbers(steps, rates, l2)

    def stepper(self, xp: Any, parameters: Any, memory: Any = None) -> Stepper:
        return SignStepper(self, xp, 0, ())


def test_optimisers_with_steps_of_their_own_are_given_the_penalty() -> None:
    split, found = random_split(8, 12, 3), []
    for l2 in (0.0, 1e6):
        net = MLP([12, 5, 3], seed=1)
        before = net.weights[0].copy()
        train(net, split, epochs=1, batch_size=8, learning_rate=0.001, optimizer=Sign(), l2=l2)
        change = net.weights[0] - before
        np.testing.assert_allclose(np.abs(change), 0.001, rtol=1e-3)
        found.append(np.sign(change) == -np.sign(before))
    assert found[1].all()
    assert not found[0].all()


def test_a_mask_leaves_out_its_share_and_keeps_the_mean() -> None:
    found = mask(np, 123456789, 0, (2000, 500), share=0.3, dtype=np.float32)
    n = found.size
    assert set(np.unique(found).tolist()) == {0.0, float(np.float32(1 / 0.7))}
    # Of n draws of probability p, the share varies by sqrt(p (1 - p) / n).
    assert (found == 0).mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / n))
    assert found.mean() == pytest.approx(1, abs=4 * math.sqrt(0.3 / 0.7 / n))
    assert found.var() == pytest.approx(0.3 / 0.7, rel=0.02)
    # Neither rows nor columns hang together.
    for axis, length in ((0, 2000), (1, 500)):
        assert (found == 0).mean(axis=axis).std() == pytest.approx(math.sqrt(0.21 / length), rel=0.2)
    assert abs(np.corrcoef(found[:-1].ravel(), found[1:].ravel())[0, 1]) < 4 / math.sqrt(n)
    assert abs(np.corrcoef(found[:, :-1].ravel(), found[:, 1:].ravel())[0, 1]) < 4 / math.sqrt(n)


def test_masks_can_be_made_again_in_any_pieces() -> None:
    key, other = keys(7, 3, 2)
    assert key != other
    assert keys(7, 3, 2) == [key, other]
    assert keys(7, 4, 1) != keys(7, 3, 1) != keys(8, 3, 1)
    whole = mask(np, key, 0, (60, 8), share=0.5, dtype=np.float64)
    np.testing.assert_array_equal(mask(np, key, 20, (40, 8), share=0.5, dtype=np.float64), whole[20:])
    assert not np.array_equal(mask(np, other, 0, (60, 8), share=0.5, dtype=np.float64), whole)


def test_the_largest_share_is_no_overflow() -> None:
    assert mask(np, 5, 0, (3, 4), share=1 - 1e-12, dtype=np.float64).sum() == 0


def test_numbers_of_numpy_keep_parameters_in_float32(small: Split) -> None:
    net = MLP([12, 3])
    optimizer = Adam(np.float64(0.9), np.float64(0.99), np.float64(1e-8))
    train(net, small, epochs=1, batch_size=50, learning_rate=np.float64(0.01), optimizer=optimizer, device="cpu")
    assert net.dtype == np.float32


def test_a_smaller_last_batch_takes_its_own_step(small: Split) -> None:
    nets = []
    for dtype in (np.float32, np.float64):
        net = MLP([12, 5, 3], hidden="tanh", output="softmax", dtype=dtype)
        recipe: dict[str, Any] = {"optimizer": SGD(0.9), "l2": 0.01, "schedule": Cosine(), "device": "cpu"}
        train(net, small, epochs=3, batch_size=70, learning_rate=0.1, **recipe)
        nets.append(net)
    for ours, theirs in zip(*map(parameters, nets), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_dropout_trains_another_network_and_the_same_one_each_time(small: Split) -> None:
    nets = []
    for dropout in (0.0, 0.4, 0.4):
        net = MLP([12, 9, 3])
        train(net, small, epochs=2, batch_size=20, learning_rate=0.5, dropout=dropout, device="cpu")
        nets.append(net)
    assert not np.array_equal(nets[0].weights[0], nets[1].weights[0])
    for mine, again in zip(parameters(nets[1]), parameters(nets[2]), strict=True):
        np.testing.assert_array_equal(mine, again)


def test_early_stopping_keeps_the_best_network_and_ends(small: Split) -> None:
    net = MLP([12, 30, 3], hidden="tanh", output="softmax", init="normal")
    # Random labels can't be learnt, only remembered: what was held out soon gets worse.
    rule = EarlyStopping(patience=3, share=0.25)
    history = train(net, small, epochs=200, batch_size=10, learning_rate=0.5, early_stopping=rule, device="cpu")
    assert history.early_stopping == rule
    losses = [epoch.held_out.loss for epoch in history.epochs if epoch.held_out is not None]
    best = int(np.argmin(losses))
    assert len(losses) == best + 4 < 200
    assert history.kept == best + 1
    kept, held_out = rule.divide(small, 0)
    assert (len(kept), len(held_out)) == (150, 50)
    assert len({image.tobytes() for image in (*kept.images, *held_out.images)}) == 200
    from gpunn import evaluate

    assert evaluate(net, held_out, device="cpu").loss == pytest.approx(losses[best], rel=1e-6)


def test_least_improvement_counts(small: Split) -> None:
    watch = EarlyStopping(patience=2, least=0.1).watch()
    seen = [watch.see(loss, [np.array(loss)], [])[0][0] for loss in (1.0, 0.95, 0.85)]
    assert [float(kept) for kept in seen] == [1.0, 1.0, 0.85]
    assert not watch.ended
    watch.see(0.8, [], [])
    watch.see(0.8, [], [])
    assert watch.ended


def test_too_few_examples_to_hold_any_out_are_refused(small: Split) -> None:
    with pytest.raises(ConfigurationError, match="1 of 1 examples would be held out, which leaves none"):
        train(MLP([12, 3]), small[:1], epochs=1, batch_size=1, learning_rate=1, early_stopping=EarlyStopping())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": -1}, "l2 must be a finite number >= 0, got -1"),
        ({"dropout": 1}, "dropout must be a finite number >= 0 and < 1, got 1"),
        ({"dropout": math.nan}, "dropout must be a finite number >= 0 and < 1, got nan"),
        ({"learning_rate": True}, "learning_rate must be a finite number > 0, got True"),
        ({"optimizer": "lion"}, "optimizer must be one of sgd, momentum, nesterov, adam, adamw, or .*, got 'lion'"),
        ({"schedule": "sine"}, "schedule must be one of constant, step, .*, got 'sine'"),
        ({"schedule": "step:0"}, "schedule step: every must be an integer >= 1, got 0"),
        ({"schedule": "step:1,2,3"}, "schedule step takes every and by, got '1,2,3': write step:10,0.1"),
        ({"schedule": "cosine:2"}, "schedule cosine takes no numbers, got '2': write cosine"),
        ({"schedule": "exponential:x"}, "schedule exponential takes by, got 'x': write exponential:0.9"),
        ({"early_stopping": 5}, "early_stopping must be a gpunn.EarlyStopping, got 5"),
        ({"dropout": 0.5}, "dropout needs at least one hidden layer"),
        ({"loss": "cross_entropy"}, "loss cross_entropy needs output activation softmax, got sigmoid"),
    ],
)
def test_arguments_out_of_range_are_refused(small: Split, options: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"epochs": 1, "batch_size": 10, "learning_rate": 0.1} | options
    net = MLP([12, 3] if options.get("dropout") == 0.5 else [12, 4, 3])
    before = [array.copy() for array in parameters(net)]
    with pytest.raises(ConfigurationError, match=message):
        train(net, small, device="cpu", **arguments)
    for now, then in zip(parameters(net), before, strict=True):
        np.testing.assert_array_equal(now, then)

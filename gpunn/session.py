"""The training of one network by a plan: orders, evaluations, the history, checkpoints."""

import logging
from collections.abc import Callable
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from gpunn.averaging import Average
from gpunn.backends import Backend
from gpunn.checkpoint_file import Resumed, State
from gpunn.checkpoints import Saver
from gpunn.engines import Engine, Examples, Parameters
from gpunn.engines.runner import Runner, Trained, alone, running
from gpunn.errors import DivergenceError
from gpunn.guessing import ENOUGH_EXAMPLES, ENOUGH_STEPS, Guessing
from gpunn.history import Epoch, History
from gpunn.plan import Division, Evaluators, Plan
from gpunn.schedules import CONSTANT

logger = logging.getLogger(__name__)


@final
class Session:
    """The training of one network: the order of the examples, evaluation after each epoch, and the history.

    `tell` gets the history after each epoch; training ends if it returns False. `warn` logs a warning. `saver` writes
    checkpoints, of what `run_on` trains; the training goes on from `resumed`, which the network already has.
    """

    evaluators: Evaluators
    """To be set before the first epoch is finished."""
    _put: Callable[[NDArray[Any]], Any]
    """Copies an array to the device."""

    def __init__(
        self,
        plan: Plan,
        division: Division,
        device: str,
        engine: str,
        tell: Callable[[History], bool],
        *,
        warn: Callable[[str], None] = logger.warning,
        saver: Saver | None = None,
        resumed: Resumed | None = None,
    ) -> None:
        history = History(device, engine, plan.recipe, plan.early_stopping, planned=plan.epochs, n_examples=plan.n)
        if plan.ranks is not None:
            history.ranks, history.average_every = plan.ranks.size, plan.ranks.average_every
            warn = warn if plan.ranks.leads else lambda _: None
        self.history = history
        self._plan, self._division, self._tell, self._warn = plan, division, tell, warn
        self._rng = np.random.default_rng(plan.recipe.seed)
        rule, watched = plan.early_stopping, None if resumed is None else resumed.state.watched
        self._watch = None if rule is None else rule.watch(watched)
        self._saver, self._resumed = saver, resumed
        self._runner: Runner | None = None
        self._where: dict[str, str] = {}
        average = plan.recipe.average
        mean = None if resumed is None else resumed.state.mean
        self._average = None if average is None else Average(average, plan.epochs, mean)
        self._n_batches = -(-plan.n // plan.recipe.batch_size)
        n_outputs = plan.net.sizes[-1]
        test = plan.test
        judged = plan.targets(division.split) if test is None else test.targets(plan.net.dtype, n_outputs)
        self._guessing = Guessing.on(judged, n_outputs, plan.recipe.loss)

    def run_on(
        self, backend: Backend, engine: type[Engine], examples: Examples, evaluators: Evaluators | None = None
    ) -> None:
        """Train on `examples` (host arrays) by `engine` on `backend`; `evaluators` are the plan's by default."""
        plan, resumed, start, done = self._plan, self._resumed, self._plan.start, 0
        make = alone if plan.ranks is None else plan.ranks.make
        if self._saver is not None or resumed is not None:
            self._where = {"device": backend.name, "engine": engine.name} | backend.describe()
            self._where["ranks"] = f"{self.history.ranks} rank{'s' * (self.history.ranks > 1)}"
        if resumed is not None:
            start, done = resumed.state.start, len(resumed.epochs)
            if self._go_on(resumed):
                return
        with running(backend, engine, start, examples, plan.recipe, make=make) as runner:
            self._runner, self._put = runner, backend.asarray
            self.evaluators = evaluators or plan.evaluators(backend, engine, self._division)
            runner.run(plan.epochs, self.begin, self.finish, plan.distorted(self._division), done=done)

    def _go_on(self, resumed: Resumed) -> bool:
        """Restore the state and the history; return whether the training is over already."""
        net, split, history, watch = self._plan.net, self._division.split, self.history, self._watch
        self._rng.bit_generator.state = resumed.state.order
        history.epochs, history.warnings = list(resumed.epochs), list(resumed.warnings)
        history.kept = len(history.epochs) - (0 if watch is None else watch.since)
        net.grey, net.kind, net.training = split.grey, split.kind or net.kind, history
        over = len(history.epochs) >= self._plan.epochs or (watch is not None and watch.ended)
        if not over and (changes := resumed.changes(self._where)):
            self._warn(f"{resumed.name} {changes}: the numbers will be the same to rounding")
        return over

    def begin(self, number: int) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
        """Return the order of the examples in epoch `number`, from 1, and its batches' learning rates if they vary."""
        recipe, order = self._plan.recipe, self._rng.permutation(self._plan.n)
        if recipe.schedule == CONSTANT:
            return order, None
        factors = recipe.schedule.factors(number - 1, self._plan.epochs, self._n_batches)
        return order, recipe.learning_rate * factors

    def finish(self, number: int, trained: Trained) -> bool:
        """Evaluate and record epoch `number`, and update the network; return whether training goes on.

        Raises `DivergenceError` if a loss or a parameter isn't finite.
        """
        plan, history, watch = self._plan, self.history, self._watch
        net, n, split = plan.net, plan.n, self._division.split
        if plan.ranks is not None:
            trained = trained._replace(seconds=plan.ranks.longest(trained.seconds))
        loss, seconds, weights, biases, parameters = trained
        if self._average is not None:
            weights, biases = self._average.see(number, weights, biases)
            parameters = Parameters(list(map(self._put, weights)), list(map(self._put, biases)), net.functions)
        evaluate = self.evaluators
        evaluation, held_out = evaluate.test(parameters), evaluate.held_out(parameters)
        losses = [each.loss for each in (evaluation, held_out) if each is not None]
        if not trained.is_finite(*losses):
            raise _divergence(number, [loss, *losses][-1], plan.recipe.learning_rate, plan.suited)
        epoch = Epoch(number, loss, seconds, n / seconds, evaluation, held_out, evaluate.train(parameters))
        if watch is not None and held_out is not None:
            weights, biases = watch.see(held_out.loss, weights, biases)
        net.grey, net.kind, net.training = split.grey, split.kind or net.kind, history
        # No calls in between, so Ctrl-C leaves the network and the history at the same epoch.
        net.weights, net.biases = weights, biases
        history.epochs.append(epoch)
        history.kept = number - (0 if watch is None else watch.since)
        enough = number * self._n_batches >= ENOUGH_STEPS and number * n >= ENOUGH_EXAMPLES
        new = not history.warnings and (enough or number == plan.epochs) and self._guessing.is_all(epoch)
        if new:
            history.warnings.append(_no_progress(history, plan.suited, enough=enough))
        self._keep(number, trained)
        goes_on = self._tell(history)
        if new:
            self._warn(history.warnings[-1])
        if self._saver is not None:
            self._saver.write_if_due()
        return goes_on and not (watch is not None and watch.ended)

    def _keep(self, number: int, trained: Trained) -> None:
        """Keep the state after epoch `number` for a checkpoint, if there are any."""
        if self._saver is None or self._runner is None:
            return
        memory, functions = self._runner.optimizer_state(), self._plan.net.functions
        start = Parameters(trained.weights, trained.biases, functions, memory, epochs=number)
        watched = None if self._watch is None else self._watch.watched
        mean = None if self._average is None else self._average.mean
        self._saver.keep(State(start, self._rng.bit_generator.state, watched, mean), self.history, self._where)


def _no_progress(history: History, suited: float, *, enough: bool) -> str:
    """Return the warning that the network does no better than guessing."""
    epoch, rate = history.epochs[-1], history.recipe.learning_rate
    measured = f"loss {epoch.loss:.4f}" if epoch.test is None else f"test accuracy {epoch.test.accuracy:.2%}"
    if not suited / 5 <= rate <= 1.5 * suited:
        advice = f"learning rate {suited:g}"
    else:
        advice = "another initialisation, activation or learning rate" if enough else "more epochs or smaller batches"
    return (
        f"after epoch {epoch.number}, the network does no better than guessing ({measured}, learning rate {rate:g}): "
        f"try {advice}"
    )


def _divergence(epoch: int, loss: float, learning_rate: float, suited: float) -> DivergenceError:
    suggestion = suited if learning_rate > 1.5 * suited else learning_rate / 10
    return DivergenceError(
        f"training diverged in epoch {epoch} (loss {loss:g}, or non-finite parameters) with learning rate "
        f"{learning_rate:g}: try {suggestion:g}"
    )

"""Ctrl-C and its like inside this process: also where something ignores or swallows what they raise."""

import contextlib
import signal
import sys
import time
from pathlib import Path

import pytest

from gpunn import MLP, History, Split, load_mnist, train, train_many
from gpunn.cli import signals
from gpunn.cli.progress import TrainingProgress
from gpunn.cli.signals import Interruptible, handlers_restored
from gpunn.engines.stopping import Stopped

from .conftest import Run


class Deaf:
    """An object in whose end Ctrl-C is pressed, where Python ignores exceptions."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


class Failing:
    def __del__(self) -> None:
        raise ZeroDivisionError


def swallow(_: object) -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_ctrl_c_where_exceptions_are_ignored_comes_again(capsys: pytest.CaptureFixture[str]) -> None:
    went_on = False
    with handlers_restored(), pytest.raises(KeyboardInterrupt), Interruptible() as interruptible:  # noqa: PT012 - it comes in the last line
        Deaf()
        went_on = True
        time.sleep(10)
    assert went_on
    assert interruptible.signal == signal.SIGINT
    assert capsys.readouterr().err == ""


def test_other_exceptions_that_are_ignored_are_reported_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def hook(what: "sys.UnraisableHookArgs") -> None:
        seen.append(what.exc_type)

    monkeypatch.setattr(sys, "unraisablehook", hook)
    with handlers_restored(), Interruptible():
        Failing()
    assert seen == [ZeroDivisionError]
    assert sys.unraisablehook is hook


@pytest.mark.parametrize("engine", ["plain", "fused", "epoch"])
def test_training_ends_before_the_next_epoch_when_ctrl_c_was_swallowed(small: Split, engine: str) -> None:
    net = MLP([12, 5, 3])
    with handlers_restored(), pytest.raises(Stopped), Interruptible():
        train(net, small, epochs=9, device="cpu", engine=engine, on_epoch=swallow)
    assert isinstance(net.training, History)
    assert len(net.training.epochs) == 1


def test_trainings_on_all_cores_end_when_ctrl_c_was_swallowed(small: Split) -> None:
    nets = [MLP([12, 5, 3]) for _ in range(3)]
    with handlers_restored(), pytest.raises(Stopped), Interruptible() as interruptible:  # noqa: PT012

        def on_epoch(_number: int, _history: History) -> None:  # in another thread
            interruptible.signal = signal.SIGINT

        train_many(nets, small, epochs=10_000, device="cpu", engine="plain", on_epoch=on_epoch)


def test_a_block_raises_at_its_end_what_nothing_in_it_has_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "AGAIN", 1000)  # it doesn't come again in time
    with handlers_restored(), Interruptible() as outer:
        with pytest.raises(KeyboardInterrupt) as caught, Interruptible():
            Deaf()
        assert caught.value.args == (signal.SIGINT,)
        assert outer.signal is None


def test_what_is_not_heeded_ends_no_training(small: Split) -> None:
    with handlers_restored(), Interruptible() as interruptible:
        interruptible.heeded = False
        history = train(MLP([12, 5, 3]), small, epochs=2, device="cpu", engine="plain", on_epoch=swallow)
    assert (len(history.epochs), interruptible.signal) == (2, signal.SIGINT)


def test_a_command_ends_and_saves_when_ctrl_c_was_ignored(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signals, "AGAIN", 1000)  # it doesn't come again in time
    monkeypatch.setattr(TrainingProgress, "show_epoch", lambda *_: [Deaf()].clear())
    options = ["--data-dir", data_dir, "--device", "cpu", "--output", "net", "--checkpoint", "run.ckpt"]
    outcome = run("train", *options, "--epochs", 9)
    assert (outcome.code, outcome.err) == (130, "")
    assert "interrupted: 16-16-10 on cpu, engine plain: 1 epoch in " in outcome.out
    assert "the same command with --resume run.ckpt goes on" in outcome.out
    assert MLP.load("net").sizes == (16, 16, 10)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("swallowed", [False, True])
def test_signals_outside_of_training_end_a_command_with_their_code(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int, swallowed: bool
) -> None:
    number = getattr(signal, name)

    def load(*_: object, **__: object) -> object:
        with contextlib.suppress(KeyboardInterrupt) if swallowed else contextlib.nullcontext():
            signal.raise_signal(number)
        return load_mnist(data_dir)

    monkeypatch.setattr("gpunn.cli.data.load_mnist", load)
    before = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    there = signal.signal(number, before)  # where tests run it may be ignored, as under nohup
    try:
        outcome = run("train", "--data-dir", data_dir, "--device", "cpu", "--epochs", 2)
        assert (outcome.code, outcome.err.strip()) == (code, "gpunn: interrupted")
        assert signal.getsignal(number) == before
    finally:
        signal.signal(number, there)
    assert [path.name for path in Path().iterdir()] == ["data"]

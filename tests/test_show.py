"""Pages about networks: what is in them, and, in a real browser, what they compute and how they are used."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gpunn import (
    MLP,
    ConfigurationError,
    DataError,
    Dataset,
    EarlyStopping,
    Ensemble,
    OutputError,
    Split,
    equations,
    show,
    train,
)
from gpunn.activations import HIDDEN, OUTPUT
from gpunn.datasets import ImageKind
from gpunn.pictures import MNIST_KIND, prepare_digit
from gpunn.show import Snapshots, contents, page, snapshots, write_page

from .chromium import Chromium, chromium
from .conftest import Outcome, Run, parameters

in_browser = [
    pytest.mark.skipif(chromium() is None, reason="needs Chromium, to open pages in: apt-get install chromium"),
    pytest.mark.xdist_group("chromium"),
]


def data_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


@pytest.fixture(scope="module")
def trained(mnist: Dataset) -> tuple[MLP, Any, Snapshots]:
    """784-16-10 after two epochs, with its history and snapshots."""
    net = MLP([784, 16, 10])
    kept = Snapshots(net)
    history = train(net, mnist, epochs=2, device="cpu", on_epoch=kept)
    kept.look_closer(mnist, history, epochs=2)
    return net, history, kept


@pytest.fixture(scope="module")
def html(trained: tuple[MLP, Any, Snapshots], mnist: Dataset) -> str:
    net, history, kept = trained
    return page(net, name="net.safetensors", test=mnist.test, history=history, snapshots=kept)


# What is in a page


def test_a_page_runs_only_what_its_policy_has_the_hash_of(html: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules.pop("default-src") == rules.pop("base-uri") == rules.pop("form-action") == "'none'"
    assert rules.pop("img-src") == "data:"
    for name, tag in (("script-src", "script"), ("style-src", "style")):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert found is not None
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        assert rules.pop(name) == f"'sha256-{digest}'"
    assert not rules


def test_a_page_has_no_address_of_anything_outside(html: str) -> None:
    assert set(re.findall(r"https?://[^\s\"'<>]+", html)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert re.findall(r'(?:src|href)="([^"]*)"', html) == ["data:,"]
    for way in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttpRequest"):
        assert way not in html


def test_names_from_outside_stay_text(trained: tuple[MLP, Any, Snapshots]) -> None:
    net = MLP([784, 10])
    net.kind = ImageKind("</script><script>alert(1)</script>", (28, 28), "digit", tuple("<b>&\"'$x${y}"[:10]))
    found = page(net, name="</title><script>alert(2)</script>.safetensors")
    assert found.count("<script") == page(MLP([784, 10])).count("<script") == 2
    assert found.count("</script") == 2
    assert "&lt;/title&gt;&lt;script&gt;alert(2)&lt;/script&gt;.safetensors</title>" in found
    data = data_of(found)
    assert data["name"] == "</title><script>alert(2)</script>.safetensors"
    assert data["data"] == "</script><script>alert(1)</script>"


def test_the_page_of_the_default_network_is_small(trained: tuple[MLP, Any, Snapshots], mnist: Dataset) -> None:
    assert len(page(trained[0], test=mnist.test)) < 600_000


def test_the_page_of_a_large_network_is_below_12_mb_and_float16_halves_its_weights() -> None:
    net = MLP([784, 1000, 500, 10])
    sizes = [len(page(net, half=half)) for half in (False, True)]
    rest = len(page(MLP([784, 10]))) - 4 * 7850 * 4 // 3
    assert sizes[0] < 12e6
    assert sizes[1] - rest == pytest.approx((sizes[0] - rest) / 2, rel=0.01)


def test_weights_travel_as_float32_or_rounded_to_float16() -> None:
    net = MLP([784, 4, 10], seed=3)
    net.weights[0][0, 0] = 1e6  # too large for float16
    for half, dtype in ((False, "<f4"), (True, "<f2")):
        layers = data_of(page(net, half=half))["layers"]
        arrays = [array for pair in zip(net.weights, net.biases, strict=True) for array in pair]
        for array, text in zip(arrays, [text for layer in layers for text in layer], strict=True):
            found = np.frombuffer(base64.b64decode(text), dtype)
            assert np.array_equal(found, (array.clip(-65504, 65504) if half else array).astype(dtype).ravel())


def test_the_gallery_has_right_digits_the_worst_mistakes_and_what_was_confused(
    trained: tuple[MLP, Any, Snapshots], mnist: Dataset, html: str
) -> None:
    net, test = trained[0], mnist.test
    read = net.predict(test.images)
    data = data_of(html)
    digits, rows = data["digits"], np.array(data["digits"]["rows"])
    images = np.frombuffer(base64.b64decode(digits["images"]), np.uint8).reshape(len(rows), 784)
    assert np.array_equal(images, test.images[rows])
    assert digits["labels"] == test.labels[rows].tolist()
    assert digits["read"] == read[rows].tolist()
    right = rows[digits["right"]]
    assert test.labels[right].tolist() == read[right].tolist() == sorted([*range(10)] * 2)
    wrong = np.flatnonzero(read != test.labels)
    shares = net.predict_proba(test.images[wrong])
    worst = wrong[np.argsort(-shares[np.arange(len(wrong)), read[wrong]], kind="stable")]
    assert rows[digits["mistakes"]].tolist() == worst[: contents.MOST_MISTAKES].tolist()
    counts = {(a, b): int(((test.labels == a) & (read == b)).sum()) for a in range(10) for b in range(10) if a != b}
    assert [each["count"] for each in digits["confusions"]] == sorted(counts.values(), reverse=True)[:9]
    for each in digits["confusions"]:
        assert counts[each["label"], each["read"]] == each["count"]
        own = worst[(test.labels[worst] == each["label"]) & (read[worst] == each["read"])]
        assert rows[each["digits"]].tolist() == own[:5].tolist()
    assert data["test"]["accuracy"] == pytest.approx((read == test.labels).mean())


def test_networks_that_take_no_images_or_are_too_large_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="takes 2 inputs, and doesn't say what images they make"):
        page(MLP([2, 4, 1]))
    monkeypatch.setattr(snapshots, "MOST_PARAMETERS", 7849)
    for make in (page, Snapshots):
        with pytest.raises(ConfigurationError, match="at most 7,849 parameters, got 7,850"):
            make(MLP([784, 10]))


# Snapshots


@pytest.mark.parametrize("recipe", [{}, {"optimizer": "adam", "schedule": "one-cycle", "l2": 1e-4}])
def test_snapshots_do_not_change_a_bit_of_the_network(small: Split, recipe: dict[str, Any]) -> None:
    nets = [MLP([12, 5, 3]) for _ in range(2)]
    kept = Snapshots(nets[0])
    common: dict[str, Any] = {
        "epochs": 4,
        "batch_size": 5,
        "device": "cpu",
        "test": small,
        "learning_rate": 0.1,
        **recipe,
    }
    history = train(nets[0], small, on_epoch=kept, **common)
    kept.look_closer(Dataset(small, small), history, epochs=4)
    train(nets[1], small, **common)
    for found, expected in zip(*map(parameters, nets), strict=True):
        assert found.tobytes() == expected.tobytes()
    final = [*kept][-1]
    for found, expected in zip([*final.weights, *final.biases], parameters(nets[1]), strict=True):
        assert np.array_equal(found, expected.astype(np.float16))


def test_early_snapshots_are_the_network_after_so_many_images(
    trained: tuple[MLP, Any, Snapshots], mnist: Dataset
) -> None:
    net = MLP([784, 16, 10], dtype=np.float64)
    first = [each for each in trained[2] if each.images is not None]
    assert [each.images for each in first] == [0, 192, 608, 1984, 6016, 20000]
    order, at = np.random.default_rng(0).permutation(60000), 0
    learning_rate, targets = trained[1].recipe.learning_rate, np.eye(10)
    for each in first[:4]:
        for start in range(at, each.images or 0, 32):
            rows = order[start : start + 32]
            X, Y = mnist.train.images[rows] / 255, targets[mnist.train.labels[rows]]
            _, dW, db = equations.backpropagate(np, net.weights, net.biases, X, Y)
            net.weights = [W - learning_rate * d for W, d in zip(net.weights, dW, strict=True)]
            net.biases = [b - learning_rate * d for b, d in zip(net.biases, db, strict=True)]
        at = each.images or 0
        for found, expected in zip([*each.weights, *each.biases], parameters(net), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    accuracies = [each.accuracy or 0 for each in first[1:]]
    assert accuracies == sorted(accuracies)
    assert accuracies[0] < 0.6 < accuracies[-1]


def test_long_trainings_keep_early_epochs_and_fewer_later_ones(small: Split) -> None:
    net = MLP([12, 5, 3])
    kept = Snapshots(net)
    history = train(net, small, epochs=300, batch_size=200, learning_rate=0.1, device="cpu", on_epoch=kept)
    kept.look_closer(small, history, epochs=300)  # one batch an epoch: there is nothing within
    epochs = [each.epochs for each in kept]
    assert len(epochs) <= snapshots.MOST
    assert epochs[:5] == [0, 1, 2, 3, 4]
    assert epochs[-1] == 300
    steps = np.diff(epochs[6:])
    assert steps[-3:].min() > steps[:3].max()


def test_snapshots_of_large_networks_are_fewer(monkeypatch: pytest.MonkeyPatch, small: Split) -> None:
    net = MLP([12, 5, 3])
    monkeypatch.setattr(snapshots, "LARGEST", 8 * 2 * net.n_parameters)
    kept = Snapshots(net)
    history = train(net, small, epochs=40, batch_size=5, device="cpu", on_epoch=kept)
    kept.look_closer(small, history, epochs=40)
    assert len(kept) == 8
    assert [each.epochs for each in kept if each.epochs < 1] == [0, 1 / 40, 0.1]
    monkeypatch.setattr(snapshots, "LARGEST", 1)
    assert Snapshots(net)._most == snapshots.FEWEST


def test_with_early_stopping_only_networks_that_were_kept_are_snapshots(small: Split) -> None:
    net = MLP([12, 30, 3])
    kept = Snapshots(net)
    history = train(
        net,
        small,
        epochs=60,
        batch_size=2,
        learning_rate=3,
        device="cpu",
        early_stopping=EarlyStopping(patience=3),
        on_epoch=kept,
    )
    kept.look_closer(small, history, epochs=60)
    assert len(history.epochs) == history.kept + 3
    assert [*kept][-1].epochs == history.kept
    assert np.array_equal([*kept][-1].weights[0], net.weights[0].astype(np.float16))


def test_a_slow_first_epoch_is_not_repeated(monkeypatch: pytest.MonkeyPatch, small: Split) -> None:
    net = MLP([12, 5, 3])
    kept = Snapshots(net)
    history = train(net, small, epochs=1, batch_size=2, device="cpu", on_epoch=kept)
    monkeypatch.setattr(snapshots, "SLOW", 0.0)
    kept.look_closer(small, history, epochs=1)
    assert len(kept) == 2


# The command line


@pytest.fixture
def model(tmp_path: Path) -> Path:
    net = MLP([784, 16, 10])
    net.kind = MNIST_KIND
    net.save(tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_show_writes_a_page(run: Run, model: Path) -> None:
    outcome = run("show", model, "-o", "net.html")
    assert outcome == Outcome(0, "net.html: a page about 784-16-10, 0.2 MB, to open in a browser\n", "")
    data = data_of(Path("net.html").read_text("utf-8"))
    assert data["name"] == "net.safetensors"
    assert data["test"]["images"] == 10_000
    outcome = run("show", model, "--float16", "--json")
    assert json.loads(outcome.out)["page"] == "page.html"
    assert data_of(Path("page.html").read_text("utf-8"))["half"] is True


def test_show_of_a_network_for_other_images_has_no_test_images_unless_they_are_named(run: Run, data_dir: Path) -> None:
    net = MLP([16, 4, 10])
    net.kind = ImageKind("squares", (4, 4))
    net.save("squares")
    outcome = run("show", "squares")
    assert outcome.code == 0
    assert outcome.err == (
        "gpunn: the network wasn't trained on MNIST (squares, 16 inputs, 10 outputs): the page gets no test images "
        "without --data-dir\n"
    )
    assert "digits" not in data_of(Path("page.html").read_text("utf-8"))
    outcome = run("show", "squares", "--data-dir", data_dir)
    assert (outcome.code, outcome.err) == (0, "")
    assert data_of(Path("page.html").read_text("utf-8"))["test"]["images"] == 10


def test_show_refuses_in_one_line(run: Run, model: Path) -> None:
    Ensemble([MLP.load(model)] * 2).save("both")
    MLP([2, 4, 1]).save("xor")
    for arguments, message in (
        (["both"], "both holds an ensemble of 2 networks, and a page shows one network"),
        (["xor", "--data-dir", "."], "found no data set"),
        (["missing"], "there is no model file missing"),
        ([model, "-o", "no/page.html"], "there is no folder"),
        ([model, "--loss", "cross_entropy"], "needs output activation softmax"),
    ):
        outcome = run("show", *arguments)
        assert outcome.code == 2, outcome
        assert message in outcome.err or arguments[0] == "xor"
        assert outcome.err.count("\n") == 1


def test_training_writes_a_page_with_a_slider(run: Run, data_dir: Path) -> None:
    common = ("train", "--data-dir", data_dir, "--epochs", 3, "--batch-size", 1, "--hidden", 5, "--device", "cpu")
    outcome = run(*common, "--page", "page.html", "--output", "with")
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1].startswith("page.html: a page about 16-5-10, ")
    data = data_of(Path("page.html").read_text("utf-8"))
    assert [each["epochs"] for each in data["snapshots"]][-3:] == [1, 2, 3]
    assert data["snapshots"][0]["images"] == 0
    assert len(data["epochs"]) == 3
    outcome = run(*common, "--output", "without", "--json", "--page", "other.html")
    assert json.loads(outcome.out)["page"] == "other.html"
    run(*common, "--output", "plain")
    assert Path("plain").read_bytes() == Path("with").read_bytes() == Path("without").read_bytes()
    assert "there is no folder" in run(*common, "--page", "no/page.html").err


def test_if_the_page_cannot_be_written_the_network_is_kept(
    run: Run, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, html: str) -> None:
        raise OutputError(f"cannot write {path}: No space left on device; choose another place")

    monkeypatch.setattr(show, "write_page", full)
    outcome = run("train", "--data-dir", data_dir, "--epochs", 1, "--device", "cpu", "--page", "page.html")
    assert outcome.code == 2
    assert outcome.err.endswith("choose another place; the network is in 16-16-10-seed0.safetensors\n")
    assert MLP.load("16-16-10-seed0.safetensors").sizes == (16, 16, 10)


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    found = Chromium(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def shown(browser: Chromium, tmp_path: Path, html: str, **window: Any) -> Path:
    """Open a page; it must ask for nothing but itself."""
    path = tmp_path / "page.html"
    write_page(path, html)
    browser.open(path, **window)
    assert browser.problems == []
    assert browser.requests == [path.as_uri()]
    return path


def layers_in(browser: Chromium) -> list[list[NDArray[np.float64]]]:
    """Return the activations of every layer that the page computes for the first digits of its gallery."""
    code = "galleryLevels(DATA.digits).slice(0, 20).map((x) => FINAL.forward(x).activations.map((a) => [...a]))"
    return [[np.array(layer) for layer in found] for found in browser.run(code)]


NETWORKS = [
    *(
        ([784, 20, 15, 10], [name, other], output)
        for name, other, output in zip(HIDDEN, HIDDEN[::-1], OUTPUT[1:], strict=True)
    ),
    ([784, 10], [], "softmax"),
    ([784, 30, 1], ["relu"], "sigmoid"),
    ([784, 8, 26, 8, 5, 10], ["tanh"] * 4, "sigmoid"),
]


class TestInBrowser:
    pytestmark = in_browser

    @pytest.mark.parametrize(("sizes", "hidden", "output"), NETWORKS)
    def test_the_page_computes_what_gpunn_computes(
        self, browser: Chromium, tmp_path: Path, mnist: Dataset, sizes: list[int], hidden: list[str], output: str
    ) -> None:
        net = MLP(sizes, hidden=hidden, output=output, seed=5)
        for b in net.biases:
            b += np.linspace(-1, 1, len(b), dtype=np.float32)
        test = mnist.test[:300] if sizes[-1] > 1 else Split(mnist.test.images[:300], mnist.test.labels[:300] % 2)
        found = page(net, test=test)
        shown(browser, tmp_path, found)
        rows = data_of(found)["digits"]["rows"][:20]
        expected = net.activations(test.images[rows])
        for layer, arrays in enumerate(zip(*layers_in(browser), strict=True)):
            np.testing.assert_allclose(np.stack(arrays), expected[layer], rtol=0, atol=1e-5)
        assert browser.run("state.pass.activations.length") == len(sizes)
        assert browser.run("at('read').textContent") == str(browser.run("decided(outputs())"))

    def test_with_float16_the_page_computes_with_rounded_weights(
        self, browser: Chromium, tmp_path: Path, mnist: Dataset, trained: tuple[MLP, Any, Snapshots]
    ) -> None:
        found = page(trained[0], test=mnist.test, half=True)
        shown(browser, tmp_path, found)
        net = MLP([784, 16, 10])
        net.weights = [W.astype(np.float16).astype(np.float32) for W in trained[0].weights]
        net.biases = [b.astype(np.float16).astype(np.float32) for b in trained[0].biases]
        expected = net.feedforward(mnist.test.images[data_of(found)["digits"]["rows"][:20]])
        np.testing.assert_allclose([layers[-1] for layers in layers_in(browser)], expected, rtol=0, atol=1e-5)

    def test_drawn_digits_get_the_answers_of_gpunn_predict(
        self,
        browser: Chromium,
        tmp_path: Path,
        mnist: Dataset,
        trained: tuple[MLP, Any, Snapshots],
        html: str,
        run: Run,
    ) -> None:
        trained[0].save("net")
        shown(browser, tmp_path, html)
        box = browser.run("(({x, y, width}) => [x, y, width])(at('drawing').getBoundingClientRect())")
        answers, files, differences = [], [], []
        for row in range(50):
            browser.run("board.clear()")
            for stroke in strokes(mnist.test.images[row].reshape(28, 28)):
                browser.stroke([(box[0] + x / 28 * box[2], box[1] + y / 28 * box[2]) for x, y in stroke])
            browser.settle()
            answers.append(browser.run("at('read').textContent"))
            drawn = base64.b64decode(browser.run("at('drawing').toDataURL()").partition(",")[2])
            ink = Image.open(io.BytesIO(drawn)).getchannel("A")
            files.append(f"{row}.png")
            ink.save(files[-1])
            seen = np.array(browser.run("[...state.pixels]")) * 255
            differences.append(np.abs(seen - prepare_digit(np.asarray(ink))).max())
        predicted = [each["name"] for each in json.loads(run("predict", "net", *files, "--json").out)]
        agreeing = sum(answer == other for answer, other in zip(answers, predicted, strict=True))
        assert agreeing >= 48, list(zip(answers, predicted, strict=True))
        # To the pixel, but for rounding, unless gpunn finds that a part of the drawing isn't of the digit.
        assert sum(difference <= 1.01 for difference in differences) >= 48, differences
        # The network reads what was drawn, so that this isn't agreement on nonsense.
        assert sum(answer == str(label) for answer, label in zip(answers, mnist.test.labels[:50], strict=True)) >= 35
        assert browser.problems == []

    @pytest.mark.parametrize(
        "kind",
        [
            ImageKind("letters", (28, 28), "emnist"),
            ImageKind("letters", (28, 28), "whole"),
            ImageKind("digits", (29, 31), "digit", unpadded=(28, 28)),
            ImageKind("letters", (41, 41), "whole", unpadded=(28, 28)),
        ],
    )
    def test_drawings_are_framed_as_the_training_images_were(
        self, browser: Chromium, tmp_path: Path, mnist: Dataset, kind: ImageKind
    ) -> None:
        assert kind.shape is not None
        net = MLP([kind.shape[0] * kind.shape[1], 10])
        net.kind = kind
        shown(browser, tmp_path, page(net))
        box = browser.run("(({x, y, width}) => [x, y, width])(at('drawing').getBoundingClientRect())")
        for row in range(5):
            browser.run("board.clear()")
            for stroke in strokes(mnist.test.images[row].reshape(28, 28)):
                browser.stroke([(box[0] + x / 28 * box[2], box[1] + y / 28 * box[2]) for x, y in stroke])
            browser.settle()
            drawn = base64.b64decode(browser.run("at('drawing').toDataURL()").partition(",")[2])
            expected = prepare_digit(np.asarray(Image.open(io.BytesIO(drawn)).getchannel("A")), net.kind)
            differences = np.abs(np.array(browser.run("[...state.pixels]")) * 255 - expected)
            # Whole pictures are rounded to bytes twice.
            assert differences.max() <= 3.01
            assert np.mean(differences <= 1.01) > 0.99

    def test_everything_that_can_be_used_has_a_name(self, browser: Chromium, tmp_path: Path, html: str) -> None:
        shown(browser, tmp_path, html)
        names = browser.names()
        assert [name for name in names if not name[1].strip()] == []
        by_role = {role: [name for kind, name in names if kind == role] for role, _ in names}
        assert "Hidden layer: 16 sigmoid neurons" in by_role["slider"]
        assert "Output: 10 sigmoid neurons" in by_role["slider"]
        assert "Moment of the training" in by_role["slider"]
        assert "Clear" in by_role["button"]
        assert len([name for name in by_role["button"] if name.startswith("Test image")]) > 60

    def test_keys_choose_neurons_and_draw(self, browser: Chromium, tmp_path: Path, html: str) -> None:
        shown(browser, tmp_path, html)
        browser.run("document.querySelector('.layer:not(.outputs) canvas[role=slider]').focus()")
        browser.press("ArrowDown", "ArrowDown", "Enter")
        browser.settle()
        assert browser.run("at('why-title').textContent").startswith("Why neuron 3 is at ")
        told = "document.activeElement.getAttribute('aria-valuetext')"
        assert browser.run(told).startswith("neuron 3, activation ")
        assert browser.run("document.querySelectorAll('#why canvas[aria-label]').length") == 3
        browser.press("End")
        assert browser.run(told).startswith("neuron 16, ")
        browser.run("at('drawing').focus()")
        browser.press("Delete")
        browser.settle()
        assert browser.run("at('read').textContent") == "?"
        assert browser.run("at('pen').hidden")
        browser.press(" ", *["ArrowDown"] * 10)
        assert browser.run("!at('pen').hidden && at('pen').className") == "down"
        browser.press(" ")
        browser.settle()
        assert browser.run("at('read').textContent") == "1"
        assert browser.problems == []

    def test_a_click_shows_what_drives_a_neuron(
        self, browser: Chromium, tmp_path: Path, html: str, trained: tuple[MLP, Any, Snapshots], mnist: Dataset
    ) -> None:
        shown(browser, tmp_path, html)
        browser.run("at('weights').scrollIntoView()")
        x, y, step, high = browser.run("(({x, y}) => [x, y, ...atlas.step])(at('weights').getBoundingClientRect())")
        columns = browser.run("atlas.columns")
        browser.click(x + step * (5 % columns) + 10, y + high * (5 // columns) + 10)
        browser.settle()
        net, row = trained[0], browser.run("Number(at('source').textContent.match(/image (\\d+)/)[1])")
        pixels = mnist.test.images[row] / 255
        z = float(net.weights[0][5] @ pixels + net.biases[0][5])
        a = float(net.activations(mnist.test.images[row])[1][5])
        assert browser.run("at('why-title').textContent") == f"Why neuron 6 is at {a:.2f}"
        text = browser.run("at('why-text').textContent").replace("\u2212", "-")
        numbers = [float(number) for number in re.findall(r"[-+]?\d+\.\d+", text)]
        expected = [z - net.biases[0][5], net.biases[0][5], z, a]
        assert numbers == pytest.approx(expected, abs=0.006)
        browser.run("at('follow').click()")
        browser.settle()
        assert browser.run("at('why-title').textContent").startswith("Why output ")

    def test_a_gallery_digit_goes_through_the_network(self, browser: Chromium, tmp_path: Path, html: str) -> None:
        shown(browser, tmp_path, html)
        digits = data_of(html)["digits"]
        worst = digits["mistakes"][0]
        browser.run(f"document.querySelector('[aria-label^=\"Test image {digits['rows'][worst]}:\"]').click()")
        browser.settle()
        assert browser.run("at('read').textContent") == str(digits["read"][worst])
        assert browser.run("at('source').textContent") == (
            f"test image {digits['rows'][worst]}: {digits['labels'][worst]}"
        )

    def test_the_slider_goes_through_the_training(
        self, browser: Chromium, tmp_path: Path, html: str, trained: tuple[MLP, Any, Snapshots], mnist: Dataset
    ) -> None:
        shown(browser, tmp_path, html)
        kept = [*trained[2]]
        assert browser.run("Number(at('moment').max)") == len(kept)
        assert browser.run("at('when').textContent").startswith("finished: ")
        browser.run("at('moment').focus()")
        browser.press("Home")
        browser.settle()
        assert browser.run("at('when').textContent") == "before training"
        before = browser.run("at('weights').toDataURL()")
        row = browser.run("Number(at('source').textContent.match(/image (\\d+)/)[1])")
        net = MLP([784, 16, 10])
        net.weights = [W.astype(np.float32) for W in kept[0].weights]
        net.biases = [b.astype(np.float32) for b in kept[0].biases]
        expected = net.feedforward(mnist.test.images[row])
        np.testing.assert_allclose(browser.run("[...outputs()]"), expected, rtol=0, atol=1e-5)
        browser.press("ArrowRight")
        browser.settle()
        assert browser.run("at('when').textContent").startswith("after 192 images: ")
        assert browser.run("at('weights').toDataURL()") != before
        assert browser.problems == []

    def test_on_a_phone_a_finger_draws_and_nothing_is_wider_than_the_screen(
        self, browser: Chromium, tmp_path: Path, html: str
    ) -> None:
        for dark in (False, True):
            shown(browser, tmp_path, html, width=390, height=844, dark=dark, touch=True)
            assert browser.run("document.documentElement.scrollWidth") == 390
            assert browser.run("at('stage').scrollWidth <= at('stage').clientWidth")
        browser.run("at('clear').click()")
        x, y, side = browser.run("(({x, y, width}) => [x, y, width])(at('drawing').getBoundingClientRect())")
        browser.touch([(x + side / 2, y + side * share) for share in np.linspace(0.15, 0.85, 8)])
        browser.settle()
        assert browser.run("at('read').textContent") == "1"
        assert browser.run("scrollY") == 0

    def test_wide_and_deep_networks_and_class_names_fit(self, browser: Chromium, tmp_path: Path) -> None:
        net = MLP([784, 600, 64, 10], hidden="relu", output="softmax")
        net.kind = ImageKind("<img src=x>", (28, 28), "whole", ("T-shirt/top", "Trouser", "<b>", *"abcdefg"))
        shown(browser, tmp_path, page(net, name="<script>document.title = 'bad'</script>"), width=390, touch=True)
        assert browser.run("document.documentElement.scrollWidth") == 390
        assert browser.run("at('stage').scrollWidth <= at('stage').clientWidth")
        assert browser.run("document.title").endswith("<script>document.title = 'bad'</script>")
        assert browser.run("document.images.length") == 0
        assert "<script>" in browser.run("at('about').textContent")


def strokes(image: NDArray[np.uint8]) -> list[list[tuple[float, float]]]:
    """Return lines (x, y) through the middle of a digit's strokes, as a hand would draw them."""
    middle = set(zip(*np.nonzero(thinned(image > 100)), strict=True))
    around = [(-1, 0), (0, -1), (0, 1), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]

    def near(place: tuple[int, int]) -> list[tuple[int, int]]:
        return [
            (place[0] + down, place[1] + across)
            for down, across in around
            if (place[0] + down, place[1] + across) in middle
        ]

    found, full = [], set(middle)
    while middle:
        place = min(middle, key=lambda each: (len(near(each)), each))
        line = [place]
        # A stroke begins where it leaves one that is drawn already.
        joined = [each for each in ((place[0] + d, place[1] + a) for d, a in around) if each in full - middle]
        line = joined[:1] + line
        while True:
            middle.discard(place)
            following = near(place)
            if not following:
                break
            place = following[0]
            line.append(place)
        ends = [each for each in ((place[0] + d, place[1] + a) for d, a in around) if each in full - set(line)]
        line += ends[:1]
        found.append([(column + 0.5, row + 0.5) for row, column in line])
    return found


def thinned(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the middle lines of a mask (T. Y. Zhang and C. Y. Suen, 1984)."""
    mask = np.pad(mask, 1)
    while True:
        before = mask.copy()
        for first in (True, False):
            p = [
                np.roll(mask, shift, (0, 1))
                for shift in ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            ]
            neighbours = sum(each.astype(int) for each in p)
            turns = sum((~p[k] & p[(k + 1) % 8]).astype(int) for k in range(8))
            up, right, down, left = p[0], p[2], p[4], p[6]
            free = (
                ~(up & right & down) & ~(right & down & left) if first else ~(up & right & left) & ~(up & down & left)
            )
            mask = mask & ~((neighbours >= 2) & (neighbours <= 6) & (turns == 1) & free)
        if (mask == before).all():
            return mask[1:-1, 1:-1]

"""Pictures of histories, evaluations and networks: HTML for notebooks, and Matplotlib's axes."""

import base64
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpunn import MLP, Dataset, EarlyStopping, Ensemble, Evaluation, Split, evaluate, train
from gpunn.datasets.kind import ImageKind
from gpunn.engines.base import Recipe
from gpunn.errors import ConfigurationError, DataError
from gpunn.history import Epoch, History
from gpunn.plots.html import _ticks, _whole
from gpunn.plots.sheets import GREEN, RED, coloured, confusion_levels, shrunk, weight_sheet

ROOT = Path(__file__).parent.parent
TAGS = set("div img svg text line polyline circle table thead tbody tr th td".split())  # noqa: SIM905


def history_of(*losses: float, accuracies: tuple[float, ...] = (), **settings: Any) -> History:
    """A history with these training losses, and test accuracies out of 100 images."""
    tests = [
        Evaluation(0.5, np.array([[round(100 * share), 100 - round(100 * share)], [0, 0]])) for share in accuracies
    ]
    epochs = [
        Epoch(number, loss, 0.1, 1e6, test=tests[number - 1] if tests else None)
        for number, loss in enumerate(losses, 1)
    ]
    return History("cpu", "plain", Recipe(32, 1.0), epochs=epochs, **{"kept": len(epochs), **settings})


class Balance(HTMLParser):
    """Elements and text of HTML; fails unless every element is closed where it should be."""

    VOID = ("img",)

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.seen if name == tag]


def page(shown: Any) -> Balance:
    """What a notebook shows; checks that nothing is loaded or run."""
    found = Balance(shown._repr_html_())
    for tag, attributes in found.seen:
        assert tag in TAGS
        assert not [name for name in attributes if name.startswith("on") or name == "href"]
        assert (attributes.get("src") or "data:image/png").startswith("data:image/png")
        assert "url(" not in (attributes.get("style") or "")
    return found


def pictures(found: Balance) -> list[np.ndarray]:
    """The pictures on a page, as red, green, blue and opacity (rows, columns, 4)."""
    sources = [(attributes["src"] or "").partition("base64,")[2] for attributes in found.all("img")]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source)))) for source in sources]


def heights(found: Balance) -> list[list[float]]:
    """The distances of the points of each curve from the top."""
    return [[float(point.split(",")[1]) for point in (line["points"] or "").split()] for line in found.all("polyline")]


def test_a_history_shows_curves_of_losses_and_accuracies(small: Split) -> None:
    net = MLP([12, 5, 3])
    history = train(net, Dataset(small[50:], small[:50]), epochs=4, early_stopping=EarlyStopping(9), device="cpu")
    found = page(history)
    assert found.text.startswith(repr(history))
    labels = [svg["aria-label"] or "" for svg in found.all("svg")]
    assert [label.partition(" over")[0] for label in labels] == ["loss", "accuracy"]
    for label in labels:
        assert "epochs 1 to 4" in label
        assert re.search(r"training [\d.]+ to .*test [\d.]+ to .*held out [\d.]+ to ", label)
    assert f"training {history.losses[0]:.4g} to {history.losses[-1]:.4g}" in labels[0]
    assert f"test {history.accuracies[0]:.4g} to {history.accuracies[-1]:.4g}" in labels[1]


def test_curves_are_to_scale() -> None:
    loss, _, accuracy = heights(page(history_of(0.8, 0.4, 0.2, accuracies=(0.5, 0.8, 0.95))))
    assert loss[1] - loss[0] == pytest.approx(2 * (loss[2] - loss[1]), abs=0.2)
    assert accuracy[0] - accuracy[1] == pytest.approx(2 * (accuracy[1] - accuracy[2]), abs=0.2)


def test_a_history_marks_the_epoch_that_was_kept_unless_it_is_the_last() -> None:
    assert "kept" in page(history_of(0.5, 0.2, 0.3, kept=2)).text
    assert "kept" not in page(history_of(0.5, 0.2, 0.1)).text


def test_a_history_leaves_out_what_is_not_finite() -> None:
    found = page(history_of(0.5, float("inf"), float("nan"), 0.25))
    assert len(heights(found)[0]) == 2
    assert "nan" not in str(found.seen)
    assert "inf" not in str(found.seen)
    without_classes = Evaluation(0.25, np.zeros((0, 0), np.int64))
    history = history_of(0.5)
    history.epochs[0] = Epoch(1, 0.5, 0.1, 1e6, test=without_classes)
    assert [svg["aria-label"] for svg in page(history).all("svg")] == [
        "loss over epochs 1 to 1: training 0.5 to 0.5, test 0.25 to 0.25"
    ]


@pytest.mark.parametrize("losses", [(), (0.0,), (0.0, 0.0), (1e-320, 1e-321), (1e30, 1.0), (0.1, 0.1, 0.1)])
def test_histories_of_any_losses_are_shown(losses: tuple[float, ...]) -> None:
    found = page(history_of(*losses))
    assert len(found.all("polyline")) == bool(losses)
    assert all(0 < height < 210 for curve in heights(found) for height in curve)


def test_a_long_history_is_thinned_and_ends_with_its_last_epoch() -> None:
    history = history_of(*np.linspace(1, 0.5, 20_000))
    assert len(history._repr_html_()) < 10_000
    (points,) = heights(page(history))
    assert 200 <= len(points) <= 300
    assert points[-1] == max(points)


def test_warnings_and_failures_of_a_history_are_shown_as_text() -> None:
    history = history_of(0.5, 0.4, warnings=["<b>slow</b>"], failure="a & b")
    history.engine = "<script>alert(1)</script>"
    found = page(history)
    assert "<b>slow</b>" in found.text
    assert "a & b" in found.text
    assert "<script>alert(1)</script>" in found.text


def test_round_numbers_are_at_the_axes() -> None:
    assert _ticks(0.0, 0.2327) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert _ticks(0.925, 0.9447) == pytest.approx([0.925, 0.93, 0.935, 0.94, 0.945])
    assert _ticks(0.5, 0.5) == [0.5]
    for power in range(-30, 30):
        assert 3 <= len(_ticks(0, 3.7 * 10.0**power)) <= 7
    assert _whole(1, 15) == [1, 5, 10, 15]
    assert _whole(1, 3000) == [1, 1000, 2000, 3000]
    assert _whole(7, 7) == [7]


def test_an_evaluation_shows_its_counts_as_a_heat_map() -> None:
    result = Evaluation(0.25, np.array([[1200, 0, 300], [0, 0, 0], [5, 0, 995]]))
    found = page(result)
    assert found.text.startswith(repr(result))
    assert re.findall(r"[\d,.]+%?|-", found.text.partition("right\n")[2])[:15] == [
        "0", "1,200", "0", "300", "80.0%", "1", "0", "0", "0", "-", "2", "5", "0", "995", "99.5%",
    ]  # fmt: skip
    colours = [
        re.findall(r"background:rgba\((\d+),(\d+),(\d+),([\d.]+)\)", cell["style"] or "") for cell in found.all("td")
    ]
    right, wrong, rare = colours[0][0], colours[2][0], colours[8][0]
    assert tuple(map(int, right[:3])) == GREEN
    assert tuple(map(int, wrong[:3])) == tuple(map(int, rare[:3])) == RED
    assert float(right[3]) > float(wrong[3]) > float(rare[3]) > 0
    assert colours[1] == []


def test_an_evaluation_of_many_classes_is_one_picture() -> None:
    counts = np.eye(256, dtype=np.int64) * 9
    counts[3, 4] = 3
    result = Evaluation(0.25, counts)
    found = page(result)
    (picture,) = pictures(found)
    assert picture.shape == (256, 256, 4)
    assert tuple(picture[3, 4]) == (*RED, round(255 * (3 / 12) ** 0.5))
    assert tuple(picture[5, 5]) == (*GREEN, 255)
    assert len(result._repr_html_()) < 20_000


def test_an_evaluation_without_classes_shows_its_loss() -> None:
    assert page(Evaluation(0.25, np.zeros((0, 0), np.int64))).text == "Evaluation: loss 0.2500\n"


def test_levels_of_a_confusion_matrix_are_roots_of_shares() -> None:
    levels = confusion_levels(np.array([[96, 4], [0, 0]]))
    assert levels == pytest.approx(np.array([[0.96**0.5, -0.2], [0, 0]]))


def test_a_network_shows_each_neurons_weights_at_their_place() -> None:
    net = MLP([784, 16, 10])
    net.weights[0][:] = 0.01
    net.weights[0][9].reshape(28, 28)[3, 5] = -2.0  # in the second row of pictures, the second one
    net.weights[0][0].reshape(28, 28)[27, 0] = 0.005
    found = page(net)
    (picture,) = pictures(found)
    assert picture.shape == (2 * 29 - 1, 8 * 29 - 1, 4)
    assert tuple(picture[29 + 3, 29 + 5]) == (*RED, 255)
    assert tuple(picture[0, 0]) == (*GREEN, 255)
    assert tuple(picture[27, 0]) == (*GREEN, 128)
    assert "784-16-10: 12,730 parameters, sigmoid in hidden layers, sigmoid outputs, float32" in found.text
    assert "weights of the first layer's 16 neurons, 28 x 28 each; green is positive, red negative" in found.text
    assert "full colour from 0.01 on" in found.text
    assert (found.all("img")[0]["alt"] or "nothing") in found.text


def test_of_a_large_network_64_neurons_are_shown_and_it_says_so() -> None:
    net = MLP([784, 2000, 10])
    found = page(net)
    assert "the first 64 of the first layer's 2,000 neurons" in found.text
    (picture,) = pictures(found)
    assert picture.shape[:2] == (6 * 29 - 1, 11 * 29 - 1)
    assert picture[-1, -1, 3] == 0  # nothing after the last one
    assert len(net._repr_html_()) < 200_000


@pytest.mark.parametrize(
    ("sizes", "shape", "expected"),
    [
        ([12, 3], (3, 4), "3 x 4 each"),
        ([64, 3], None, "8 x 8 each"),
        ([2, 4, 1], None, "weights of the first layer's 4 neurons;"),
        ([5, 1], (2, 2), "weights of the first layer's 1 neuron;"),
        ([10_000, 70], (100, 100), "100 x 100 each, averaged over 3 x 3"),
        ([3000, 70], None, "neurons, averaged over 8"),
    ],
)
def test_networks_for_any_inputs_are_shown(sizes: list[int], shape: tuple[int, int] | None, expected: str) -> None:
    net = MLP(sizes)
    net.kind = None if shape is None else ImageKind("X", shape)
    found = page(net)
    assert expected in found.text
    assert len(pictures(found)) == 1
    assert len(net._repr_html_()) < 300_000


def test_networks_whose_weights_are_zero_or_not_finite_are_shown() -> None:
    net = MLP([784, 4, 10])
    net.weights[0][:] = 0
    net.weights[0][0, 0] = np.nan
    net.weights[0][0, 1] = -np.inf
    (picture,) = pictures(page(net))
    assert set(picture[:28, :28, 3].ravel()) == {0, 144}
    assert picture[0, 0, 3] == picture[0, 1, 3] == 144
    net.weights[0][:] = np.inf
    assert "full colour from 0 on" in page(net).text


def test_the_name_of_a_data_set_stays_text() -> None:
    net = MLP([4, 2])
    net.kind = ImageKind('<script>alert("1")</script>', (2, 2))
    found = page(net)
    assert 'trained on <script>alert("1")</script>' in found.text


def test_an_ensemble_shows_neurons_of_each_network() -> None:
    found = page(Ensemble([MLP([784, 16, 10], seed=seed) for seed in range(5)]))
    assert "ensemble of 5 networks: 63,650 parameters" in found.text
    assert "weights of the first layers' neurons, at most 12 of each network" in found.text
    (picture,) = pictures(found)
    assert picture.shape[:2] == (5 * 29 - 1, 12 * 29 - 1)
    many = page(Ensemble([MLP([784, 2], seed=seed) for seed in range(70)]))
    assert "at most 1 of each network, of the first 64 of 70 networks" in many.text
    assert "networks" not in page(Ensemble([MLP([784, 2])])).text.partition("weights")[2]


def test_the_repr_of_a_large_ensemble_is_short() -> None:
    nets = [MLP([4, 2], seed=seed) for seed in range(50)]
    assert repr(Ensemble(nets)) == f"Ensemble([{nets[0]!r}, {nets[1]!r}, {nets[2]!r}, ... 47 more])"


def test_a_few_large_weights_do_not_make_the_others_pale() -> None:
    weights = np.full((10, 100), 0.5)
    weights[3, :9] = -50
    sheet = weight_sheet([weights], None)
    assert sheet.scale == 0.5
    assert sheet.levels[0, 0] == 1
    assert np.nanmin(sheet.levels) == -1
    weights[:] = 0
    weights[3, 3] = 2
    assert weight_sheet([weights], None).scale == 2


def test_pictures_are_shrunk_to_means() -> None:
    found = shrunk(np.arange(15).reshape(3, 5), 2)
    assert found.tolist() == [[3, 5, 6.5], [10.5, 12.5, 14]]
    assert shrunk(np.ones((2, 3, 4)), 1).shape == (2, 3, 4)


def test_colours_are_more_opaque_the_larger_the_level() -> None:
    found = coloured(np.array([[1.0, -0.5, 0.0, np.nan, np.inf]]))
    assert found[0, :3].tolist() == [[*GREEN, 255], [*RED, 128], [*GREEN, 0]]
    assert found[0, 3:, 3].tolist() == [144, 0]


def test_what_notebooks_show_needs_no_matplotlib() -> None:
    code = """
import sys
sys.modules["matplotlib"] = None
import gpunn
net = gpunn.MLP([4, 3, 2])
data = gpunn.Split([[0, 1, 0, 1], [1, 0, 1, 0]], [0, 1])
history = gpunn.train(net, data, epochs=2, engine="plain", test=data, device="cpu")
for shown in (net, history, gpunn.evaluate(net, data), gpunn.Ensemble([net])):
    assert shown._repr_html_().startswith("<div")
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("shown", ["history", "evaluation", "net"])
def test_without_matplotlib_plotting_names_the_extra(shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    all_shown = {
        "history": history_of(0.5),
        "evaluation": Evaluation(0.5, np.eye(2, dtype=np.int64)),
        "net": MLP([4, 2]),
    }
    with pytest.raises(
        ConfigurationError, match=rf"^{shown}\.plot\(\) needs Matplotlib .*pip install 'gpunn\[plot\]'$"
    ):
        all_shown[shown].plot()  # type: ignore[attr-defined]


def test_an_evaluation_without_classes_has_nothing_to_plot() -> None:
    with pytest.raises(DataError, match="expected classes, found targets that encode none"):
        Evaluation(0.5, np.zeros((0, 0), np.int64)).plot()


@pytest.fixture
def pyplot(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("MPLBACKEND", "agg")
    pyplot = pytest.importorskip("matplotlib.pyplot", reason='needs Matplotlib: pip install "gpunn[plot]"')
    yield pyplot
    pyplot.close("all")


def test_a_plotted_history_has_the_numbers(pyplot: Any) -> None:
    ax = history_of(0.8, 0.4, 0.5, accuracies=(0.5, 0.8, 0.75), kept=2).plot()
    twin = ax.figure.axes[1]
    assert (ax.get_xlabel(), ax.get_ylabel(), twin.get_ylabel()) == ("epoch", "loss", "accuracy")
    drawn = {line.get_label(): line.get_xydata().tolist() for line in (*ax.get_lines(), *twin.get_lines())}
    assert drawn["loss, training"] == [[1, 0.8], [2, 0.4], [3, 0.5]]
    assert drawn["loss, test"] == [[1, 0.5], [2, 0.5], [3, 0.5]]
    assert drawn["accuracy, test"] == [[1, 0.5], [2, 0.8], [3, 0.75]]
    assert [text.get_text().strip() for text in ax.texts] == ["kept"]
    ax.figure.canvas.draw()
    assert ax.figure.number in pyplot.get_fignums()  # so that notebooks show it


def test_plots_of_histories_without_accuracies_or_epochs_are_drawn(pyplot: Any) -> None:
    ax = history_of(0.8, 0.4).plot()
    assert ax.figure.axes == [ax]
    history_of().plot().figure.canvas.draw()


def test_a_plotted_evaluation_has_its_counts(pyplot: Any) -> None:
    result = Evaluation(0.25, np.array([[1200, 0], [5, 995]]))
    ax = result.plot()
    assert {(text.get_position(), text.get_text()) for text in ax.texts} == {
        ((0, 0), "1200"),
        ((0, 1), "5"),
        ((1, 1), "995"),
    }
    assert ax.get_title() == repr(result)
    assert list(Evaluation(0.25, np.eye(47, dtype=np.int64)).plot().texts) == []


def test_a_plotted_network_has_its_scale(pyplot: Any) -> None:
    net = MLP([784, 16, 10])
    ax = net.plot()
    bar = ax.figure.axes[1]
    scale = weight_sheet([net.weights[0]], None).scale
    assert bar.get_ylim() == pytest.approx((-scale, scale))
    assert "784-16-10: 12,730 parameters\nweights of the first layer's 16 neurons" in ax.get_title()
    (image,) = ax.get_images()
    assert np.array_equal(image.get_array(), pictures(page(net))[0])
    ax.figure.canvas.draw()
    Ensemble([net, net]).plot().figure.canvas.draw()
    dead = MLP([4, 2])
    dead.weights[0][:] = 0
    dead.plot().figure.canvas.draw()


def test_plots_take_axes_and_leave_pyplot_alone(pyplot: Any) -> None:
    from matplotlib.figure import Figure

    for shown in (history_of(0.5, accuracies=(0.5,)), Evaluation(0.5, np.eye(2, dtype=np.int64)), MLP([4, 2])):
        axes = Figure().subplots()
        assert shown.plot(ax=axes) is axes
    assert pyplot.get_fignums() == []


def test_what_is_shown_of_a_training_agrees_with_the_evaluation(small: Split) -> None:
    net = MLP([12, 5, 3])
    train(net, small, epochs=1, device="cpu")
    counts = evaluate(net, small).confusion
    found = re.findall(r"[\d,]+", page(evaluate(net, small)).text.partition("right\n")[2])
    assert [int(found[0]), int(found[1])] == [0, counts[0, 0]]

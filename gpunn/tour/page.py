"""The tour as a page in one file: the stations, computed in their order, and the template around them."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from gpunn.datasets import load_mnist
from gpunn.plots.pages import Picture, page_environment
from gpunn.tour import digits, drawing, layers, origins

STATIONS = 12

MINUS = "\N{MINUS SIGN}"

GOAL = 0.5
"""Test loss that the three descents are compared at."""


@dataclass(frozen=True)
class Tour:
    """What all stations found, in the order of the page."""

    logic: origins.Logic
    conditioning: origins.Conditioning
    learning: origins.Learning
    failure: origins.Failure
    slopes: layers.Slopes
    shift: layers.Shift
    product: layers.Product
    chain: layers.Chain
    toy: layers.Toy
    solved: layers.Solved
    walk: digits.Walk
    descents: list[digits.Descent]
    digits: digits.Digits
    n_train: int
    n_test: int


def computed(tell: Callable[[int, str], None]) -> Tour:
    """Compute all stations; `tell` gets a station's number, from 1, and what it does, before it begins.

    The same machine finds the same numbers again. Takes a few seconds, and as long again where kernels have to be
    compiled. Trains on the CPU.
    """
    data = load_mnist()
    tell(1, "neurons of McCulloch and Pitts")
    logic = origins.logic()
    tell(2, "Hebb's rule")
    conditioning = origins.conditioning()
    tell(3, "Rosenblatt's perceptron")
    learning, failure = origins.learning(), origins.failure()
    tell(4, "activation functions")
    slopes = layers.slopes()
    tell(5, "a bias")
    shift = layers.shift()
    tell(6, "a network as a matrix product")
    product = layers.product()
    tell(7, "the chain rule")
    chain = layers.chain()
    tell(8, "a toy network")
    toy = layers.toy()
    tell(9, "XOR")
    solved = layers.solved()
    tell(10, "MNIST by batches of three sizes")
    descents = digits.descents(data)
    tell(11, "the loss surface of MNIST")
    walk = digits.walk(data, descents[1])
    tell(12, "digits")
    found = digits.digits(data)
    return Tour(
        logic,
        conditioning,
        learning,
        failure,
        slopes,
        shift,
        product,
        chain,
        toy,
        solved,
        walk,
        descents,
        found,
        len(data.train),
        len(data.test),
    )


def charts(tour: Tour) -> dict[str, Picture]:
    """Return the charts of the tour by their names."""
    found = [
        drawing.chart(
            "learning",
            "The perceptron's line among points of two classes, after some of its corrections: the last one separates "
            "them.",
            lambda roomy: drawing.draw_learning(tour.learning, roomy),
        ),
        drawing.chart(
            "functions",
            "Step, sigmoid, tanh, ReLU and ELU, each with its slope. The step's is zero everywhere.",
            drawing.draw_functions,
        ),
        drawing.chart(
            "shift",
            "The sigmoid of a sum, and the same curve shifted to the right by the bias.",
            lambda roomy: drawing.draw_shift(tour.shift, roomy),
        ),
        drawing.chart(
            "toy",
            "The toy network's output comes down to its target step by step, and its loss falls.",
            lambda roomy: drawing.draw_toy(tour.toy, roomy),
        ),
        drawing.chart(
            "xor",
            "Where each hidden neuron fires is bounded by a line; where the output does, by two.",
            lambda roomy: drawing.draw_xor(tour.solved, roomy),
        ),
        drawing.chart(
            "walk",
            "A map of the loss with contours, and the path of gradient descent from a slope into a valley.",
            lambda roomy: drawing.draw_walk(tour.walk, roomy),
        ),
        drawing.chart(
            "descents",
            "Test loss of the three descents, over examples seen and over estimated time.",
            lambda roomy: drawing.draw_descents(tour.descents, roomy),
        ),
        drawing.chart(
            "accuracies",
            "Shares of training and test images that are recognised, after each epoch.",
            lambda roomy: drawing.draw_accuracies(tour.digits, roomy),
        ),
    ]
    return {each.name: each for each in found}


def page(tell: Callable[[int, str], None]) -> str:
    """Return the page as HTML in one piece, which fetches nothing and runs no scripts; `tell` as in `computed`.

    Raises `ConfigurationError` where the libraries that draw are missing, before anything is computed.
    """
    environment = page_environment("gpunn tour")
    return rendered(environment, computed(tell))


def rendered(environment: Any, tour: Tour) -> str:
    """Return the page about `tour`; `environment` is Jinja's, from `page_environment`."""
    environment.filters |= {"fixed": fixed, "share": share, "whole": whole}
    folder = resources.files(__package__)
    style = folder.joinpath("page.css").read_text("utf-8")
    pixels, full_colour = drawing.pixels_of(tour.digits.net)
    template = environment.from_string(folder.joinpath("page.html").read_text("utf-8"))
    html: str = template.render(
        tour=tour,
        stations=STATIONS,
        goal=GOAL,
        n_train=tour.n_train,
        n_test=tour.n_test,
        charts=charts(tour),
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        pixels=pixels,
        full_colour=full_colour,
        noise=drawing.grey_pixels(tour.digits.noise.reshape(28, 28)),
    )
    return html


def fixed(number: float, digits: int = 2) -> str:
    """Return a number with so many digits after the point, and a true minus sign."""
    text = f"{number:,.{digits}f}"
    return text.replace("-", MINUS) if float(text.replace(",", "")) else text.removeprefix("-")


def whole(number: float) -> str:
    """Return a number as short as it is, such as 20, 0.25 or 12,730."""
    return f"{number:,.10g}".replace("-", MINUS)


def share(number: float, digits: int = 1) -> str:
    """Return a share as a percentage."""
    return f"{number:.{digits}%}"

"""Products of matrices inside compiled code: dense ones of any size, and those with sparse images."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gpunn.engines.cpu.threads import Team
from gpunn.kernels.compilation import compiled
from gpunn.kernels.cpu import gather as gathering
from gpunn.kernels.cpu import matmul, sparse_matmul
from gpunn.kernels.cpu.epoch.layout import Layout, aligned_zeros, padded
from gpunn.kernels.cpu.memory import pointer
from gpunn.kernels.cpu.sparse import PARTS, NonzeroNumbers, find_nonzero, nonzero_numbers


@compiled
def multiply(
    x: Any, x_row: int, x_column: int, y: Any, columns: int, out: Any, rows: int, inner: int, add: bool, scratch: Any
) -> None:
    matmul.multiply(
        matmul.Matrix(pointer(x), 0, x_row, x_column),
        matmul.Matrix(pointer(y), 0, columns, 1),
        matmul.Matrix(pointer(out), 0, columns, 1),
        rows,
        inner,
        columns,
        add,
        pointer(scratch),
    )


def check_product(rows: int, inner: int, columns: int, transposed: bool, add: bool, packed: bool) -> None:
    rng = np.random.default_rng(rows + 100 * inner + columns)
    X = rng.normal(size=(inner, rows) if transposed else (rows, inner)).astype(np.float32)
    Y = rng.normal(size=(inner, columns)).astype(np.float32)
    out = rng.normal(size=(rows, columns)).astype(np.float32)
    expected = (X.T if transposed else X).astype(np.float64) @ Y + (out if add else 0)
    strides = (1, rows) if transposed else (inner, 1)
    scratch = aligned_zeros(matmul.K_BLOCK * (rows + 32)) if packed else None
    multiply(X.ravel(), *strides, Y.ravel(), columns, out.ravel(), rows, inner, add, scratch)
    np.testing.assert_allclose(out, expected, rtol=0, atol=4 * float(np.finfo(np.float32).eps) * (inner + 1))


@given(st.integers(0, 40), st.integers(0, 40), st.sampled_from([16, 32, 48, 64, 80]), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=150)
def test_a_product_is_that_of_numpy(rows: int, inner: int, columns: int, transposed: bool, add: bool) -> None:
    check_product(rows, inner, columns, transposed, add, packed=False)


@pytest.mark.parametrize("columns", [256, 272, 304])
@pytest.mark.parametrize("inner", [31, 32, 100, 256, 257, 530])
@pytest.mark.parametrize("rows", [31, 32, 45])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_large_product_is_that_of_numpy(rows: int, inner: int, columns: int, transposed: bool) -> None:
    for add in (False, True):
        check_product(rows, inner, columns, transposed, add, packed=True)


put_images = gathering.gather


@compiled
def gather(images: Any, n_pixels: int, rows: Any, out: Any) -> None:
    put_images(images, n_pixels, matmul.Chunk(rows, rows.size, 0, 0, rows.size), matmul.Matrix(out, 0, n_pixels, 1))


@pytest.mark.parametrize("n_pixels", [1, 16, 256, 255])
def test_every_grey_level_is_divided_by_255_to_the_last_bit(n_pixels: int) -> None:
    images = np.arange(4 * 256, dtype=np.uint8)[: 1024 // n_pixels * n_pixels].reshape(-1, n_pixels)
    rows = np.arange(len(images))[::-1].copy()
    out = np.empty(images.shape, np.float32)
    gather(images.ravel(), n_pixels, rows, out.ravel())
    np.testing.assert_array_equal(out, images[rows].astype(np.float32) / np.float32(255))


def sparse_images(n: int, n_pixels: int, share: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    images: np.ndarray = (rng.integers(1, 256, (n, n_pixels)) * (rng.random((n, n_pixels)) < share)).astype(np.uint8)
    return images


@given(st.integers(0, 12), st.one_of(st.integers(1, 90), st.integers(500, 900)), st.floats(0, 1), st.integers(1, 3))
@settings(deadline=None)
def test_nonzero_pixels_hold_the_whole_image(n: int, n_pixels: int, share: float, threads: int) -> None:
    images = sparse_images(n, n_pixels, share)
    pixels = find_nonzero(images, Team(threads))
    assert pixels.n_pixels == n_pixels
    found = np.zeros((n, n_pixels), np.int64)
    for part in range(PARTS * n):
        entries = pixels.words[pixels.starts[part] : pixels.starts[part + 1]].view(np.uint8).reshape(-1, 2, 4)
        first = part % PARTS * pixels.middle
        positions = first + np.cumsum(entries[:, 0].ravel(), dtype=np.int64)
        np.add.at(found[part // PARTS], positions, entries[:, 1].ravel())
        if part % PARTS == 0:
            assert (positions[-1] if len(positions) else 0) == pixels.middle
        else:
            # Threads may update the weights of one part each.
            assert (positions > pixels.middle).all()
    np.testing.assert_array_equal(found, images)


def test_nonzero_pixels_may_be_far_apart() -> None:
    images = np.zeros((3, 100_000), np.uint8)
    images[:, [0, 255, 511, 99_999]] = [[1, 2, 3, 4]]
    images[1] = 0
    pixels = find_nonzero(images)
    weights = np.random.default_rng(0).normal(size=100_000 * 16).astype(np.float32)
    out = np.empty((3, 16), np.float32)
    sparse_matmul.sparse_product(pixels, np.arange(3), weights, out=out)
    np.testing.assert_allclose(out, images / 255 @ weights.reshape(-1, 16), rtol=0, atol=1e-6)


def rows_of(X: np.ndarray, seed: int = 0) -> NonzeroNumbers:
    """The non-zeros of X (n, n_0), float32, in any order; each in two parts, and zeros between them."""
    rng = np.random.default_rng(seed)
    values, columns, ends = [], [], [0]
    for row in X:
        places = rng.permutation(np.repeat(np.flatnonzero(row), 2))
        places = np.concatenate([places, rng.integers(0, len(row), rng.integers(0, 3))])
        shares = np.ones(len(places), np.float32) / 2
        shares[2 * np.count_nonzero(row) :] = 0
        values.append(row[places] * shares)
        columns.append(places)
        ends.append(ends[-1] + len(places))
    joined = np.concatenate(values).astype(np.float32), np.concatenate(columns)
    return nonzero_numbers(*joined, np.array(ends, np.int32), X.shape[1])


def assert_products(
    examples: Any,
    rows: NDArray[np.int64],
    X: NDArray[Any],
    columns: int,
    threads: int,
    rng: np.random.Generator,
    *,
    scratch: NDArray[np.float32] | None = None,
    atol: float = 1e-5,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Compare products of rows of sparse examples with those of dense ones, `X`; return W before and after a step."""
    m, n_inputs = X.shape
    layout = Layout((n_inputs, columns), sparse=True, batch_size=m)
    W = rng.normal(size=(columns, n_inputs)).astype(np.float32)
    delta = rng.normal(size=(m, columns)).astype(np.float32)
    packed = layout.pack([W], [np.zeros(columns, np.float32)])
    weights = packed[: n_inputs * columns]
    out = np.full((m, columns), np.nan, np.float32)
    sparse_matmul.sparse_product(examples, rows, weights, out=out)
    np.testing.assert_allclose(out, X @ W.T, rtol=0, atol=1e-5)
    for thread in range(threads):
        sparse_matmul.sparse_descend(
            weights, examples, rows, delta, 0.3, thread=thread, threads=threads, scratch=scratch
        )
    after = layout.unpack(packed)[0][0]
    np.testing.assert_allclose(after, W - 0.3 * delta.T @ X, rtol=0, atol=atol)
    return W, after


@pytest.mark.parametrize("columns", [16, 32, 48, 64, 112, 144])
@pytest.mark.parametrize("m", [1, 33, 150])
@pytest.mark.parametrize("threads", [1, 2])
def test_products_with_sparse_numbers_are_the_dense_ones(columns: int, m: int, threads: int) -> None:
    rng = np.random.default_rng(1)
    X = (rng.normal(size=(50, 61)) * (rng.random((50, 61)) < 0.2)).astype(np.float32)
    X[7] = 0
    numbers, rows = rows_of(X), rng.integers(0, 50, m)
    rows[0] = 7
    scratch = np.zeros(64 * 61, np.float32)
    assert_products(numbers, rows, X[rows], columns, threads, rng, scratch=scratch, atol=3e-5)


ROWS: dict[str, Any] = {
    "values": np.ones(3, np.float32),
    "columns": np.array([0, 4, 1]),
    "ends": np.array([0, 1, 1, 3]),
    "n_pixels": 5,
}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"values": np.ones(3)}, TypeError, "found values of dtype float64, expected float32"),
        ({"columns": np.ones(3)}, TypeError, "found columns of 1 dimensions and dtype float64"),
        ({"columns": np.array([0, 5, 1])}, IndexError, "found columns from 0 to 5, expected 0 to 4"),
        ({"columns": np.array([0, -1, 1])}, IndexError, "found columns from -1 to 1"),
        ({"columns": np.array([0, 2**32, 1])}, IndexError, "found columns from 0 to 4294967296"),
        ({"columns": np.array([0, 1])}, ValueError, "found rows that aren't parts of 3 values and 2 columns"),
        ({"ends": np.array([0, 1, 4])}, ValueError, "found rows that aren't parts"),
        ({"ends": np.array([0, 2, 1, 3])}, ValueError, "found rows that aren't parts"),
        ({"ends": np.array([1, 3])}, ValueError, "found rows that aren't parts"),
        ({"ends": np.array([], int)}, ValueError, "found rows that aren't parts"),
        ({"ends": np.array([[0, 3]])}, TypeError, "found ends of 2 dimensions"),
        ({"n_pixels": 2**31}, ValueError, r"found 2147483648 columns, expected fewer than 2\^31"),
    ],
)
def test_rows_that_no_product_may_read_are_refused(change: Any, error: type[Exception], message: str) -> None:
    assert nonzero_numbers(**ROWS).starts.tolist() == [0, 1, 1, 1, 1, 2, 2]
    with pytest.raises(error, match=message):
        nonzero_numbers(**ROWS | change)


def test_no_rows_have_no_numbers() -> None:
    empty = nonzero_numbers(np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int64), 5)
    assert (len(empty.values), empty.starts.tolist(), empty.lines) == (0, [0], 0)


@pytest.mark.parametrize("columns", [16, 32, 48, 64, 80, 112, 128, 144])
@pytest.mark.parametrize("m", [1, 2, 33])
@pytest.mark.parametrize("threads", [1, 2])
def test_products_with_sparse_images_are_the_dense_ones(columns: int, m: int, threads: int) -> None:
    images = sparse_images(50, 61, 0.3)
    pixels = find_nonzero(images)
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 50, m)
    before, after = assert_products(pixels, rows, images[rows] / 255, columns, threads, rng)
    zero = ~images[rows].any(axis=0)
    np.testing.assert_array_equal(after[:, zero], before[:, zero])


@pytest.mark.parametrize("columns", [16, 80])
def test_many_small_changes_add_up(columns: int) -> None:
    """Each is less than half the distance from 1 to the next float32."""
    images = sparse_images(600, 20, 0.5)
    pixels, rows = find_nonzero(images), np.arange(600)
    weights = np.ones(20 * columns, np.float32)
    delta = np.full((600, columns), 1e-8, np.float32)
    scratch = np.full(64 * 20, np.nan, np.float32)
    sparse_matmul.sparse_descend(weights, pixels, rows, delta, 1.0, scratch=scratch)
    expected = np.repeat((images / 255).sum(axis=0)[:, np.newaxis] * 1e-8, columns, axis=1)
    packed = Layout((20, columns), sparse=True, batch_size=1)
    found = packed.unpack(np.concatenate([weights, np.zeros(columns, np.float32)]))[0][0].T
    np.testing.assert_allclose(1 - found, expected, atol=6e-8)
    with pytest.raises(ValueError, match=r"found scratch of shape \(10,\), expected \(1280,\)"):
        sparse_matmul.sparse_descend(weights, pixels, rows, delta, 1.0, scratch=scratch[:10])


def call(name: str, **change: Any) -> None:
    pixels = find_nonzero(sparse_images(9, 20, 0.5))
    good: dict[str, Any] = {"pixels": pixels, "rows": np.arange(4), "weights": np.zeros(20 * 16, np.float32)}
    matrix = np.zeros((4, 16), np.float32)
    if name == "sparse_product":
        sparse_matmul.sparse_product(**(good | {"out": matrix} | change))
    else:
        sparse_matmul.sparse_descend(**(good | {"delta": matrix, "learning_rate": 1.0} | change))


@pytest.mark.parametrize(("name", "matrix"), [("sparse_product", "out"), ("sparse_descend", "delta")])
def test_sparse_products_check_their_arguments(name: str, matrix: str) -> None:
    call(name)
    call(name, rows=np.zeros(0, np.int64), **{matrix: np.zeros((0, 16), np.float32)})
    refused: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({matrix: np.zeros((4, 16))}, TypeError, f"found {matrix} of dtype float64, expected float32"),
        ({matrix: np.zeros((5, 16), np.float32)}, ValueError, r"found rows of shape \(4,\), expected \(5,\)"),
        (
            {matrix: np.zeros((4, 17), np.float32)},
            ValueError,
            f"found {matrix} of 17 columns, expected a multiple of 16",
        ),
        ({matrix: np.zeros((16, 4), np.float32).T}, ValueError, "expected a C-contiguous array"),
        ({"weights": np.zeros(320)}, TypeError, "found weights of dtype float64"),
        ({"weights": np.zeros(319, np.float32)}, ValueError, r"found weights of shape \(319,\), expected \(320,\)"),
        ({"rows": np.zeros(4, np.int32)}, TypeError, "found rows of dtype int32, expected int64"),
        ({"rows": np.array([0, 1, 2, 9])}, IndexError, "found rows from 0 to 9, expected 0 to 8"),
        ({"rows": np.array([0, -1, 2, 3])}, IndexError, "found rows from -1 to 3, expected 0 to 8"),
        ({"rows": np.zeros((4, 2), np.int64)}, ValueError, r"found rows of shape \(4, 2\), expected \(4,\)"),
        ({"rows": [0, 1, 2, 3]}, TypeError, "found rows of type list, expected a NumPy array"),
    ]
    for change, error, message in refused:
        with pytest.raises(error, match=message):
            call(name, **change)
    for locked in (matrix, "weights"):
        if (name, locked) != ("sparse_descend", "delta") and (name, locked) != ("sparse_product", "weights"):
            array = np.zeros((4, 16) if locked == matrix else 320, np.float32)
            array.flags.writeable = False
            with pytest.raises(ValueError, match=f"{locked} must be writable"):
                call(name, **{locked: array})
    shared = np.zeros(20 * 16, np.float32)
    with pytest.raises(ValueError, match=f"weights must not overlap {matrix}"):
        call(name, **{"weights": shared, matrix: shared[:64].reshape(4, 16)})


def test_damaged_nonzero_pixels_are_not_read() -> None:
    pixels = find_nonzero(sparse_images(9, 20, 0.5))
    with pytest.raises(ValueError, match=r"found weights of shape \(320,\), expected \(160,\)"):
        call("sparse_product", pixels=pixels._replace(n_pixels=10))


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("sizes", [(9, 3), (20, 16, 1), (33, 100, 65, 7), (5, 129, 2)], ids=str)
def test_a_layout_unpacks_what_it_packed(sizes: tuple[int, ...], sparse: bool) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(n, m)).astype(np.float32) for m, n in pairwise(sizes)]
    biases = [rng.normal(size=n).astype(np.float32) for n in sizes[1:]]
    layout = Layout(sizes, sparse=sparse, batch_size=4)
    packed = layout.pack(weights, biases)
    assert packed.ctypes.data % 64 == 0
    assert packed.shape == (layout.n_parameters,)
    found_weights, found_biases = layout.unpack(packed)
    for ours, theirs in zip(found_weights + found_biases, weights + biases, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # Nothing is lost and nothing else is there; from the second layer on, weights are there twice.
    n_values = 2 * sum(W.size for W in weights) - weights[0].size + sum(map(len, biases))
    assert np.count_nonzero(packed) == n_values
    assert [padded(size) for size in (1, 16, 17)] == [16, 16, 32]

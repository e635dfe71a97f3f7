"""How CUDA kernels are divided into blocks of threads."""

import pytest

from gpunn.kernels.cuda import launch as launch_cuda


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Launch as on a GPU of 132 multiprocessors."""
    monkeypatch.setattr(launch_cuda, "THREADS", 256)
    monkeypatch.setattr(launch_cuda, "TEAM_THREADS", 1024)
    monkeypatch.setattr(launch_cuda, "multiprocessors", lambda: 132)


@pytest.mark.parametrize(("size", "blocks"), [(1, 1), (256, 1), (257, 2), (12_730, 50), (10**9, 1056)])
def test_a_line_is_cut_into_as_many_blocks_as_it_needs_or_the_gpu_runs(size: int, blocks: int) -> None:
    assert launch_cuda.line(size) == (blocks, 256)


@pytest.mark.parametrize(
    ("rows", "columns", "grid", "block"),
    [
        (1, 1, (1, 1), (1, 1)),
        (32, 10, (1, 2), (16, 16)),
        (32, 16, (1, 2), (16, 16)),
        (32, 784, (25, 4), (32, 8)),
        (60_000, 784, (25, 42), (32, 8)),
        (5, 10**6, (1056, 1), (32, 8)),
        (10**6, 10, (1, 1056), (16, 16)),
    ],
)
def test_a_matrix_is_cut_into_rectangles_whose_rows_are_at_most_a_warp(
    rows: int, columns: int, grid: tuple[int, int], block: tuple[int, int]
) -> None:
    assert launch_cuda.rectangles(rows, columns) == (grid, block)


@pytest.mark.parametrize(
    ("rows", "columns", "block"),
    [(0, 10, (16, 1)), (3, 1, (1, 4)), (32, 10, (16, 32)), (10**4, 10, (16, 64)), (10**4, 800, (32, 32))],
)
def test_a_team_is_no_larger_than_its_work(rows: int, columns: int, block: tuple[int, int]) -> None:
    assert launch_cuda.team(rows, columns) == block


@pytest.mark.parametrize(("rows", "n"), [(0, 1), (32, 1), (1024, 1), (1025, 2), (60_000, 59), (10**9, 1024)])
def test_blocks_share_sums_where_each_has_enough_of_them(rows: int, n: int) -> None:
    assert launch_cuda.parts(rows) == n

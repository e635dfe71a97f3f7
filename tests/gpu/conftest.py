"""What needs a GPU: skipped with the reason where none can be used, failed where `GPUNN_REQUIRE_GPU=1` asks for one."""

import os
from pathlib import Path

import pytest

from gpunn import Backend, DeviceError, get_backend


@pytest.fixture(scope="session")
def gpu() -> Backend:
    try:
        return get_backend("cuda")
    except DeviceError as error:
        if os.environ.get("GPUNN_REQUIRE_GPU") == "1":
            pytest.fail(f"GPUNN_REQUIRE_GPU=1, but {error}")
        pytest.skip(f"needs a GPU: {error}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give all tests here to one process, where pytest-xdist shares them out: some of them fill the GPU's memory."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(pytest.mark.xdist_group("gpu"))

"""What needs a GPU: skipped with the reason where none can be used, failed where `GPUNN_REQUIRE_GPU=1` asks for one."""

import os

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

import json
import os
import re
import stat
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save

from gpunn import MLP, ConfigurationError, DataError, ModelFileError, OutputError, load_mnist
from gpunn.files import check_writable, write_whole
from gpunn.model_file import VERSION


@pytest.mark.parametrize("sizes", [(784, 16, 10), (3, 2), (5, 4, 3, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_comes_back_bit_for_bit(tmp_path: Path, sizes: tuple[int, ...], dtype: type) -> None:
    net = MLP(sizes, seed=5, dtype=dtype)
    net.save(tmp_path / "net.safetensors")
    back = MLP.load(tmp_path / "net.safetensors")
    assert back.sizes == sizes
    for ours, theirs in zip([*net.weights, *net.biases], [*back.weights, *back.biases], strict=True):
        assert theirs.dtype == dtype
        np.testing.assert_array_equal(ours, theirs)
    assert back.weights[0].flags.writeable


def test_activation_functions_come_back(tmp_path: Path) -> None:
    net = MLP([4, 3, 3, 2], hidden=["relu", "tanh"], output="softmax")
    net.save(tmp_path / "net")
    assert MLP.load(tmp_path / "net").functions == ("relu", "tanh", "softmax")
    with safe_open(tmp_path / "net", framework="numpy") as file:
        about = json.loads(file.metadata()["gpunn"])
    assert about == {"version": 2, "sizes": [4, 3, 3, 2], "functions": ["relu", "tanh", "softmax"]}


def test_arrays_that_are_not_c_contiguous_are_saved_right(tmp_path: Path) -> None:
    net = MLP([4, 3, 2])
    net.weights[0] = np.asfortranarray(net.weights[0])
    net.save(tmp_path / "net")
    np.testing.assert_array_equal(MLP.load(tmp_path / "net").weights[0], net.weights[0])


def test_the_file_says_what_it_is_to_any_reader_of_safetensors(tmp_path: Path) -> None:
    net = MLP([4, 3, 2])
    net.save(tmp_path / "net")
    tensors = load_file(tmp_path / "net")
    assert sorted(tensors) == ["biases.0", "biases.1", "weights.0", "weights.1"]
    np.testing.assert_array_equal(tensors["weights.1"], net.weights[1])
    with safe_open(tmp_path / "net", framework="numpy") as file:
        about = json.loads(file.metadata()["gpunn"])
    assert about == {"version": 1, "sizes": [4, 3, 2], "activation": "sigmoid"}


def test_the_same_network_gives_the_same_file(tmp_path: Path) -> None:
    contents = set()
    for _ in range(20):
        MLP([4, 3, 2]).save(tmp_path / "net")
        contents.add((tmp_path / "net").read_bytes())
    assert len(contents) == 1


def content(*, about: Any = None, **tensors: Any) -> bytes:
    """Return the file of a 4-3-2 network with changed description and tensors (`b1=...`; None leaves one out)."""
    net = MLP([4, 3, 2])
    arrays: dict[str, Any] = {}
    for layer in range(2):
        arrays |= {f"weights.{layer}": net.weights[layer], f"biases.{layer}": net.biases[layer]}
    for short, array in tensors.items():
        arrays[short.replace("w", "weights.").replace("b", "biases.")] = array
    described = {"version": 1, "sizes": [4, 3, 2], "activation": "sigmoid"}
    text = about if isinstance(about, str) else json.dumps(described | (about or {}))
    return save({name: array for name, array in arrays.items() if array is not None}, {"gpunn": text})


@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        (b"", "is not a whole safetensors file"),
        (b"PK\x03\x04 something else entirely", "is not a whole safetensors file"),
        (content()[:-1], "is not a whole safetensors file"),
        (content() + b"\0", "is not a whole safetensors file"),
        (save({"x": np.zeros(3)}), "but not a gpunn model: use one written by `gpunn train`"),
        (save({"x": np.zeros(3)}, {"format": "pt"}), "but not a gpunn model: use one written by `gpunn train`"),
        (content(about="{"), "describes itself as '{': expected a JSON object with a version"),
        (content(about="[1]"), "describes itself as '[1]'"),
        (content(about={"version": "1"}), "expected a JSON object with a version"),
        (
            content(about={"version": VERSION + 1}),
            f"has version {VERSION + 1}, this gpunn reads versions up to {VERSION}: ",
        ),
        (content(about={"version": 2}), "has the functions None: expected a name for each layer"),
        (content(about={"version": 2, "functions": ["relu"]}), "one activation for each hidden layer (1), got 0"),
        (content(about={"version": 2, "functions": ["softmax", "relu"]}), "hidden activation must be one of"),
        (content(about={"version": 2, "functions": [["relu"], {}]}), "has the functions [['relu'], {}]"),
        (content(about={"version": 2, "functions": ["relu", "x" * 2000]}), "expected a name for each layer"),
        (content(about={"version": 0}), "expected a JSON object with a version"),
        (content(about="[" * 100_000), "describes itself as '[[[[[[[[[[[[...[[[[[[[[[[[[['"),
        (content(about={"activation": "swish"}), "has the activation 'swish': expected sigmoid"),
        (content(about={"activation": None}), "has the activation None"),
        (content(about={"sizes": [4]}), "has the sizes [4]: expected two or more positive numbers"),
        (content(about={"sizes": [4, 0, 2]}), "has the sizes [4, 0, 2]"),
        (content(about={"sizes": {"a": 1}}), "has the sizes"),
        (
            content(about={"sizes": [4, 3, 2, 1]}),
            "holds 4 arrays, ['biases.0', 'biases.1', 'weights.0', 'weights.1']: its sizes [4, 3, 2, 1] expect 6",
        ),
        (content(about={"sizes": [5, 3, 2]}), "weights.0 has the shape (3, 4), its sizes [5, 3, 2] expect (3, 5)"),
        (content(b1=None), "holds 3 arrays, ['biases.0', 'weights.0', 'weights.1']: its sizes [4, 3, 2] expect 4"),
        (content(b1=None, extra=np.zeros(1)), "its sizes [4, 3, 2] expect ['biases.0', 'biases.1'"),
        (content(extra=np.zeros(1)), "holds 5 arrays, ['biases.0', 'biases.1', 'extra'"),
        (content(w0=np.zeros((1,) * 60, np.float32)), "weights.0 has the shape (1, 1, 1, 1, 1, 1, ...), its sizes"),
        (content(**{"\x1b[2J": np.zeros(1), "b1": None}), "holds ['\\x1b[2J', 'biases.0'"),
        (content(b1=np.zeros(3, np.float32)), "biases.1 has the shape (3,)"),
        (content(b1=np.zeros(2)), "biases.1 has the dtype F64, expected one of F32, F64 throughout"),
        (content(b1=np.zeros(2, np.int32)), "biases.1 has the dtype I32"),
        (content(b1=np.array([1, np.nan], np.float32)), "biases.1 holds values that aren't finite"),
    ],
)
def test_a_damaged_or_foreign_file_is_refused(tmp_path: Path, damaged: bytes, message: str) -> None:
    (tmp_path / "net").write_bytes(damaged)
    with pytest.raises(ModelFileError, match=re.escape(message)) as caught:
        MLP.load(tmp_path / "net")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def test_a_file_truncated_at_any_byte_is_refused(tmp_path: Path) -> None:
    whole = content()
    for end in range(len(whole)):
        (tmp_path / "net").write_bytes(whole[:end])
        with pytest.raises(ModelFileError):
            MLP.load(tmp_path / "net")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_byte_gives_a_network_or_a_clear_error(tmp_path: Path, data: st.DataObject) -> None:
    damaged = bytearray(content())
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] = data.draw(st.integers(0, 255))
    (tmp_path / "net").write_bytes(damaged)
    try:
        MLP.load(tmp_path / "net").check()
    except ModelFileError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="there is no model file"):
        MLP.load(tmp_path / "absent")
    with pytest.raises(ModelFileError, match="Is a directory"):
        MLP.load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match="it is a pipe, not a file"):
        MLP.load(tmp_path / "pipe")
    with pytest.raises(ModelFileError, match=r"cannot read a\\x00b: a null byte is in its name"):
        MLP.load("a\0b")


def test_a_description_of_millions_of_layers_is_refused_before_they_are_looked_at(tmp_path: Path) -> None:
    for n, message in ((4_000_000, r"in 8,000,\d+ characters: expected at most 400,100"), (150_000, "expect 299998")):
        about = json.dumps({"version": 1, "sizes": [1] * n, "activation": "sigmoid"}, separators=(",", ":"))
        (tmp_path / "net").write_bytes(save({"weights.0": np.zeros((1, 1), np.float32)}, {"gpunn": about}))
        tracemalloc.start()
        with pytest.raises(ModelFileError, match=message):
            MLP.load(tmp_path / "net")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * 2 * n + 2_000_000


def test_names_that_are_no_text_are_taken(tmp_path: Path) -> None:
    net = MLP([4, 3, 2])
    for name in (b"\xff\x1b", b"plain"):
        path = os.fsencode(tmp_path) + b"/" + name
        net.save(path)
        np.testing.assert_array_equal(MLP.load(path).weights[0], net.weights[0])


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "net"
    write_whole(target, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OutputError, match=r"cannot write .*: No space left on device"):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(b"old")
    (tmp_path / "net").chmod(0o640)
    write_whole(tmp_path / "net", b"new")
    assert stat.S_IMODE((tmp_path / "net").stat().st_mode) == 0o640


def test_writes_in_one_folder_do_not_meet(tmp_path: Path) -> None:
    def write(name: str) -> None:
        for _ in range(50):
            write_whole(tmp_path / name, name.encode() * 1000)
            assert (tmp_path / name).read_bytes() == name.encode() * 1000

    with ThreadPoolExecutor() as threads:
        list(threads.map(write, ["a", "b", "c"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]


def test_a_read_only_file_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net").write_bytes(b"old")
    # Root may write everything, and says so.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match="it is read-only"):
        check_writable(tmp_path / "net")


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 255), b"new")
    assert len(list(tmp_path.iterdir())) == 1


def test_checking_that_a_file_can_be_written_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("write", [check_writable, lambda path: write_whole(path, b"")])
def test_unwritable_paths_are_refused(tmp_path: Path, write: Any) -> None:
    for path, message in (
        (tmp_path, "it is a folder"),
        (tmp_path / "absent" / "net", "there is no folder .*absent; choose another place"),
        (Path(os.devnull), "it is a device"),
        (Path("/proc/net.safetensors"), "cannot write /proc/net.safetensors: "),
    ):
        with pytest.raises(OutputError, match=message):
            write(path)
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)


def test_folders_that_may_not_be_entered_are_refused(locked_folder: Path) -> None:
    for write in (check_writable, lambda path: write_whole(path, b"")):
        with pytest.raises(OutputError, match=r"cannot write .*net: Permission denied"):
            write(locked_folder / "net")
    with pytest.raises(ModelFileError, match=r"cannot read .*net: Permission denied"):
        MLP.load(locked_folder / "net")


def test_names_that_are_too_long_are_refused(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 300)
    with pytest.raises(OutputError, match=r"cannot write .*n: File name too long"):
        check_writable(long)
    with pytest.raises(ModelFileError, match=r"cannot read .*n: File name too long"):
        MLP.load(long)
    with pytest.raises(DataError, match=r"cannot read .*n: File name too long"):
        load_mnist(long)


def test_a_network_that_could_not_be_loaded_is_not_saved(tmp_path: Path) -> None:
    net = MLP([4, 3, 2])
    net.weights[1][0, 0] = np.nan
    with pytest.raises(ConfigurationError, match=r"weights\[1\] or biases\[1\] hold values that aren't finite"):
        net.save(tmp_path / "net")
    assert list(tmp_path.iterdir()) == []

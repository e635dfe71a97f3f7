import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gpunn import OutputError, files
from gpunn.files import ABANDONED, check_writable, open_file, write_whole
from gpunn.printing import printable

KILLED = """
import os, signal, sys
import gpunn.files
named, *calls = sys.argv[1:]
if named:
    gpunn.files.UNNAMED = None
for each in calls:
    call, _, path = each.partition(" ")
    child = os.fork()
    if not child:
        setattr(os, call, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        gpunn.files.write_whole(path, b"new")
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
"""


@pytest.fixture(scope="session")
def unnamed(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip a test where files can't be without names."""
    file = files._open_unnamed(tmp_path_factory.mktemp("unnamed"))
    if file is None:
        pytest.skip("this file system has no files without names")
    file.close()


@pytest.fixture(params=["unnamed", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Write files without names first, as on most of Linux, or with names, as elsewhere."""
    if request.param == "named":
        monkeypatch.setattr(files, "UNNAMED", None)
    else:
        request.getfixturevalue("unnamed")
    return str(request.param)


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".gpunn-*.part"))


def write_and_be_killed(folder: Path, *calls: str, named: bool) -> None:
    """For each of `calls`, such as "fsync net", let a process write "new" to a file, and be killed in this call."""
    program = [sys.executable, "-c", KILLED, "named" if named else "", *calls]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    subprocess.run(program, cwd=folder, env=environment, check=True, timeout=60)


def test_what_a_killed_process_left_is_removed_by_what_writes_next(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(b"old")
    write_and_be_killed(tmp_path, "fsync net", "fsync net", named=True)
    left = parts(tmp_path)
    assert len(left) == 2
    assert (tmp_path / "net").read_bytes() == b"old"
    check_writable(tmp_path / "other")
    assert parts(tmp_path) == []
    left[0].touch()
    write_whole(tmp_path / "other", b"")
    assert parts(tmp_path) == []


@pytest.mark.usefixtures("unnamed")
def test_a_killed_process_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "net").write_bytes(b"old")
    write_and_be_killed(tmp_path, "fsync new", "link new", "fsync net", "link net", "replace net", named=False)
    # Only between two calls, where a file is replaced, is there a whole one under another name.
    assert [path.read_bytes() for path in parts(tmp_path)] == [b"new"]
    assert (tmp_path / "net").read_bytes() == b"old"
    check_writable(tmp_path / "net")
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


@pytest.mark.usefixtures("way")
def test_files_are_new_or_replaced_with_their_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "net", b"first")
        assert stat.S_IMODE((tmp_path / "net").stat().st_mode) == 0o640
        (tmp_path / "net").chmod(0o606)
        (tmp_path / "link").symlink_to("net")
        write_whole(tmp_path / "link", b"second")
    finally:
        os.umask(before)
    assert (tmp_path / "net").read_bytes() == b"second"
    assert stat.S_IMODE((tmp_path / "net").stat().st_mode) == 0o606
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "net"]


@pytest.mark.usefixtures("way")
def test_where_nothing_can_be_linked_files_are_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_: object, target: Path, **__: object) -> None:
        if target.exists():  # comes first, on Linux
            raise FileExistsError(errno.EEXIST, "File exists")
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    for content in (b"first", b"second"):
        write_whole(tmp_path / "net", content)
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


@pytest.mark.usefixtures("way")
def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "net").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="net: No space left on device; choose another place"):
        write_whole(tmp_path / "net", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_what_running_processes_and_other_hosts_write_is_left_alone(tmp_path: Path) -> None:
    host = files._host()
    other = f"{(int(host, 16) + 1) % 2**32:08x}"
    ours = tmp_path / f".gpunn-{host}-{os.getpid()}-{'0' * 16}.part"
    theirs = tmp_path / f".gpunn-{host}-{os.getppid()}-{'0' * 16}.part"
    elsewhere = tmp_path / f".gpunn-{other}-999999999-{'0' * 16}.part"
    unknown = tmp_path / f".gpunn-{'0' * 16}.part"
    foreign = tmp_path / ".gpunn-notes.part"
    for file in (ours, theirs, elsewhere, unknown, foreign):
        file.touch()
    write_whole(tmp_path / "net", b"")
    assert all(file.exists() for file in (ours, theirs, elsewhere, unknown, foreign))
    for file in (ours, theirs, elsewhere, unknown, foreign):
        os.utime(file, (0, file.stat().st_mtime - ABANDONED - 60))
    write_whole(tmp_path / "net", b"")
    assert parts(tmp_path) == sorted([ours, theirs, foreign])


def test_a_file_is_opened_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"here")
    with open_file(os.fsencode(tmp_path / "file")) as file:
        assert file.read() == b"here"
    os.mkfifo(tmp_path / "pipe")
    for path, message in ((tmp_path / "pipe", "it is a pipe"), ("/dev/zero", "it is a device"), ("a\0b", "null byte")):
        with pytest.raises(OSError, match=message):
            open_file(path)


@pytest.mark.parametrize("write", [check_writable, lambda path: write_whole(path, b"")])
def test_names_that_no_file_can_have_are_refused_in_printable_words(write: Any) -> None:
    with pytest.raises(OutputError, match=r"cannot write a\\x00b: a null byte is in its name"):
        write("a\0b")
    with pytest.raises(
        OutputError, match=r"cannot write /absent/\\x1b\[2J\\udcff: there is no folder /absent"
    ) as refused:
        write("/absent/\x1b[2J\udcff")
    assert str(refused.value).isprintable()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc on this system")
def test_a_folder_that_takes_no_files_is_not_reported_missing() -> None:
    with pytest.raises(OutputError, match="in /proc no file can be made"):
        check_writable("/proc/net.safetensors")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain ü 数 name", "plain ü 数 name"),
        ("\x1b[2J\r\n\t\x7f", r"\x1b[2J\r\n\t\x7f"),
        ("\ud800\u202e\u2028", r"\ud800\u202e\u2028"),
        (b"a\xffb", r"a\udcffb"),
        (Path("a\x07b"), r"a\x07b"),
    ],
)
def test_text_from_outside_is_made_printable(text: Any, expected: str) -> None:
    assert printable(text) == expected

import os
import signal
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
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
gpunn.files.write_whole(sys.argv[1], b"new")
"""


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".gpunn-*.part"))


@pytest.mark.parametrize("write", [check_writable, lambda path: write_whole(path, b"new")], ids=["check", "write"])
def test_what_a_killed_process_left_is_removed_by_what_writes_next(tmp_path: Path, write: Any) -> None:
    (tmp_path / "net").write_bytes(b"old")
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "net")], check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
    assert len(parts(tmp_path)) == 2
    assert (tmp_path / "net").read_bytes() == b"old"
    write(tmp_path / "other")
    assert parts(tmp_path) == []


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

"""What is read is a file, and no longer than it should be."""

import os

import pytest

from fedjax_sl import reading
from tests.hanging import in_good_time  # noqa: F401


pytestmark = pytest.mark.usefixtures("in_good_time")


@pytest.mark.parametrize("read", [reading.read_text, reading.read_json])
def test_only_files_are_read(tmp_path, read):
    pipe, folder = tmp_path / "pipe", tmp_path / "folder"
    os.mkfifo(pipe)
    folder.mkdir()
    (tmp_path / "endless").symlink_to("/dev/zero")
    for path in (pipe, folder, tmp_path / "endless"):
        with pytest.raises(ValueError, match=f"{path} is no regular file"):
            read(path)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")


def test_a_file_has_a_size(tmp_path):
    path = tmp_path / "file"
    path.write_text("1234")
    assert reading.read_json(path, most=4) == 1234
    with pytest.raises(ValueError, match="has 4 bytes: expected at most 3"):
        reading.read_json(path, most=3)
    os.truncate(path, 2**40)  # which takes no room on the disk
    with pytest.raises(ValueError, match=f"expected at most {reading.RECORD}"):
        reading.read_text(path, most=reading.RECORD)


def test_files_of_the_kernel_have_none(tmp_path):
    """Their size is 0 until they are read."""
    path = tmp_path / "file"
    path.symlink_to("/proc/self/status")
    assert path.stat().st_size == 0
    with pytest.raises(ValueError, match="has more than 10 bytes"):
        reading.read_text(path, most=10)


def test_the_sentence_names_the_path(tmp_path):
    path = tmp_path / "file"
    for content in (b"\xff", b"{", b"[" * 10**5):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path} is no.*"):
            reading.read_json(path)

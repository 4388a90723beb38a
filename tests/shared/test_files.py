"""Writing files: on a full disk, after an interruption, and from several processes at once."""

from __future__ import annotations

import errno
import multiprocessing
from pathlib import Path

import pytest

from shared.files import draft_of, locked, whole, write_first, write_whole


def test_file_is_replaced_and_no_draft_remains(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_whole(path, "old")
    write_whole(path, "new: µ")
    assert path.read_text(encoding="utf-8") == "new: µ"
    assert list(tmp_path.iterdir()) == [path]


def test_full_disk_leaves_the_file_unchanged(tmp_path: Path) -> None:
    """A write to /dev/full fails as on a full disk."""
    path = tmp_path / "run.json"
    path.write_text("old")
    draft_of(path).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(path, "new")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupted_writer_leaves_no_file(tmp_path: Path) -> None:
    def write_half() -> None:
        with whole(tmp_path / "table.csv") as draft:
            draft.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_error_before_the_first_write_is_raised_unchanged(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), whole(tmp_path / "table.csv"):
        raise KeyboardInterrupt


def test_write_first_keeps_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "folds.json"
    write_first(path, "first")
    write_first(path, "second")
    assert path.read_text() == "first"


def _count(path: Path, times: int) -> None:
    for _ in range(times):
        with locked(path):
            write_whole(path, str(int(path.read_text()) + 1))


def test_locked_updates_of_several_processes_all_count(tmp_path: Path) -> None:
    path = tmp_path / "count"
    path.write_text("0")
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_count, args=(path, 50)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert path.read_text() == "150"

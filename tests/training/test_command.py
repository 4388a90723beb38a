"""The command line: error messages and exit codes."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from shared.errors import InputError
from training import __main__ as command


def failing_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    def app(**_: object) -> None:
        raise error

    monkeypatch.setattr(command, "app", app)
    return command.main()


def test_error_for_the_user_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing_with(InputError("expected one, found two"), monkeypatch) == 1
    assert capsys.readouterr().err == "expected one, found two\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_one_line(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing_with(OSError(number, os.strerror(number), "last.ckpt"), monkeypatch) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("expected space on the disk for last.ckpt, found none (")
    assert line.endswith("free some space and run the same command again")


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full exists on Linux only")
def test_full_disk_is_reported_without_a_file_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError, match="No space left") as caught, open("/dev/full", "w") as file:
        file.write("something")
    assert failing_with(caught.value, monkeypatch) == 1
    assert "expected space on the disk, found none (No space left" in capsys.readouterr().err


def test_other_system_errors_are_not_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermissionError):
        failing_with(PermissionError(errno.EACCES, "denied"), monkeypatch)

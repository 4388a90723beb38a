"""The exit codes of the command lines, and their last line on stderr."""

import errno

import pytest
import typer

from shared.command_line import INTERRUPTED, run_command_line
from shared.errors import HecktorError


def application(error: BaseException | None) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def command() -> None:
        if error is not None:
            raise error

    return app


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (HecktorError("expected a, found b"), 1, "expected a, found b"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/cache"),
            1,
            "expected space on the disk for runs/cache, found none (No space left on device); free "
            "some space and run the same command again",
        ),
        (
            OSError(errno.EDQUOT, "Disk quota exceeded"),
            1,
            "expected space on the disk, found none (Disk quota exceeded); free some space and run "
            "the same command again",
        ),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted: nothing is kept"),
    ],
)
def test_errors_for_the_user_are_one_line(
    error: BaseException,
    code: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["program"])

    assert run_command_line(application(error), interrupted="nothing is kept") == code
    assert capsys.readouterr().err.strip() == line


def test_defects_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["program"])

    with pytest.raises(PermissionError):
        run_command_line(application(PermissionError(errno.EACCES, "denied")), interrupted="")
    with pytest.raises(ZeroDivisionError):
        run_command_line(application(ZeroDivisionError()), interrupted="")


def test_success_and_wrong_options_end_as_typer_ends_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, code in (([], 0), (["--unknown"], 2)):
        monkeypatch.setattr("sys.argv", ["program", *arguments])
        with pytest.raises(SystemExit) as end:
            run_command_line(application(None), interrupted="")
        assert end.value.code == code
    assert "--unknown" in capsys.readouterr().err

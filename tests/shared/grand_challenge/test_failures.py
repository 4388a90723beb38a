"""Whatever the system refuses, the user gets one line that says what to do, and no file."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import SimpleITK as sitk

from shared.errors import InputError, escaped
from shared.grand_challenge.failures import explain
from tests.shared.grand_challenge.platform_case import files_in, run_job, the_ct, write_image

REPOSITORY = Path(__file__).resolve().parents[3]
LIMITED = """
import resource, sys
from pathlib import Path
from tests.shared.grand_challenge.platform_case import run_job
kind, limit = getattr(resource, sys.argv[1]), int(sys.argv[2])
if sys.argv[1] == "RLIMIT_DATA":
    used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) * 1024
    limit += used
resource.setrlimit(kind, (limit, limit))
raise SystemExit(run_job(Path(sys.argv[3]), Path(sys.argv[4])))
"""


def run_limited(
    kind: str, limit: int, case: Path, output: Path
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, kind, str(limit), str(case), str(output)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def files_only(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_too_little_memory(case: Path, tmp_path: Path) -> None:
    large = sitk.Image((256, 256, 512), sitk.sitkInt16)
    write_image(large, the_ct(case))
    end = run_limited("RLIMIT_DATA", 50 * 2**20, case, tmp_path / "output")
    assert (end.returncode, end.stderr) == (
        1,
        "out of memory; raise the memory limit (the log has the traceback)\n",
    )
    assert files_only(tmp_path / "output") == []


@pytest.mark.parametrize("limit", [0, 300])
def test_full_disk(case: Path, tmp_path: Path, limit: int) -> None:
    """A limit on the size of files acts like a full disk: writing begins but cannot end."""
    end = run_limited("RLIMIT_FSIZE", limit, case, tmp_path / "output")
    assert end.returncode == 1
    assert end.stderr.count("\n") == 1
    assert "has enough space" in end.stderr
    assert files_only(tmp_path / "output") == []


def test_output_that_is_not_a_folder(
    case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "output").write_text("")
    assert run_job(case, tmp_path / "output") == 1
    line, *others = capfd.readouterr().err.splitlines()
    assert others == []
    assert line.startswith(f"expected to read or write {tmp_path}/output")


@pytest.mark.parametrize("place", ["input", "output"])
def test_path_of_5000_letters(
    case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], place: str
) -> None:
    path = tmp_path / ("x" * 5000)
    code = run_job(path, tmp_path / "output") if place == "input" else run_job(case, path)
    line, *others = capfd.readouterr().err.splitlines()
    assert (code, others) == (1, [])
    assert not line.startswith("unexpected")
    assert files_in(tmp_path / "output") == []


def refuse(path: Path) -> NoReturn:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


@pytest.mark.parametrize("name", ["images/ct/scan.mha", "ehr.json", "images/pet"])
def test_unreadable_input_is_not_called_absent(
    case: Path,
    tmp_path: Path,
    name: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Root may read everything, so the system's refusal is imitated."""
    target = case / name
    open_file, iterdir = os.open, Path.iterdir

    def open_unless_target(path: Path, *flags: int, **more: int) -> int:
        return refuse(path) if path == target else open_file(path, *flags, **more)

    def iterate_unless_target(path: Path) -> Iterator[Path]:
        return refuse(path) if path == target else iterdir(path)

    monkeypatch.setattr(os, "open", open_unless_target)
    monkeypatch.setattr(Path, "iterdir", iterate_unless_target)
    assert run_job(case, tmp_path / "output") == 1
    line, *others = capfd.readouterr().err.splitlines()
    assert others == []
    assert f"{target}" in line
    assert "Permission denied" in line


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "mount it so that it can be written to"),
        (errno.EACCES, "change its permissions"),
        (errno.ENAMETOOLONG, "use a shorter path"),
        (errno.ELOOP, "correct this and run the case again"),
    ],
)
def test_error_of_the_system_says_what_to_do(number: int, remedy: str) -> None:
    error = OSError(number, os.strerror(number), "/output")
    expected = f"expected to read or write /output, but: {os.strerror(number)}; {remedy}"
    assert explain(error) == expected


def test_message_of_ours_is_unchanged() -> None:
    assert explain(InputError("expected a, found b")) == "expected a, found b"


def test_control_codes_are_shown_and_not_obeyed() -> None:
    assert escaped("a\x1b[31mb\x07\u00ad\u202ec é …") == "a\\x1b[31mb\\x07\\xad\\u202ec é …"

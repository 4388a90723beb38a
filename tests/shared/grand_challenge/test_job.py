"""How a job starts and ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ModelError
from shared.grand_challenge.inputs import read_case
from shared.grand_challenge.job import log, main
from shared.tasks import CURRENT
from tests.shared.grand_challenge.platform_case import (
    files_in,
    run_job,
    segment_nothing,
)


def test_help_of_the_command_names_its_folders(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(lambda _: None, segment_nothing, baked_model=Path("baked"), arguments=["--help"])
    assert {"--input", "--output", "--model"} <= set(capsys.readouterr().out.split())


def test_folders_are_the_platforms_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr("shared.grand_challenge.job.MODEL_TARBALL", Path("/nowhere"))
    assert (
        main(
            lambda m: m, lambda *given: seen.append(given), baked_model=Path("baked"), arguments=[]
        )
        == 0
    )
    assert seen == [(Path("baked"), Path("/input"), Path("/output"))]


@pytest.mark.parametrize(
    ("uploaded", "named", "expected"),
    [(False, False, "baked"), (True, False, "tarball"), (True, True, "named")],
)
def test_model_folder_is_the_named_else_the_uploaded_else_the_baked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uploaded: bool,
    named: bool,
    expected: str,
) -> None:
    monkeypatch.setattr("shared.grand_challenge.job.MODEL_TARBALL", tmp_path / "tarball")
    (tmp_path / "tarball").mkdir()
    if uploaded:
        (tmp_path / "tarball/model.json").write_text("{}")
    arguments = ["--model", str(tmp_path / "named")] if named else []
    seen: list[Path] = []
    assert (
        main(seen.append, lambda *_: None, baked_model=tmp_path / "baked", arguments=arguments) == 0
    )
    assert seen == [tmp_path / expected]


def test_model_error_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def refuse(_: Path) -> None:
        raise ModelError("expected a card,\nfound   none")

    assert (
        main(
            refuse,
            segment_nothing,
            baked_model=tmp_path,
            arguments=["--output", str(tmp_path / "output")],
        )
        == 1
    )
    printed = capfd.readouterr()
    assert printed.err == "expected a card, found none\n"
    assert "Traceback" not in printed.out
    assert files_in(tmp_path) == []


def test_our_own_mistake_is_one_line_and_a_traceback_in_the_log(
    case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def divide(*_: object) -> None:
        raise ZeroDivisionError("by\nnothing")

    assert run_job(case, tmp_path / "output", divide) == 1
    printed = capfd.readouterr()
    assert printed.err == ("unexpected ZeroDivisionError: by nothing; the log has the traceback\n")
    assert "Traceback" in printed.out
    assert "in divide" in printed.out


@pytest.mark.filterwarnings("error")
def test_remarks_with_any_text_of_the_ehr_can_be_logged(
    case: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (case / "ehr.json").write_text('{"Age": "\\ud800", "\\udfff\\n": 1, "Größe": 2}')
    log(*read_case(case, CURRENT).remarks)
    assert len(capfd.readouterr().out.splitlines()) == 3

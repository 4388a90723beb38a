"""How a job starts and ends."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from shared.editions import CURRENT
from shared.errors import HecktorError, ModelError
from shared.grand_challenge.inputs import read_case
from shared.grand_challenge.job import log, main, read_mode
from tests.shared.grand_challenge.platform_case import (
    files_in,
    run_job,
    segment_nothing,
)
from tests.shared.grand_challenge.toy_process import Toy, run_toy, toy

STOP_LIMIT_S = 5
"""Generous; on an idle machine, the end takes less than a second, as the documentation says."""


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
def test_named_model_folder_precedes_an_uploaded_one_and_that_of_the_image(
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


def test_dangling_link_in_a_tarball_is_not_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.grand_challenge.job.MODEL_TARBALL", tmp_path)
    (tmp_path / "model.json").symlink_to("nowhere")
    seen: list[Path] = []
    assert main(seen.append, lambda *_: None, baked_model=tmp_path / "baked", arguments=[]) == 0
    assert seen == [tmp_path]


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


def test_bug_is_one_line_on_stderr_and_a_traceback_in_the_log(
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


# Modes


@pytest.mark.parametrize(
    ("environment", "mode"),
    [
        ({}, "exec"),
        ({"HECKTOR_API_METHOD": ""}, "exec"),
        ({"HECKTOR_API_METHOD": "invoke"}, "invoke"),
        ({"GRAND_CHALLENGE_COMPONENT_API_METHOD": "INVOKE"}, "invoke"),
        (
            {"GRAND_CHALLENGE_COMPONENT_API_METHOD": "exec", "HECKTOR_API_METHOD": "invoke"},
            "exec",
        ),
    ],
)
def test_mode_is_selected_by_the_environment(environment: dict[str, str], mode: str) -> None:
    assert read_mode(environment) == mode


def test_unknown_mode_is_an_error() -> None:
    with pytest.raises(HecktorError, match="expected exec or invoke in HECKTOR_API_METHOD, found"):
        read_mode({"HECKTOR_API_METHOD": "serve"})


def test_unknown_mode_ends_with_one_line(tmp_path: Path) -> None:
    end = run_toy(tmp_path, HECKTOR_API_METHOD="serve")
    assert end.process.returncode == 1
    assert (
        end.errors
        == "expected exec or invoke in HECKTOR_API_METHOD, found serve; set one of them\n"
    )
    assert files_in(end.output) == []


def test_option_takes_precedence_over_the_environment(tmp_path: Path) -> None:
    end = run_toy(tmp_path, "--api-method", "exec", HECKTOR_API_METHOD="invoke")
    assert (end.process.returncode, end.risk) == (0, 61)


# Streams


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """Return a good job that printed text which is not UTF-8, a long line and a warning."""
    return run_toy(tmp_path_factory.mktemp("talkative"), do="print any text")


def test_text_that_is_not_utf8_is_printed_with_escapes(talkative: Toy) -> None:
    assert talkative.process.returncode == 0
    assert r"file caf\udce9" in talkative.log.splitlines()
    assert r"caf\udce9" in talkative.log.splitlines()  # by `print`, not by `log`


def test_long_lines_are_shortened(talkative: Toy) -> None:
    (line,) = [line for line in talkative.log.splitlines() if line.startswith("ää")]
    assert line.endswith("ä … (200000 bytes, shortened)")
    assert len(line.encode()) < 2**16


def test_warnings_go_to_the_log(talkative: Toy) -> None:
    assert r"RuntimeWarning: about caf\udce9" in talkative.log
    assert talkative.errors == ""


def test_error_with_any_text_is_one_short_line_in_utf8(tmp_path: Path) -> None:
    end = run_toy(tmp_path, do="refuse any text")
    assert end.process.returncode == 1
    assert end.errors.startswith(r"file caf\udce9 ää")
    assert end.errors.count("\n") == 1
    assert len(end.errors.encode()) < 2**16
    assert files_in(end.output) == []


@pytest.mark.parametrize(
    "environment",
    [{}, {"HOME": "/nowhere", "AWS_ACCESS_KEY_ID": "key", "AWS_S3_ENDPOINT_URL": "http://[::"}],
    ids=["no HOME", "AWS variables"],
)
def test_environment_of_the_platform_does_no_harm(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    end = run_toy(tmp_path, **environment)
    assert f"environment: {' '.join(sorted(environment))}" in end.log.splitlines()
    assert (end.process.returncode, end.errors, end.risk) == (0, "", 61)


# Signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_job_at_once_even_in_c_code(tmp_path: Path, number: signal.Signals) -> None:
    with toy(tmp_path, do="stay in C") as job:
        job.wait_for("in C code")
        assert files_in(job.output) == [".partial-file", ".partial-file/output.mha"]
        assert job.stop(number) < STOP_LIMIT_S
    assert job.process.returncode == 128 + number
    assert job.errors == ""
    assert files_in(job.output) == []


def test_signal_to_a_child_process_ends_only_the_child(tmp_path: Path) -> None:
    end = run_toy(tmp_path, do="use processes")
    assert (end.process.returncode, end.errors, end.risk) == (0, "", 61)


def test_handlers_of_signals_are_restored(case: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    assert run_job(case, tmp_path / "output") == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    writer = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(writer)
    assert writer == -1


def test_leftovers_of_a_killed_job_are_removed(case: Path, tmp_path: Path) -> None:
    (tmp_path / "output/.partial-old").mkdir(parents=True)
    (tmp_path / "output/.partial-old/output.mha").write_bytes(b"half")
    assert run_job(case, tmp_path / "output") == 0
    assert files_in(tmp_path / "output") == [
        "images",
        "images/tumor-lymph-node-segmentation",
        "images/tumor-lymph-node-segmentation/output.mha",
    ]

"""The containers' programs, and a toy algorithm, under the platform's own runtime."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.running.case_folders import find_cases
from evaluation.running.programs import evaluation_program, lay_out, program_of
from shared.editions import CURRENT
from shared.grand_challenge.job import MODES, Mode
from tests.containers.contract import ALGORITHMS, EVALUATION
from tests.platform import environment
from tests.platform.environment import ROOT, NoPythonError, install
from tests.platform.program_checks import check_program
from tests.platform.shim import App, Session, app_of, image_environment
from tests.platform.trials import Trial, algorithm_trial, evaluation_trial
from tests.shared.grand_challenge import toy_algorithm

StartApp = Callable[..., Session]
PROGRAMS = {
    **{each.name: program_of(each) for each in CURRENT.algorithms},
    EVALUATION.name: evaluation_program(),
}


def toy_image(mode: Mode, folder: Path) -> App:
    program = (sys.executable, str(toy_algorithm.__file__))
    return App(program=program, folder=folder, environment=image_environment(mode))


def toy_case(folder: Path, do: str, age: float = 61) -> Path:
    target = folder / do.replace(" ", "_")
    target.mkdir()
    (target / "ehr.json").write_text(json.dumps({"Age": age, "do": do}))
    return target


def trial_of(name: str, folder: Path) -> Trial:
    """Return the trial of a container on sample cases."""
    cases = find_cases(ROOT / "tests/cases")
    if name == EVALUATION.name:
        return evaluation_trial(cases, root=ROOT, folder=folder)
    (contract,) = (each for each in ALGORITHMS if each.name == name)
    return algorithm_trial(contract, PROGRAMS[name], cases, root=ROOT, folder=folder)


@pytest.mark.slow  # ./test_containers.sh --engine native runs the same checks
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_program_in_both_modes(start: StartApp, tmp_path: Path, name: str) -> None:
    program, app_folder = PROGRAMS[name], tmp_path / "app"
    lay_out(program, root=ROOT, folder=app_folder)

    def start_program(mode: Mode, **settings: Any) -> Session:
        app = app_of(program, mode, python=Path(sys.executable), folder=app_folder)
        return start(app, mode, **settings)

    results = check_program(trial_of(name, tmp_path), start_program, tmp_path / "outputs")
    assert [check for check in results if not check.passed] == []
    assert len(results) > 20


@pytest.mark.parametrize("name", PROGRAMS)
def test_image_sets_the_variables_that_the_programs_get_here(name: str) -> None:
    text = (ROOT / name / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = re.findall(r"^ENV (.*)$", text, flags=re.MULTILINE)
    variables = dict(word.split("=", 1) for line in lines for word in line.split())
    assert variables.pop("PATH").startswith("/opt/venv/bin:")
    assert variables.pop("HECKTOR_API_METHOD") == "${API_METHOD}"
    expected = image_environment("exec")
    del expected["HECKTOR_API_METHOD"]
    assert variables == expected


def test_failed_job_in_exec_mode_ends_the_invocation(start: StartApp, tmp_path: Path) -> None:
    session = start(toy_image("exec", tmp_path), "exec")
    bad, skipped = session.run(
        {"bad": toy_case(tmp_path, "refuse"), "next": toy_case(tmp_path, "nothing")}
    )
    assert bad is not None
    assert (bad.return_code, bad.message, bad.outputs) == (1, "", {})
    assert bad.last_stderr == session.lines("stderr") == ["expected an age, found none; add it"]
    assert skipped is None  # the runtime stops the invocation after a failed job


@pytest.mark.parametrize("mode", MODES)
def test_time_limit_ends_a_job_without_a_line_of_ours(
    start: StartApp, tmp_path: Path, mode: Mode
) -> None:
    session = start(toy_image(mode, tmp_path), mode, limit_s=2)
    (result,) = session.run({"one": toy_case(tmp_path, "stay in C")})
    assert result is not None
    assert result.return_code == 1
    assert result.message in ("Time limit exceeded", "Invoke time limit exceeded")
    assert session.lines("stderr") == [result.message]
    assert result.outputs == {}
    assert "Process group terminated" in session.runtime_log  # without SIGKILL


@pytest.mark.parametrize("mode", MODES)
def test_any_text_on_the_streams_does_no_harm(start: StartApp, tmp_path: Path, mode: Mode) -> None:
    """A byte that is not UTF-8 would fail the job; a line over 64 KiB would cause a warning."""
    session = start(toy_image(mode, tmp_path), mode)
    with session.served():
        bad = session.post("bad", toy_case(tmp_path, "refuse any text"))
        good = session.post("good", toy_case(tmp_path, "print any text"))
        linked = session.post("linked", toy_case(tmp_path, "leave a dangling link"))
    assert bad.return_code == 1
    (line,) = session.lines("stderr")
    assert line.startswith(r"file caf\udce9 ää")
    assert bad.last_stderr == [line]
    assert good.return_code == 0
    assert good.outputs == {"rfs.json": b"61"}
    assert session.lines("stderr", "good") == session.lines("stderr", "linked") == []
    # If the dangling link were left, the job would end without a result.
    assert linked.outputs == {"rfs.json": b"61"}
    log = session.lines("stdout", "good")
    assert r"caf\udce9" in log
    # Variables of the platform do not reach the program, those of AWS do.
    (line,) = [line for line in log if line.startswith("environment: ")]
    assert "AWS_S3_ENDPOINT_URL" in line
    assert "GRAND_CHALLENGE" not in line
    assert "HOME" not in line


def test_missing_python_skips_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find_python", lambda: None)
    with pytest.raises(NoPythonError, match=r"expected Python 3\.12 .*, found none; install it"):
        install(tmp_path)

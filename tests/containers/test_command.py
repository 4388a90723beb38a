"""The whole command, on algorithms that need no weights."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.running.engines.native import NativeEngine
from tests.containers import platform_stage, runner
from tests.containers.__main__ import Setup, main
from tests.containers.bad_inputs import BAD_INPUTS
from tests.containers.bad_models import BAD_MODELS
from tests.containers.conftest import ROOT, Project
from tests.containers.contract import ALGORITHMS
from tests.containers.submission import BAD_SUBMISSIONS
from tests.platform.environment import NoPythonError

Command = Callable[..., tuple[int, list[str]]]


def make_command(project: Project, setup: Setup, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str, **changes: Any) -> tuple[int, list[str]]:
        files = ["--junit", str(project.root / "report.xml"), "--logs", str(project.root / "logs")]
        code = main([*files, *arguments], replace(setup, **changes))
        return code, capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def command(project: Project, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs the command; it returns the exit code and the printed lines."""
    return make_command(project, project.setup, capsys)


@pytest.fixture
def quick_command(project: Project, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return the same function with few bad inputs, for tests of something else."""
    setup = replace(
        project.setup,
        bad_inputs=BAD_INPUTS[:2],
        bad_models=BAD_MODELS[:1],
        bad_submissions=dict(list(BAD_SUBMISSIONS.items())[:1]),
    )
    return make_command(project, setup, capsys)


def counts(lines: list[str]) -> tuple[int, int]:
    """Return the numbers of passed and failed checks in the last line."""
    match = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1])
    assert match, lines[-1]
    return int(match[1]), int(match[2])


@pytest.mark.slow
def test_expected_outputs_are_written_and_then_required(project: Project, command: Command) -> None:
    task = ("--engine", "native", "--task", "task1_segmentation")
    code, lines = command(*task, "--update-expected", bad_inputs=BAD_INPUTS[:1], bad_models=())
    assert code == 0
    assert lines[0].startswith("engine native: no image was built")
    expected = project.root / "task1_segmentation" / "test" / "tiny"
    assert (expected / "images/tumor-lymph-node-segmentation/output.mha").is_file()

    code, lines = command(*task)
    passed, failed = counts(lines)
    assert (code, failed) == (0, 0), lines
    # The case has 10 checks: exit code, stderr, time, memory, files, mask, geometry, agreement,
    # truth, second run. A good model folder has one. Invoke mode has 7: build, call, stderr, same
    # bytes, bad case and two stops. A full and a read-only output folder can be checked only if the
    # process may mount a file system.
    folders = 0 if any("/output: not checked" in line for line in lines) else 2
    assert passed == 11 + 7 + len(BAD_MODELS) + len(BAD_INPUTS) + folders
    cases = list(ET.parse(project.root / "report.xml").iter("testcase"))
    assert len(cases) == passed
    (row,) = (line for line in lines if re.match(r"task1_segmentation +tiny +passed", line))
    assert row.split()[-2:] == ["1.00", "1.00"]


@pytest.mark.slow  # CI runs it in a step of its own
def test_docker_runs_all_containers(quick_command: Command, on_path: Callable[..., None]) -> None:
    on_path("docker")
    code, lines = quick_command("--update-expected")
    assert lines[0] == "engine docker: cpu images, no GPU (Fake version 1.0)"
    assert (code, counts(lines)[1]) == (0, 0), lines
    assert sum("hecktor2025/" in line for line in lines) == 4
    for contract in ALGORITHMS:
        assert any(re.match(rf"evaluation +{contract.name} +passed", line) for line in lines)


@pytest.mark.slow  # CI runs it in a step of its own
def test_evaluation_alone_scores_the_expected_outputs(
    project: Project, quick_command: Command
) -> None:
    hpv = ALGORITHMS[2]
    alone = ("--engine", "native", "--task", "evaluation")
    code, lines = quick_command(*alone, algorithms=[hpv])
    assert (code, counts(lines)) == (1, (0, 1))  # there are no outputs to score
    output = project.root / hpv.name / "test" / "tiny" / hpv.files[0].path
    output.parent.mkdir(parents=True)
    output.write_text("true")
    code, lines = quick_command(*alone, algorithms=[hpv])
    assert (code, counts(lines)[1]) == (0, 0), lines
    assert not any(line.startswith(hpv.name) for line in lines)


def test_too_large_image_fails(quick_command: Command, on_path: Callable[..., None]) -> None:
    on_path("docker", size=710_000_000)
    code, lines = quick_command("--task", "task3_hpv", "--update-expected")
    assert code == 1
    words = "expected an image below 0.7 GB without its models, found 0.71 GB"
    assert any(words in line for line in lines)


def test_large_models_do_not_make_an_image_too_large(
    quick_command: Command, on_path: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path("docker", size=750_000_000)
    monkeypatch.setattr(runner, "_size_bytes", lambda folder: 60_000_000)
    _, lines = quick_command("--task", "task3_hpv", "--update-expected")
    assert not any("expected an image below" in line for line in lines)
    assert any("0.75 GB" in line for line in lines)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("talks on stderr", "stderr: expected nothing on stderr; stderr ends: a library's warning"),
        ("writes more", "expected rfs.json and no other file, found debug.txt, rfs.json"),
    ],
)
def test_fault_is_detected_and_explained(
    project: Project, quick_command: Command, fault: str, words: str
) -> None:
    project.set_fault("task2_survival", fault)
    code, lines = quick_command(
        "--engine", "native", "--task", "task2_survival", "--update-expected"
    )
    assert code == 1
    assert counts(lines)[1] > 0
    assert any(words in line for line in lines), lines


def test_case_of_the_user_is_checked_for_validity_only(
    project: Project, command: Command, tmp_path: Path
) -> None:
    shutil.copytree(project.root / "tests" / "cases" / "tiny", tmp_path / "mine")
    task = ("--engine", "native", "--task", "task1_segmentation")
    code, lines = command(*task, "--case", str(tmp_path / "mine"))
    assert (code, counts(lines)) == (0, (8, 0)), lines
    assert any("DSC GTVp 1.00" in line for line in lines)
    code, lines = command(*task, "--case", str(tmp_path))
    assert code == 2


def test_model_of_the_user_replaces_that_of_the_image(
    project: Project, command: Command, tmp_path: Path
) -> None:
    name = "task1_segmentation"
    case, model = project.root / "tests/cases/tiny", tmp_path / "model"
    shutil.copytree(project.root / name / "model", model)
    card = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps({**card, "notice": "A model of my own."}))
    mine = ("--engine", "native", "--case", str(case), "--model", str(model))
    code, _ = command("--task", name, *mine)
    assert code == 0
    assert "A model of my own." in (project.root / "logs" / name / "tiny/stdout.txt").read_text()
    with pytest.raises(SystemExit):
        command(*mine)


def test_missing_image_is_named(command: Command, on_path: Callable[..., None]) -> None:
    on_path("docker", absent=["hecktor2025/task3_hpv:cpu"])
    code, lines = command("--no-build", "--task", "task3_hpv")
    assert (code, counts(lines)) == (1, (0, 1))
    assert any("expected the image hecktor2025/task3_hpv:cpu" in line for line in lines)


def test_interrupt_cleans_up_and_is_reported(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NativeEngine, "run", interrupt)
    code, lines = command("--engine", "native")
    assert code == 130
    assert "interrupted: not everything was checked" in lines
    counts(lines)
    assert not (project.root / "logs" / "app").exists()


def test_folder_with_other_files_is_never_emptied(project: Project, command: Command) -> None:
    (project.root / "logs").mkdir()
    (project.root / "logs" / "thesis.txt").touch()
    with pytest.raises(SystemExit, match="expected --logs to be an empty folder"):
        command("--engine", "native")
    assert (project.root / "logs" / "thesis.txt").exists()


def test_ignored_model_folder_is_detected(project: Project, quick_command: Command) -> None:
    project.set_fault("task3_hpv", "ignores its model folder")
    code, lines = quick_command("--engine", "native", "--task", "task3_hpv", "--update-expected")
    assert (code, counts(lines)[1]) == (1, 2)
    assert any("an uploaded model folder is used: expected the notice" in line for line in lines)
    assert any("a changed byte is rejected: expected exit code 1" in line for line in lines)


def test_runtime_of_the_platform_is_skipped_aloud_without_its_python(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Path:
        raise NoPythonError("expected Python 3.12, found none; install it")

    monkeypatch.setattr(platform_stage, "install", fail)
    code, lines = command("--engine", "native", "--only", "platform")
    assert (code, counts(lines)) == (0, (0, 0))
    words = "runtime of the platform: skipped, not checked: expected Python 3.12, found none"
    assert any(line.startswith(words) for line in lines)
    for wrong in ("docker", "podman"):
        with pytest.raises(SystemExit):
            command("--engine", wrong, "--only", "platform")


def test_limits_of_the_user_replace_the_contract(
    project: Project, quick_command: Command, tmp_path: Path
) -> None:
    text = (ROOT / "evaluation/running/profiles/hecktor2026.toml").read_text()
    (tmp_path / "limits.toml").write_text(text.replace("time_s = 1500", "time_s = 1234"))
    task = ("--engine", "native", "--task", "task3_hpv", "--update-expected")
    code, lines = quick_command(*task, "--limits", str(tmp_path / "limits.toml"))
    assert (code, counts(lines)[1]) == (0, 0), lines
    (row,) = (line for line in lines if re.match(r"task3_hpv +tiny +passed", line))
    assert "1234" in row.split()
    code, lines = quick_command(*task, "--limits", str(tmp_path / "nothing.toml"))
    assert code == 2

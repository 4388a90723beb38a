"""The whole command, on algorithms that need no weights."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from evaluation.running.engines import NativeEngine
from evaluation.running.tasks import TASKS
from tests.containers import runner
from tests.containers.__main__ import main
from tests.containers.bad_inputs import BAD_INPUTS
from tests.containers.conftest import Project
from tests.containers.submission import BAD_SUBMISSIONS


@pytest.fixture
def command(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str]]]:
    """Return a function that runs the command; it returns the exit code and the lines printed."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        files = ["--junit", str(project.root / "report.xml"), "--logs", str(project.root / "logs")]
        code = main([*files, *arguments], project.root)
        return code, capsys.readouterr().out.splitlines()

    return run


@pytest.fixture
def few_bad_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run few bad inputs instead of all, where they are not the point."""
    monkeypatch.setattr(runner, "BAD_INPUTS", BAD_INPUTS[:2])
    monkeypatch.setattr(runner, "BAD_SUBMISSIONS", dict(list(BAD_SUBMISSIONS.items())[:1]))


def counts(lines: list[str]) -> tuple[int, int]:
    """Return the numbers of the last line."""
    match = re.fullmatch(r"(\d+) passed, (\d+) failed", lines[-1])
    assert match, lines[-1]
    return int(match[1]), int(match[2])


Command = Callable[..., tuple[int, list[str]]]


def test_expected_outputs_are_made_and_then_held(project: Project, command: Command) -> None:
    task = ("--engine", "native", "--task", "task1_segmentation")
    code, lines = command(*task, "--update-expected")
    assert code == 0
    assert lines[0].startswith("engine native: no image was built")
    expected = project.root / "task1_segmentation" / "test" / "tiny"
    assert (expected / "images/tumor-lymph-node-segmentation/output.mha").is_file()

    code, lines = command(*task)
    passed, failed = counts(lines)
    assert (code, failed) == (0, 0), lines
    # exit code, stderr, time, memory, files, mask, geometry, agreement, truth, second run; and two
    # for the model folder
    assert passed == 10 + 2 + len(BAD_INPUTS)
    cases = list(ET.parse(project.root / "report.xml").iter("testcase"))
    assert len(cases) == passed
    (row,) = (line for line in lines if re.match(r"task1_segmentation +tiny +passed", line))
    assert row.split()[-2:] == ["1.00", "1.00"]


@pytest.mark.usefixtures("few_bad_inputs")
def test_docker_runs_all_tasks(command: Command, on_path: Callable[..., None]) -> None:
    on_path("docker")
    code, lines = command("--update-expected")
    assert lines[0] == "engine docker: cpu images, no GPU (Fake version 1.0)"
    assert (code, counts(lines)[1]) == (0, 0), lines
    assert sum("hecktor2025/" in line for line in lines) == 4
    for task in TASKS:
        assert any(re.match(rf"evaluation +{task.name} +passed", line) for line in lines)


@pytest.mark.usefixtures("few_bad_inputs")
def test_the_evaluation_alone_scores_the_expected_outputs(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = TASKS[2]
    monkeypatch.setattr(runner, "TASKS", (task,))
    alone = ("--engine", "native", "--task", "evaluation")
    code, lines = command(*alone)
    assert (code, counts(lines)) == (1, (0, 1))  # there is nothing to score
    output = project.root / task.name / "test" / "tiny" / task.output
    output.parent.mkdir(parents=True)
    output.write_text("true")
    code, lines = command(*alone)
    assert (code, counts(lines)[1]) == (0, 0), lines
    assert not any(line.startswith(task.name) for line in lines)


@pytest.mark.usefixtures("few_bad_inputs")
def test_an_image_over_its_size_fails(command: Command, on_path: Callable[..., None]) -> None:
    on_path("docker", size=700_000_000)
    code, lines = command("--task", "task3_hpv", "--update-expected")
    assert code == 1
    assert any("expected an image under 0.7 GB, found 0.70 GB" in line for line in lines)


@pytest.mark.usefixtures("few_bad_inputs")
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("talks on stderr", "stderr: expected nothing on stderr; stderr ends: a library's warning"),
        ("writes more", "expected rfs.json and no other file, found debug.txt, rfs.json"),
    ],
)
def test_a_fault_is_found_and_explained(
    project: Project, command: Command, fault: str, words: str
) -> None:
    project.set_fault("task2_survival", fault)
    code, lines = command("--engine", "native", "--task", "task2_survival", "--update-expected")
    assert code == 1
    assert counts(lines)[1] > 0
    assert any(words in line for line in lines), lines


def test_a_users_case_is_checked_for_validity_only(
    project: Project, command: Command, tmp_path: Path
) -> None:
    shutil.copytree(project.root / "tests" / "cases" / "tiny", tmp_path / "mine")
    task = ("--engine", "native", "--task", "task1_segmentation")
    code, lines = command(*task, "--case", str(tmp_path / "mine"))
    assert (code, counts(lines)) == (0, (8, 0)), lines
    assert any("DSC GTVp 1.00" in line for line in lines)
    code, lines = command(*task, "--case", str(tmp_path))
    assert code == 2


def test_a_users_model_runs_in_place_of_the_tasks_own(
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


def test_an_absent_image_fails_with_its_name(
    command: Command, on_path: Callable[..., None]
) -> None:
    on_path("docker", absent=["hecktor2025/task3_hpv:cpu"])
    code, lines = command("--no-build", "--task", "task3_hpv")
    assert (code, counts(lines)) == (1, (0, 1))
    assert any("expected the image hecktor2025/task3_hpv:cpu" in line for line in lines)


def test_an_interrupt_cleans_up_and_says_so(
    project: Project, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(NativeEngine, "run", interrupt)
    code, lines = command("--engine", "native")
    assert code == 130
    assert "interrupted: not everything was checked" in lines
    counts(lines)
    assert not (project.root / "logs" / "app").exists()


def test_a_folder_that_is_not_ours_is_never_emptied(project: Project, command: Command) -> None:
    (project.root / "logs").mkdir()
    (project.root / "logs" / "thesis.txt").touch()
    with pytest.raises(SystemExit, match="expected --logs to be empty"):
        command("--engine", "native")
    assert (project.root / "logs" / "thesis.txt").exists()


@pytest.mark.usefixtures("few_bad_inputs")
def test_a_model_folder_that_is_ignored_is_noticed(project: Project, command: Command) -> None:
    project.set_fault("task3_hpv", "ignores its model folder")
    code, lines = command("--engine", "native", "--task", "task3_hpv", "--update-expected")
    assert (code, counts(lines)[1]) == (1, 2)
    assert any("a model folder wins: expected the notice" in line for line in lines)
    assert any("a changed byte is refused: expected exit code 1" in line for line in lines)

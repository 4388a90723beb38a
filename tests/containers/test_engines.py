"""Runs are made under the platform's conditions, whatever the engine."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.running.cases import cases_in
from evaluation.running.engines import (
    HARDENING,
    Cancelled,
    ContainerEngine,
    Engine,
    EngineError,
    NativeEngine,
    Run,
    choose,
)
from evaluation.running.tasks import MEMORY_LIMIT_BYTES, TASKS, Task
from tests.containers.conftest import Project

TASK = TASKS[0]


def python() -> Path:
    """Return the interpreter of the native runs."""
    return Path(sys.executable)


def run_once(
    project: Project,
    engine: Engine,
    task: Task = TASK,
    cancelled: threading.Event | None = None,
) -> Run:
    """Prepare a task and run it on the sample case."""
    trial = project.root / "trial"
    trial.mkdir()
    engine.prepare(task, trial / "build.txt")
    staged = cases_in(project.root / "tests/cases")[0].stage(trial / "case")
    return engine.run(task, staged, trial / "output", trial, cancelled=cancelled)


@pytest.mark.parametrize(
    ("present", "settings", "expected"),
    [
        (("docker", "podman"), {}, "engine docker"),
        (("podman",), {}, "engine podman"),
        (("docker", "podman"), {"broken": ["info"]}, "engine native: no image was built"),
        ((), {}, "engine native: no image was built"),
    ],
)
def test_auto_takes_docker_then_podman_then_native(
    project: Project,
    on_path: Callable[..., None],
    tmp_path: Path,
    present: tuple[str, ...],
    settings: dict[str, object],
    expected: str,
) -> None:
    on_path(*present, **settings)
    engine = choose(project.root, "auto", "cpu", True, tmp_path / "app", python)
    assert engine.description.startswith(expected)


def test_an_engine_that_is_asked_for_must_work(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path("docker", broken=["info"])
    with pytest.raises(EngineError, match="start it, or use --engine native"):
        choose(project.root, "docker", "cpu", True, tmp_path / "app", python)
    with pytest.raises(EngineError, match="for --variant gpu"):
        choose(project.root, "auto", "gpu", True, tmp_path / "app", python)


def test_container_runs_hardened_and_is_removed(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    engine = ContainerEngine(project.root, "docker", "cpu", build=False)
    run = run_once(project, engine)
    assert (run.exit_code, run.stderr) == (0, "")
    (options,) = project.calls("create")
    assert tuple(options[: len(HARDENING)]) == HARDENING
    for flag in (
        ("--network", "none"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--memory", str(15 * 2**30)),
        ("--memory-swap", str(15 * 2**30)),
        ("--pids-limit", "128"),
    ):
        assert options[options.index(flag[0]) + 1] == flag[1]
    assert "--read-only" in options
    assert f"type=bind,source={project.root}/trial/case,target=/mnt/case,readonly" in options
    assert f"type=bind,source={project.root}/trial/output,target=/output" in options
    assert options[-1].startswith("hecktor2025/task1_segmentation:cpu-linked-")
    assert "--gpus" not in options
    name = options[options.index("--name") + 1]
    assert project.calls("rm") == [["--force", name], ["--force", "c0ffee"]]
    engine.close()
    assert project.calls("rmi") == [[options[-1]]]


def test_two_engines_remove_each_its_own_image(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    engines = [ContainerEngine(project.root, "docker", "cpu", build=False) for _ in range(2)]
    for engine in engines:
        engine.prepare(TASK, project.root / "build.txt")
    first, second = (call[call.index("--tag") + 1] for call in project.calls("build"))
    assert first != second
    engines[0].close()
    assert project.calls("rmi") == [[first]]


def test_a_cancelled_container_too_hands_over_what_its_user_wrote(
    project: Project, on_path: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path("docker")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    project.set_fault(TASK.name, "sleeps")
    cancelled = threading.Event()
    cancelled.set()
    engine = ContainerEngine(project.root, "docker", "cpu", build=False)
    with pytest.raises(Cancelled):
        run_once(project, engine, cancelled=cancelled)
    (options,) = project.calls("run")
    assert f"type=bind,source={project.root}/trial/output,target=/output" in options
    assert options[-3:] == ["-R", "a+rwX", "/output"]


def test_container_is_stopped_at_the_time_limit(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    project.set_fault(TASK.name, "sleeps")
    engine = ContainerEngine(project.root, "docker", "cpu", build=False)
    run = run_once(project, engine, replace(TASK, limit_s=2))
    assert run.exit_code is None
    assert run.note == "stopped after the task's limit of 2 s"
    assert project.calls("kill") == [["c0ffee"]]
    assert project.calls("rm")[-1] == ["--force", "c0ffee"]


def test_a_container_that_never_started_is_the_engines_fault(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker", broken=["start"], started="0001-01-01T00:00:00Z")
    engine = ContainerEngine(project.root, "docker", "cpu", build=False)
    with pytest.raises(EngineError, match="could not start it: start: the daemon does not answer"):
        run_once(project, engine)
    assert project.calls("rm")[-1] == ["--force", "c0ffee"]


def test_a_build_that_fails_shows_the_end_of_its_log(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path("docker", broken=["build"])
    engine = ContainerEngine(project.root, "docker", "cpu", build=True)
    with pytest.raises(EngineError, match="the daemon does not answer"):
        engine.prepare(TASK, tmp_path / "build.txt")


def test_native_runs_under_limits_and_in_a_clean_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "of the user's")
    project.set_fault(TASK.name, "tells its conditions")
    engine = NativeEngine(project.root, project.root / "app", python())
    run = run_once(project, engine)
    assert (run.exit_code, run.stderr) == (0, "")
    (line,) = (x for x in run.stdout.splitlines() if x.startswith("conditions: "))
    conditions = json.loads(line.removeprefix("conditions: "))
    assert conditions["data_limit"] == MEMORY_LIMIT_BYTES
    assert conditions["input_is_link"]
    assert conditions["input_mode"] == "0o444"
    assert conditions["output"] == []
    assert "SOME_SECRET" not in conditions["environment"]
    assert "PYTHONPATH" not in conditions["environment"]
    engine.close()
    assert not (project.root / "app").exists()


def test_native_lays_out_the_bundled_models_as_the_image_does(project: Project) -> None:
    engine = NativeEngine(project.root, project.root / "app", python())
    engine.prepare(TASKS[1], project.root / "build.txt")
    model = project.root / "app" / "task2_survival" / "model"
    assert (model / "segmentation" / "model.json").is_file()
    assert (model / "hpv" / "model.json").is_file()

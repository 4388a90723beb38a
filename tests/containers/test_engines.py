"""Every engine runs programs under the platform's conditions."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evaluation.running.case_folders import find_cases
from evaluation.running.engines.choice import choose
from evaluation.running.engines.container import ContainerEngine, hardening
from evaluation.running.engines.native import NativeEngine
from evaluation.running.engines.protocol import Cancelled, Engine, EngineError, Run
from evaluation.running.programs import Program, program_of
from shared.editions import CURRENT
from tests.containers.conftest import Project, this_python

PROGRAM = program_of(CURRENT.algorithm("segmentation"))
LIMIT = 15 * 2**30


def with_limits(**changes: Any) -> Program:
    """Return the program with other limits."""
    return replace(PROGRAM, limits=PROGRAM.limits.model_copy(update=changes))


def run_once(
    project: Project,
    engine: Engine,
    program: Program = PROGRAM,
    cancelled: threading.Event | None = None,
    folder: str = "trial",
) -> Run:
    """Prepare a program and run it on the sample case."""
    trial = project.root / folder
    trial.mkdir()
    engine.prepare(program, trial / "build.txt")
    staged = find_cases(project.root / "tests/cases")[0].stage(trial / "case")
    return engine.run(
        program, case=staged, output=trial / "output", logs=trial, cancelled=cancelled
    )


def choose_engine(project: Project, name: str, folder: Path, variant: str = "cpu") -> Engine:
    return choose(
        root=project.root,
        name=name,
        variant=variant,
        build=True,
        work=folder / "app",
        python_of=this_python,
    )


def docker(project: Project, build: bool = False) -> ContainerEngine:
    return ContainerEngine(root=project.root, command="docker", variant="cpu", build=build)


def native(project: Project) -> NativeEngine:
    return NativeEngine(root=project.root, work=project.root / "app", python_of=this_python)


@pytest.mark.parametrize(
    ("present", "settings", "expected"),
    [
        (("docker", "podman"), {}, "engine docker"),
        (("podman",), {}, "engine podman"),
        (("docker", "podman"), {"broken": ["info"]}, "engine native: no image was built"),
        ((), {}, "engine native: no image was built"),
    ],
)
def test_auto_prefers_docker_then_podman_then_native(
    project: Project,
    on_path: Callable[..., None],
    tmp_path: Path,
    present: tuple[str, ...],
    settings: dict[str, object],
    expected: str,
) -> None:
    on_path(*present, **settings)
    engine = choose_engine(project, "auto", tmp_path)
    assert engine.description.startswith(expected)


def test_requested_engine_must_work(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path("docker", broken=["info"])
    with pytest.raises(EngineError, match="start it, or use --engine native"):
        choose_engine(project, "docker", tmp_path)
    with pytest.raises(EngineError, match="for --variant gpu"):
        choose_engine(project, "auto", tmp_path, variant="gpu")


def test_container_runs_hardened_and_is_removed(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    engine = docker(project)
    run = run_once(project, engine)
    assert (run.exit_code, run.stderr) == (0, "")
    (options,) = project.calls("create")
    assert options[: len(hardening(PROGRAM.limits))] == hardening(PROGRAM.limits)
    for flag in (
        ("--network", "none"),
        ("--cap-drop", "ALL"),
        ("--security-opt", "no-new-privileges"),
        ("--memory", str(LIMIT)),
        ("--memory-swap", str(LIMIT)),
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


def test_each_engine_removes_only_its_own_image(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    engines = [docker(project) for _ in range(2)]
    for engine in engines:
        engine.prepare(PROGRAM, project.root / "build.txt")
    first, second = (call[call.index("--tag") + 1] for call in project.calls("build"))
    assert first != second
    engines[0].close()
    assert project.calls("rmi") == [[first]]


def test_cancelled_container_hands_over_the_files_of_its_user(
    project: Project, on_path: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path("docker")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    project.set_fault(PROGRAM.name, "sleeps")
    cancelled = threading.Event()
    cancelled.set()
    engine = docker(project)
    with pytest.raises(Cancelled):
        run_once(project, engine, cancelled=cancelled)
    (options,) = project.calls("run")
    assert f"type=bind,source={project.root}/trial/output,target=/output" in options
    assert options[-3:] == ["-R", "a+rwX", "/output"]


def test_container_is_stopped_at_the_time_limit(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    project.set_fault(PROGRAM.name, "sleeps")
    engine = docker(project)
    run = run_once(project, engine, with_limits(time_s=2))
    assert run.exit_code is None
    assert run.note == "stopped at the time limit of 2 s"
    assert project.calls("kill") == [["c0ffee"]]
    assert project.calls("rm")[-1] == ["--force", "c0ffee"]


def test_container_that_never_started_is_an_engine_error(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker", broken=["start"], started="0001-01-01T00:00:00Z")
    engine = docker(project)
    with pytest.raises(EngineError, match="could not start the container: start: the daemon does"):
        run_once(project, engine)
    assert project.calls("rm")[-1] == ["--force", "c0ffee"]


def test_failed_build_shows_the_end_of_its_log(
    project: Project, on_path: Callable[..., None], tmp_path: Path
) -> None:
    on_path("docker", broken=["build"])
    engine = docker(project, build=True)
    with pytest.raises(EngineError, match="the daemon does not answer"):
        engine.prepare(PROGRAM, tmp_path / "build.txt")


def test_native_run_has_limits_and_a_clean_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_SECRET", "of the user's")
    project.set_fault(PROGRAM.name, "tells its conditions")
    engine = native(project)
    run = run_once(project, engine)
    assert (run.exit_code, run.stderr) == (0, "")
    (line,) = (x for x in run.stdout.splitlines() if x.startswith("conditions: "))
    conditions = json.loads(line.removeprefix("conditions: "))
    assert conditions["data_limit"] == LIMIT
    assert conditions["input_is_link"]
    assert conditions["input_mode"] == "0o444"
    assert conditions["output"] == []
    assert "SOME_SECRET" not in conditions["environment"]
    assert "PYTHONPATH" not in conditions["environment"]
    engine.close()
    assert not (project.root / "app").exists()


def test_native_engine_lays_out_bundled_models_like_the_image(project: Project) -> None:
    engine = native(project)
    engine.prepare(program_of(CURRENT.algorithm("survival")), project.root / "build.txt")
    model = project.root / "app" / "task2_survival" / "model"
    assert (model / "segmentation" / "model.json").is_file()
    assert (model / "hpv" / "model.json").is_file()

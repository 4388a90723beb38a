"""Runs in invoke mode: their time is that of the call, their log only what the program wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from evaluation.running.engines.invoke import DRIVER, drive, interpret, total_limit_s
from evaluation.running.engines.process import available_cpus, free_port, run_process
from evaluation.running.engines.protocol import EngineError, Run
from evaluation.running.limits import Limits
from tests.containers.conftest import Project
from tests.containers.test_engines import docker, native, run_once, with_limits
from tests.shared.grand_challenge import toy_algorithm

LIMITS = Limits(mode="invoke", time_s=60, memory_gib=15, cpus=4, gpu=False)


def run_toy(folder: Path, do: str, limits: Limits = LIMITS) -> Run:
    """Run the toy algorithm on one case in invoke mode."""
    (folder / "input").mkdir()
    (folder / "input/ehr.json").write_text(json.dumps({"Age": 61, "do": do}))
    port = free_port()
    paths = ["--input", str(folder / "input"), "--output", str(folder / "output")]
    options = [*paths, "--api-method", "invoke", "--port", str(port)]
    command = [sys.executable, toy_algorithm.__file__, *options]
    run = run_process(
        drive(DRIVER, port, limits=limits, command=command),
        limit_s=total_limit_s(limits),
        logs=folder,
    )
    return interpret(run, limits, folder)


def test_good_call_leaves_the_programs_own_log(tmp_path: Path) -> None:
    run = run_toy(tmp_path, "wait")
    assert (run.exit_code, run.stderr, run.note) == (0, "", "")
    assert run.stdout.splitlines()[-1].startswith("done in 1.")
    assert (tmp_path / "stdout.txt").read_text() == run.stdout
    assert 1 <= run.seconds < 60  # the start of the program does not count
    assert run.stop_seconds is not None
    assert (tmp_path / "output/rfs.json").read_text() == "61"


def test_bad_call_is_the_programs_line(tmp_path: Path) -> None:
    run = run_toy(tmp_path, "refuse")
    assert (run.exit_code, run.note) == (1, "")
    assert run.stderr == "expected an age, found none; add it\n"


def test_call_is_stopped_at_the_time_limit(tmp_path: Path) -> None:
    run = run_toy(tmp_path, "stay in C", LIMITS.model_copy(update={"time_s": 1}))
    assert (run.exit_code, run.note) == (None, "stopped at the time limit of 1 s")
    assert 1 <= run.seconds < 60
    assert run.stop_seconds is not None


def test_program_that_ends_before_the_call_says_why_itself(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('expected a model, found none')"]
    run = run_process(
        drive(DRIVER, free_port(), limits=LIMITS, command=command), limit_s=60, logs=tmp_path
    )
    end = interpret(run, LIMITS, tmp_path)
    assert (end.exit_code, end.note) == (1, "")
    assert end.stderr == "expected a model, found none\n"
    silent = interpret(replace(run, stderr=""), LIMITS, tmp_path)
    assert silent.note == "the program ended before it was ready for a call"


def test_run_without_a_line_about_the_call_is_left_as_it_is(tmp_path: Path) -> None:
    run = Run(exit_code=137, stdout="models loaded\n", stderr="", seconds=3.0)
    assert interpret(run, LIMITS, tmp_path) is run
    assert interpret(replace(run, stdout=""), LIMITS, tmp_path).stdout == ""


def test_start_does_not_count_in_invoke_mode() -> None:
    assert total_limit_s(LIMITS.model_copy(update={"mode": "exec"})) == 60
    assert total_limit_s(LIMITS) > 60 + 300


@pytest.mark.parametrize(
    ("share", "limit", "cpus"), [({4, 5, 6}, 2, {4, 5}), ({4, 5, 6}, 9, {4, 5, 6})]
)
def test_run_has_no_more_cpus_than_its_limits_allow(
    share: set[int], limit: int, cpus: set[int]
) -> None:
    assert available_cpus(share, limit) == cpus


def test_native_run_in_invoke_mode(project: Project) -> None:
    run = run_once(project, native(project), with_limits(mode="invoke"))
    assert (run.exit_code, run.stderr, run.note) == (0, "", "")
    assert "ready for POST /invoke" in run.stdout
    assert list((project.root / "trial/output").rglob("*.mha"))


def test_container_in_invoke_mode_is_built_labelled_and_driven(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    run = run_once(project, docker(project, build=True), with_limits(mode="invoke", cpus=1))
    assert (run.exit_code, run.stderr, run.note) == (0, "", "")
    assert "ready for POST /invoke" in run.stdout
    image = "hecktor2025/task1_segmentation:cpu-invoke"
    assert any("API_METHOD=invoke" in build and image in build for build in project.calls("build"))
    (options,) = project.calls("create")
    assert options[options.index("--entrypoint") + 1] == "python"
    assert options[options.index("--cpus") + 1] == "1"
    assert options[-5:] == ["/mnt/invoke_driver.py", "4743", "600", "python", "inference.py"]


def test_image_with_another_label_is_refused(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker", labels={"org.grand-challenge.api-method": "exec"})
    with pytest.raises(EngineError, match=r"the label \S+=invoke of .*, found exec; build it"):
        run_once(project, docker(project), with_limits(mode="invoke"))


def test_gpu_is_used_only_if_the_limits_allow_it(
    project: Project, on_path: Callable[..., None]
) -> None:
    on_path("docker")
    for gpu in (True, False):
        engine = docker(project)
        engine._gpu = True  # as if nvidia-smi had answered
        run_once(project, engine, with_limits(gpu=gpu), folder=f"gpu_{gpu}")
    assert ["--gpus" in options for options in project.calls("create")] == [True, False]

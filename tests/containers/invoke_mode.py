"""The checks of an image in invoke mode: start, health, call, stop.

The image differs from that of exec mode only in a label and a variable, so its build takes no time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from evaluation.running.engines.protocol import Engine, EngineError
from evaluation.running.programs import Program
from tests.containers import checks
from tests.containers.checks import Check
from tests.containers.report import Group

STOP_LIMIT_S = 5
"""The platform kills a container that has not ended this long after SIGTERM."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of the calls.

    Attributes
    ----------
    good : an input folder.
    exec_output : the output folder of the container for `good` in exec mode.
    bad : an input folder that must be rejected.
    bad_words : words that the line on stderr must contain for `bad`.
    uploaded : see `Engine.run`.
    """

    good: Path
    exec_output: Path
    bad: Path
    bad_words: str
    uploaded: Path | None = None


def check_invoke_mode(engine: Engine, program: Program, *, inputs: Inputs, logs: Path) -> Group:
    """Build the image in invoke mode, start it for a good and for a bad input, and check both."""
    start = time.perf_counter()
    logs.mkdir(parents=True)
    program = replace(program, limits=program.limits.model_copy(update={"mode": "invoke"}))
    try:
        engine.prepare(program, logs / "build.txt")
        results = [Check("build and label")]
        for name, folder in (("good", inputs.good), ("bad", inputs.bad)):
            (logs / name).mkdir()
            output = logs / name / "output"
            run = engine.run(
                program, case=folder, output=output, logs=logs / name, uploaded=inputs.uploaded
            )
            if name == "good":
                results.append(replace(checks.check_end(run), name="health and call"))
                results.append(checks.check_silence(run))
                same = checks.check_repeat(inputs.exec_output, output, run)
                results.append(replace(same, name="the same bytes as in exec mode"))
            else:
                results.append(checks.check_rejection("a bad case", run, output, inputs.bad_words))
            results.append(_check_stop(f"stop after the {name} case", run.stop_seconds))
    except EngineError as error:
        results = [Check("build and label", str(error))]
    return Group(
        container=program.name,
        name="invoke mode",
        checks=results,
        seconds=time.perf_counter() - start,
        note="health, call and stop; the same bytes as in exec mode",
        logs=logs,
    )


def _check_stop(name: str, seconds: float | None) -> Check:
    is_in_time = seconds is not None and seconds <= STOP_LIMIT_S
    end = "none" if seconds is None else f"{seconds:.1f} s"
    problem = f"expected the end within {STOP_LIMIT_S} s of SIGTERM, found {end}"
    return Check(name, None if is_in_time else problem)

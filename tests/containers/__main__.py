"""The command line of `./test_containers.sh`."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from evaluation.running.cases import CaseError, cases_in, open_case
from evaluation.running.engines import EngineError, choose
from evaluation.running.tasks import EVALUATION, TASKS
from tests.containers.report import Report
from tests.containers.runner import Runner

ROOT: Final = Path(__file__).resolve().parents[2]
INTERRUPTED: Final = 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(
        prog="./test_containers.sh",
        description="Build the three containers and the evaluation's, run them on the sample "
        "cases under the platform's limits, and check all that they write.",
        epilog="Ends with a table and 'N passed, N failed'; exit code 0 if nothing failed.",
    )
    made.add_argument(
        "--engine",
        choices=("auto", "docker", "podman", "native"),
        default="auto",
        help="auto (default): Docker, else Podman, else native. native builds no image and runs "
        "the same code in an environment made from the images' lock file",
    )
    made.add_argument(
        "--variant",
        choices=("cpu", "gpu"),
        default="cpu",
        help="images with OpenVINO (cpu, default) or CUDA (gpu); a GPU is used where there is one",
    )
    made.add_argument(
        "--task",
        action="append",
        choices=[task.name for task in (*TASKS, EVALUATION)],
        help="only this one; may be repeated. The evaluation scores the outputs of the tasks that "
        "ran, and the expected ones of the others",
    )
    made.add_argument("--no-build", action="store_true", help="take the images that are there")
    made.add_argument(
        "--case",
        action="append",
        type=Path,
        metavar="DIR",
        help="a case of yours instead of the samples: a folder with input/ in the platform's "
        "layout and, if you have one, truth.nii.gz; may be repeated. Validity is checked, and the "
        "DSC printed where there is a truth",
    )
    made.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="with --case and one --task: a model folder in place of the image's own, as the "
        "platform unpacks a model tarball",
    )
    made.add_argument(
        "--junit",
        type=Path,
        default=ROOT / "test_containers.xml",
        metavar="FILE",
        help="JUnit XML to write (default: test_containers.xml)",
    )
    made.add_argument(
        "--logs",
        type=Path,
        default=ROOT / "test_containers_logs",
        metavar="DIR",
        help="where logs and outputs are kept, emptied first (default: test_containers_logs)",
    )
    made.add_argument(
        "--update-expected",
        action="store_true",
        help="make the outputs of this run the expected ones, after new weights",
    )
    return made


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run the checks and return the exit code."""
    made = parser()
    options = made.parse_args(arguments)
    if options.model and not (options.case and options.task and len(options.task) == 1):
        made.error("expected --case and one --task beside --model, since it is of one task")
    logs = options.logs.resolve()
    report = Report()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        cases = [open_case(c) for c in options.case or ()] or cases_in(root / "tests/cases")
        engine = choose(
            root,
            options.engine,
            options.variant,
            not options.no_build,
            logs / "app",
            lambda: Path(sys.executable),
        )
    except (CaseError, EngineError) as error:
        print(error, file=sys.stderr)
        report.say("0 passed, 1 failed")
        return 2
    _empty(logs)
    report.say(engine.description)
    runner = Runner(
        root,
        engine,
        options.variant,
        cases,
        not options.case,
        logs,
        report,
        options.update_expected,
        options.model and options.model.resolve(),
    )
    interrupted = False
    try:
        for task in TASKS:
            if not options.task or task.name in options.task:
                runner.check_task(task)
        # A case of the user's has no outcome to be scored by.
        if not options.case and (not options.task or EVALUATION.name in options.task):
            runner.check_evaluation()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        engine.close()
    report.print_table()
    report.write_junit(options.junit)
    report.say(f"\nlogs and outputs in {logs}, JUnit XML in {options.junit}")
    if interrupted:
        report.say("interrupted: not everything was checked")
    passed, failed = report.counts
    report.say(f"{passed} passed, {failed} failed")
    return INTERRUPTED if interrupted else int(failed > 0)


def _empty(logs: Path) -> None:
    """Make an empty folder for logs; one that holds anything but logs is left alone."""
    marker = logs / ".made_by_test_containers"
    if logs.exists() and any(logs.iterdir()):
        if not marker.exists():
            raise SystemExit(f"expected --logs to be empty or of an earlier run, found {logs}")
        shutil.rmtree(logs)
    logs.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

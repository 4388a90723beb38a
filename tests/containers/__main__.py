"""The command line of `./test_containers.sh`."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Final, Literal, NoReturn, TypeAlias, get_args

from evaluation.running.case_folders import CaseError, CaseFolder, find_cases, open_case
from evaluation.running.engines.choice import choose
from evaluation.running.engines.native import NativeEngine, PythonOf
from evaluation.running.engines.protocol import Engine, EngineError
from evaluation.running.limits import Profile, current_profile, read_profile
from evaluation.running.programs import Program, evaluation_program, program_of
from shared.editions import CURRENT
from shared.errors import InputError
from tests.containers.bad_inputs import BAD_INPUTS, BadInput
from tests.containers.bad_models import BAD_MODELS, BadModel
from tests.containers.contract import ALGORITHMS, EVALUATION, Contract
from tests.containers.expectations import BOUNDS_FILE
from tests.containers.platform_stage import check_under_runtime
from tests.containers.report import Report
from tests.containers.runner import Container, Runner
from tests.containers.submission import BAD_SUBMISSIONS, BadSubmissions

ROOT: Final = Path(__file__).resolve().parents[2]
INTERRUPTED: Final = 130

Stage: TypeAlias = Literal["containers", "platform"]
STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The containers to check, and the inputs of the checks.

    Attributes
    ----------
    root : the checkout.
    algorithms : the containers of the algorithms.
    python_of : for the native engine, returns a program's interpreter.
    bad_inputs, bad_models, bad_submissions, bounds : see `Runner`.
    stages : the stages that run unless `--only` names one.
    """

    root: Path = ROOT
    algorithms: Sequence[Contract] = ALGORITHMS
    python_of: PythonOf | None = None
    bad_inputs: Sequence[BadInput] = BAD_INPUTS
    bad_models: Sequence[BadModel] = BAD_MODELS
    bad_submissions: BadSubmissions = field(default_factory=lambda: BAD_SUBMISSIONS)
    bounds: Path = BOUNDS_FILE
    stages: Sequence[Stage] = STAGES


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="./test_containers.sh",
        description="Build the containers of the algorithms and of the evaluation, run them on the "
        "sample cases under the platform's limits, and check everything that they write.",
        epilog="Ends with a table and 'N passed, N failed'; exit code 0 if nothing failed.",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "docker", "podman", "native"),
        default="auto",
        help="auto (default): Docker, else Podman, else native. native builds no image and runs "
        "the same code in an environment made from the images' lock file",
    )
    parser.add_argument(
        "--variant",
        choices=("cpu", "gpu"),
        default="cpu",
        help="images with OpenVINO (cpu, default) or CUDA (gpu); a GPU is used if present",
    )
    parser.add_argument(
        "--task",
        action="append",
        choices=[contract.name for contract in (*ALGORITHMS, EVALUATION)],
        help="check only this container; may be repeated. The evaluation scores the outputs of the "
        "algorithms that ran, and the expected outputs of the others",
    )
    parser.add_argument(
        "--only",
        choices=STAGES,
        help="only one stage (default: both). containers checks each container; platform runs the "
        "programs under the platform's own runtime, with --engine native and Python 3.12",
    )
    parser.add_argument(
        "--limits",
        type=Path,
        metavar="FILE",
        help="TOML file with other limits than those of the current challenge, such as "
        "evaluation/running/profiles/hecktor2026.toml",
    )
    parser.add_argument("--no-build", action="store_true", help="use existing images")
    parser.add_argument(
        "--case",
        action="append",
        type=Path,
        metavar="DIR",
        help="your own case instead of the samples: a folder with input/ in the platform's layout "
        "and, if known, truth.nii.gz; may be repeated. The outputs are checked for validity, and "
        "the DSC is printed if there is a truth",
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="DIR",
        help="with --case and one --task: a model folder to use instead of the image's own, in the "
        "layout of an unpacked model tarball",
    )
    parser.add_argument(
        "--junit",
        type=Path,
        default=ROOT / "test_containers.xml",
        metavar="FILE",
        help="JUnit XML to write (default: test_containers.xml)",
    )
    parser.add_argument(
        "--logs",
        type=Path,
        default=ROOT / "test_containers_logs",
        metavar="DIR",
        help="folder for logs and outputs; emptied first (default: test_containers_logs)",
    )
    parser.add_argument(
        "--update-expected",
        action="store_true",
        help="save the outputs of this run as the expected ones; use it after changing the weights",
    )
    return parser


def main(arguments: Sequence[str] | None = None, setup: Setup | None = None) -> int:
    """Run the checks and return the exit code."""
    setup = setup or Setup()
    arguments_parser = parser()
    options = arguments_parser.parse_args(arguments)
    if options.only == "platform" and (options.case or options.engine in ("docker", "podman")):
        arguments_parser.error("expected --engine native and no --case with --only platform")
    if options.model and not (options.case and options.task and len(options.task) == 1):
        arguments_parser.error("expected --case and one --task with --model")
    logs = options.logs.resolve()
    report = Report()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        profile = current_profile() if options.limits is None else read_profile(options.limits)
        cases = [open_case(c) for c in options.case or ()] or find_cases(setup.root / "tests/cases")
        engine = choose(
            root=setup.root,
            name=options.engine,
            variant=options.variant,
            build=not options.no_build,
            work=logs / "app",
            python_of=setup.python_of,
        )
    except (CaseError, EngineError, InputError) as error:
        print(error, file=sys.stderr)
        report.say("0 passed, 1 failed")
        return 2
    _empty(logs)
    report.say(engine.description)
    interrupted = False
    try:
        _check(
            options,
            setup,
            engine=engine,
            profile=profile,
            cases=cases,
            logs=logs,
            report=report,
        )
    except KeyboardInterrupt:
        interrupted = True
    finally:
        engine.close()
    report.print_table()
    report.print_limits()
    report.write_junit(options.junit)
    report.say(f"\nlogs and outputs in {logs}, JUnit XML in {options.junit}")
    if interrupted:
        report.say("interrupted: not everything was checked")
    passed, failed = report.counts
    report.say(f"{passed} passed, {failed} failed")
    return INTERRUPTED if interrupted else int(failed > 0)


def _check(
    options: argparse.Namespace,
    setup: Setup,
    *,
    engine: Engine,
    profile: Profile,
    cases: Sequence[CaseFolder],
    logs: Path,
    report: Report,
) -> None:
    runner = Runner(
        root=setup.root,
        engine=engine,
        variant=options.variant,
        cases=cases,
        are_samples=not options.case,
        logs=logs,
        report=report,
        update_expected=options.update_expected,
        model=options.model and options.model.resolve(),
        in_both_modes=not options.no_build,
        bad_inputs=setup.bad_inputs,
        bad_models=setup.bad_models,
        bad_submissions=setup.bad_submissions,
        bounds=setup.bounds,
    )

    def container(contract: Contract, program: Program) -> Container:
        limits = program.limits
        if options.limits is not None:  # else the contract of the platform holds
            contract = replace(contract, limit_s=limits.time_s, memory_gib=limits.memory_gib)
        return Container(contract, program)

    registry = {algorithm.name: algorithm for algorithm in CURRENT.algorithms}
    algorithms = [
        container(contract, program_of(registry[contract.name], profile.of(contract.name)))
        for contract in setup.algorithms
        if not options.task or contract.name in options.task
    ]
    # The user's own cases need not have outcomes, so the evaluation does not score them.
    has_evaluation = not options.case and (not options.task or EVALUATION.name in options.task)
    program = evaluation_program(profile.of(EVALUATION.name))
    evaluations = [container(EVALUATION, program)] if has_evaluation else []
    stages = [options.only] if options.only else setup.stages
    if "containers" in stages:
        for each in algorithms:
            runner.check_algorithm(each)
        for each in evaluations:
            runner.check_evaluation(each, setup.algorithms)
    if "platform" in stages and isinstance(engine, NativeEngine) and not options.case:
        check_under_runtime(
            [*algorithms, *evaluations],
            cases,
            root=setup.root,
            logs=logs / "platform",
            report=report,
            python_of=setup.python_of,
        )


def _empty(logs: Path) -> None:
    """Empty the folder for logs; refuse a non-empty folder that an earlier run did not create."""
    marker = logs / ".made_by_test_containers"
    if logs.exists() and any(logs.iterdir()):
        if not marker.exists():
            raise SystemExit(
                "expected --logs to be an empty folder or one from an earlier run, found other "
                f"files in {logs}; give another folder"
            )
        shutil.rmtree(logs)
    logs.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

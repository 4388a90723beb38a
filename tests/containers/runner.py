"""The order of things for one task: its image, its cases, its model folder, its bad inputs."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import SimpleITK as sitk

from evaluation.running.cases import Case, CaseError
from evaluation.running.engines import Engine, EngineError, Image, Run
from evaluation.running.logs import peak_memory_gb
from evaluation.running.tasks import EVALUATION, TASKS, Task, stage_model
from tests.containers import checks
from tests.containers.bad_inputs import BAD_INPUTS, CHANGED_BYTE_WORDS, change_a_byte
from tests.containers.cases import dsc_bounds
from tests.containers.checks import Check
from tests.containers.report import Group, Report
from tests.containers.submission import BAD_SUBMISSIONS, check_metrics, stage

SIZE_LIMIT_GB: Final = {"cpu": 0.7, "gpu": 4.0}
"""Of an image by variant, in 10^9 bytes."""

MARK: Final = "This notice is the checker's own."
"""Stands in the card of a model folder that is given to a run, and must appear in its log."""


class Runner:
    """Runs tasks on cases and reports.

    Everything lies below one folder, `logs`, and stays there for the reader: what each run printed
    and wrote. It is on the checkout's file system, which an engine in a virtual machine can see.
    `are_samples` says that the cases are the repository's own: outputs must then agree with those
    expected, and the DSC must reach its bounds.
    """

    def __init__(
        self,
        root: Path,
        engine: Engine,
        variant: str,
        cases: Sequence[Case],
        are_samples: bool,
        logs: Path,
        report: Report,
        update_expected: bool = False,
        model: Path | None = None,
    ) -> None:
        self._root = root
        self._engine = engine
        self._variant = variant
        self._cases = cases
        self._are_samples = are_samples
        self._logs = logs
        self._report = report
        self._update_expected = update_expected
        self._model = model

    def check_task(self, task: Task) -> None:
        """Check one task: all of it on sample cases, only the cases where the user gave some."""
        logs = self._logs / task.name
        logs.mkdir(parents=True)
        if not self._prepare(task, logs):
            return
        try:
            for case in self._cases:
                self._check_case(task, case, logs / case.name)
            if self._are_samples:
                smallest = min(self._cases, key=Case.size_bytes)
                self._check_model(task, smallest, logs / "model_folder")
                self._check_bad_inputs(task, smallest, logs / "bad_inputs")
        except EngineError as error:
            broken = [Check("engine", str(error))]
            self._report.add(Group(task.name, "engine", broken, 0.0, logs=logs))

    def check_evaluation(self) -> None:
        """Check the evaluation on the outputs of this run, else on the expected ones."""
        logs = self._logs / EVALUATION.name
        logs.mkdir(parents=True)
        if not self._prepare(EVALUATION, logs):
            return
        try:
            for task in TASKS:
                self._check_metrics(task, logs / task.name)
            self._check_bad_submissions(TASKS[-1], logs / "bad_submissions")
        except (EngineError, ValueError, OSError) as error:
            broken = [Check("engine", str(error))]
            self._report.add(Group(EVALUATION.name, "engine", broken, 0.0, logs=logs))

    def _outputs(self, task: Task) -> dict[str, Path]:
        found = {}
        for case in self._cases:
            made = self._logs / task.name / case.name / "output"
            expected = self._root / task.name / "test" / case.name
            found[case.name] = made if (made / task.output).is_file() else expected
        return found

    def _check_metrics(self, task: Task, logs: Path) -> None:
        logs.mkdir()
        outputs = self._outputs(task)
        submission = stage(task, outputs, self._cases, logs / "submission")
        first, second = logs / "output", logs / "output_again"
        run = self._engine.run(EVALUATION, submission.input, first, logs, submission.truth)
        found = [checks.check_end(run)]
        if run.exit_code == 0:
            found += checks.check_limits(run, EVALUATION)
            found.append(checks.check_files(first, EVALUATION))
            if found[-1].passed:
                found += check_metrics(first, task, outputs, self._cases)
            submission.shuffle()
            again = logs / "shuffled"
            again.mkdir()
            repeated = self._engine.run(
                EVALUATION, submission.input, second, again, submission.truth
            )
            found.append(checks.check_repeat(first, second, repeated))
        shutil.rmtree(logs / "submission")
        self._report.add(
            Group(
                EVALUATION.name,
                task.name,
                found,
                run.seconds,
                limit_s=EVALUATION.limit_s,
                peak_gb=peak_memory_gb(run.stdout),
                note="scores as worked out here, the same bytes for shuffled jobs",
                logs=logs,
            )
        )

    def _check_bad_submissions(self, task: Task, logs: Path) -> None:
        started = time.perf_counter()
        logs.mkdir()
        found = []
        for name, (spoil, words) in BAD_SUBMISSIONS.items():
            submission = stage(task, self._outputs(task), self._cases, logs / "submission")
            spoil(submission)
            run, output = self._run_beside(
                EVALUATION, submission.input, logs / name.replace(" ", "_"), submission.truth
            )
            found.append(checks.check_refusal(name, run, output, words))
            shutil.rmtree(logs / "submission")
        self._report.add(
            Group(
                EVALUATION.name,
                "bad submissions",
                found,
                time.perf_counter() - started,
                note="exit code 1, one line, no output",
                logs=logs,
            )
        )

    def _prepare(self, task: Task, logs: Path) -> bool:
        started = time.perf_counter()
        log = logs / "build.txt"
        image: Image | None = None
        try:
            image = self._engine.prepare(task, log)
            made = [Check("build")]
        except (EngineError, OSError, shutil.Error) as error:
            made = [Check("build", str(error))]
        seconds = time.perf_counter() - started
        if image is not None:
            size_gb, limit_gb = image.size_bytes / 1e9, SIZE_LIMIT_GB[self._variant]
            problem = f"expected an image under {limit_gb} GB, found {size_gb:.2f} GB"
            made.append(Check("size", None if size_gb < limit_gb else problem))
            note = f"{image.name} {image.identifier}, {size_gb:.2f} GB"
            self._report.add(Group(task.name, "image", made, seconds, note=note))
        elif not made[0].passed:
            self._report.add(
                Group(task.name, "image", made, seconds, logs=log if log.exists() else None)
            )
        return made[0].passed

    def _check_case(self, task: Task, case: Case, logs: Path) -> None:
        logs.mkdir()
        staged = case.stage(logs / "input_copy")
        first, second = logs / "output", logs / "output_again"
        run = self._engine.run(task, staged, first, logs, self._model)
        found = [checks.check_end(run)]
        dsc: dict[str, float] = {}
        if run.exit_code == 0:
            found += checks.check_limits(run, task)
            found.append(checks.check_files(first, task))
            if found[-1].passed:
                content, dsc = self._check_output(task, case, staged, first)
                found += content
            again = logs / "second_run"
            again.mkdir()
            repeated = self._engine.run(task, staged, second, again, self._model)
            found.append(checks.check_repeat(first, second, repeated))
        shutil.rmtree(staged)
        peak_gb = peak_memory_gb(run.stdout)
        notes = [f"peak {peak_gb:.2f} GB"] if peak_gb is not None else []
        notes += [f"DSC {label} {value:.2f}" for label, value in dsc.items()]
        self._report.add(
            Group(
                task.name,
                case.name,
                found,
                run.seconds,
                limit_s=task.limit_s,
                peak_gb=peak_gb,
                dsc=dsc,
                note=", ".join(notes),
                logs=logs,
            )
        )

    def _check_output(
        self, task: Task, case: Case, staged: Path, output: Path
    ) -> tuple[list[Check], dict[str, float]]:
        """Check the one output file; return the checks, and the DSC with the truth."""
        found = list(checks.check_content(output, task, staged))
        if not all(check.passed for check in found):
            return found, {}
        if self._are_samples:
            expected = self._root / task.name / "test" / case.name
            if self._update_expected:
                _replace(expected, output)
            found.append(checks.check_agreement(output, expected, task))
        if task.kind != "mask" or case.truth is None:
            return found, {}
        mask, truth = checks.read_mask(output / task.output), sitk.ReadImage(str(case.truth))
        if problem := checks.geometry_problem(truth, mask, checks.NIFTI_TOLERANCE):
            return [*found, Check("truth", f"{case.truth}: {problem}")], {}
        dsc = checks.dsc_by_label(mask, truth)
        if self._are_samples:
            try:
                found.append(checks.check_truth(dsc, dsc_bounds(case)))
            except CaseError as error:
                found.append(Check("truth", str(error)))
        return found, dsc

    def _check_model(self, task: Task, case: Case, logs: Path) -> None:
        """Check that a model folder given as a tarball wins, and that an altered one is refused."""
        started = time.perf_counter()
        logs.mkdir()
        staged = case.stage(logs / "input_copy")
        model = logs / "model"
        stage_model(self._root, task, model)
        card = json.loads((model / "model.json").read_bytes())
        card["notice"] = MARK
        (model / "model.json").write_text(json.dumps(card), encoding="utf-8")

        run, output = self._run_beside(task, staged, logs / "given", model)
        ended = checks.check_end(run)
        unseen = f"expected the notice of the model folder in the log, found none: '{MARK}'"
        problem = ended.problem or (None if MARK in run.stdout else unseen)
        found = [Check("a model folder wins", problem)]

        change_a_byte(model)
        run, output = self._run_beside(task, staged, logs / "changed_byte", model)
        found.append(
            checks.check_refusal("a changed byte is refused", run, output, CHANGED_BYTE_WORDS)
        )
        shutil.rmtree(staged)
        shutil.rmtree(model)
        seconds = time.perf_counter() - started
        self._report.add(
            Group(
                task.name,
                "model folder",
                found,
                seconds,
                note="a given one wins, an altered one is refused",
                logs=logs,
            )
        )

    def _check_bad_inputs(self, task: Task, case: Case, logs: Path) -> None:
        started = time.perf_counter()
        logs.mkdir()
        found = []
        for bad in BAD_INPUTS:
            staged = case.stage(logs / "input_copy")
            bad.spoil(staged)
            run, output = self._run_beside(task, staged, logs / bad.name.replace(" ", "_"))
            found.append(checks.check_refusal(bad.name, run, output, bad.words))
            shutil.rmtree(staged)
        seconds = time.perf_counter() - started
        self._report.add(
            Group(
                task.name,
                "bad inputs",
                found,
                seconds,
                note="exit code 1, one line, no output",
                logs=logs,
            )
        )

    def _run_beside(
        self, task: Task, staged: Path, logs: Path, uploaded: Path | None = None
    ) -> tuple[Run, Path]:
        """Run once with logs and output in a folder of its own."""
        logs.mkdir()
        output = logs / "output"
        return self._engine.run(task, staged, output, logs, uploaded), output


def _replace(folder: Path, source: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

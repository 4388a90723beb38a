"""Runs the checks of each container in their order, from its image to invoke mode."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import SimpleITK as sitk

from evaluation.running.case_folders import CaseError, CaseFolder
from evaluation.running.engines.container import ContainerEngine
from evaluation.running.engines.protocol import Engine, EngineError, Image, Run
from evaluation.running.job_store import JobRecord
from evaluation.running.limits import Limits
from evaluation.running.programs import Program, stage_models
from evaluation.running.runner import record_of
from tests.containers import checks
from tests.containers.bad_inputs import BAD_INPUTS, BadInput
from tests.containers.bad_models import BAD_MODELS, BadModel
from tests.containers.checks import Check
from tests.containers.contract import Contract
from tests.containers.expectations import BOUNDS_FILE, dsc_bounds
from tests.containers.image_files import check_files
from tests.containers.invoke_mode import Inputs, check_invoke_mode
from tests.containers.output_folders import check_output_folders
from tests.containers.report import Group, Report
from tests.containers.submission import (
    BAD_SUBMISSIONS,
    BadSubmissions,
    check_hostile,
    check_metrics,
    stage,
    stage_hostile,
)

SIZE_LIMIT_GB: Final = {"cpu": 0.7, "gpu": 4.0}
"""Largest size of an image by variant, in 10^9 bytes."""

MARK: Final = "This notice was written by test_containers.sh."
"""The notice in the card of an uploaded model folder, which must appear in the log of the run."""


@dataclass(frozen=True)
class Container:
    """A container to check: the platform's contract, and the program that the engine starts."""

    contract: Contract
    program: Program

    @property
    def name(self) -> str:
        """Name of the container's folder in the repository."""
        return self.contract.name

    @property
    def limits(self) -> Limits:
        """The limits of a run: time and memory of the contract, all others of the program."""
        changes = {"time_s": self.contract.limit_s, "memory_gib": self.contract.memory_gib}
        return self.program.limits.model_copy(update=changes)


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Runs containers on cases and adds the results to the report.

    Attributes
    ----------
    root : the checkout.
    variant : "cpu" or "gpu" images.
    cases : the cases that the algorithms run on.
    are_samples : whether the cases are the sample cases of the repository. Their outputs must agree
        with the expected outputs, and their DSC must reach its bounds.
    logs : folder for the logs and outputs of each run, which are kept. It is on the checkout's file
        system, because an engine in a virtual machine can see that.
    update_expected : whether to save the outputs as the expected outputs.
    model : a model folder to use in place of the image's own.
    in_both_modes : also build and check each sample container in invoke mode.
    bad_inputs : inputs that every algorithm must reject.
    bad_models : model folders that every algorithm must reject.
    bad_submissions : submissions that the evaluation must reject.
    bounds : file with the lowest permitted DSC of each sample case.
    """

    root: Path
    engine: Engine
    variant: str
    cases: Sequence[CaseFolder]
    are_samples: bool
    logs: Path
    report: Report
    update_expected: bool = False
    model: Path | None = None
    in_both_modes: bool = True
    bad_inputs: Sequence[BadInput] = BAD_INPUTS
    bad_models: Sequence[BadModel] = BAD_MODELS
    bad_submissions: BadSubmissions = field(default_factory=lambda: BAD_SUBMISSIONS)
    bounds: Path = BOUNDS_FILE

    def check_algorithm(self, container: Container) -> None:
        """Run all checks of an algorithm on sample cases; on other cases, check only the runs."""
        logs = self.logs / container.name
        logs.mkdir(parents=True)
        if not self._prepare(container, logs):
            return
        try:
            for case in self.cases:
                self._check_case(container, case, logs / case.name)
            if self.are_samples:
                smallest = min(self.cases, key=CaseFolder.size_bytes)
                self._check_model(container, smallest, logs / "model_folder")
                self._check_bad_inputs(container, smallest, logs / "bad_inputs")
                self._check_output_folders(container, logs)
                self._check_case_in_invoke_mode(container, smallest, logs)
        except EngineError as error:
            self._report_engine_error(container, error, logs)

    def check_evaluation(self, container: Container, algorithms: Sequence[Contract]) -> None:
        """Check the evaluation on the outputs of this run, or on expected outputs if missing."""
        logs = self.logs / container.name
        logs.mkdir(parents=True)
        if not self._prepare(container, logs):
            return
        try:
            for algorithm in algorithms:
                self._check_metrics(container, algorithm, logs / algorithm.name)
                self._check_hostile(container, algorithm, logs / algorithm.name)
            self._check_bad_submissions(container, algorithms[-1], logs / "bad_submissions")
            self._check_metrics_in_output_folders(container, algorithms[0], logs)
            self._check_submission_in_invoke_mode(container, algorithms[-1], logs)
        except (EngineError, ValueError, OSError) as error:
            self._report_engine_error(container, error, logs)

    def _report_engine_error(self, container: Container, error: Exception, logs: Path) -> None:
        self.report.add(
            Group(
                container=container.name,
                name="engine",
                checks=[Check("engine", str(error))],
                seconds=0.0,
                logs=logs,
            )
        )

    def _outputs(self, algorithm: Contract) -> dict[str, Path]:
        outputs = {}
        for case in self.cases:
            own = self.logs / algorithm.name / case.name / "output"
            expected = self.root / algorithm.name / "test" / case.name
            is_complete = all((own / path).is_file() for path in algorithm.paths)
            outputs[case.name] = own if is_complete else expected
        return outputs

    def _check_metrics(self, container: Container, algorithm: Contract, logs: Path) -> None:
        logs.mkdir()
        outputs = self._outputs(algorithm)
        submission = stage(algorithm, outputs=outputs, cases=self.cases, folder=logs / "submission")
        first, second = logs / "output", logs / "output_again"
        run = self._run(container, submission.input, first, logs, uploaded=submission.truth)
        results = [checks.check_end(run)]
        if run.exit_code == 0:
            results += checks.check_limits(run, container.contract)
            results.append(checks.check_files(first, container.contract))
            if results[-1].passed:
                results += check_metrics(first, algorithm, outputs=outputs, cases=self.cases)
            submission.shuffle()
            again = logs / "shuffled"
            again.mkdir()
            repeat = self._run(
                container, submission.input, second, again, uploaded=submission.truth
            )
            results.append(checks.check_repeat(first, second, repeat))
        shutil.rmtree(logs / "submission")
        self.report.add(
            Group(
                container=container.name,
                name=algorithm.name,
                checks=results,
                seconds=run.seconds,
                limits=container.limits,
                record=_record(run, algorithm.name),
                note="scores as computed here, the same bytes for shuffled jobs",
                logs=logs,
            )
        )

    def _check_hostile(self, container: Container, algorithm: Contract, logs: Path) -> None:
        """Check that hostile outputs change no other result of `_check_metrics`."""
        start = time.perf_counter()
        submission, kinds = stage_hostile(
            algorithm,
            outputs=self._outputs(algorithm),
            cases=self.cases,
            folder=logs / "hostile_submission",
        )
        run, output = self._run_in(
            logs / "hostile", container, submission.input, uploaded=submission.truth
        )
        results = [checks.check_end(run)]
        if run.exit_code == 0:
            results += checks.check_limits(run, container.contract)
            results += check_hostile(output, logs / "output", algorithm, kinds)
        shutil.rmtree(submission.input.parent)
        self.report.add(
            Group(
                container=container.name,
                name=f"hostile {algorithm.name}",
                checks=results,
                seconds=time.perf_counter() - start,
                limits=container.limits,
                record=_record(run, f"hostile {algorithm.name}"),
                note="each hostile output fails only its own case",
                logs=logs / "hostile",
            )
        )

    def _check_bad_submissions(self, container: Container, algorithm: Contract, logs: Path) -> None:
        start = time.perf_counter()
        logs.mkdir()
        results = []
        for name, (spoil, words) in self.bad_submissions.items():
            submission = stage(
                algorithm,
                outputs=self._outputs(algorithm),
                cases=self.cases,
                folder=logs / "submission",
            )
            spoil(submission)
            run, output = self._run_in(
                logs / name.replace(" ", "_"),
                container,
                submission.input,
                uploaded=submission.truth,
            )
            results.append(checks.check_rejection(name, run, output, words))
            shutil.rmtree(logs / "submission")
        self.report.add(
            Group(
                container=container.name,
                name="bad submissions",
                checks=results,
                seconds=time.perf_counter() - start,
                note="exit code 1, one line, no output",
                logs=logs,
            )
        )

    def _prepare(self, container: Container, logs: Path) -> bool:
        start = time.perf_counter()
        log = logs / "build.txt"
        image: Image | None = None
        try:
            image = self.engine.prepare(container.program, log)
            results = [Check("build")]
        except (EngineError, OSError, shutil.Error) as error:
            results = [Check("build", str(error))]
        seconds = time.perf_counter() - start
        if image is not None:
            models = (self.root / folder for folder in container.program.models.values())
            size_gb = (image.size_bytes - sum(map(_size_bytes, models))) / 1e9
            limit_gb = SIZE_LIMIT_GB[self.variant]
            problem = (
                f"expected an image below {limit_gb} GB without its models, found {size_gb:.2f} GB"
            )
            results.append(Check("size", None if size_gb < limit_gb else problem))
            if isinstance(self.engine, ContainerEngine):
                results += check_files(self.engine.files(container.program))
            note = f"{image.name} {image.identifier}, {image.size_bytes / 1e9:.2f} GB"
            self.report.add(
                Group(
                    container=container.name,
                    name="image",
                    checks=results,
                    seconds=seconds,
                    note=note,
                )
            )
        elif not results[0].passed:
            self.report.add(
                Group(
                    container=container.name,
                    name="image",
                    checks=results,
                    seconds=seconds,
                    logs=log if log.exists() else None,
                )
            )
        return results[0].passed

    def _check_case(self, container: Container, case: CaseFolder, logs: Path) -> None:
        logs.mkdir()
        contract = container.contract
        staged = case.stage(logs / "input_copy")
        first, second = logs / "output", logs / "output_again"
        run = self._run(container, staged, first, logs, uploaded=self.model)
        results = [checks.check_end(run)]
        dsc: dict[str, float] = {}
        if run.exit_code == 0:
            results += checks.check_limits(run, contract)
            results.append(checks.check_files(first, contract))
            if results[-1].passed:
                output_results, dsc = self._check_output(contract, case, staged, first)
                results += output_results
            again = logs / "second_run"
            again.mkdir()
            repeat = self._run(container, staged, second, again, uploaded=self.model)
            results.append(checks.check_repeat(first, second, repeat))
        shutil.rmtree(staged)
        record = _record(run, case.name)
        peak_gb = record.peak_memory_gb
        notes = [f"peak {peak_gb:.2f} GB"] if peak_gb is not None else []
        notes += [f"DSC {label} {value:.2f}" for label, value in dsc.items()]
        self.report.add(
            Group(
                container=container.name,
                name=case.name,
                checks=results,
                seconds=run.seconds,
                limits=container.limits,
                record=record,
                dsc=dsc,
                note=", ".join(notes),
                logs=logs,
            )
        )

    def _check_output(
        self, contract: Contract, case: CaseFolder, staged: Path, output: Path
    ) -> tuple[list[Check], dict[str, float]]:
        """Check the output files; return the checks, and the DSC with the truth."""
        results = list(checks.check_content(output, contract, staged))
        if not all(check.passed for check in results):
            return results, {}
        if self.are_samples:
            expected = self.root / contract.name / "test" / case.name
            if self.update_expected:
                _replace(expected, output)
            results += checks.check_agreement(output, expected, contract)
        masks = [file for file in contract.files if file.holds == "mask"]
        if not masks or case.truth is None:
            return results, {}
        mask, truth = checks.read_mask(output / masks[0].path), sitk.ReadImage(str(case.truth))
        if problem := checks.geometry_problem(truth, mask, checks.NIFTI_TOLERANCE):
            return [*results, Check("truth", f"{case.truth}: {problem}")], {}
        dsc = checks.dsc_by_label(mask, truth)
        if self.are_samples:
            try:
                results.append(checks.check_truth(dsc, dsc_bounds(case, self.bounds)))
            except CaseError as error:
                results.append(Check("truth", str(error)))
        return results, dsc

    def _check_model(self, container: Container, case: CaseFolder, logs: Path) -> None:
        """Check that an uploaded model folder is used, and that an altered one is rejected."""
        start = time.perf_counter()
        logs.mkdir()
        staged = case.stage(logs / "input_copy")
        model = logs / "model"
        folders = container.program.models.items()
        stage_models({place: self.root / folder for place, folder in folders}, model)
        card = json.loads((model / "model.json").read_bytes())
        card["notice"] = MARK
        (model / "model.json").write_text(json.dumps(card), encoding="utf-8")

        run, output = self._run_in(logs / "uploaded", container, staged, uploaded=model)
        missing = f"expected the notice of the model folder in the log, found none: '{MARK}'"
        problem = checks.check_end(run).problem or (None if MARK in run.stdout else missing)
        results = [Check("an uploaded model folder is used", problem)]

        for bad in self.bad_models:
            altered = logs / "altered"
            shutil.copytree(model, altered)
            bad.alter(altered)
            folder = logs / bad.name.replace(" ", "_")
            run, output = self._run_in(folder, container, staged, uploaded=altered)
            name = f"{bad.name} is rejected"
            results.append(checks.check_rejection(name, run, output, bad.words))
            shutil.rmtree(altered)
        shutil.rmtree(staged)
        shutil.rmtree(model)
        self.report.add(
            Group(
                container=container.name,
                name="model folder",
                checks=results,
                seconds=time.perf_counter() - start,
                note="an uploaded folder takes precedence, an altered one is rejected",
                logs=logs,
            )
        )

    def _check_bad_inputs(self, container: Container, case: CaseFolder, logs: Path) -> None:
        start = time.perf_counter()
        logs.mkdir()
        results = []
        for bad in self.bad_inputs:
            staged = case.stage(logs / "input_copy")
            bad.spoil(staged)
            run, output = self._run_in(logs / bad.name.replace(" ", "_"), container, staged)
            results.append(checks.check_rejection(bad.name, run, output, bad.words))
            shutil.rmtree(staged)
        self.report.add(
            Group(
                container=container.name,
                name="bad inputs",
                checks=results,
                seconds=time.perf_counter() - start,
                note="exit code 1, one line, no output",
                logs=logs,
            )
        )

    def _check_output_folders(self, container: Container, logs: Path) -> None:
        """Check a full and a read-only output folder with the case that has the largest answer."""
        answers = {case.name: logs / case.name / "output" for case in self.cases}
        case = max(self.cases, key=lambda case: _size_bytes(answers[case.name]))
        if _size_bytes(answers[case.name]):
            folder = logs / "output_folders"
            self._report_output_folders(
                container, case.stage(folder / "input_copy"), answers[case.name], folder
            )

    def _check_metrics_in_output_folders(
        self, container: Container, algorithm: Contract, logs: Path
    ) -> None:
        folder = logs / "output_folders"
        outputs = self._outputs(algorithm)
        submission = stage(algorithm, outputs=outputs, cases=self.cases, folder=folder / "copy")
        answer = logs / algorithm.name / "output"
        if _size_bytes(answer):
            self._report_output_folders(
                container, submission.input, answer, folder, uploaded=submission.truth
            )

    def _report_output_folders(
        self,
        container: Container,
        case: Path,
        answer: Path,
        folder: Path,
        *,
        uploaded: Path | None = None,
    ) -> None:
        group = check_output_folders(
            self.engine,
            container.program,
            case=case,
            answer=answer,
            logs=folder / "logs",
            uploaded=uploaded,
        )
        if group is None:
            self.report.say(f"  full and read-only /output: not checked, {self.engine.description}")
        else:
            self.report.add(group)
        for copied in folder.glob("*copy"):
            shutil.rmtree(copied)

    def _check_case_in_invoke_mode(
        self, container: Container, case: CaseFolder, logs: Path
    ) -> None:
        folder = logs / "invoke_mode"
        exec_output = logs / case.name / "output"
        if self._skips_invoke_mode(container, exec_output):
            return
        good, bad = case.stage(folder / "input_copy"), case.stage(folder / "bad_input_copy")
        spoiler = self.bad_inputs[0]
        spoiler.spoil(bad)
        inputs = Inputs(
            good=good,
            exec_output=exec_output,
            bad=bad,
            bad_words=spoiler.words,
            uploaded=self.model,
        )
        self._report_invoke_mode(container, inputs, folder)

    def _check_submission_in_invoke_mode(
        self, container: Container, algorithm: Contract, logs: Path
    ) -> None:
        folder = logs / "invoke_mode"
        exec_output = logs / algorithm.name / "output"
        if self._skips_invoke_mode(container, exec_output):
            return
        outputs = self._outputs(algorithm)
        good, bad = (
            stage(algorithm, outputs=outputs, cases=self.cases, folder=folder / f"{name}_copy")
            for name in ("submission", "bad_submission")
        )
        bad.break_the_list()
        inputs = Inputs(
            good=good.input,
            exec_output=exec_output,
            bad=bad.input,
            bad_words="predictions.json to be a list of jobs",
            uploaded=good.truth,
        )
        self._report_invoke_mode(container, inputs, folder)

    def _skips_invoke_mode(self, container: Container, exec_output: Path) -> bool:
        """Whether invoke mode is off or checked already, or there is no output to compare with."""
        is_served = container.program.limits.mode == "invoke"
        return is_served or not self.in_both_modes or not exec_output.is_dir()

    def _report_invoke_mode(self, container: Container, inputs: Inputs, folder: Path) -> None:
        logs = folder / "logs"
        self.report.add(check_invoke_mode(self.engine, container.program, inputs=inputs, logs=logs))
        for copied in folder.glob("*_copy"):
            shutil.rmtree(copied)

    def _run(
        self,
        container: Container,
        staged: Path,
        output: Path,
        logs: Path,
        *,
        uploaded: Path | None = None,
    ) -> Run:
        return self.engine.run(
            container.program, case=staged, output=output, logs=logs, uploaded=uploaded
        )

    def _run_in(
        self, logs: Path, container: Container, staged: Path, *, uploaded: Path | None = None
    ) -> tuple[Run, Path]:
        """Run once, with logs and output in a separate folder."""
        logs.mkdir()
        output = logs / "output"
        return self._run(container, staged, output, logs, uploaded=uploaded), output


def _size_bytes(folder: Path) -> int:
    """Return the size of all files in a folder; 0 if the folder does not exist."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _record(run: Run, case: str) -> JobRecord:
    return record_of(run, case=case, reason=checks.check_end(run).problem)


def _replace(folder: Path, source: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)

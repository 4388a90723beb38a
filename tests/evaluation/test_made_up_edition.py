"""A made-up edition with one algorithm for all tasks, other inputs and outputs, and risk reversed.

Job, runner, checks, evaluation and report work with this edition. It is defined only here, which
shows that a new edition needs no other file.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from evaluation import container
from evaluation.metrics_io import SubmissionMetrics
from evaluation.outputs import HPV_PROBABILITY
from evaluation.predictions import read_predictions
from evaluation.report.page import write_report
from evaluation.report.task_section import Sources
from evaluation.running.case_folders import CaseFolder, open_case
from evaluation.running.engines.protocol import Run
from evaluation.running.ground_truth import write_ground_truth
from evaluation.running.job_store import JobsOrigin, JobStore
from evaluation.running.programs import Program, stage_models
from evaluation.running.runner import local_pool, run_cohort
from evaluation.running.score_command import score_results
from evaluation.scoring_rules import ScoringRules
from evaluation.tasks.hpv import HpvMetrics
from evaluation.tasks.segmentation import SegmentationMetrics
from evaluation.tasks.survival import SurvivalMetrics
from shared.editions import CURRENT, Edition
from shared.grand_challenge.inputs import read_case
from shared.grand_challenge.job import log, main
from shared.grand_challenge.outputs import write_hpv, write_risk, write_segmentation
from shared.models.chain import Chain
from shared.tasks import Algorithm, Input, Output
from tests.containers import checks
from tests.containers.contract import Contract, File
from tests.containers.submission import check_metrics, stage

pytestmark = pytest.mark.slow  # CI runs these in a step of their own

ROOT = Path(__file__).parents[2]
CASES = ("no_primary", "oblique_flipped")
"""Two sample cases: one patient has a recurrence while the other is still under observation."""

EDITION = Edition(
    name="Made-up challenge",
    ct=Input(slug="planning-scan", path="scans/anatomy"),
    pet=Input(slug="tracer-scan", path="scans/tracer"),
    ehr=Input(slug="patient-record", path="patient-record.json"),
    algorithms=(
        Algorithm(
            name="everything",
            outputs=(
                Output(
                    task="segmentation",
                    slug="head-neck-tumor-segmentation",
                    path="images/head-neck-tumor-segmentation/output.mha",
                ),
                Output(task="survival", slug="rfs-days", path="rfs-days.json", risk_sign=-1),
                Output(task="hpv", slug="hpv", path="hpv.json"),
            ),
            bundled={"segmentation": "task1_segmentation", "hpv": "task3_hpv"},
        ),
    ),
)
ALGORITHM = EDITION.algorithms[0]
CONTRACT = Contract(
    name="everything",
    files=(
        File(path="images/head-neck-tumor-segmentation/output.mha", holds="mask"),
        File(path="rfs-days.json", holds="number", higher_is_earlier=False),
        File(path="hpv.json", holds="boolean"),
    ),
    limit_s=1500,
    ct_slug="planning-scan",
)


def init_model(model_dir: Path) -> Chain:
    """Load the three models."""
    return Chain.load(survival=model_dir, **ALGORITHM.bundled_models(model_dir))


def run(chain: Chain, input_dir: Path, output_dir: Path) -> None:
    """Answer the case with all outputs."""
    case = read_case(input_dir, EDITION)
    prepared = chain.prepare(case)
    predictions = chain.predict(prepared, case.clinical, report=log)
    assert predictions.mask is not None
    assert predictions.risk is not None
    assert predictions.hpv is not None
    write_segmentation(output_dir, predictions.mask, EDITION)
    write_risk(output_dir, predictions.risk, EDITION)
    write_hpv(output_dir, predictions.hpv.decision, EDITION)


@dataclass(frozen=True)
class InProcessEngine:
    """Runs the job in this process, with the models of a folder."""

    model: Path

    @property
    def description(self) -> str:
        return "this process"

    @property
    def tmpfs_options(self) -> frozenset[str]:
        return frozenset()

    def prepare(self, program: Program, log: Path) -> None: ...

    def identify(self, program: Program) -> str:
        return "0123"

    def prepare_machine(self, program: Program) -> None: ...

    def leave_machine(self) -> None: ...

    def run(
        self,
        program: Program,
        *,
        case: Path,
        output: Path,
        logs: Path,
        uploaded: Path | None = None,
        output_tmpfs: str | None = None,
        cpus: frozenset[int] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Run:
        output.mkdir()
        arguments = ["--input", str(case), "--output", str(output)]
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(init_model, run, baked_model=self.model, arguments=arguments)
        (logs / "stdout.txt").write_text(out.getvalue())
        return Run(exit_code=code, stdout=out.getvalue(), stderr=err.getvalue(), seconds=1.0)

    def close(self) -> None: ...


@dataclass(frozen=True)
class Results:
    """The jobs of the algorithm on two cases."""

    folder: Path
    store: JobStore
    cases: list[CaseFolder]

    @property
    def outputs(self) -> dict[str, Path]:
        """Output folder of each case."""
        return {case.name: self.store.folder / case.name / "output" for case in self.cases}


def lay_out(name: str, folder: Path) -> CaseFolder:
    """Copy a sample case, with the inputs at the paths of the made-up edition."""
    shutil.copytree(ROOT / "tests/cases" / name, folder)
    for old, new in (
        (CURRENT.ct, EDITION.ct),
        (CURRENT.pet, EDITION.pet),
        (CURRENT.ehr, EDITION.ehr),
    ):
        target = folder / "input" / new.path
        target.parent.mkdir(exist_ok=True)
        (folder / "input" / old.path).rename(target)
    return open_case(folder)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("made_up")
    # The algorithm has no folder in the repository, so it uses the survival model.
    own = {".": ROOT / "task2_survival/model"}
    stage_models({**ALGORITHM.model_folders(ROOT), **own}, folder / "model")
    cases = [lay_out(name, folder / "cases" / name) for name in CASES]
    store = JobStore(folder / "results" / ALGORITHM.name)
    with store.opened():
        origin = JobsOrigin(
            algorithm=ALGORITHM.name, source="x", engine="x", cases=str(folder / "cases")
        )
        store.claim(origin)
        summary = run_cohort(
            ALGORITHM,
            cases,
            edition=EDITION,
            engine=InProcessEngine(folder / "model"),
            store=store,
            pool=local_pool(1),
        )
    assert [record.reason for record in summary.records] == [None, None]
    write_ground_truth(cases, folder / "results" / "ground_truth", EDITION)
    return Results(folder / "results", store, cases)


def test_jobs_are_listed_with_all_inputs_and_outputs(results: Results) -> None:
    predictions = read_predictions(results.store.folder / "predictions.json")
    for prediction in predictions:
        inputs = {value.socket.slug: value.socket.relative_path for value in prediction.inputs}
        assert inputs == {
            "planning-scan": "scans/anatomy",
            "tracer-scan": "scans/tracer",
            "patient-record": "patient-record.json",
        }
        sockets = {value.socket.slug: value.socket.relative_path for value in prediction.outputs}
        assert sockets == {
            "head-neck-tumor-segmentation": "images/head-neck-tumor-segmentation",
            "rfs-days": "rfs-days.json",
            "hpv": "hpv.json",
        }


def test_ground_truth_takes_the_centre_from_the_record(results: Results) -> None:
    table = (results.folder / "ground_truth" / "patients.csv").read_text()
    rows = {row["PatientID"]: row for row in csv.DictReader(table.splitlines())}
    for case in results.cases:
        record = json.loads((case.input / EDITION.ehr.path).read_bytes())
        assert rows[case.name]["CenterID"] == str(record["CenterID"])


def test_outputs_pass_the_checks_of_the_contract(results: Results, tmp_path: Path) -> None:
    for case in results.cases:
        output = tmp_path / case.name
        added_by_the_runner = shutil.ignore_patterns(HPV_PROBABILITY)
        shutil.copytree(results.outputs[case.name], output, ignore=added_by_the_runner)
        assert checks.check_files(output, CONTRACT).problem is None
        # The checks look for the CT in the platform's current layout.
        original = ROOT / "tests/cases" / case.name / "input"
        content = list(checks.check_content(output, CONTRACT, original))
        assert [check.name for check in content] == [
            *("mask", "geometry", "value of rfs-days.json", "value of hpv.json")
        ]
        assert all(check.passed for check in content)


def test_answers_are_those_of_the_single_algorithms(results: Results) -> None:
    for name, output in results.outputs.items():
        mask = checks.read_mask(output / ALGORITHM.outputs[0].path)
        expected = ROOT / "task1_segmentation/test" / name / CURRENT.outputs["segmentation"].path
        assert min(checks.dsc_by_label(mask, checks.read_mask(expected)).values()) > 0.98
        risk = json.loads((ROOT / "task2_survival/test" / name / "rfs.json").read_bytes())
        turned = json.loads((output / "rfs-days.json").read_bytes())
        assert turned == pytest.approx(-risk, abs=1e-3)
        status = json.loads((ROOT / "task3_hpv/test" / name / "hpv-status.json").read_bytes())
        assert json.loads((output / "hpv.json").read_bytes()) is status


def test_container_scores_every_task_as_the_checks_do(results: Results, tmp_path: Path) -> None:
    submission = stage(
        CONTRACT,
        outputs=results.outputs,
        cases=results.cases,
        folder=tmp_path / "submission",
    )
    arguments = ["--input", str(submission.input), "--truth", str(submission.truth)]
    arguments += ["--output", str(tmp_path), "--workers", "1"]
    assert container.main(arguments, EDITION) == 0
    results_of_checks = list(
        check_metrics(tmp_path, CONTRACT, outputs=results.outputs, cases=results.cases)
    )
    assert [check.problem for check in results_of_checks if check.problem] == []
    assert {"survival: c_index", "hpv: balanced_accuracy", "segmentation: gtvp_dice"} <= {
        check.name for check in results_of_checks
    }


def test_every_task_is_scored_and_the_risk_has_the_right_direction(results: Results) -> None:
    scores = score_results(
        results.folder,
        results.folder / "ground_truth",
        workers=1,
        rules=ScoringRules(bootstrap_samples=20),
        edition=EDITION,
    )
    metrics = scores[ALGORITHM.name]
    assert isinstance(metrics, SubmissionMetrics)
    assert list(metrics.tasks) == ["segmentation", "survival", "hpv"]
    masks, risks, statuses = metrics.tasks.values()
    assert isinstance(masks, SegmentationMetrics)
    assert isinstance(risks, SurvivalMetrics)
    assert isinstance(statuses, HpvMetrics)
    assert {each.failed for each in metrics.tasks.values()} == {0}
    for result in risks.results:
        turned = json.loads((results.outputs[result.case_id] / "rfs-days.json").read_bytes())
        assert result.risk == -turned

    sources = Sources(
        results=results.folder,
        cases=results.folder.parent / "cases",
        truth=results.folder / "ground_truth",
    )
    page = write_report(sources, results.folder / "out", title="x", count=1, edition=EDITION)
    text = page.read_text()
    for task in ("segmentation", "survival", "hpv"):
        assert f'<section id="{task}">' in text
        assert f'data-path="everything/tasks/{task}/cases"' in text

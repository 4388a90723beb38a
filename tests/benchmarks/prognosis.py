"""Scores of Tasks 2 and 3 trained as in Dexl & Ingrisch (2025), and the effect of each change.

`python -m tests.benchmarks.prognosis train COHORT RUNS` trains five folds of each task with
`prognosis.toml`, in which the networks are smaller than in the paper. Task 3 is trained twice: as
in the paper, and with all of this project's changes. Task 2 is trained in these two variants as
well, and with the changes added one at a time.

`table COHORT UNSEEN RUNS` exports the models and scores them on a cohort of other centres: once
with the masks of Task 1 and the HPV status of Task 3, as the containers do, and once with the true
masks and the true status. `--also COHORT` scores Task 3 on a further cohort, for instance with
another prevalence. Both commands resume if they are started again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, logit
from tqdm import tqdm

from shared.clinical import ClinicalRecord
from shared.conventions import LabelVolume
from shared.files import whole
from shared.metrics.calibration import calibration_error
from shared.metrics.classification import balanced_accuracy
from shared.metrics.probability import best_threshold, roc_auc
from shared.metrics.survival import concordance_index
from shared.metrics.uncertainty import Interval, bootstrap, paired_difference
from shared.models.card import MemberKind
from shared.models.hpv import HpvModel
from shared.models.prognosis import PrognosisModel
from shared.models.segmentation import SegmentationModel
from shared.models.survival import SurvivalModel
from training.cohort.cache import PreparedPatient, prepare_cohort
from training.cohort.folds import HoldOut, read_folds
from training.config import load_configuration
from training.export.run import export_run
from training.loop.fit import RESULT, FitResult
from training.records import read_record
from training.tasks import out_of_fold
from training.tasks.base import Task
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival
from training.train import Options, train

CONFIGURATION: Final = Path(__file__).with_suffix(".toml")
FOLDS: Final = 5

OURS: Final = {"missing": "mean", "clinical_dropout": 0.1, "mirror": True}
HPV: Final[Mapping[str, Mapping[str, object]]] = {
    "paper": {},
    "ours": {**OURS, "masks": "predicted", "models": "both"},
}
"""For each variant of Task 3, the settings of [hpv] that differ from the paper."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A variant of Task 2.

    Attributes
    ----------
    changes : settings of [survival] that differ from the paper.
    hpv : key of `HPV`; the models whose predictions Task 2 may learn from.
    """

    changes: Mapping[str, object]
    hpv: str = "paper"


_PREDICTED: Final = {"masks": "predicted", "hpv": "predicted"}
SURVIVAL: Final[Mapping[str, Step]] = {
    "paper": Step(changes={}),
    "masks": Step(changes={"masks": "predicted"}),
    "hpv": Step(changes=_PREDICTED),
    "missing": Step(changes={**_PREDICTED, "missing": "mean"}),
    "dropout": Step(changes={**_PREDICTED, "missing": "mean", "clinical_dropout": 0.1}),
    "mirror": Step(changes={**_PREDICTED, **OURS}),
    "ours": Step(changes={**_PREDICTED, **OURS, "models": "both"}, hpv="ours"),
}


@dataclass(frozen=True)
class Served:
    """A choice of trained models, whose outputs are averaged.

    Attributes
    ----------
    variant : how the models were trained, a key of `HPV` or `SURVIVAL`.
    kinds : kinds of models that are averaged.
    best_fold : use only the fold with the best score, as in the paper, instead of all folds.
    """

    variant: str
    kinds: tuple[MemberKind, ...] = ("network",)
    best_fold: bool = False


_PAPERS_HPV: Final = Served("paper", best_fold=True)
_OUR_HPV: Final = Served("ours", ("network", "linear"))
HPV_ROWS: Final[Mapping[str, Served]] = {
    "paper, one fold": _PAPERS_HPV,
    "paper, all folds": Served("paper"),
    "missing as mean, clinical dropout, mirroring": Served("ours"),
    "linear model alone": Served("ours", ("linear",)),
    "network and linear model": _OUR_HPV,
}
SURVIVAL_ROWS: Final[Mapping[str, tuple[Served, Served]]] = {
    "paper: true masks and HPV status, one fold": (
        Served("paper", best_fold=True),
        _PAPERS_HPV,
    ),
    "+ out-of-fold masks": (Served("masks", best_fold=True), _PAPERS_HPV),
    "+ out-of-fold HPV status": (Served("hpv", best_fold=True), _PAPERS_HPV),
    "+ HPV status of all folds of Task 3": (Served("hpv", best_fold=True), Served("paper")),
    "+ all folds of Task 2": (Served("hpv"), Served("paper")),
    "+ missing as mean": (Served("missing"), Served("paper")),
    "+ clinical dropout": (Served("dropout"), Served("paper")),
    "+ mirroring": (Served("mirror"), Served("paper")),
    "+ missing as mean, clinical dropout and mirroring for Task 3, with its linear model": (
        Served("ours"),
        _OUR_HPV,
    ),
    "+ linear model": (Served("ours", ("network", "linear")), _OUR_HPV),
    "linear model alone": (Served("ours", ("linear",)), _OUR_HPV),
}
"""Models of Task 2, each with the models of Task 3 that predict the HPV status for it."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
RunsArgument = Annotated[Path, typer.Argument(help="Folder for cache, folds and models.")]


@app.command("train")
def train_all(
    cohort: Annotated[Path, typer.Argument(help="Patients to train on.")],
    runs: RunsArgument,
    variant: Annotated[
        list[str] | None,
        typer.Option(help="Train only this variant, such as hpv-paper; may be repeated."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data.")] = 1,
) -> None:
    """Train all folds of all variants."""
    task1 = Options(
        configuration=str(CONFIGURATION),
        hold_out=HoldOut(folds=FOLDS),
        workers=workers,
        model=runs / "models/segmentation",
    )
    train(Segmentation(), cohort, runs, task1)
    for name, changes in HPV.items():
        if variant is None or f"hpv-{name}" in variant:
            _train(Hpv(), cohort, runs, name, changes=changes, workers=workers)
    for name, step in SURVIVAL.items():
        if variant is None or f"survival-{name}" in variant:
            _train(
                Survival(), cohort, runs, name,
                changes=step.changes, workers=workers, hpv=step.hpv,
            )  # fmt: skip


def _train(
    task: Task,
    cohort: Path,
    runs: Path,
    variant: str,
    *,
    changes: Mapping[str, object],
    workers: int,
    hpv: str | None = None,
) -> None:
    """Train a variant of a task, in a separate folder with links to the cache and to Task 1.

    The folds are those of Task 1, which is the default. A network of Task 3 can thus start from a
    network of Task 1 that was not trained on the held-out patients.
    """
    folder = _folder(runs, task, variant)
    folder.mkdir(exist_ok=True)
    sources = {"cache": runs / "cache", "segmentation": runs / "segmentation"}
    if hpv is not None:
        sources["hpv"] = _folder(runs, Hpv(), hpv) / "hpv"
    for name, source in sources.items():
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(source.resolve())
    text = CONFIGURATION.read_text(encoding="utf-8")
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in changes.items())
    configuration = folder / "configuration.toml"
    configuration.write_text(text.replace(f"[{task.name}]\n", f"[{task.name}]\n{lines}"))
    options = Options(configuration=str(configuration), workers=workers, model=folder / "model")
    train(task, cohort, folder, options)


def _folder(runs: Path, task: Task, variant: str) -> Path:
    return runs / f"{task.name}-{variant}"


@app.command("table")
def print_tables(
    cohort: Annotated[Path, typer.Argument(help="The cohort of `train`.")],
    unseen: Annotated[Path, typer.Argument(help="Patients of other centres.")],
    runs: RunsArgument,
    also: Annotated[
        list[Path] | None, typer.Option(help="Another cohort for Task 3; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare data.")] = 1,
) -> None:
    """Score all variants, and print the tables."""
    statuses = _hpv_statuses(cohort)
    lines = []
    for path in (unseen, *(also or ())):
        cohort_of_table = UnseenCohort(path, runs, workers)
        table = _hpv_table(cohort_of_table, statuses)
        lines += ["", f"Task 3, {cohort_of_table.title}", "", *table, ""]
    lines += _survival_table(UnseenCohort(unseen, runs, workers))
    text = "\n".join(lines)
    print(text)
    (runs / "table.md").write_text(text + "\n", encoding="utf-8")


class UnseenCohort:
    """A cohort not used for training.

    Each model's outputs on it are computed once and stored.
    """

    def __init__(self, cohort: Path, runs: Path, workers: int) -> None:
        preparation = load_configuration(str(CONFIGURATION)).preparation
        self.runs = runs
        self.folder = runs / "unseen" / cohort.name
        self.patients = prepare_cohort(cohort, self.folder / "cache", preparation, workers=workers)
        self.oracle = json.loads((cohort / "cohort.json").read_text())["oracle"]
        self.title = f"{cohort.name}: {len(self.patients)} patients"
        self.masks = list(self._stored("masks", self._segment))

    def hpv_logits(self, served: Served) -> NDArray[np.float64]:
        """Return the mean logit of the models, shape (patients,)."""
        records = [p.patient.clinical for p in self.patients]
        return self._mean(Hpv(), served, "", self.masks, records)

    def risks(self, served: Served, hpv: Served | None) -> NDArray[np.float64]:
        """Return the mean standardised risk of the models, shape (patients,).

        Parameters
        ----------
        hpv : models of Task 3; None uses the true masks and the true status.
        """
        records = [p.patient.clinical for p in self.patients]
        if hpv is None:
            statuses = [p.patient.hpv for p in self.patients]
            masks, inputs = [np.asarray(p.labels) for p in self.patients], "true"
            values = [None if status is None else float(status) for status in statuses]
        else:
            masks, inputs = self.masks, f"{hpv.variant}-{'-'.join(hpv.kinds)}-{hpv.best_fold}"
            values = [float(v) for v in expit(self.hpv_logits(hpv))]
        records = [
            replace(record, hpv=value) for record, value in zip(records, values, strict=True)
        ]
        return self._mean(Survival(), served, inputs, masks, records)

    def _segment(self) -> NDArray[np.uint8]:
        model = SegmentationModel.load(self.runs / "models/segmentation")
        cases = tqdm(self.patients, desc=f"{self.folder.name}: segmenting")
        return np.stack([model.segment(patient.prepared()).labels for patient in cases])

    def _mean(
        self,
        task: Task,
        served: Served,
        inputs: str,
        masks: Sequence[LabelVolume],
        records: Sequence[ClinicalRecord],
    ) -> NDArray[np.float64]:
        """Return the mean output of the models; the outputs of each model are stored."""
        run = _folder(self.runs, task, served.variant)
        names = [fold.name for fold in read_folds(run / task.name).folds]
        folds = [_best_fold(run / task.name, names)] if served.best_fold else names
        outputs = []
        for fold in folds:
            for kind in served.kinds:
                name = "-".join(filter(None, (task.name, served.variant, fold, kind, inputs)))
                outputs.append(
                    self._stored(
                        name,
                        lambda f=fold, k=kind, n=name: _outputs(  # type: ignore[misc]
                            _exported(task, run, f, k), self.patients, records, masks, n
                        ),
                    )
                )
        mean: NDArray[np.float64] = np.mean(outputs, axis=0)
        return mean

    def _stored(self, name: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        if not path.is_file():
            with whole(path) as draft:
                np.save(draft, compute())
        return np.load(path)


def _exported(task: Task, run: Path, fold: str, kind: MemberKind) -> PrognosisModel[Any]:
    """Return one model of a fold, exported and loaded as a container would."""
    folder = run / "models" / f"{fold}-{kind}"
    if not (folder / "model.json").is_file():
        export_run(task, run, folds=[fold], model=folder, kinds=[kind])
    return HpvModel(folder) if task.name == "hpv" else SurvivalModel(folder)


def _outputs(
    model: PrognosisModel[Any],
    patients: Sequence[PreparedPatient],
    records: Sequence[ClinicalRecord],
    masks: Sequence[LabelVolume],
    name: str,
) -> NDArray[np.float64]:
    """Return the logit or the standardised risk of each patient."""
    rows = []
    cases = zip(patients, records, masks, strict=True)
    for patient, record, labels in tqdm(cases, desc=name, total=len(patients)):
        ((member, value),) = model.outputs(patient.prepared(), record, labels)
        rows.append((value - member.risk_mean) / member.risk_std)
    return np.array(rows)


def _best_fold(run_folder: Path, names: Sequence[str]) -> str:
    return max(names, key=lambda name: _result(run_folder, name)["score"])


def _result(run_folder: Path, fold: str) -> dict[str, float]:
    """Return the scores of a fold's best checkpoint on the held-out patients."""
    return read_record(FitResult, run_folder / f"fold{fold}" / RESULT).best


def _hpv_statuses(cohort: Path) -> NDArray[np.bool_]:
    """Return the HPV statuses of a cohort, without the unknown ones."""
    records = map(json.loads, (cohort / "cohort.jsonl").read_text().splitlines())
    return np.array([r["hpv"] for r in records if r["hpv"] is not None], dtype=bool)


def _hpv_table(cohort: UnseenCohort, trained_on: NDArray[np.bool_]) -> list[str]:
    """Return the table of Task 3.

    Decisions are at a probability of 0.5. The last two rows before the oracle have other
    thresholds, which their names state.
    """
    truth = [patient.patient.hpv for patient in cohort.patients]
    is_known = np.array([status is not None for status in truth])
    statuses = np.array([bool(status) for status in truth])[is_known]
    lines = _header(
        "",
        "balanced accuracy [95 %]",
        "AUC [95 %]",
        "calibration error",
        "share decided positive (true share)",
    )
    logits = {name: cohort.hpv_logits(served)[is_known] for name, served in HPV_ROWS.items()}
    cuts = dict.fromkeys(logits, 0.0)
    prior = logit(trained_on.mean())
    run = _folder(cohort.runs, Hpv(), _OUR_HPV.variant) / "hpv" / out_of_fold.FOLDER
    tuned = best_threshold(*out_of_fold.read_known_hpv(run, _OUR_HPV.kinds))
    both = "network and linear model"
    for name, cut in (
        (f"{both}, threshold of the best out-of-fold balanced accuracy", logit(tuned)),
        (f"{both}, corrected for the prevalence trained on", -prior),
    ):
        logits[name], cuts[name] = logits[both], float(cut)
    for name, values in logits.items():
        decisions = values >= cuts[name]
        probability = expit(values - cuts[name])
        row = [
            f"{_scored(balanced_accuracy, decisions, statuses):.3f}",
            f"{_scored(roc_auc, probability, statuses):.3f}",
            f"{calibration_error(probability, statuses):.3f}",
            f"{decisions.mean():.2f} ({statuses.mean():.2f})",
        ]
        lines.append(_line(name, row))
    best = cohort.oracle["balanced_accuracy"]["joint"]
    return [*lines, _line("oracle", [f"{best:.3f}", "", "", ""])]


def _survival_table(cohort: UnseenCohort) -> list[str]:
    """Return the table of Task 2."""
    days = np.array([patient.patient.rfs_days for patient in cohort.patients], dtype=float)
    events = np.array([bool(patient.patient.relapse) for patient in cohort.patients])

    def statistic(risks: NDArray[np.float64]) -> Callable[[NDArray[np.intp]], float]:
        return lambda chosen: concordance_index(risks[chosen], days[chosen], events[chosen])

    lines = _header(
        f"Task 2, C-index, {cohort.title}",
        "held out, best epoch",
        "true masks and HPV status [95 %]",
        "predicted masks and HPV status [95 %]",
        "gain over the paper [95 %]",
    )
    papers: NDArray[np.float64] | None = None
    for name, (served, hpv) in SURVIVAL_ROWS.items():
        run = _folder(cohort.runs, Survival(), served.variant) / "survival"
        networks = [_result(run, fold.name)["c_index"] for fold in read_folds(run).folds]
        true, predicted = cohort.risks(served, None), cohort.risks(served, hpv)
        papers = predicted if papers is None else papers
        gain = paired_difference(statistic(predicted), statistic(papers), len(days))
        row = [
            f"{np.mean(networks):.3f}" if served.kinds == ("network",) else "",
            f"{bootstrap(statistic(true), len(days)):.3f}",
            f"{bootstrap(statistic(predicted), len(days)):.3f}",
            "" if predicted is papers else f"{gain:+.3f}",
        ]
        lines.append(_line(name, row))
    best = cohort.oracle["c_index"]["joint"]
    return [*lines, _line("oracle", ["", f"{best:.3f}", "", ""])]


def _scored(metric: Callable[..., float], predictions: ArrayLike, truth: ArrayLike) -> Interval:
    values, truths = np.asarray(predictions), np.asarray(truth)
    return bootstrap(lambda chosen: metric(values[chosen], truths[chosen]), len(truths))


def _header(*names: str) -> list[str]:
    return [_line(names[0], names[1:]), _line("---", ["---"] * (len(names) - 1))]


def _line(name: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join((name, *cells))} |"


if __name__ == "__main__":
    app()

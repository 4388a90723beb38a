"""The paper's way with Tasks 2 and 3, and each change to it.

`python -m tests.benchmarks.prognosis train COHORT RUNS` trains five folds of Task 1, of Task 3 in
the paper's way and in ours, and of Task 2 in each step from the one to the other, all with
`prognosis.toml`. `table COHORT UNSEEN RUNS` scores them on a cohort of centres that no fold knows:
the models are exported, the masks are those of Task 1's ensemble and the HPV status that of Task 3,
as the containers have them, and once more the true ones. `--also COHORT` adds cohorts for Task 3,
such as of other prevalence. Both commands go on where they were stopped.
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
from shared.models.card import Kind
from shared.models.hpv import HpvModel
from shared.models.prognosis import PrognosisModel
from shared.models.segmentation import SegmentationModel
from shared.models.survival import SurvivalModel
from training.cohort.cache import Cached
from training.cohort.folds import FILE, read_folds
from training.loop.fit import RESULT
from training.tasks import out_of_fold
from training.tasks.hpv import Hpv
from training.tasks.segmentation import Segmentation
from training.tasks.survival import Survival
from training.train import Options, Task, export_run, prepared, train

CONFIGURATION: Final = Path(__file__).with_suffix(".toml")
FOLDS: Final = 5

OURS: Final = {"missing": "mean", "clinical_dropout": 0.1, "mirror": True}
HPV: Final[Mapping[str, Mapping[str, object]]] = {
    "paper": {},
    "ours": {**OURS, "masks": "predicted", "models": "both"},
}
"""What of [hpv] differs from the paper's way."""


@dataclass(frozen=True)
class Step:
    """One way to train Task 2.

    Attributes
    ----------
    changes : what of [survival] differs from the paper's way.
    hpv : of `HPV`, whose predictions it may learn from.
    """

    changes: Mapping[str, object]
    hpv: str = "paper"


_PREDICTED: Final = {"masks": "predicted", "hpv": "predicted"}
SURVIVAL: Final[Mapping[str, Step]] = {
    "paper": Step({}),
    "masks": Step({"masks": "predicted"}),
    "hpv": Step(_PREDICTED),
    "missing": Step({**_PREDICTED, "missing": "mean"}),
    "dropout": Step({**_PREDICTED, "missing": "mean", "clinical_dropout": 0.1}),
    "mirror": Step({**_PREDICTED, **OURS}),
    "ours": Step({**_PREDICTED, **OURS, "models": "both"}, "ours"),
}


@dataclass(frozen=True)
class Served:
    """Which models of a way of training are served.

    Attributes
    ----------
    way : a key of `HPV` or `SURVIVAL`.
    kinds : of models, averaged.
    best_fold : only that of the fold with the best score, as in the paper; else all folds'.
    """

    way: str
    kinds: tuple[Kind, ...] = ("network",)
    best_fold: bool = False


_PAPERS_HPV: Final = Served("paper", best_fold=True)
_OUR_HPV: Final = Served("ours", ("network", "linear"))
HPV_ROWS: Final[Mapping[str, Served]] = {
    "the paper's, one fold": _PAPERS_HPV,
    "the paper's: all folds": Served("paper"),
    "missing as mean, clinical dropout, mirroring": Served("ours"),
    "linear model alone": Served("ours", ("linear",)),
    "both": _OUR_HPV,
}
SURVIVAL_ROWS: Final[Mapping[str, tuple[Served, Served]]] = {
    "the paper's: true masks and HPV status, one fold": (
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
    "+ Task 3 likewise, with its linear model": (Served("ours"), _OUR_HPV),
    "+ linear model": (Served("ours", ("network", "linear")), _OUR_HPV),
    "linear model alone": (Served("ours", ("linear",)), _OUR_HPV),
}
"""Models of Task 2, and those of Task 3 that they are served with."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)
RunsArgument = Annotated[Path, typer.Argument(help="Where cache, folds and models go.")]


@app.command("train")
def train_all(
    cohort: Annotated[Path, typer.Argument(help="Patients to train on.")],
    runs: RunsArgument,
    way: Annotated[
        list[str] | None,
        typer.Option(help="Only these of Tasks 2 and 3, as in hpv-paper; may be repeated."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data.")] = 1,
) -> None:
    """Train the folds of all ways."""
    options = Options(str(CONFIGURATION), folds=FOLDS, workers=workers)
    train(Segmentation(), cohort, runs, replace(options, model=runs / "models/segmentation"))
    options = replace(options, folds=None, splits=runs / "segmentation" / FILE)
    for name, changes in HPV.items():
        if way is None or f"hpv-{name}" in way:
            _train(Hpv(), cohort, runs, name, changes, options)
    for name, step in SURVIVAL.items():
        if way is None or f"survival-{name}" in way:
            _train(Survival(), cohort, runs, name, step.changes, options, step.hpv)


def _train(
    task: Task,
    cohort: Path,
    runs: Path,
    way: str,
    changes: Mapping[str, object],
    options: Options,
    hpv: str | None = None,
) -> None:
    """Train one way in a folder of its own, which shares cache and Task 1 by links."""
    folder = _folder(runs, task, way)
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
    model = folder / "model"
    train(task, cohort, folder, replace(options, configuration=str(configuration), model=model))


def _folder(runs: Path, task: Task, way: str) -> Path:
    return runs / f"{task.name}-{way}"


@app.command("table")
def print_tables(
    cohort: Annotated[Path, typer.Argument(help="That of `train`.")],
    unseen: Annotated[Path, typer.Argument(help="Patients of centres that it does not have.")],
    runs: RunsArgument,
    also: Annotated[
        list[Path] | None, typer.Option(help="A further cohort for Task 3; may be repeated.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare data.")] = 1,
) -> None:
    """Score all ways, and print the tables."""
    statuses = _hpv_statuses(cohort)
    lines = []
    for path in (unseen, *(also or ())):
        served = Cohort(path, runs, workers)
        lines += ["", f"Task 3, {served.title}", "", *_hpv_table(served, statuses), ""]
    lines += _survival_table(Cohort(unseen, runs, workers))
    text = "\n".join(lines)
    print(text)
    (runs / "table.md").write_text(text + "\n", encoding="utf-8")


class Cohort:
    """A cohort that no fold knows, with what models say of it, each asked once and remembered."""

    def __init__(self, cohort: Path, runs: Path, workers: int) -> None:
        options = Options(str(CONFIGURATION), workers=workers)
        self.runs = runs
        self.folder = runs / "unseen" / cohort.name
        self.patients = prepared(cohort, self.folder, options)
        self.oracle = json.loads((cohort / "cohort.json").read_text())["oracle"]
        self.title = f"{cohort.name}: {len(self.patients)} patients"
        self.masks = list(self._remembered("masks", self._segment))

    def hpv_logits(self, served: Served) -> NDArray[np.float64]:
        """Return the mean logit of the models served, shape (patients,)."""
        records = [p.files.clinical for p in self.patients]
        return self._mean(Hpv(), served, "", self.masks, records)

    def risks(self, served: Served, hpv: Served | None) -> NDArray[np.float64]:
        """Return the mean standardised risk of the models served, shape (patients,).

        Parameters
        ----------
        hpv : models of Task 3; None for the true masks and status.
        """
        records = [p.files.clinical for p in self.patients]
        if hpv is None:
            statuses = [p.files.hpv for p in self.patients]
            masks, inputs = [np.asarray(p.labels) for p in self.patients], "true"
            values = [None if status is None else float(status) for status in statuses]
        else:
            masks, inputs = self.masks, f"{hpv.way}-{'-'.join(hpv.kinds)}-{hpv.best_fold}"
            values = [float(v) for v in expit(self.hpv_logits(hpv))]
        known = [replace(record, hpv=value) for record, value in zip(records, values, strict=True)]
        return self._mean(Survival(), served, inputs, masks, known)

    def _segment(self) -> NDArray[np.uint8]:
        model = SegmentationModel.load(self.runs / "models/segmentation")
        cases = tqdm(self.patients, desc=f"{self.folder.name}: segmenting")
        return np.stack([model.segment(patient.prepared()) for patient in cases])

    def _mean(
        self,
        task: Task,
        served: Served,
        inputs: str,
        masks: Sequence[LabelVolume],
        records: Sequence[ClinicalRecord],
    ) -> NDArray[np.float64]:
        """Return what the models served say, averaged; of each it is remembered by the inputs."""
        run = _folder(self.runs, task, served.way)
        names = [fold.name for fold in read_folds(run / task.name).folds]
        folds = [_best_fold(run / task.name, names)] if served.best_fold else names
        said = []
        for fold in folds:
            for kind in served.kinds:
                name = "-".join(filter(None, (task.name, served.way, fold, kind, inputs)))
                said.append(
                    self._remembered(
                        name,
                        lambda f=fold, k=kind, n=name: _ask(  # type: ignore[misc]
                            _exported(task, run, f, k), self.patients, records, masks, n
                        ),
                    )
                )
        mean: NDArray[np.float64] = np.mean(said, axis=0)
        return mean

    def _remembered(self, name: str, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        path = self.folder / f"{name}.npy"
        if not path.is_file():
            with whole(path) as draft:
                np.save(draft, make())
        return np.load(path)


def _exported(task: Task, run: Path, fold: str, kind: Kind) -> PrognosisModel:
    """Return one model of a fold, exported and loaded as a container would."""
    folder = run / "models" / f"{fold}-{kind}"
    if not (folder / "model.json").is_file():
        export_run(task, run, [fold], folder, kinds=[kind])
    return HpvModel(folder) if task.name == "hpv" else SurvivalModel(folder)


def _ask(
    model: PrognosisModel,
    patients: Sequence[Cached],
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
    """Return the scores of a fold's network on the patients who chose its epoch."""
    stated = json.loads((run_folder / f"fold{fold}" / RESULT).read_text())
    scores: dict[str, float] = stated["best"]
    return scores


def _hpv_statuses(cohort: Path) -> NDArray[np.bool_]:
    """Return the known statuses of a cohort."""
    records = map(json.loads, (cohort / "cohort.jsonl").read_text().splitlines())
    return np.array([r["hpv"] for r in records if r["hpv"] is not None], dtype=bool)


def _hpv_table(cohort: Cohort, trained_on: NDArray[np.bool_]) -> list[str]:
    """Return Task 3's table: each row at a probability of one half, the last at others."""
    truth = [patient.files.hpv for patient in cohort.patients]
    known = np.array([status is not None for status in truth])
    statuses = np.array([bool(status) for status in truth])[known]
    lines = _header(
        "", "balanced accuracy [95 %]", "AUC [95 %]", "calibration error", "called positive"
    )
    logits = {name: cohort.hpv_logits(served)[known] for name, served in HPV_ROWS.items()}
    cuts = dict.fromkeys(logits, 0.0)
    prior = logit(trained_on.mean())
    run = _folder(cohort.runs, Hpv(), _OUR_HPV.way) / "hpv" / out_of_fold.FOLDER
    tuned = best_threshold(*out_of_fold.read_known_hpv(run, _OUR_HPV.kinds))
    for name, cut in (
        ("both, threshold of the best out-of-fold balanced accuracy", logit(tuned)),
        ("both, leaning on the prevalence trained on", -prior),
    ):
        logits[name], cuts[name] = logits["both"], float(cut)
    for name, values in logits.items():
        decided = values >= cuts[name]
        probability = expit(values - cuts[name])
        row = [
            f"{_scored(balanced_accuracy, decided, statuses):.3f}",
            f"{_scored(roc_auc, probability, statuses):.3f}",
            f"{calibration_error(probability, statuses):.3f}",
            f"{decided.mean():.2f} of {statuses.mean():.2f}",
        ]
        lines.append(_line(name, row))
    best = cohort.oracle["balanced_accuracy"]["joint"]
    return [*lines, _line("oracle", [f"{best:.3f}", "", "", ""])]


def _survival_table(cohort: Cohort) -> list[str]:
    """Return Task 2's table."""
    days = np.array([patient.files.rfs_days for patient in cohort.patients], dtype=float)
    events = np.array([bool(patient.files.relapse) for patient in cohort.patients])

    def statistic(risks: NDArray[np.float64]) -> Callable[[NDArray[np.intp]], float]:
        return lambda chosen: concordance_index(risks[chosen], days[chosen], events[chosen])

    lines = _header(
        f"Task 2, C-index, {cohort.title}",
        "held out, best epoch",
        "true masks and HPV status [95 %]",
        "predicted ones [95 %]",
        "and its gain over the paper's way [95 %]",
    )
    papers: NDArray[np.float64] | None = None
    for name, (served, hpv) in SURVIVAL_ROWS.items():
        run = _folder(cohort.runs, Survival(), served.way) / "survival"
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


def _scored(metric: Callable[..., float], said: ArrayLike, truth: ArrayLike) -> Interval:
    values, truths = np.asarray(said), np.asarray(truth)
    return bootstrap(lambda chosen: metric(values[chosen], truths[chosen]), len(truths))


def _header(*names: str) -> list[str]:
    return [_line(names[0], names[1:]), _line("---", ["---"] * (len(names) - 1))]


def _line(name: str, cells: Iterable[str]) -> str:
    return f"| {' | '.join((name, *cells))} |"


if __name__ == "__main__":
    app()

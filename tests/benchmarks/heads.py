"""The two heads of Task 3, trained on the same patients: `python -m tests.benchmarks.heads`.

RUNS contains a trained Task 1 and its out-of-fold masks of all held-out patients. For each of
Task 1's folds and each seed, the command trains two heads from the weights of Task 1: the paper's
head at the bottleneck, and the head on the lesions. At the end it prints the scores at each
validation, the AUC on the held-out patients, and the difference between the heads. In training and
at each validation, the heads get the true masks. For the AUC at the end, they get the masks that
Task 1 predicts, as in a container.

After each fold, the tables are written to RUNS/heads.md. A restart resumes at the epoch that was
interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.special import expit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shared.files import write_whole
from shared.metrics.probability import roc_auc
from shared.metrics.uncertainty import bootstrap, paired_difference
from shared.models.networks.hpv import HpvConfig
from shared.models.networks.hpv_lesions import LesionHpvConfig
from training.cohort.cache import prepare_cohort
from training.cohort.folds import HoldOut
from training.config import Configuration, Precision, load_configuration
from training.loop.hardware import Hardware
from training.tasks import out_of_fold
from training.tasks.base import FoldTraining
from training.tasks.hpv import Hpv
from training.tasks.planning import plan_training
from training.train import fit_network

HEADS: Final = ("bottleneck", "lesions")
SCORES: Final = ("balanced_log_loss", "balanced_accuracy", "auc")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A head trained with one seed.

    Attributes
    ----------
    curve : the `SCORES` of each validated epoch.
    logits, statuses : logits and HPV statuses of the held-out patients.
    """

    curve: dict[int, tuple[float, ...]]
    logits: NDArray[np.float64]
    statuses: NDArray[np.bool_]


def joined(folds: Sequence[Trained]) -> Trained:
    """Return all folds as one: the mean curve, and the held-out patients of all folds."""
    return Trained(
        curve={
            epoch: tuple(np.mean([fold.curve[epoch] for fold in folds], axis=0))
            for epoch in folds[0].curve
        },
        logits=np.concatenate([fold.logits for fold in folds]),
        statuses=np.concatenate([fold.statuses for fold in folds]),
    )


def with_head(configuration: Configuration, head: str, epochs: int) -> Configuration:
    """Return the configuration with one of the heads; nothing else differs between the two.

    The paper's head has a width of 1024, as in the paper. Both see the true lesions in training.
    """
    lesions = configuration.hpv.network
    if not isinstance(lesions, LesionHpvConfig):
        raise typer.BadParameter("expected a configuration with a head on the lesions")
    bottleneck = HpvConfig(
        head_width=1024, clinical_width=lesions.clinical_width, dropout=lesions.dropout
    )
    update = {
        "network": bottleneck if head == "bottleneck" else lesions,
        "models": "networks",
        "masks": "true",
        "epochs": epochs,
        "validate_every_epochs": min(10, epochs),
    }
    return configuration.model_copy(update={"hpv": configuration.hpv.model_copy(update=update)})


def train_head(task: Hpv, training: FoldTraining, folder: Path) -> Trained:
    """Train one head on one fold, and predict the held-out patients with its late weights."""
    fitted = fit_network(task, training, folder)
    held_out = out_of_fold.with_masks(training.held_out, training.runs)
    return Trained(
        curve=dict(_curve(folder, training.configuration.hpv.epochs)),
        logits=task.outputs({"network": fitted.late}, held_out, training)["network"],
        statuses=np.array([bool(patient.patient.hpv) for patient in held_out]),
    )


def _curve(folder: Path, epochs: int) -> Iterator[tuple[int, tuple[float, ...]]]:
    """Yield each validated epoch with its scores, from TensorBoard's log."""
    log = EventAccumulator(str(folder / "log"))
    log.Reload()
    epoch_at = {event.step: int(event.value) + 1 for event in log.Scalars("epoch")}
    values = [{e.step: e.value for e in log.Scalars(name)} for name in SCORES]
    for step in sorted(values[0]):
        if epoch_at[step] <= epochs:  # the entry after the last epoch is that of the late weights
            yield epoch_at[step], tuple(scores[step] for scores in values)


def tables(trained: dict[str, list[Trained]]) -> Iterator[str]:
    """Yield the curves, the AUC of each seed, and the difference between the heads."""
    yield "| head | epoch | balanced log-loss | balanced accuracy | AUC |"
    yield "|---|---|---|---|---|"
    for head, runs in trained.items():
        for epoch in runs[0].curve:
            means = np.mean([run.curve[epoch] for run in runs], axis=0)
            yield f"| {head} | {epoch} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |"
    statuses = next(iter(trained.values()))[0].statuses
    yield ""
    yield "| head | AUC of each seed | AUC of the mean logit |"
    yield "|---|---|---|"
    means = {head: np.mean([run.logits for run in runs], axis=0) for head, runs in trained.items()}

    def auc(head: str, indices: NDArray[np.intp]) -> float:
        return roc_auc(expit(means[head][indices]), statuses[indices])

    for head, runs in trained.items():
        each = ", ".join(f"{roc_auc(expit(run.logits), statuses):.3f}" for run in runs)
        interval = bootstrap(
            lambda i, h=head: auc(h, i),  # type: ignore[misc]
            len(statuses),
            strata=statuses,
        )
        yield f"| {head} | {each} | {interval:.3f} |"
    difference = paired_difference(
        lambda i: auc("lesions", i), lambda i: auc("bottleneck", i), len(statuses), strata=statuses
    )
    yield ""
    yield f"lesions minus bottleneck, {len(statuses)} patients: {difference:+.3f}"


@app.command()
def main(
    cohort: Annotated[Path, typer.Argument(help="Patients in the challenge's layout.")],
    runs: Annotated[Path, typer.Argument(help="Folder of runs with a trained Task 1.")],
    configuration: Annotated[
        str, typer.Option(help="One whose Task 3 has a head on the lesions.")
    ] = "demo",
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each training.")] = 60,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each head in a fold.")] = 3,
    folds: Annotated[
        int | None, typer.Option(min=1, help="How many of Task 1's folds; all by default.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data.")] = 1,
    precision: Annotated[
        Precision | None, typer.Option(help="By default the precision of the configuration.")
    ] = None,
) -> None:
    """Train both heads with each seed, and print the tables."""
    base = load_configuration(configuration)
    patients = prepare_cohort(cohort, runs / "cache", base.preparation, workers=workers)
    task = Hpv()  # shared by all seeds, because it keeps the features of the frozen encoder
    plans = {
        (head, seed): plan_training(
            task,
            patients,
            with_head(base, head, epochs),
            runs=runs,
            hold_out=HoldOut(),
            only_fold=None,
            seed=seed,
            workers=workers,
            hardware=Hardware(devices=1, precision=precision),
        )
        for head in HEADS
        for seed in range(seeds)
    }
    trained: dict[tuple[str, int], list[Trained]] = {each: [] for each in plans}
    count = len(next(iter(plans.values())).trainings)
    for fold in range(count if folds is None else min(count, folds)):
        for (head, seed), plan in plans.items():
            training = plan.trainings[fold]
            folder = runs / "heads" / f"{head}-{seed}" / f"fold{training.fold.name}"
            trained[head, seed].append(train_head(task, training, folder))
        by_head = {head: [joined(trained[head, seed]) for seed in range(seeds)] for head in HEADS}
        lines = [f"{fold + 1} of {count} folds", "", *tables(by_head)]
        write_whole(runs / "heads.md", "\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    app()

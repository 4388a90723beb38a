"""Optimism and weights, measured on phantoms: `python -m tests.benchmarks.selection`.

The phantom patients have records and lesions but no images, so hundreds of patients and many
trainings take only minutes. For each of Tasks 2 and 3, the command trains a network and a linear
model on the record and the lesions, in the same folds. It validates the network after each epoch.

The first table is about the choice of the epoch. It shows the score at the epoch that the held-out
patients chose, how much higher it is than the score of the late weights on the same patients, and
the score of the chosen networks on further patients of the same centres, who are in no fold. The
second table compares each kind of model alone, the plain mean of both kinds, and their mean with
weights from out-of-fold outputs, on patients of two unseen centres.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from shared.clinical import ClinicalRecord, encode, parse_ehr
from shared.metrics.classification import balanced_accuracy
from shared.metrics.probability import roc_auc
from shared.metrics.survival import concordance_index
from shared.metrics.uncertainty import bootstrap, paired_difference
from shared.models.card import MemberKind
from shared.models.networks.clinical import clinical_mlp
from training.cohort.features import fit_features
from training.cohort.folds import Folds, k_folds, leave_one_centre_out
from training.loop.late import LATE_SHARE
from training.loop.losses import cox_loss
from training.phantom.patient import Kind, draw_patient
from training.tasks.linear import BalancedLogistic, RidgeCox
from training.tasks.weights import HPV_WEIGHING, RISK_WEIGHING, Weighing, Weights

KEYS: Final = ("age", "gender", "tobacco", "alcohol", "performance_status", "treatment")
WIDTH: Final = 64
RATE: Final = 3e-3
BATCH: Final = 16

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Phantom patients: inputs, outcomes and centres, one row each."""

    records: list[ClinicalRecord]
    lesions: Values
    outcomes: pd.DataFrame
    centres: list[str]

    def rows(self, chosen: NDArray[np.intp]) -> Cohort:
        """Return some patients."""
        return Cohort(
            records=[self.records[i] for i in chosen],
            lesions=self.lesions[chosen],
            outcomes=self.outcomes.iloc[chosen].reset_index(drop=True),
            centres=[self.centres[i] for i in chosen],
        )


def draw_cohort(patients: int, seed: int, kind: Kind) -> Cohort:
    """Draw patients without images."""
    drawn = [
        draw_patient(seed, index, kind)
        for index in tqdm(range(patients), desc=f"{kind.centres} centres", disable=None)
    ]
    lesions = [
        [
            np.log1p(sum(lesion.volume_ml for lesion in each.lesions)),
            np.log1p(max(lesion.suv for lesion in each.lesions)),
            np.log1p(sum(not lesion.primary for lesion in each.lesions)),
            np.log1p(sum(lesion.volume_ml for lesion in each.lesions if lesion.primary)),
            float(sum(lesion.core != "solid" for lesion in each.lesions)),
        ]
        for each in drawn
    ]
    outcomes = {
        "HPV Status": [each.person.hpv for each in drawn],
        "Relapse": [bool(each.relapse) for each in drawn],
        "RFS": [each.rfs_days for each in drawn],
    }
    return Cohort(
        records=[parse_ehr(each.ehr)[0] for each in drawn],
        lesions=np.array(lesions),
        outcomes=pd.DataFrame(outcomes),
        centres=[each.centre.name for each in drawn],
    )


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What differs between Tasks 2 and 3.

    Attributes
    ----------
    selections : by name, each score that can choose the epoch, as a function of outputs and
        outcomes; the first is the paper's.
    score : the score that is reported.
    """

    name: str
    outcome: str
    loss: Callable[[Tensor, pd.DataFrame], Tensor]
    linear: Callable[[Values, pd.DataFrame], Callable[[Values], Values]]
    selections: Mapping[str, Callable[[Values, pd.DataFrame], float]]
    score: Callable[[Values, pd.DataFrame], float]
    weighing: Weighing


def _hpv(outcomes: pd.DataFrame) -> NDArray[np.bool_]:
    return outcomes["HPV Status"].to_numpy(dtype=bool)


def _hpv_loss(logits: Tensor, outcomes: pd.DataFrame) -> Tensor:
    truth = torch.from_numpy(_hpv(outcomes)).float()
    weights = torch.where(truth > 0, 0.5 / truth.mean(), 0.5 / (1 - truth.mean()))
    return functional.binary_cross_entropy_with_logits(logits, truth, weights.clamp(max=10))


def _accuracy(logits: Values, outcomes: pd.DataFrame) -> float:
    return balanced_accuracy(logits > 0, _hpv(outcomes))


def _log_loss(logits: Values, outcomes: pd.DataFrame) -> float:
    truth = _hpv(outcomes)
    losses = np.logaddexp(0, np.where(truth, -logits, logits))
    return -float(losses[truth].mean() + losses[~truth].mean())


def _c_index(risks: Values, outcomes: pd.DataFrame) -> float:
    return concordance_index(risks, outcomes["RFS"], outcomes["Relapse"])


PROBLEMS: Final = (
    Problem(
        name="Task 3, balanced accuracy",
        outcome="HPV Status",
        loss=_hpv_loss,
        linear=lambda values, outcomes: BalancedLogistic().fit(values, _hpv(outcomes)).logit,
        selections={
            "balanced accuracy": _accuracy,
            "AUC": lambda logits, outcomes: roc_auc(expit(logits), _hpv(outcomes)),
            "balanced log-loss": _log_loss,
        },
        score=_accuracy,
        weighing=HPV_WEIGHING,
    ),
    Problem(
        name="Task 2, C-index",
        outcome="Relapse",
        loss=lambda risks, outcomes: cox_loss(
            risks,
            torch.tensor(outcomes["RFS"].to_numpy()),
            torch.tensor(outcomes["Relapse"].to_numpy(dtype=float)),
        ),
        linear=lambda values, outcomes: (
            RidgeCox().fit(values, outcomes["RFS"], outcomes["Relapse"]).risk
        ),
        selections={"C-index": _c_index},
        score=_c_index,
        weighing=RISK_WEIGHING,
    ),
)


@dataclass(frozen=True, kw_only=True)
class FoldModels:
    """The models of one fold, which map the values of patients to outputs.

    Attributes
    ----------
    epochs : the network after each epoch.
    inputs : returns the values of patients, scaled with the patients trained on.
    """

    epochs: Sequence[nn.Module]
    late: nn.Module
    linear: Callable[[Values], Values]
    inputs: Callable[[Cohort], Values]

    def outputs(self, network: nn.Module, cohort: Cohort) -> Values:
        """Return a network's outputs."""
        with torch.inference_mode():
            values: Values = network(_tensor(self.inputs(cohort)))[:, 0].double().numpy()
        return values


def _tensor(values: Values) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def fit_fold(cohort: Cohort, problem: Problem, epochs: int, seed: int) -> FoldModels:
    """Train a network and a linear model on a cohort."""
    features = fit_features(KEYS, cohort.records, "mean")
    mean, std = cohort.lesions.mean(axis=0), cohort.lesions.std(axis=0)

    def inputs(others: Cohort) -> Values:
        clinical = [encode(record, features) for record in others.records]
        return np.concatenate([clinical, (others.lesions - mean) / std], axis=1).astype(float)

    values = inputs(cohort)
    torch.manual_seed(seed)
    network = nn.Sequential(clinical_mlp(values.shape[1], WIDTH, 0.0), nn.Linear(WIDTH, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    rng, snapshots = np.random.default_rng(seed), []
    for _ in range(epochs):
        order = rng.permutation(len(values))
        for start in range(0, len(values) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            outcomes = cohort.outcomes.iloc[rows]
            if outcomes[problem.outcome].nunique() < 2:
                continue
            optimizer.zero_grad()
            problem.loss(network(_tensor(values[rows]))[:, 0], outcomes).backward()
            optimizer.step()
        snapshots.append(copy.deepcopy(network).eval())
    late = copy.deepcopy(snapshots[-1])
    last = [each.state_dict() for each in snapshots[-int(np.ceil(LATE_SHARE * epochs)) :]]
    late.load_state_dict({n: torch.stack([s[n] for s in last]).mean(0) for n in last[0]})
    linear = problem.linear(values, cohort.outcomes)
    return FoldModels(epochs=snapshots, late=late, linear=linear, inputs=inputs)


def measure(
    problem: Problem, *, cohort: Cohort, same: Cohort, unseen: Cohort, folds: Folds, epochs: int
) -> tuple[list[str], list[str]]:
    """Return rows of both tables."""
    names = np.array([str(i) for i in range(len(cohort.records))])
    apparent: dict[str, list[float]] = {name: [] for name in problem.selections}
    chosen: dict[str, list[float]] = {name: [] for name in problem.selections}
    late_same: list[float] = []
    late_own: list[float] = []
    sizes: list[int] = []
    parts: list[pd.DataFrame] = []
    served: dict[MemberKind, list[Values]] = {"network": [], "linear": []}
    for number, fold in enumerate(folds.folds):
        fitted, own = (
            cohort.rows(np.flatnonzero(np.isin(names, part)))
            for part in (fold.training, fold.held_out)
        )
        models = fit_fold(fitted, problem, epochs, seed=number)
        by_epoch = [models.outputs(network, own) for network in models.epochs]
        for name, select in problem.selections.items():
            best = int(np.argmax([select(values, own.outcomes) for values in by_epoch]))
            apparent[name].append(problem.score(by_epoch[best], own.outcomes))
            values = models.outputs(models.epochs[best], same)
            chosen[name].append(problem.score(values, same.outcomes))
        late = models.outputs(models.late, own)
        late_own.append(problem.score(late, own.outcomes))
        late_same.append(problem.score(models.outputs(models.late, same), same.outcomes))
        sizes.append(len(own.records))
        outputs = {"linear": models.linear(models.inputs(own)), "network": late}
        parts.append(own.outcomes.assign(**outputs, fold=fold.name))
        served["network"].append(models.outputs(models.late, unseen))
        served["linear"].append(models.linear(models.inputs(unseen)))

    def mean(values: list[float]) -> float:
        return float(np.average(values, weights=sizes))

    first = [
        f"| {problem.name} | the epoch with the best {name} on the scored patients "
        f"| {mean(apparent[name]):.3f} | {mean(apparent[name]) - mean(late_own):+.3f} "
        f"| {mean(chosen[name]):.3f} |"
        for name in problem.selections
    ]
    first.append(
        f"| {problem.name} | the late weights | {mean(late_own):.3f} | | {mean(late_same):.3f} |"
    )
    table = pd.concat(parts, ignore_index=True)
    return first, _members(problem, table, served, unseen.outcomes)


def _members(
    problem: Problem,
    table: pd.DataFrame,
    served: Mapping[MemberKind, list[Values]],
    outcomes: pd.DataFrame,
) -> list[str]:
    """Return the rows of one task in the second table."""
    weights = problem.weighing.weights(table[["linear", "network"]], table)
    outputs = pd.DataFrame({kind: np.mean(values, axis=0) for kind, values in served.items()})
    rows = {
        "network": outputs["network"].to_numpy(),
        "linear": outputs["linear"].to_numpy(),
        "both, plain mean": Weights().combine(outputs).to_numpy(),
        "both, weighted": weights.combine(outputs).to_numpy(),
    }

    def statistic(values: Values) -> Callable[[NDArray[np.intp]], float]:
        return lambda chosen: problem.score(values[chosen], outcomes.iloc[chosen])

    count = len(outcomes)
    alone = {kind: problem.score(rows[kind], outcomes) for kind in ("network", "linear")}
    better = max(alone, key=lambda kind: alone[kind])
    lines = []
    for name, values in rows.items():
        score = bootstrap(statistic(values), count)
        difference = paired_difference(statistic(values), statistic(rows[better]), count)
        gain = "" if name == better else f"{difference:+.3f}"
        lines.append(f"| {problem.name} | {name} | {score:.3f} | {gain} |")
    words = ", ".join(f"{kind} {weight:.2f}" for kind, weight in weights.weights.items())
    return [*lines, f"| {problem.name} | weights: {words or 'none'} | | |"]


def main(
    patients: Annotated[int, typer.Option(min=50, help="Patients in the folds.")] = 240,
    further: Annotated[int, typer.Option(min=50, help="In each of the two other cohorts.")] = 120,
    epochs: Annotated[int, typer.Option(min=10, help="Each is validated.")] = 60,
    prevalence: Annotated[float, typer.Option(min=0, max=1, help="Of HPV.")] = 0.8,
    by_centre: Annotated[bool, typer.Option("--by-centre", help="One fold per centre.")] = False,
    seed: Annotated[int, typer.Option(help="Of the phantoms.")] = 20260,
) -> None:
    """Draw, train, and print both tables."""
    torch.set_num_threads(1)
    kind = Kind(small=True, prevalence=prevalence)
    elsewhere = Kind(small=True, prevalence=prevalence, centres="unseen")
    cohort, same = draw_cohort(patients, seed, kind), draw_cohort(further, seed + 1, kind)
    unseen = draw_cohort(further, seed + 2, elsewhere)
    first, second = [], []
    for problem in PROBLEMS:
        strata = {str(i): str(v) for i, v in enumerate(cohort.outcomes[problem.outcome])}
        centres = {str(i): centre for i, centre in enumerate(cohort.centres)}
        folds = leave_one_centre_out(strata, centres) if by_centre else k_folds(strata, 5, seed=0)
        rows = measure(problem, cohort=cohort, same=same, unseen=unseen, folds=folds, epochs=epochs)
        first += rows[0]
        second += rows[1]
    print("| score | network | held out | optimism | further patients of the same centres |")
    print("|---|---|---|---|---|", *first, "", sep="\n")
    print("| score | models | unseen centres [95 %] | against the better kind [95 %] |")
    print("|---|---|---|---|", *second, sep="\n")


if __name__ == "__main__":
    typer.run(main)

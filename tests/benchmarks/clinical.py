"""Clinical values of real patients: `python -m tests.benchmarks.clinical`.

The patients are 300 from four centres and 137 from one centre, in `../shared/realdata/clinical` (or
in `clinical` of the folder that HECKTOR_REALDATA names). The first table compares predictions of
recurrence-free survival in the same folds: the network's clinical branch, trained with this
project's Cox loss, and the Cox models of two libraries. The second table shows how well a logistic
regression predicts HPV status. All predictions use clinical values alone. The command fails if the
C-index of a linear branch, trained with this project's loss, differs from that of the libraries'
Cox models by more than 0.01. `--networks 0` leaves out the clinical branch, which takes nearly all
of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Final, TypeAlias

import numpy as np
import pandas as pd
import torch
import typer
from lifelines import CoxPHFitter
from numpy.typing import NDArray
from scipy.special import expit
from sksurv.linear_model import CoxPHSurvivalAnalysis
from sksurv.util import Surv
from torch import nn

from shared.clinical import ClinicalFeature, ClinicalRecord, encode
from shared.errors import HecktorError
from shared.metrics.classification import balanced_accuracy
from shared.metrics.probability import roc_auc
from shared.metrics.survival import concordance_index
from shared.metrics.uncertainty import bootstrap, mean_over_groups, paired_difference
from shared.models.networks.clinical import clinical_mlp
from tests.tree import REALDATA
from training.cohort.folds import Folds, k_folds, leave_one_centre_out
from training.config import load_configuration
from training.loop.losses import cox_loss
from training.samples.batches import ShuffledBatches
from training.tasks.linear import PENALTY, BalancedLogistic, RidgeCox

FOLDS: Final = 5
"""Number of folds if there is a single centre."""
AGREEMENT: Final = 0.01

Values: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Patients:
    """A table of patients.

    Attributes
    ----------
    ehr : keys of the clinical record for which the table has values.
    records : the clinical record of each patient.
    stages : T and N stage, shape (n, 2), NaN if unknown. The challenge's data have no T and N.
    centres : shape (n,).
    hpv : 1, 0 or NaN.
    """

    name: str
    ehr: tuple[str, ...]
    records: tuple[ClinicalRecord, ...]
    stages: Values
    centres: NDArray[np.str_]
    hpv: Values
    time_days: Values
    events: NDArray[np.bool_]

    def __getitem__(self, chosen: NDArray[np.intp]) -> Patients:
        """Return some of the patients."""
        arrays = ("stages", "centres", "hpv", "time_days", "events")
        return replace(
            self,
            records=tuple(self.records[i] for i in chosen),
            **{name: getattr(self, name)[chosen] for name in arrays},
        )

    def folds(self, outcome: NDArray[np.generic]) -> Folds:
        """Return the folds: by centre, or stratified by outcome if there is a single centre."""
        names = [f"{i:03d}" for i in range(len(self.records))]
        strata = dict(zip(names, map(str, outcome), strict=True))
        if len(set(self.centres)) > 1:
            centres = dict(zip(names, map(str, self.centres), strict=True))
            return leave_one_centre_out(strata, centres)
        return k_folds(strata, FOLDS, seed=0)


def hn300() -> Patients:
    """Return the patients of HGJ, CHUS, HMR and CHUM."""
    table = _table("hn300.csv")
    records = tuple(
        ClinicalRecord(age=_known(row.age), hpv=_known(row.hpv)) for row in table.itertuples()
    )
    return Patients(
        "hn300.csv", ("age", "hpv"), records, table[["t", "n"]].to_numpy(float),
        table["center"].to_numpy(str), table["hpv"].to_numpy(float),
        table["rfs_days"].to_numpy(float), table["rfs_event"].to_numpy(bool),
    )  # fmt: skip


def hn1() -> Patients:
    """Return the patients of HN1, without the M-stage because only one of them has M1."""
    table = _table("hn1.csv")
    hpv = table["overall_hpv_p16_status"].map({"positive": 1.0, "negative": 0.0})
    chemotherapy = {"none": 0.0, "concomitant": 1.0, "concurrent": 1.0}
    columns = {
        "age": table["age_at_diagnosis"],
        "gender": table["biological_sex"].map({"male": 1.0, "female": 0.0}),
        "performance_status": table["performance_status_ecog"],
        "hpv": hpv,
        "treatment": table["chemotherapy_given"].map(chemotherapy),
    }
    records = tuple(
        ClinicalRecord(**{key: _known(column[i]) for key, column in columns.items()})
        for i in table.index
    )
    event = "recurrence_metastatic_free_survival"
    return Patients(
        "hn1.csv", tuple(columns), records, table[["clin_t", "clin_n"]].to_numpy(float),
        np.full(len(table), "HN1"), hpv.to_numpy(float),
        table[f"{event}_in_days"].to_numpy(float), table[f"event_{event}"].to_numpy(bool),
    )  # fmt: skip


def _table(name: str) -> pd.DataFrame:
    path = REALDATA / "clinical" / name
    if not path.is_file():
        raise HecktorError(f"expected {path}, found none; set HECKTOR_REALDATA")
    return pd.read_csv(path)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


@dataclass(frozen=True)
class Inputs:
    """The values that a model sees.

    Attributes
    ----------
    with_stages : whether T and N are among the values.
    """

    keys: tuple[str, ...]
    with_stages: bool

    def unscaled(self, patients: Patients) -> Values:
        """Return values, NaN where missing."""
        rows = [[getattr(record, key) for key in self.keys] for record in patients.records]
        values = np.asarray(rows, dtype=np.float64)
        return np.hstack([values, patients.stages]) if self.with_stages else values

    def encoded(self, patients: Patients, training: Patients) -> Values:
        """Return values as the paper's network takes them: age and stage scaled, -1 for missing."""
        ages = [record.age for record in training.records if record.age is not None]
        features = [
            ClinicalFeature(key=key, mean=float(np.mean(ages)), std=float(np.std(ages)))
            if key == "age"
            else ClinicalFeature(key=key)
            for key in self.keys
        ]
        values = np.stack([encode(record, features) for record in patients.records])
        mean, std = np.nanmean(training.stages, axis=0), np.nanstd(training.stages, axis=0)
        stages = np.nan_to_num((patients.stages - mean) / std, nan=-1.0)
        return np.hstack([values, stages]) if self.with_stages else values.astype(np.float64)


Method: TypeAlias = Callable[[Inputs, Patients, Patients], Values]
"""Fits a model to the first patients, and returns the risks of the second."""


def lifelines_cox(inputs: Inputs, fitted: Patients, others: Patients) -> Values:
    """Fit Cox's model without a penalty (Efron's ties)."""
    frame = pd.DataFrame(inputs.encoded(fitted, fitted)).add_prefix("value")
    frame = frame.assign(days=fitted.time_days, event=fitted.events)
    coefficients: Values = CoxPHFitter().fit(frame, "days", "event").params_.to_numpy()
    return inputs.encoded(others, fitted) @ coefficients


def scikit_survival_cox(inputs: Inputs, fitted: Patients, others: Patients) -> Values:
    """Fit Cox's model without a penalty (Breslow's ties, like the loss)."""
    outcome = Surv.from_arrays(fitted.events, fitted.time_days)
    model = CoxPHSurvivalAnalysis(ties="breslow").fit(inputs.encoded(fitted, fitted), outcome)
    risks: Values = model.predict(inputs.encoded(others, fitted))
    return risks


def linear_cox(
    inputs: Inputs, fitted: Patients, others: Patients, penalty: float = PENALTY
) -> Values:
    """Fit the Cox model of `training.tasks.linear`, a baseline for the networks."""
    model = RidgeCox(penalty).fit(inputs.unscaled(fitted), fitted.time_days, fitted.events)
    return model.risk(inputs.unscaled(others))


def linear_branch(inputs: Inputs, fitted: Patients, others: Patients) -> Values:
    """Train one linear layer with this project's loss, on all patients at once, to convergence."""
    values = torch.from_numpy(inputs.encoded(fitted, fitted)).float()
    days, events = torch.from_numpy(fitted.time_days), torch.from_numpy(fitted.events)
    layer = nn.Linear(values.shape[1], 1, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=500, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = cox_loss(layer(values)[:, 0], days, events)
        loss.backward()
        return loss

    optimizer.step(closure)
    return inputs.encoded(others, fitted) @ layer.weight.detach().double().numpy()[0]


@dataclass(frozen=True)
class ClinicalBranch:
    """The network's clinical branch alone, on the schedule of a configuration.

    The weights are those after the last epoch; no epoch is selected. The risks of each network are
    standardised with the patients trained on and then averaged, as in the container.
    """

    configuration: str
    networks: int

    def __call__(self, inputs: Inputs, fitted: Patients, others: Patients) -> Values:
        """Train, and return risks."""
        own, others_values = (
            torch.from_numpy(inputs.encoded(patients, fitted)).float()
            for patients in (fitted, others)
        )
        risks = []
        for seed in range(self.networks):
            network = self._trained(own, fitted, seed)
            with torch.inference_mode():
                scale = network(own)
                risks.append(((network(others_values) - scale.mean()) / scale.std())[:, 0])
        return torch.stack(risks).mean(dim=0).double().numpy()

    def _trained(self, values: torch.Tensor, patients: Patients, seed: int) -> nn.Module:
        settings = load_configuration(self.configuration).survival
        torch.manual_seed(seed)
        width = settings.network.clinical_width
        network = nn.Sequential(
            clinical_mlp(values.shape[1], width, settings.network.dropout), nn.Linear(width, 1)
        )
        optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs)
        days, events = torch.from_numpy(patients.time_days), torch.from_numpy(patients.events)
        batches = ShuffledBatches(len(values), settings.batch_size, seed)
        for epoch in range(settings.epochs):
            batches.set_epoch(epoch)
            for batch in batches:
                chosen = [draw[0] for draw in batch]
                loss = cox_loss(network(values[chosen])[:, 0], days[chosen], events[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            if settings.cosine_decay:
                decay.step()
        return network.eval()


def held_out(
    method: Method, inputs: Inputs, patients: Patients, folds: Folds
) -> tuple[Values, NDArray[np.str_]]:
    """Return the out-of-fold risk of each patient, and the name of the patient's fold."""
    risks, own = np.full(len(patients.records), np.nan), np.full(len(patients.records), "    ")
    for fitted, others, name in _parts(folds):
        risks[others] = method(inputs, patients[fitted], patients[others])
        own[others] = name
    return risks, own


def _parts(folds: Folds) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], str]]:
    for fold in folds.folds:
        fitted, others = (np.array([int(n) for n in p]) for p in (fold.training, fold.held_out))
        yield fitted, others, fold.name


def survival_rows(patients: Patients, inputs: Inputs, networks: int) -> list[str]:
    """Measure every method in the same folds; return rows of the table.

    Raises
    ------
    HecktorError
        If the C-index of the linear branch differs from that of a library's Cox model by more than
        `AGREEMENT`.
    """
    methods: dict[str, Method] = {
        "Cox, lifelines": lifelines_cox,
        "Cox, scikit-survival": scikit_survival_cox,
        "linear branch, this loss": linear_branch,
        "Cox, lifelines, missing values filled by the mean": partial(linear_cox, penalty=0.0),
        "ridge Cox, lifelines, missing values filled by the mean": linear_cox,
    }
    for configuration in ("demo", "paper") if networks else ():
        name = f"clinical branch, this loss, `{configuration}`"
        methods[name] = ClinicalBranch(configuration, networks)
    folds = patients.folds(patients.events)
    statistics, lines = {}, []
    for name, method in methods.items():
        started = time.perf_counter()
        risks, own = held_out(method, inputs, patients, folds)
        columns = (risks, patients.time_days, patients.events)
        statistics[name] = mean_over_groups(concordance_index, columns, own)
        score = bootstrap(statistics[name], len(own), strata=own)
        first = statistics["Cox, lifelines"]
        difference = paired_difference(statistics[name], first, len(own), strata=own)
        by_fold = (
            f"{concordance_index(*(column[own == f.name] for column in columns)):.3f}"
            for f in folds.folds
        )
        gain = "" if name == "Cox, lifelines" else f"{difference:+.3f}"
        lines.append(
            f"| {patients.name}, {_named(inputs)} | {name} | {score:.3f} | {gain} "
            f"| {', '.join(by_fold)} |"
        )
        print(f"{lines[-1]} {time.perf_counter() - started:.0f} s", flush=True)
    everyone = np.arange(len(patients.records))
    c_indices = {name: statistic(everyone) for name, statistic in statistics.items()}
    for library in ("Cox, lifelines", "Cox, scikit-survival"):
        difference_of_two = abs(c_indices["linear branch, this loss"] - c_indices[library])
        if difference_of_two > AGREEMENT:
            raise HecktorError(
                f"expected a linear branch within {AGREEMENT} of '{library}' in C-index, found a "
                f"difference of {difference_of_two:.3f} on {patients.name}"
            )
    return lines


def hpv_row(patients: Patients, inputs: Inputs) -> str:
    """Measure the logistic regression in folds; return a row of the table."""
    known = patients[np.flatnonzero(~np.isnan(patients.hpv))]
    truth = known.hpv > 0.5
    logit = np.full(len(truth), np.nan)
    own = np.full(len(truth), "    ")
    for fitted, others, name in _parts(known.folds(truth)):
        model = BalancedLogistic().fit(inputs.unscaled(known[fitted]), truth[fitted])
        logit[others] = model.logit(inputs.unscaled(known[others]))
        own[others] = name
    accuracy = bootstrap(
        lambda chosen: balanced_accuracy(logit[chosen] >= 0, truth[chosen]), len(truth)
    )
    statistic = mean_over_groups(roc_auc, (expit(logit), truth), own)
    auc = bootstrap(statistic, len(truth), strata=own)
    return (
        f"| {patients.name}, {_named(inputs)} | {np.count_nonzero(truth)} + "
        f"{np.count_nonzero(~truth)} | {accuracy:.3f} | {auc:.3f} |"
    )


def _named(inputs: Inputs) -> str:
    words = [key.replace("_", " ").replace("hpv", "HPV") for key in inputs.keys]
    return ", ".join([*words, "T, N"] if inputs.with_stages else words)


def main(
    networks: Annotated[
        int, typer.Option(min=0, help="Number of networks to average; 0 trains none.")
    ] = 1,
) -> None:
    """Measure, and print both tables."""
    torch.set_num_threads(1)
    tables = (hn300(), hn1())
    lines = [
        "| patients, inputs | model | C-index [95 %] | gain over lifelines' Cox | by fold |",
        "|---|---|---|---|---|",
    ]
    for patients in tables:
        for with_stages in (False, True):
            lines += survival_rows(patients, Inputs(patients.ehr, with_stages), networks)
    lines += ["", "| patients, inputs | HPV+ and − | balanced accuracy [95 %] | AUC [95 %] |"]
    lines.append("|---|---|---|---|")
    for patients in tables:
        keys = tuple(key for key in ("age", "gender") if key in patients.ehr)
        lines += [hpv_row(patients, Inputs(keys, with_stages)) for with_stages in (False, True)]
    print("\n".join(lines))


if __name__ == "__main__":
    typer.run(main)

"""Variants of Task 1's training on the same folds: `python -m tests.benchmarks.variants`.

A TOML file has a table for each variant, with the settings of `segmentation` that it changes. Each
variant and the configuration as it is, called `reference`, are trained on each fold with each seed.
The late weights segment the patients whom the fold held out, a few patients whom it was trained on,
and the patients of further cohorts (`--unseen`). Masks are compared on the region's grid, after the
rules of the configuration. The table has the scores of each variant, and the difference from the
reference, paired over patients.

After each training, the table of the finished ones is written to RUNS/variants.md. Restarting
resumes. `python -m tests.benchmarks.sarcoma` makes the cohort of sarcomas and its folds:

    python -m tests.benchmarks.variants SARCOMA/cohort RUNS --splits SARCOMA/cohort/splits.json
        --configuration tests/benchmarks/sarcoma.toml --variants tests/benchmarks/variants.toml
"""

from __future__ import annotations

import multiprocessing
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from pydantic import TypeAdapter

from shared.files import write_whole
from shared.metrics.uncertainty import bootstrap, paired_difference
from shared.resources import granted_cpus
from training.cohort.cache import PreparedPatient, prepare_cohort
from training.cohort.folds import HoldOut
from training.config import Configuration, load_configuration
from training.loop.hardware import Accelerator, Hardware
from training.tasks.planning import plan_training
from training.tasks.segmentation import SCORES, Segmentation, Totals, predictor, segment
from training.train import fit_network

REFERENCE: Final = "reference"
HELD_OUT, SEEN = "held out", "trained on"
TERMS: Final = "terms.json"

Terms: TypeAlias = dict[str, dict[str, Totals]]
"""For each group of patients and each patient, the terms of Task 1's scores."""
_TERMS: Final = TypeAdapter(Terms)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class VariantTraining:
    """One training of a variant: everything that a process needs for it.

    Attributes
    ----------
    change : the settings of `segmentation` that the variant changes.
    further : cohorts to segment too, by name.
    """

    cohort: Path
    runs: Path
    configuration: str
    variant: str
    change: Mapping[str, Any]
    hold_out: HoldOut
    further: Mapping[str, Path]
    fold: str
    seed: int
    workers: int
    hardware: Hardware

    @property
    def folder(self) -> Path:
        """The folder of the training's results."""
        return self.runs / self.variant / f"seed{self.seed}" / f"fold{self.fold}"


def changed(configuration: Configuration, change: Mapping[str, Any]) -> Configuration:
    """Return a configuration with other settings of Task 1; the network's are merged."""
    content = configuration.model_dump(mode="json")
    task1 = content["segmentation"]
    network = {**task1["network"], **change.get("network", {})}
    return Configuration.model_validate(
        {**content, "segmentation": {**task1, **change, "network": network}}
    )


def train(variant: VariantTraining) -> None:
    """Train a variant on one fold, and write the terms of its scores."""
    if variant.hardware.device == "cuda":
        torch.set_num_threads(1)
    configuration = changed(load_configuration(variant.configuration), variant.change)
    task = Segmentation()
    patients = prepared(variant.cohort, variant.runs, configuration)
    (training,) = plan_training(
        task,
        patients,
        configuration,
        runs=variant.folder,
        hold_out=variant.hold_out,
        only_fold=variant.fold,
        seed=variant.seed,
        workers=variant.workers,
        hardware=variant.hardware,
    ).trainings
    fitted = fit_network(task, training, variant.folder)
    groups: dict[str, Sequence[PreparedPatient]] = {
        HELD_OUT: training.held_out,
        SEEN: training.patients[:: max(1, len(training.patients) // len(training.held_out))],
    }
    for name, cohort in variant.further.items():
        groups[name] = prepared(cohort, variant.runs, configuration)
    predict = predictor(fitted.late, configuration, variant.hardware.device)
    voxel_volume_mm3 = configuration.preparation.spacing_mm**3
    terms: Terms = {name: {} for name in groups}
    for name, group in groups.items():
        for patient in group:
            case = patient.prepared()
            segmented = segment(predict(case), case, configuration)
            totals = Totals()
            totals.add(segmented.labels, np.asarray(patient.labels), voxel_volume_mm3)
            terms[name][patient.patient_id] = totals
    write_whole(variant.folder / TERMS, _TERMS.dump_json(terms).decode())


def prepared(cohort: Path, runs: Path, configuration: Configuration) -> list[PreparedPatient]:
    """Return the prepared patients of a cohort; its cache is shared by all variants."""
    cache = runs / "cache" / cohort.resolve().name
    return prepare_cohort(cohort, cache, configuration.preparation, workers=granted_cpus())


def table(trainings: Sequence[VariantTraining], lesions: Sequence[str]) -> Iterator[str]:
    """Yield the table of the finished trainings.

    A variant is compared with the reference in the folds and seeds that both have finished. The
    bootstrap draws patients; one whom several trainings segmented is still one patient.
    """
    by_variant: dict[str, dict[tuple[int, str], Terms]] = {}
    for training in filter(is_done, trainings):
        terms = _TERMS.validate_json((training.folder / TERMS).read_bytes())
        by_variant.setdefault(training.variant, {})[training.seed, training.fold] = terms
    reference = by_variant.get(REFERENCE, {})
    metrics = [name for lesion in lesions for name in SCORES[lesion]]
    yield "| variant | trainings | patients | " + " | ".join(metrics) + " |"
    yield "|---|---|---|" + "---|" * len(metrics)
    for variant, finished in by_variant.items():
        shared = sorted(set(finished) & set(reference))
        for group in reference[shared[0]] if shared else ():
            own, other = (
                by_patient([each[key][group] for key in shared]) for each in (finished, reference)
            )
            cells = [
                _cell(metric, own, None if variant == REFERENCE else other) for metric in metrics
            ]
            yield (
                f"| {variant} | {len(shared)} | {group} ({len(own)}) | " + " | ".join(cells) + " |"
            )


def by_patient(trainings: Sequence[Mapping[str, Totals]]) -> list[Totals]:
    """Return the terms of each patient over all trainings that segmented the patient."""
    patients = sorted({name for terms in trainings for name in terms})
    return [Totals.of([terms[name] for terms in trainings if name in terms]) for name in patients]


def _cell(metric: str, own: Sequence[Totals], other: Sequence[Totals] | None) -> str:
    """Return a score with its interval and, of a variant, its difference from the reference."""

    def statistic(patients: Sequence[Totals]) -> Callable[[NDArray[np.intp]], float]:
        return lambda chosen: Totals.of([patients[i] for i in chosen]).scores()[metric]

    cell = f"{bootstrap(statistic(own), len(own)):.3f}"
    if other is None:
        return cell
    difference = paired_difference(statistic(own), statistic(other), len(own))
    return f"{cell}; {difference:+.3f}"


def is_done(training: VariantTraining) -> bool:
    """Return whether a training is finished."""
    return (training.folder / TERMS).exists()


@app.command()
def main(
    cohort: Annotated[
        Path, typer.Argument(help="Patients to train on, in the challenge's layout.")
    ],
    runs: Annotated[Path, typer.Argument(help="Folder for caches, trainings and the table.")],
    variants: Annotated[Path, typer.Option(help="TOML file with a table for each variant.")],
    configuration: Annotated[str, typer.Option(help="The reference.")] = "demo",
    splits: Annotated[Path | None, typer.Option(help="File with the folds.")] = None,
    held_out: Annotated[int, typer.Option(min=1, help="Without --splits, one fold.")] = 12,
    unseen: Annotated[list[Path] | None, typer.Option(help="A cohort to segment too.")] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Only this variant; repeatable.")] = None,
    parallel: Annotated[int, typer.Option(min=1, help="Trainings at the same time.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that load data, for each.")] = 1,
    accelerator: Annotated[Accelerator, typer.Option()] = "auto",
) -> None:
    """Train what is missing, and print the table."""
    changes = {REFERENCE: {}, **tomllib.loads(variants.read_text(encoding="utf-8"))}
    base = load_configuration(configuration)
    for change in changes.values():
        changed(base, change)  # an invalid variant is an error before anything is trained
    further = {path.resolve().name: path for path in unseen or ()}
    for path in further.values():
        prepared(path, runs, base)
    hold_out = HoldOut(count=held_out) if splits is None else HoldOut(splits=splits)
    hardware = Hardware(devices=1, accelerator=accelerator)
    plan = plan_training(
        Segmentation(),
        prepared(cohort, runs, base),
        base,
        runs=runs,
        hold_out=hold_out,
        only_fold=None,
        seed=0,
        workers=workers,
        hardware=hardware,
    )
    trainings = [
        VariantTraining(
            cohort=cohort,
            runs=runs,
            configuration=configuration,
            variant=variant,
            change=change,
            hold_out=hold_out,
            further=further,
            fold=fold.name,
            seed=seed,
            workers=workers,
            hardware=hardware,
        )
        for seed in range(seeds)
        for fold in plan.folds.folds
        for variant, change in changes.items()
        if not only or variant in (REFERENCE, *only)
    ]
    spawn = multiprocessing.get_context("spawn")  # a forked process cannot use a GPU
    path, lesions = runs / "variants.md", base.segmentation.lesions
    write_whole(path, "\n".join(table(trainings, lesions)) + "\n")
    with ProcessPoolExecutor(parallel, mp_context=spawn) as pool:
        missing = [pool.submit(train, each) for each in trainings if not is_done(each)]
        for finished in as_completed(missing):
            finished.result()
            write_whole(path, "\n".join(table(trainings, lesions)) + "\n")
    print(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    app()

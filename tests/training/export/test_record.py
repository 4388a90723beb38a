"""The records of a training run: written once, compared on each start, strict when read."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.clinical import ClinicalFeature
from shared.errors import HecktorError, InputError
from shared.schema import Strict
from tests.training.synthetic import configuration
from training.cohort.cache_files import CACHE_RECORD, CacheRecord
from training.cohort.folds import FOLDS, Fold, Folds, read_folds
from training.export.record import (
    MEMBER,
    PHANTOM_NOTICE,
    RUN,
    FoldRecord,
    Provenance,
    RunRecord,
    read_run,
)
from training.loop.fit import RESULT, FitResult
from training.loop.hardware import Hardware
from training.records import read_record
from training.tasks.base import MemberStatistics

AGE = ClinicalFeature(key="age", mean=60.0, std=10.0)


def record(
    provenance: Provenance,
    hardware: Hardware = Hardware(),  # noqa: B008 (frozen)
    feature: ClinicalFeature = AGE,
    seed: int = 1,
    epochs: int = 2,
) -> RunRecord:
    settings = configuration(epochs=epochs)
    return RunRecord.first(
        "tiny",
        settings,
        schedule=settings.segmentation,
        features=[feature],
        hardware=hardware,
        seed=seed,
        provenance=provenance,
    )


def start(folder: Path, provenance: Provenance | None = None, **changes: Any) -> None:
    provenance = provenance or Provenance()
    record(provenance, **changes).keep(folder, provenance)


REAL = Provenance(notice="Research use only.", data="real", licence="CC BY-NC 4.0")


def test_description_of_the_data_needs_a_licence(tmp_path: Path) -> None:
    with pytest.raises(
        HecktorError, match="expected a licence, because the weights are trained on 'real'"
    ):
        start(tmp_path, Provenance(data="real"))
    assert not (tmp_path / RUN).exists()


def test_run_of_phantoms_says_so(tmp_path: Path) -> None:
    start(tmp_path)
    first = read_run(tmp_path)
    assert first.notice == PHANTOM_NOTICE
    assert first.training.data == "phantoms of training/phantom"
    assert first.licence == "Apache-2.0"


def test_run_keeps_the_words_of_its_first_start(tmp_path: Path) -> None:
    start(tmp_path, REAL)
    content = (tmp_path / RUN).read_text()
    first = read_run(tmp_path)
    assert first.notice == "Research use only."
    assert first.training.data == "real"
    assert first.licence == "CC BY-NC 4.0"
    start(tmp_path)
    start(tmp_path, Provenance(data="real"))
    with pytest.raises(HecktorError, match=r"expected the notice 'Research .*', with which"):
        start(tmp_path, Provenance(notice="Another."))
    with pytest.raises(HecktorError, match="expected the data 'real', with which the run in"):
        start(tmp_path, Provenance(data="phantoms"))
    with pytest.raises(HecktorError, match=r"expected the licence 'CC BY-NC 4\.0', with"):
        start(tmp_path, Provenance(licence="Apache-2.0"))
    assert (tmp_path / RUN).read_text() == content


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"hardware": Hardware(precision="bf16-mixed")}, "precision"),
        ({"hardware": Hardware(accumulate_batches=3)}, "accumulate_batches"),
        ({"feature": ClinicalFeature(key="age", mean=90.0)}, "features"),
        ({"seed": 2}, "seed"),
        ({"epochs": 3}, "configuration"),
    ],
)
def test_run_resumes_only_as_it_began(tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    start(tmp_path)
    content = (tmp_path / RUN).read_text()
    with pytest.raises(HecktorError, match=f"found other values of {name};"):
        start(tmp_path, **changes)
    assert (tmp_path / RUN).read_text() == content


def test_run_may_resume_on_other_devices(tmp_path: Path) -> None:
    start(tmp_path)
    start(tmp_path, hardware=Hardware(devices=2, nodes=3))


def test_command_names_no_path_of_the_training_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["/code/x.py", "hpv", "/data/secret/train", "/data/runs", "--data", "two words"]
    monkeypatch.setattr(sys, "argv", words)

    def run_as(module: str | None) -> None:
        spec = None if module is None else ModuleSpec(module, None)
        monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__spec__=spec))

    run_as("training.__main__")
    source = record(Provenance(data="phantoms"), seed=3).training
    assert source.command == "python -m training hpv train runs --data 'two words'"
    for module, expected in (("tests.benchmarks.x", "-m tests.benchmarks.x"), (None, "x.py")):
        run_as(module)
        assert record(Provenance()).training.command == (
            f"python {expected} hpv train runs --data 'two words'"
        )
    assert (source.data, source.seed) == ("phantoms", 3)
    assert source.revision


# Records are strict

FOLD = Fold(name="0", training=("A-1", "A-2"), held_out=("A-3",))
RECORDS: dict[str, Strict] = {
    RUN: record(REAL),
    MEMBER: FoldRecord(members={"network": MemberStatistics(risk_mean=0.5, risk_std=2.0)}),
    RESULT: FitResult(
        kept="mean of weights",
        best={"score": 1.0},
        averaged={"score": 2.0},
        late={"score": 0.5},
        train_seconds=3.0,
    ),
    FOLDS: Folds(how="by hand", strata={"A: HPV 1": 3}, folds=(FOLD,)),
    CACHE_RECORD: CacheRecord(preparation=configuration().preparation, code="0123"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_record_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(RECORDS[name].model_dump_json(indent=1))
    assert read_record(type(RECORDS[name]), path) == RECORDS[name]


@pytest.mark.parametrize("name", RECORDS)
def test_record_with_an_unknown_or_missing_key_or_without_json_is_refused(
    tmp_path: Path, name: str
) -> None:
    path, schema = tmp_path / name, type(RECORDS[name])
    content = json.loads(RECORDS[name].model_dump_json())
    path.write_text(json.dumps({**content, "colour": 3}))
    with pytest.raises(InputError, match=rf"{name} is not a valid record: colour: Extra inputs"):
        read_record(schema, path)
    key = next(iter(content))
    path.write_text(json.dumps({k: v for k, v in content.items() if k != key}))
    with pytest.raises(InputError, match=rf"not a valid record: {key}: Field required; it is"):
        read_record(schema, path)
    path.write_text("{")
    with pytest.raises(InputError, match="not a valid record: Invalid JSON") as caught:
        read_record(schema, path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "read"), [(RUN, read_run), (FOLDS, read_folds)])
def test_missing_and_invalid_records_of_a_run_are_reported(
    tmp_path: Path, name: str, read: Callable[[Path], Strict]
) -> None:
    with pytest.raises(HecktorError, match=rf"expected {name} in .*, found none; train first"):
        read(tmp_path)
    (tmp_path / name).write_text("{}")
    with pytest.raises(InputError, match=rf"{name} is not a valid record: \w+: Field required"):
        read(tmp_path)

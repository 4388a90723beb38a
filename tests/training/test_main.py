"""What the command line of the training makes of a cohort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared.clinical import ClinicalRecord, encode
from shared.errors import HecktorError
from training import __main__ as front
from training.data import Cached, PatientFiles


def cached(number: int = 0, hpv: bool | None = None, **clinical: float) -> Cached:
    nowhere = Path("nowhere")
    record = ClinicalRecord(**clinical)
    files = PatientFiles(f"MDA-{number:03d}", nowhere, nowhere, None, record, hpv, None, None)
    return Cached(files, np.zeros((2, 1, 1, 1), np.float16), np.zeros((1, 1, 1), np.uint8))


def test_features_are_the_papers_encoding_by_hand() -> None:
    patients = [cached(age=50.0), cached(age=70.0), cached()]
    features = front._features(("hpv", "age", "gender"), patients)
    assert [f.key for f in features] == ["hpv", "age", "gender"]
    assert (features[1].mean, features[1].std) == (60, 10)
    assert encode(ClinicalRecord(age=75, hpv=0.5), features).tolist() == [0.5, 1.5, -1]


def test_split_keeps_the_share_of_both_kinds_and_repeats() -> None:
    patients = [cached(i) for i in range(40)]
    strata = [i % 4 == 0 for i in range(40)]
    fitted, held_out = front._split(patients, 12, 0, strata)
    assert (len(fitted), len(held_out)) == (28, 12)
    numbers = [int(p.files.patient_id[4:]) for p in held_out]
    assert sum(n % 4 == 0 for n in numbers) == 3
    assert set(numbers).isdisjoint(int(p.files.patient_id[4:]) for p in fitted)
    again = front._split(patients, 12, 0, strata)[1]
    assert [p.files.patient_id for p in again] == [p.files.patient_id for p in held_out]


@pytest.mark.parametrize(("held_out", "strata"), [(12, [True] * 8), (3, [True] + [False] * 7)])
def test_a_cohort_that_cannot_be_split_is_said_in_one_line(
    held_out: int, strata: list[bool]
) -> None:
    with pytest.raises(HecktorError, match=f"expected more than {held_out} patients") as caught:
        front._split([cached(i) for i in range(8)], held_out, 0, strata)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("status", "expected"), [(True, 1.0), (False, 0.0), (None, None)])
def test_training_of_task_2_sees_the_true_hpv_status(
    status: bool | None, expected: float | None
) -> None:
    patient = front._with_true_hpv(cached(hpv=status, age=60.0))
    assert patient.files.clinical == ClinicalRecord(age=60.0, hpv=expected)


def test_card_names_no_path_of_the_training_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["training", "hpv", "/data/secret/train", "/data/runs", "--data", "two words"]
    monkeypatch.setattr(front.sys, "argv", words)
    training = front._training("phantoms", 9, 3)
    assert training.command == "python -m training hpv train runs --data 'two words'"
    assert (training.data, training.patients, training.seed) == ("phantoms", 9, 3)
    assert training.revision

"""Planning CT and dose: the same patient, and the prescription in the tumours."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from shared.geometry import Grid
from training.phantom import Kind, PhantomPatient, make_patient
from training.phantom.radiotherapy import ELECTIVE_GY, PRESCRIPTIONS_GY, Plan

KIND = Kind(small=True, whole_body=False, centre="MDA", primary=True, nodes=2, planned=True)


@pytest.fixture(scope="module")
def patient() -> PhantomPatient:
    return make_patient(6, 0, KIND)


@pytest.fixture(scope="module")
def plan(patient: PhantomPatient) -> Plan:
    assert patient.plan is not None
    return patient.plan


def on_ct_grid(image: sitk.Image, patient: PhantomPatient, fill: float) -> np.ndarray:
    return sitk.GetArrayFromImage(
        sitk.Resample(image, patient.labels, sitk.Transform(), sitk.sitkLinear, fill)
    )


def test_dose_is_the_prescription_in_lesions_and_low_in_the_brain(
    patient: PhantomPatient, plan: Plan
) -> None:
    dose, labels = on_ct_grid(plan.dose_gy, patient, 0), sitk.GetArrayViewFromImage(patient.labels)
    prescription = min(PRESCRIPTIONS_GY, key=lambda gy: abs(gy - dose.max()))
    assert dose.max() == pytest.approx(prescription, abs=0.5)
    # On the planning CT, the patient is displaced by a few millimetres, so the rim may get less.
    assert np.percentile(dose[labels > 0], 10) > 0.9 * prescription
    brain = dose[-int(60 / patient.ct_hu.GetSpacing()[2]) :]
    assert brain.max() < ELECTIVE_GY / 4


def test_air_gets_no_dose(patient: PhantomPatient, plan: Plan) -> None:
    dose = on_ct_grid(plan.dose_gy, patient, 0)
    far_outside = sitk.GetArrayViewFromImage(patient.ct_hu) < -900
    assert dose[:, :5].max() == 0
    assert dose[far_outside].mean() < 2


def test_planning_ct_is_the_same_patient_on_another_day(
    patient: PhantomPatient, plan: Plan
) -> None:
    assert plan.ct_hu.GetPixelID() == sitk.sitkInt16
    assert Grid.of(plan.ct_hu) != Grid.of(patient.ct_hu)
    planning = on_ct_grid(plan.ct_hu, patient, -1000)
    diagnostic = sitk.GetArrayFromImage(patient.ct_hu)
    both = [np.clip(image, -200, 200).ravel() for image in (planning, diagnostic)]
    assert 0.85 < np.corrcoef(*both)[0, 1] < 0.999


def test_patient_without_planning_has_no_plan() -> None:
    assert make_patient(6, 0, Kind(**{**vars(KIND), "planned": False})).plan is None

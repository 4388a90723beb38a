"""One phantom patient: reproducible, in the right place, with plausible values."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from training.phantom import Kind, PhantomPatient, make_patient
from training.phantom.centres import CENTRES
from training.phantom.patient import FLIPS, draw_patient

EHR_KEYS = {
    "CenterID", "Age", "Gender", "Tobacco Consumption", "Alcohol Consumption",
    "Performance Status", "Treatment", "M-stage",
}  # fmt: skip
SMALL = Kind(
    small=True, whole_body=False, bqml=False, brain_in_fov=True, centre="MDA", primary=True, nodes=2
)
OBLIQUE = (0.9950042, -0.0998334, 0.0, 0.0998334, 0.9950042, 0.0, 0.0, 0.0, 1.0)


def small_kind(**changes: object) -> Kind:
    return Kind(**{**vars(SMALL), **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def patient() -> PhantomPatient:
    return make_patient(3, 1, SMALL)


def centroid_mm(image: sitk.Image, label: int) -> np.ndarray:
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(image)
    return np.array(statistics.GetCentroid(label))


def pet_on_ct_grid(patient: PhantomPatient) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.Resample(patient.pet_suv, patient.labels))


def test_same_seed_and_index_give_identical_images(patient: PhantomPatient) -> None:
    again = make_patient(3, 1, SMALL)
    for image, other in (
        (patient.ct_hu, again.ct_hu),
        (patient.pet_suv, again.pet_suv),
        (patient.labels, again.labels),
    ):
        assert np.array_equal(sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(other))
        assert image.GetOrigin() == other.GetOrigin()
    assert again.ehr == patient.ehr
    assert again.facts == patient.facts


def test_labels_share_the_grid_of_the_ct_but_pet_does_not(patient: PhantomPatient) -> None:
    ct, labels, pet = patient.ct_hu, patient.labels, patient.pet_suv
    assert labels.IsSameImageGeometryAs(ct)
    assert not pet.IsSameImageGeometryAs(ct)
    assert ct.GetPixelID() == sitk.sitkInt16
    assert labels.GetPixelID() == sitk.sitkUInt8
    assert pet.GetPixelID() == sitk.sitkFloat32
    assert set(np.unique(sitk.GetArrayViewFromImage(labels))) == {0, 1, 2}


def test_volumes_in_the_mask_match_the_facts(patient: PhantomPatient) -> None:
    voxel_ml = np.prod(patient.labels.GetSpacing()) / 1000
    labels = sitk.GetArrayViewFromImage(patient.labels)
    for label in (1, 2):
        expected_ml = sum(
            item["volume_ml"] for item in patient.facts["lesions"] if item["label"] == label
        )
        assert (labels == label).sum() * voxel_ml == pytest.approx(expected_ml, rel=0.12, abs=0.15)


def test_uptake_of_brain_muscle_tumour_and_air(patient: PhantomPatient) -> None:
    ct = sitk.GetArrayViewFromImage(patient.ct_hu)
    labels, suv = sitk.GetArrayViewFromImage(patient.labels), pet_on_ct_grid(patient)
    slices_mm = patient.ct_hu.GetSpacing()[2]
    depth = slice(-int(110 / slices_mm), -int(60 / slices_mm))  # the middle of the brain
    brain = suv[depth][(ct[depth] > 0) & (ct[depth] < 70)]
    soft = (ct > 20) & (ct < 90) & (labels == 0)
    muscle = suv[: len(suv) // 4][soft[: len(suv) // 4]]
    assert 3 < brain.mean() < 13
    assert 0.3 < np.median(muscle) < 1.3
    assert suv[labels == 1].max() > 3 * np.median(muscle)
    assert suv[ct < -900].mean() < 0.4


def test_ct_shows_bone_soft_tissue_and_air(patient: PhantomPatient) -> None:
    ct = sitk.GetArrayViewFromImage(patient.ct_hu)
    labels = sitk.GetArrayViewFromImage(patient.labels)
    assert (ct < -900).mean() > 0.3
    assert (ct > 500).sum() > 1000
    assert 20 < np.median(ct[labels == 1]) < 110


@pytest.mark.parametrize(
    "direction", [*FLIPS, (0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0), OBLIQUE]
)
def test_orientation_of_the_file_does_not_move_the_anatomy(
    patient: PhantomPatient, direction: tuple[float, ...]
) -> None:
    stored = make_patient(3, 1, small_kind(direction=direction, pet_direction=direction))
    assert np.allclose(stored.ct_hu.GetDirection(), direction)
    assert stored.labels.IsSameImageGeometryAs(stored.ct_hu)
    for label in (1, 2):
        shift_mm = centroid_mm(stored.labels, label) - centroid_mm(patient.labels, label)
        assert np.abs(shift_mm).max() < (0.4 if direction is OBLIQUE else 0.001)
    resampled = sitk.GetArrayFromImage(sitk.Resample(stored.pet_suv, patient.labels))
    inside = sitk.GetArrayViewFromImage(patient.labels) > 0
    assert np.corrcoef(resampled[inside], pet_on_ct_grid(patient)[inside])[0, 1] > 0.95


def test_spacing_of_the_kind_is_the_spacing_of_the_file() -> None:
    patient = make_patient(3, 1, small_kind(spacing_mm=(2.5, 2.0, 5.0)))
    assert patient.ct_hu.GetSpacing() == (2.5, 2.0, 5.0)


def test_pet_in_bqml_is_the_same_pet_in_another_unit(patient: PhantomPatient) -> None:
    bqml = make_patient(3, 1, small_kind(bqml=True))
    ratio = (
        sitk.GetArrayFromImage(bqml.pet_suv).max() / sitk.GetArrayFromImage(patient.pet_suv).max()
    )
    assert 3000 <= ratio <= 7000


def test_scan_without_brain_ends_below_it(patient: PhantomPatient) -> None:
    without_brain = make_patient(3, 1, small_kind(brain_in_fov=False))
    top_mm = [
        p.ct_hu.GetOrigin()[2] + p.ct_hu.GetSize()[2] * p.ct_hu.GetSpacing()[2]
        for p in (without_brain, patient)
    ]
    assert top_mm[0] < top_mm[1] - 100


@pytest.mark.parametrize(("primary", "nodes"), [(False, 1), (True, 0), (True, 3)])
def test_lesions_match_the_kind(primary: bool, nodes: int) -> None:
    patient = make_patient(5, 2, small_kind(primary=primary, nodes=nodes))
    labels = [item["label"] for item in patient.facts["lesions"]]
    assert labels.count(1) == primary
    assert labels.count(2) == nodes
    assert bool((sitk.GetArrayViewFromImage(patient.labels) == 1).any()) is primary


def test_patient_without_tumour_is_rejected() -> None:
    with pytest.raises(ValueError, match="needs a primary or a node"):
        make_patient(0, 0, Kind(primary=False, nodes=0))


def test_unknown_centre_is_rejected() -> None:
    with pytest.raises(ValueError, match="unknown centre 'XYZ'"):
        make_patient(0, 0, Kind(centre="XYZ"))


def test_record_has_keys_and_codes_of_the_challenge() -> None:
    for index, centre in enumerate(CENTRES):
        patient = draw_patient(7, index, Kind(whole_body=False, centre=centre, small=True))
        assert patient.patient_id == f"{centre}-{index:03d}"
        assert {"CenterID", "Age", "Gender", "M-stage"} <= set(patient.ehr) <= EHR_KEYS
        assert patient.ehr["CenterID"] == CENTRES[centre].code
        assert patient.relapse in (0, 1)
        assert 7 <= patient.rfs_days <= 5888
        assert patient.facts()["lesions"]

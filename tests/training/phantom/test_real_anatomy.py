"""Patients on CTs: the right tissues, lesions in their target volumes, the same every time.

A CT with labels is made here from a synthetic body, so that all of this is tested without real
ones; those are read in place from `../shared/realdata`, or the folder in HECKTOR_REALDATA.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from shared.errors import InputError
from shared.geometry import Grid
from shared.preprocessing.region import Preparation, find_region
from training.phantom import Kind, Patient, make_cohort, make_patient
from training.phantom.anatomy import SIDES, SITES, T, make_body
from training.phantom.painting import Raster, Slab, paint
from training.phantom.real_anatomy import (
    RealBody,
    draw_real_body,
    fingerprint,
    list_scans,
    prepared,
    refusal,
)
from training.phantom.real_scan import Organ
from training.phantom.scanner import IDENTITY
from training.phantom.shapes import Ellipsoid, Pose
from training.phantom.tumour import Lesion, draw_lesions

NEUTRAL = Pose((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
SIZE, SPACING = 128, (4.0, 4.0, 2.5)
WORLD = (30.0, -40.0, 512.0)  # of the made CT's canonical origin
OPENKBP = Path(
    os.environ.get("HECKTOR_REALDATA", Path(__file__).resolve().parents[4] / "shared/realdata")
) / "openkbp_ct"  # fmt: skip
real = pytest.mark.skipif(
    not OPENKBP.is_dir(),
    reason="the real CTs are not here: expected ../shared/realdata or HECKTOR_REALDATA",
)


def write_ct(folder: Path, name: str, ct: np.ndarray, labels: np.ndarray) -> None:
    for array, suffix in ((ct.astype(np.int16), "ct"), (labels.astype(np.uint8), "labels")):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING)
        image.SetOrigin([w - 4 * SIZE / 2 for w in WORLD[:2]] + [WORLD[2] - 235])
        sitk.WriteImage(image, str(folder / f"{name}_{suffix}.nii.gz"))


@pytest.fixture(scope="module")
def made() -> tuple[np.ndarray, np.ndarray]:
    """Return a CT and labels made from a synthetic body: targets by the pharynx and on both sides.

    The right parotid is larger than the left one, so that mirrored patients can be told.
    """
    body = make_body(np.random.default_rng(4), arms_up=False, coarse=True)
    raster = Raster((-4 * SIZE / 2, -4 * SIZE / 2, -235.0), SPACING, (SIZE,) * 3)
    slabs = list(paint(body, [], raster, NEUTRAL))
    tissue = np.concatenate([slab.tissue for slab in slabs])
    x, y, z = (axis.astype(np.float32) for axis in raster.axes())
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    labels = np.zeros(tissue.shape, np.uint8)
    for side in (-1.0, 1.0):
        labels[Ellipsoid((side * 42, -18, -85), (18, 30, 75)).field(x, y, z) < 1] = Organ.PTV56
    labels[Ellipsoid((0, -45, -75), (36, 32, 48)).field(x, y, z) < 1] = Organ.PTV70
    labels[tissue == T.LARYNX] = Organ.LARYNX
    labels[(tissue == T.CORD) & (z <= 0)] = Organ.CORD
    labels[(tissue == T.PAROTID) & (x < 0)] = Organ.RIGHT_PAROTID
    labels[(tissue == T.PAROTID) & (x > 0) & (z > -35)] = Organ.LEFT_PAROTID
    return body.ct_hu[tissue], labels


@pytest.fixture(scope="module")
def folder(made: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anatomy")
    write_ct(path, "one", *made)
    return path


def kind(folder: Path, **changes: object) -> Kind:
    settled = {
        "small": True, "anatomy": str(folder), "centre": "MDA", "bqml": False,
        "brain_in_fov": True, "direction": IDENTITY, "pet_direction": IDENTITY,
    }  # fmt: skip
    return Kind(**{**settled, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def patient(folder: Path) -> Patient:
    return make_patient(3, 1, kind(folder, primary=True, nodes=2))


def painted(body: RealBody, lesions: list[Lesion]) -> Slab:
    """Paint a body on its scan's own grid, as it lies in the canonical frame."""
    size = body.scan.tissue.shape[::-1]
    low = body.scan.first_mm.copy()
    if body.mirrored:
        low[0] = -body.scan.last_mm[0]
    raster = Raster(tuple(low.tolist()), (2.5,) * 3, size)
    (slab,) = paint(replace(body, pose=NEUTRAL), lesions, raster, NEUTRAL)
    return slab


def targets(path: Path, body: RealBody, slab: Slab, *organs: int) -> np.ndarray:
    """Return target volumes of a CT on the grid of `painted`."""
    labels = sitk.ReadImage(str(path / f"{body.scan.name}_labels.nii.gz"))
    array = sitk.GetArrayFromImage(labels)
    top = int(np.flatnonzero((array == Organ.CORD).any(axis=(1, 2)))[-1])
    y, x = (float(np.mean(i)) for i in np.nonzero(array[top] == Organ.CORD))
    first = [i + o / s for i, o, s in zip(
        (x, y, top), body.scan.first_mm, labels.GetSpacing(), strict=True)]  # fmt: skip
    indices = [
        start + np.arange(n) * 2.5 / s
        for start, n, s in zip(first, slab.raster.size_xyz, labels.GetSpacing(), strict=True)
    ]
    inside = np.isin(array, organs)[np.ix_(*(
        np.clip(np.rint(i).astype(int), 0, m - 1)
        for i, m in zip(indices[::-1], array.shape, strict=True)))]  # fmt: skip
    return inside[:, :, ::-1] if body.mirrored else inside


def check_lesions(path: Path, seed: int) -> None:
    """Check one drawn patient's lesions against the target volumes and the pharynx."""
    rng = np.random.default_rng(seed)
    body = replace(draw_real_body(rng, str(path)), pose=NEUTRAL)
    lesions = draw_lesions(rng, body, hpv=bool(seed % 2), primary=True, nodes=2)
    assert lesions[0].primary
    assert len(lesions) > 1
    before, slab = painted(body, []).tissue, painted(body, lesions)
    gtvp = np.isin(slab.tissue, (T.GTVP, T.GTVP_CORE))
    gtvn = np.isin(slab.tissue, (T.GTVN, T.GTVN_CORE))
    for mask, organs in ((gtvp, (Organ.PTV70,)), (gtvn, (1, 2, 3))):
        away = ndimage.distance_transform_edt(~targets(path, body, slab, *organs)) * 2.5
        assert away[mask].max() < 8  # 2.5 mm, diagonally, with half a voxel of both grids
        assert np.mean(away[mask] > 0) < 0.4
    hard = (T.AIR, T.SKIN, T.BONE, T.SPONGY, T.CORD)
    other = (T.PAROTID, T.SUBMANDIBULAR, T.VESSEL, T.LUMEN, T.MUCOSA)
    assert not np.isin(before[gtvp], hard).any()
    assert not np.isin(before[gtvn], hard + other).any()
    if lesions[0].place != "oral cavity":
        pharynx = np.isin(before, (T.LUMEN, T.MUCOSA, T.TONSIL, T.LARYNX))
        assert (ndimage.distance_transform_edt(~pharynx)[gtvp] * 2.5).min() < 4
    volumes = [mask.sum() * 2.5**3 / 1000 for mask in (gtvp, gtvn)]
    drawn = [sum(item.volume_ml for item in lesions if item.primary is p) for p in (True, False)]
    assert volumes == pytest.approx(drawn, rel=0.2, abs=0.3)


def test_tissues_are_found_where_the_labels_and_the_ct_say(folder: Path) -> None:
    scan = prepared(str(folder), "one")
    volumes_ml = np.bincount(scan.tissue.ravel(), minlength=64) * 2.5**3 / 1000
    assert 500 < volumes_ml[T.GREY_MATTER] + volumes_ml[T.WHITE_MATTER] < 1600
    assert volumes_ml[T.GREY_MATTER] > 0.3 * volumes_ml[T.WHITE_MATTER]
    for tissue in (T.CORD, T.PAROTID, T.LARYNX, T.MUCOSA, T.TONSIL, T.TONGUE, T.SUBMANDIBULAR,
                   T.SPONGY, T.BONE, T.SKIN):  # fmt: skip
        assert volumes_ml[tissue] > 1, tissue
    assert volumes_ml[T.LUMEN] + volumes_ml[T.LUNG] > 50
    brain = np.argwhere(scan.tissue == T.GREY_MATTER)[:, 0] * 2.5 + scan.first_mm[2]
    assert brain.min() > -15
    assert np.median(scan.ct_hu[scan.tissue == T.BONE]) > 350
    assert {place for place, _ in scan.seats} >= {"tonsil", "base of tongue", "II", "III"}


@pytest.mark.parametrize("seed", range(2))
def test_lesions_lie_in_their_targets(folder: Path, seed: int) -> None:
    check_lesions(folder, seed)


def test_a_mirrored_patient_is_the_mirror_image(folder: Path) -> None:
    body = replace(draw_real_body(np.random.default_rng(0), str(folder)), mirrored=False)
    other = replace(body, mirrored=True)
    one, two = painted(body, []), painted(other, [])
    assert np.array_equal(one.tissue[:, :, ::-1], two.tissue)
    assert np.array_equal(one.barred[:, :, ::-1], two.barred)
    assert np.allclose(body.hu(one)[:, :, ::-1], other.hu(two), atol=0.01)
    for slab, larger in ((one, -1), (two, 1)):  # the right parotid was made the larger
        parotid = slab.tissue == T.PAROTID
        halves = [parotid[np.broadcast_to(slab.x * side > 0, parotid.shape)].sum() for side in
                  SIDES]  # fmt: skip
        assert halves[larger > 0] > 1.2 * halves[larger < 0]
    for place in SITES:
        assert body.offers(place, 1) == other.offers(place, -1)


def test_same_seed_and_index_give_the_same_bits(folder: Path, patient: Patient) -> None:
    prepared.cache_clear()
    again = make_patient(3, 1, kind(folder, primary=True, nodes=2))
    for one, two in (
        (patient.ct_hu, again.ct_hu),
        (patient.pet_suv, again.pet_suv),
        (patient.labels, again.labels),
    ):
        assert np.array_equal(sitk.GetArrayViewFromImage(one), sitk.GetArrayViewFromImage(two))
        assert one.GetOrigin() == two.GetOrigin()
    assert patient.facts == again.facts
    assert patient.facts["anatomy"] == "one"
    assert patient.facts["whole_body"] is False


def test_images_look_like_a_petct(patient: Patient) -> None:
    ct = sitk.GetArrayViewFromImage(patient.ct_hu)
    labels = sitk.GetArrayViewFromImage(patient.labels)
    suv = sitk.GetArrayFromImage(sitk.Resample(patient.pet_suv, patient.labels))
    height_mm = np.arange(len(ct)) * patient.ct_hu.GetSpacing()[2]
    top = height_mm > height_mm[-1] - 40
    assert suv[top][(ct[top] > 0) & (ct[top] < 70)].mean() > 3  # brain
    assert suv[ct < -900].mean() < 0.3
    for item in patient.facts["lesions"]:
        assert suv[labels == item["label"]].max() > 0.3 * item["suv"]
    assert 20 < np.median(ct[labels > 0]) < 110
    for label in (1, 2):
        drawn = sum(i["volume_ml"] for i in patient.facts["lesions"] if i["label"] == label)
        voxel_ml = np.prod(patient.labels.GetSpacing()) / 1000
        assert (labels == label).sum() * voxel_ml == pytest.approx(drawn, rel=0.15, abs=0.15)


def test_the_grids_stay_inside_what_the_ct_shows(folder: Path) -> None:
    for index in range(2):
        made = make_patient(8, index, kind(folder))
        for image in (made.ct_hu, made.pet_suv):
            size_mm = image.GetSize()[2] * image.GetSpacing()[2]
            assert 180 < size_mm < 1.2 * SIZE * 2.5
        array = sitk.GetArrayFromImage(sitk.DICOMOrient(made.ct_hu, "LPS"))
        assert (array[[0, -1]] > -300).mean(axis=(1, 2)).min() > 0.02  # no slice of air alone


def test_a_share_of_the_patients_is_real_and_the_others_are_as_without(folder: Path) -> None:
    mixed = kind(folder, real_share=0.0)
    plain = replace(mixed, anatomy=None, real_share=1.0)
    one, two = (make_patient(5, 0, k) for k in (mixed, plain))
    assert one.facts["anatomy"] is None
    assert np.array_equal(
        sitk.GetArrayViewFromImage(one.ct_hu), sitk.GetArrayViewFromImage(two.ct_hu)
    )


def test_a_cohort_knows_its_cts_wherever_they_are(folder: Path, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    make_cohort(cohort, 0, seed=1, kind=kind(folder))
    card = (cohort / "cohort.json").read_text()
    assert str(folder) not in card
    assert json.loads(card)["kind"]["anatomy"] == fingerprint(str(folder))
    moved = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, moved)
    make_cohort(cohort, 0, seed=1, kind=kind(moved))
    (moved / "one_labels.nii.gz").write_bytes(b"changed")
    with pytest.raises(ValueError, match="differs in kind"):
        make_cohort(cohort, 0, seed=1, kind=kind(moved))


def test_a_folder_without_cts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected CTs named NAME_ct.nii.gz .* found none"):
        make_patient(0, 0, kind(tmp_path))


def test_a_ct_without_labels_is_refused(
    tmp_path: Path, made: tuple[np.ndarray, np.ndarray]
) -> None:
    write_ct(tmp_path, "bare", *made)
    (tmp_path / "bare_labels.nii.gz").unlink()
    with pytest.raises(InputError, match=r"bare: add them"):
        list_scans(str(tmp_path))


def test_labels_on_another_grid_are_refused(
    tmp_path: Path, made: tuple[np.ndarray, np.ndarray]
) -> None:
    write_ct(tmp_path, "apart", *made)
    path = tmp_path / "apart_labels.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path))[:, :, 1:], str(path))
    with pytest.raises(InputError, match=r"128 × 128 × 127 voxels .* and 128 × 128 × 128"):
        make_patient(0, 0, kind(tmp_path))


def test_cts_that_cannot_carry_a_patient_are_passed_over(
    tmp_path: Path, made: tuple[np.ndarray, np.ndarray]
) -> None:
    ct, labels = made
    write_ct(tmp_path, "headless", np.where(np.arange(SIZE)[:, None, None] > 90, -1000, ct), labels)
    write_ct(tmp_path, "untreated", ct, np.where(labels == Organ.PTV70, 0, labels))
    far = np.where(np.isin(labels, (1, 3)), 0, labels)
    far[40:50, 60:64, 5:20] = Organ.PTV70
    write_ct(tmp_path, "elsewhere", ct, far)
    name = str(tmp_path)
    assert "whole sections from" in str(refusal(name, "headless"))
    assert "no PTV70 (3) among its labels" in str(refusal(name, "untreated"))
    assert "no place for a primary" in str(refusal(name, "elsewhere"))
    with pytest.raises(InputError, match=r"found none among 3; the first: elsewhere: no place"):
        make_patient(0, 0, kind(tmp_path))


@real
@pytest.mark.realdata
@pytest.mark.parametrize("seed", range(2))
def test_lesions_lie_in_their_targets_on_real_cts(seed: int) -> None:
    check_lesions(OPENKBP, seed)


def regions(patients: int) -> dict[int, list[bool]]:
    """Return, by label, whether the head-and-neck region holds all of a patient's tumour."""
    preparation = Preparation(spacing_mm=4, size_xyz=(72, 72, 72), interpolation="linear")
    held: dict[int, list[bool]] = {1: [], 2: []}
    for index in range(patients):
        patient = make_patient(11, index, Kind(small=True, anatomy=str(OPENKBP)))
        region = find_region(patient.ct_hu, patient.pet_suv, preparation).region
        low, high = region.extent_mm()
        array = sitk.GetArrayViewFromImage(patient.labels)
        for label, shares in held.items():
            voxels = np.argwhere(array == label)[:, ::-1].astype(float)
            if len(voxels):
                world = Grid.of(patient.labels).world_mm(voxels)
                shares.append(bool(np.all((world >= low) & (world <= high))))
    return held


@real
@pytest.mark.realdata
def test_the_region_holds_the_tumours_of_real_anatomy() -> None:
    assert all(all(shares) for shares in regions(2).values())


@real
@pytest.mark.realdata
@pytest.mark.slow
def test_the_region_holds_the_tumours_of_a_hundred_on_real_anatomy() -> None:
    held = regions(100)
    assert np.mean(held[1]) >= 0.99
    assert np.mean(held[2]) >= 0.97


@real
@pytest.mark.realdata
@pytest.mark.slow
def test_most_real_cts_can_carry_a_patient() -> None:
    names = list_scans(str(OPENKBP))
    assert sum(refusal(str(OPENKBP), name) is None for name in names) == 37

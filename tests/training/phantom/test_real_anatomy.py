"""Patients on real CTs: tissues, lesions in their target volumes, reproducibility.

Most tests use a CT with labels made from a synthetic body. The others read real CTs from
`../shared/realdata` or the folder in HECKTOR_REALDATA.
"""

from __future__ import annotations

import json
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
from tests.tree import REALDATA
from training.phantom import Kind, PhantomPatient, make_cohort, make_patient
from training.phantom.lesion import Lesion
from training.phantom.painting import paint
from training.phantom.places import SIDES, SITES
from training.phantom.pose import Pose
from training.phantom.real.body import RealBody
from training.phantom.real.folder import (
    draw_real_body,
    fingerprint,
    list_scans,
    load_scan,
    why_unusable,
)
from training.phantom.real.labels import Structure
from training.phantom.scanner import IDENTITY
from training.phantom.shapes import Ellipsoid
from training.phantom.slab import Raster, Slab
from training.phantom.synthetic.body import make_body
from training.phantom.tissue import GTVN_TISSUES, GTVP_TISSUES, T
from training.phantom.tumour import draw_lesions

NEUTRAL = Pose(offset_mm=(0.0, 0.0, 0.0), scale=(1.0, 1.0, 1.0))
SIZE, SPACING = 128, (4.0, 4.0, 2.5)
WORLD = (30.0, -40.0, 512.0)  # where the canonical origin is in the synthetic CT
OPENKBP = REALDATA / "openkbp_ct"
real = pytest.mark.skipif(
    not OPENKBP.is_dir(),
    reason="real CTs are missing: expected ../shared/realdata or HECKTOR_REALDATA",
)


def write_ct(folder: Path, name: str, ct: np.ndarray, labels: np.ndarray) -> None:
    for array, suffix in ((ct.astype(np.int16), "ct"), (labels.astype(np.uint8), "labels")):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING)
        image.SetOrigin([w - 4 * SIZE / 2 for w in WORLD[:2]] + [WORLD[2] - 235])
        sitk.WriteImage(image, str(folder / f"{name}_{suffix}.nii.gz"))


@pytest.fixture(scope="module")
def ct_and_labels() -> tuple[np.ndarray, np.ndarray]:
    """Return a CT of a synthetic body and labels, with targets at the pharynx and in the neck.

    The right parotid is larger than the left one, so that mirrored patients are recognised.
    """
    body = make_body(np.random.default_rng(4), arms_up=False, coarse=True)
    raster = Raster((-4 * SIZE / 2, -4 * SIZE / 2, -235.0), SPACING, (SIZE,) * 3)
    slabs = list(paint(body, [], raster=raster, pose=NEUTRAL))
    tissue = np.concatenate([slab.tissue for slab in slabs])
    x, y, z = (axis.astype(np.float32) for axis in raster.axes())
    z, y, x = np.meshgrid(z, y, x, indexing="ij")
    labels = np.zeros(tissue.shape, np.uint8)
    for side in (-1.0, 1.0):
        labels[Ellipsoid((side * 42, -18, -85), (18, 30, 75)).field(x, y, z) < 1] = Structure.PTV56
    labels[Ellipsoid((0, -45, -75), (36, 32, 48)).field(x, y, z) < 1] = Structure.PTV70
    labels[tissue == T.LARYNX] = Structure.LARYNX
    labels[(tissue == T.CORD) & (z <= 0)] = Structure.CORD
    labels[(tissue == T.PAROTID) & (x < 0)] = Structure.RIGHT_PAROTID
    labels[(tissue == T.PAROTID) & (x > 0) & (z > -35)] = Structure.LEFT_PAROTID
    return body.ct_hu[tissue], labels


@pytest.fixture(scope="module")
def folder(
    ct_and_labels: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("anatomy")
    write_ct(path, "one", *ct_and_labels)
    return path


def kind(folder: Path, **changes: object) -> Kind:
    fixed = {
        "small": True, "anatomy": str(folder), "centre": "MDA", "bqml": False,
        "brain_in_fov": True, "direction": IDENTITY, "pet_direction": IDENTITY,
    }  # fmt: skip
    return Kind(**{**fixed, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def patient(folder: Path) -> PhantomPatient:
    return make_patient(3, 1, kind(folder, primary=True, nodes=2))


def paint_on_scan_grid(body: RealBody, lesions: list[Lesion]) -> Slab:
    """Paint a body in the canonical frame, on the grid of its scan."""
    size = body.scan.tissue.shape[::-1]
    low = body.scan.first_mm.copy()
    if body.mirrored:
        low[0] = -body.scan.last_mm[0]
    raster = Raster(tuple(low.tolist()), (2.5,) * 3, size)
    (slab,) = paint(replace(body, pose=NEUTRAL), lesions, raster=raster, pose=NEUTRAL)
    return slab


def read_targets(path: Path, body: RealBody, slab: Slab, *structures: int) -> np.ndarray:
    """Return the target volumes of a CT on the grid of a slab."""
    labels = sitk.ReadImage(str(path / f"{body.scan.name}_labels.nii.gz"))
    array = sitk.GetArrayFromImage(labels)
    top = int(np.flatnonzero((array == Structure.CORD).any(axis=(1, 2)))[-1])
    y, x = (float(np.mean(i)) for i in np.nonzero(array[top] == Structure.CORD))
    first = [i + o / s for i, o, s in zip(
        (x, y, top), body.scan.first_mm, labels.GetSpacing(), strict=True)]  # fmt: skip
    indices = [
        start + np.arange(n) * 2.5 / s
        for start, n, s in zip(first, slab.raster.size_xyz, labels.GetSpacing(), strict=True)
    ]
    inside = np.isin(array, structures)[np.ix_(*(
        np.clip(np.rint(i).astype(int), 0, m - 1)
        for i, m in zip(indices[::-1], array.shape, strict=True)))]  # fmt: skip
    return inside[:, :, ::-1] if body.mirrored else inside


def check_lesions(path: Path, seed: int) -> None:
    """Check the lesions of one patient against the target volumes and the pharynx."""
    rng = np.random.default_rng(seed)
    body = replace(draw_real_body(rng, str(path)), pose=NEUTRAL)
    lesions = draw_lesions(rng, body, hpv=bool(seed % 2), primary=True, nodes=2)
    assert lesions[0].primary
    assert len(lesions) > 1
    healthy, slab = paint_on_scan_grid(body, []).tissue, paint_on_scan_grid(body, lesions)
    gtvp = np.isin(slab.tissue, GTVP_TISSUES)
    gtvn = np.isin(slab.tissue, GTVN_TISSUES)
    for mask, structures in ((gtvp, (Structure.PTV70,)), (gtvn, (1, 2, 3))):
        target = read_targets(path, body, slab, *structures)
        distance_mm = ndimage.distance_transform_edt(~target) * 2.5
        assert distance_mm[mask].max() < 8  # 2.5 mm, diagonally, with half a voxel of both grids
        assert np.mean(distance_mm[mask] > 0) < 0.4
    hard = (T.AIR, T.SKIN, T.BONE, T.SPONGY, T.CORD)
    avoided = (T.PAROTID, T.SUBMANDIBULAR, T.VESSEL, T.LUMEN, T.MUCOSA)
    assert not np.isin(healthy[gtvp], hard).any()
    assert not np.isin(healthy[gtvn], hard + avoided).any()
    if lesions[0].place != "oral cavity":
        pharynx = np.isin(healthy, (T.LUMEN, T.MUCOSA, T.TONSIL, T.LARYNX))
        assert (ndimage.distance_transform_edt(~pharynx)[gtvp] * 2.5).min() < 4
    volumes = [mask.sum() * 2.5**3 / 1000 for mask in (gtvp, gtvn)]
    expected = [sum(item.volume_ml for item in lesions if item.primary is p) for p in (True, False)]
    assert volumes == pytest.approx(expected, rel=0.2, abs=0.3)


def test_tissues_follow_the_labels_and_the_ct(folder: Path) -> None:
    scan = load_scan(str(folder), "one")
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


def test_mirrored_patient_is_the_mirror_image(folder: Path) -> None:
    body = replace(draw_real_body(np.random.default_rng(0), str(folder)), mirrored=False)
    other = replace(body, mirrored=True)
    one, two = paint_on_scan_grid(body, []), paint_on_scan_grid(other, [])
    assert np.array_equal(one.tissue[:, :, ::-1], two.tissue)
    assert np.array_equal(one.barriers[:, :, ::-1], two.barriers)
    assert np.allclose(body.hu(one)[:, :, ::-1], other.hu(two), atol=0.01)
    for slab, larger in ((one, -1), (two, 1)):  # in the labels the right parotid is larger
        parotid = slab.tissue == T.PAROTID
        halves = [parotid[np.broadcast_to(slab.x * side > 0, parotid.shape)].sum() for side in
                  SIDES]  # fmt: skip
        assert halves[larger > 0] > 1.2 * halves[larger < 0]
    for place in SITES:
        assert body.has_room(place, 1) == other.has_room(place, -1)


def test_same_seed_and_index_give_identical_images(folder: Path, patient: PhantomPatient) -> None:
    load_scan.cache_clear()
    again = make_patient(3, 1, kind(folder, primary=True, nodes=2))
    for image, other in (
        (patient.ct_hu, again.ct_hu),
        (patient.pet_suv, again.pet_suv),
        (patient.labels, again.labels),
    ):
        assert np.array_equal(sitk.GetArrayViewFromImage(image), sitk.GetArrayViewFromImage(other))
        assert image.GetOrigin() == other.GetOrigin()
    assert patient.facts == again.facts
    assert patient.facts["anatomy"] == "one"
    assert patient.facts["whole_body"] is False


def test_image_values_are_plausible(patient: PhantomPatient) -> None:
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
        expected_ml = sum(i["volume_ml"] for i in patient.facts["lesions"] if i["label"] == label)
        voxel_ml = np.prod(patient.labels.GetSpacing()) / 1000
        assert (labels == label).sum() * voxel_ml == pytest.approx(expected_ml, rel=0.15, abs=0.15)


def test_grids_stay_within_the_scan(folder: Path) -> None:
    for index in range(2):
        patient = make_patient(8, index, kind(folder))
        for image in (patient.ct_hu, patient.pet_suv):
            size_mm = image.GetSize()[2] * image.GetSpacing()[2]
            assert 180 < size_mm < 1.2 * SIZE * 2.5
        array = sitk.GetArrayFromImage(sitk.DICOMOrient(patient.ct_hu, "LPS"))
        assert (array[[0, -1]] > -300).mean(axis=(1, 2)).min() > 0.02  # no slice shows only air


def test_synthetic_patients_of_a_mixed_cohort_are_those_of_a_synthetic_cohort(folder: Path) -> None:
    mixed_kind = kind(folder, real_share=0.0)
    synthetic_kind = replace(mixed_kind, anatomy=None, real_share=1.0)
    one, two = (make_patient(5, 0, k) for k in (mixed_kind, synthetic_kind))
    assert one.facts["anatomy"] is None
    assert np.array_equal(
        sitk.GetArrayViewFromImage(one.ct_hu), sitk.GetArrayViewFromImage(two.ct_hu)
    )


def test_cohort_recognises_its_cts_in_another_folder(folder: Path, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort"
    make_cohort(cohort, 0, seed=1, kind=kind(folder))
    recipe = (cohort / "cohort.json").read_text()
    assert str(folder) not in recipe
    assert json.loads(recipe)["kind"]["anatomy"] == fingerprint(str(folder))
    copy = tmp_path / "elsewhere" / folder.name
    shutil.copytree(folder, copy)
    make_cohort(cohort, 0, seed=1, kind=kind(copy))
    (copy / "one_labels.nii.gz").write_bytes(b"changed")
    with pytest.raises(ValueError, match="differs in kind"):
        make_cohort(cohort, 0, seed=1, kind=kind(copy))


def test_folder_without_cts_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected CTs named NAME_ct.nii.gz .* found none"):
        make_patient(0, 0, kind(tmp_path))


def test_ct_without_labels_is_rejected(
    tmp_path: Path, ct_and_labels: tuple[np.ndarray, np.ndarray]
) -> None:
    write_ct(tmp_path, "unlabelled", *ct_and_labels)
    (tmp_path / "unlabelled_labels.nii.gz").unlink()
    with pytest.raises(InputError, match=r"unlabelled: add the labels"):
        list_scans(str(tmp_path))


def test_labels_on_another_grid_are_rejected(
    tmp_path: Path, ct_and_labels: tuple[np.ndarray, np.ndarray]
) -> None:
    write_ct(tmp_path, "shorter", *ct_and_labels)
    path = tmp_path / "shorter_labels.nii.gz"
    sitk.WriteImage(sitk.ReadImage(str(path))[:, :, 1:], str(path))
    with pytest.raises(InputError, match=r"128 × 128 × 127 voxels .* and 128 × 128 × 128"):
        make_patient(0, 0, kind(tmp_path))


def test_unusable_cts_are_skipped(
    tmp_path: Path, ct_and_labels: tuple[np.ndarray, np.ndarray]
) -> None:
    ct, labels = ct_and_labels
    write_ct(tmp_path, "headless", np.where(np.arange(SIZE)[:, None, None] > 90, -1000, ct), labels)
    write_ct(tmp_path, "untreated", ct, np.where(labels == Structure.PTV70, 0, labels))
    distant = np.where(np.isin(labels, (1, 3)), 0, labels)
    distant[40:50, 60:64, 5:20] = Structure.PTV70
    write_ct(tmp_path, "distant", ct, distant)
    name = str(tmp_path)
    assert "whole sections from" in str(why_unusable(name, "headless"))
    assert "no PTV70 (3) in its labels" in str(why_unusable(name, "untreated"))
    assert "no place for a primary" in str(why_unusable(name, "distant"))
    with pytest.raises(InputError, match=r"found none among 3; the first: distant: no place"):
        make_patient(0, 0, kind(tmp_path))


@real
@pytest.mark.realdata
@pytest.mark.parametrize("seed", range(2))
def test_lesions_lie_in_their_targets_on_real_cts(seed: int) -> None:
    check_lesions(OPENKBP, seed)


def check_regions(patients: int) -> dict[int, list[bool]]:
    """Return, by label and patient, whether the head-and-neck region contains the whole lesion."""
    preparation = Preparation(spacing_mm=4, size_xyz=(72, 72, 72), interpolation="linear")
    is_covered: dict[int, list[bool]] = {1: [], 2: []}
    for index in range(patients):
        patient = make_patient(11, index, Kind(small=True, anatomy=str(OPENKBP)))
        region = find_region(patient.ct_hu, patient.pet_suv, preparation).region
        low, high = region.extent_mm()
        array = sitk.GetArrayViewFromImage(patient.labels)
        for label, results in is_covered.items():
            voxels = np.argwhere(array == label)[:, ::-1].astype(float)
            if len(voxels):
                world = Grid.of(patient.labels).world_mm(voxels)
                results.append(bool(np.all((world >= low) & (world <= high))))
    return is_covered


@real
@pytest.mark.realdata
def test_region_contains_tumours_on_real_anatomy() -> None:
    assert all(all(results) for results in check_regions(2).values())


@real
@pytest.mark.realdata
@pytest.mark.slow
def test_region_contains_tumours_of_100_patients_on_real_anatomy() -> None:
    is_covered = check_regions(100)
    assert np.mean(is_covered[1]) >= 0.99
    assert np.mean(is_covered[2]) >= 0.97


@real
@pytest.mark.realdata
@pytest.mark.slow
def test_37_real_cts_are_usable() -> None:
    names = list_scans(str(OPENKBP))
    assert sum(why_unusable(str(OPENKBP), name) is None for name in names) == 37

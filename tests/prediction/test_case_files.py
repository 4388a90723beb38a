"""Image files, DICOM folders and records become a case, and a case becomes a case folder."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset

from prediction.case_files import read_case_files, write_case_folder
from shared.clinical import ClinicalRecord
from shared.editions import CURRENT
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case
from tests.prediction.dicom_files import HALF_LIFE_S, SERIES_UID, Change, write_series

RNG = np.random.default_rng(5)
OBLIQUE = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.4).GetMatrix()
CT_GRID = Grid((7, 6, 5), (1.0, 1.5, 3.0), (-20.0, 10.0, -700.5), OBLIQUE)
PET_GRID = Grid((4, 5, 6), (4.0, 4.0, 5.0), (-25.0, 5.0, -710.0))
CT_HU = RNG.integers(-1000, 1500, CT_GRID.shape_zyx).astype(np.int16)
PET_SUV = RNG.uniform(0, 9, PET_GRID.shape_zyx).astype(np.float32)
PET_SUV[0, 0, 0] = 0


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Return the CT and the PET as NIfTI files."""
    paths = (tmp_path / "ct.nii.gz", tmp_path / "pet.nii")
    for path, grid, voxels in zip(paths, (CT_GRID, PET_GRID), (CT_HU, PET_SUV), strict=True):
        sitk.WriteImage(grid.image(voxels), str(path))
    return paths


def voxels_of(image: sitk.Image) -> np.ndarray:
    return np.asarray(sitk.GetArrayFromImage(image))


def test_nifti_files_become_a_case(files: tuple[Path, Path], tmp_path: Path) -> None:
    ct, pet = files
    ehr = tmp_path / "ehr.json"
    ehr.write_text('{"Age": 61, "M-stage": "M1"}')
    case = read_case_files(ct=ct, pet=str(pet), ehr=ehr)
    assert np.array_equal(voxels_of(case.ct_hu), CT_HU)
    assert np.array_equal(voxels_of(case.pet), PET_SUV)
    assert Grid.of(case.ct_hu).is_close(CT_GRID)
    assert Grid.of(case.pet).is_close(PET_GRID)
    assert case.clinical == ClinicalRecord(age=61, m_stage=1)
    assert case.remarks == ()
    ehr.write_text('{"Age": 61,}')  # like the organisers' sample
    with_comma = read_case_files(ct=ct, pet=pet, ehr=ehr)
    assert with_comma.clinical.age == 61
    (remark,) = with_comma.remarks
    assert "trailing comma" in remark
    assert read_case_files(ct=ct, pet=pet, ehr={"Age": 61}).clinical == ClinicalRecord(age=61)
    assert read_case_files(ct=ct, pet=pet).clinical == ClinicalRecord()


@pytest.mark.parametrize(("qform", "sform"), [(1, 0), (0, 1), (1, 1), (0, 2)])
def test_nifti_geometry_comes_from_either_form(
    files: tuple[Path, Path], tmp_path: Path, qform: int, sform: int
) -> None:
    """The quaternion (byte 256) and the matrix (280) agree; the codes at byte 252 enable them."""
    content = bytearray(files[1].read_bytes())
    struct.pack_into("<hh", content, 252, qform, sform)
    unused = (256, 24) if not qform else (280, 48) if not sform else (0, 0)
    content[unused[0] : sum(unused)] = bytes(unused[1])
    pet = tmp_path / "one_form.nii"
    pet.write_bytes(content)
    assert Grid.of(read_case_files(ct=files[0], pet=pet).pet).is_close(PET_GRID)


def test_nifti_with_shear_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    content = bytearray(files[1].read_bytes())
    struct.pack_into("<hh", content, 252, 0, 1)
    struct.pack_into("<f", content, 284, 3.0)  # x also depends on j
    pet = tmp_path / "sheared.nii"
    pet.write_bytes(content)
    with pytest.raises(InputError, match=r"readable 3-D image .* for PET, but"):
        read_case_files(ct=files[0], pet=pet)


def test_several_time_frames_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    pet = tmp_path / "frames.nii.gz"
    volume = PET_GRID.image(PET_SUV)
    sitk.WriteImage(sitk.JoinSeries([volume]), str(pet))
    case = read_case_files(ct=files[0], pet=pet)
    assert np.array_equal(voxels_of(case.pet), PET_SUV)
    assert Grid.of(case.pet).is_close(PET_GRID)
    sitk.WriteImage(sitk.JoinSeries([volume, volume]), str(pet))
    with pytest.raises(InputError, match=r"PET, but .* has 4 dimensions, and 3 are needed"):
        read_case_files(ct=files[0], pet=pet)


def test_values_that_are_not_finite_are_replaced(files: tuple[Path, Path], tmp_path: Path) -> None:
    pet = tmp_path / "nan.mha"
    voxels = PET_SUV.copy()
    voxels[0, :2, 0] = np.nan, np.inf
    sitk.WriteImage(PET_GRID.image(voxels), str(pet))
    case = read_case_files(ct=files[0], pet=pet)
    assert case.remarks == ("PET: 2 voxels are not finite and are replaced by 0",)
    voxels[0, :2, 0] = 0
    assert np.array_equal(voxels_of(case.pet), voxels)
    sitk.WriteImage(PET_GRID.image(np.full_like(voxels, np.nan)), str(pet))
    with pytest.raises(InputError, match="found NaN or infinity in every voxel"):
        read_case_files(ct=files[0], pet=pet)


def test_dicom_folder_with_both_modalities_becomes_a_case(tmp_path: Path) -> None:
    """At a slope of 1, the stored value 5000 is 1 SUV at the injection, 1.46 SUV an hour later."""
    stored = np.full(PET_GRID.shape_zyx, 5000, np.int16)
    slopes = np.arange(1.0, 7.0)
    write_series(tmp_path / "study/1", CT_HU + 1024, CT_GRID, modality="CT", uid=f"{SERIES_UID}.1")
    write_series(tmp_path / "study/2", stored, PET_GRID, slopes=slopes)
    case = read_case_files(ct=tmp_path / "study", pet=tmp_path / "study")
    assert np.array_equal(voxels_of(case.ct_hu), CT_HU)
    assert Grid.of(case.ct_hu).is_close(CT_GRID)
    expected = np.ones(PET_GRID.shape_zyx) * slopes[:, None, None] * 2 ** (3600 / HALF_LIFE_S)
    np.testing.assert_allclose(voxels_of(case.pet), expected, rtol=1e-6)
    assert case.pet.GetPixelID() == sitk.sitkFloat32
    assert case.remarks == ("PET: DICOM values multiplied by 0.000292127, which gives SUV",)
    half = read_case_files(ct=tmp_path, pet=tmp_path, weight_kg=35)
    np.testing.assert_allclose(voxels_of(half.pet), expected / 2, rtol=1e-6)
    own = read_case_files(ct=tmp_path, pet=tmp_path, suv_factor=2e-4)
    np.testing.assert_allclose(voxels_of(own.pet)[:, 0, 0], slopes, rtol=1e-6)


def test_images_of_two_sessions_get_a_remark(tmp_path: Path) -> None:
    def in_frame(number: int) -> Change:
        def change(index: int, header: Dataset) -> None:
            header.FrameOfReferenceUID = f"{SERIES_UID}.{number}"

        return change

    def remarks(ct_frame: int, pet_frame: int) -> tuple[str, ...]:
        shared = {"modality": "CT", "uid": f"{SERIES_UID}.1"}
        write_series(tmp_path / "ct", CT_HU + 1024, CT_GRID, change=in_frame(ct_frame), **shared)
        stored = np.ones(PET_GRID.shape_zyx, np.int16)
        write_series(tmp_path / "pet", stored, PET_GRID, change=in_frame(pet_frame))
        return read_case_files(ct=tmp_path / "ct", pet=tmp_path / "pet", suv_factor=1.0).remarks

    assert len(remarks(5, 5)) == 1
    assert remarks(5, 6)[1:] == (
        "CT and PET: not in one frame of reference; check that they fit together",
    )


def test_factor_converts_a_file_to_suv(files: tuple[Path, Path]) -> None:
    case = read_case_files(ct=files[0], pet=files[1], suv_factor=0.5)
    assert np.array_equal(voxels_of(case.pet), PET_SUV / 2)
    assert case.remarks == ("PET: multiplied by 0.5, which gives SUV",)


def test_case_folder_is_read_as_the_same_case(files: tuple[Path, Path], tmp_path: Path) -> None:
    ehr = {"Age": 61, "Gender": "F", "Performance Status": 2, "M-stage": "M0", "CenterID": 4}
    case = read_case_files(ct=files[0], pet=files[1], ehr=ehr)
    folder = tmp_path / "case"
    for _ in range(2):  # the second time into the existing folder
        write_case_folder(case, folder)
    again = read_case(folder / "input", CURRENT)
    assert again.clinical == case.clinical
    assert again.remarks == ()
    for one, other in ((again.ct_hu, case.ct_hu), (again.pet, case.pet)):
        assert np.array_equal(voxels_of(one), voxels_of(other))
        assert one.GetPixelID() == other.GetPixelID()
        assert one.IsSameImageGeometryAs(other, 1e-9, 1e-9)
    found = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    assert found == ["input/ehr.json", "input/images/ct/ct.mha", "input/images/pet/pet.mha"]
    assert json.loads((folder / "input/ehr.json").read_text())["Age"] == 61


def test_message_names_the_mistake(files: tuple[Path, Path], tmp_path: Path) -> None:
    ct, pet = files
    text = tmp_path / "notes.txt"
    text.write_text("no image")
    write_series(tmp_path / "pt", np.ones((2, 3, 3), np.int16), PET_GRID)
    for arguments, words in (
        ({"ct": pet, "pet": ct}, "lowest value of 0.*check that CT and PET are not swapped"),
        ({"ct": tmp_path / "none.nii", "pet": pet}, "CT as a file or a DICOM folder at .*none"),
        ({"ct": text, "pet": pet}, "expected a readable 3-D image .* for CT, but .*notes.txt is"),
        ({"ct": ct, "pet": tmp_path / "pt/001.dcm"}, "found one of its files; give .*pt$"),
        ({"ct": ct, "pet": pet, "ehr": text}, "notes.txt is not valid JSON"),
        ({"ct": ct, "pet": pet, "ehr": {"Age": [1]}}, None),
        ({"ct": ct, "pet": pet, "weight_kg": 70.0}, "DICOM folder for --weight-kg, found the file"),
        ({"ct": ct, "pet": pet, "suv_factor": -1.0}, "above 0 for --suv-factor, found -1"),
        ({"ct": ct, "pet": pet, "pet_series": "3"}, "a DICOM folder for --pet-series, found"),
    ):
        if words is None:
            assert read_case_files(**arguments).remarks  # type: ignore[arg-type]
            continue
        with pytest.raises(InputError, match=words) as error:
            read_case_files(**arguments)  # type: ignore[arg-type]
        assert "\n" not in str(error.value)

"""Series of DICOM slices become volumes with correct geometry, order and scale, or are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import Dataset
from pydicom.config import disable_value_validation

from prediction.dicom_series import Series, choose_series, find_series, read_volume
from shared.errors import InputError
from shared.geometry import IDENTITY_DIRECTION, Grid
from tests.prediction.dicom_files import SERIES_UID, Change, decimals, write_series

OBLIQUE = sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.4).GetMatrix()
SIZE_XYZ = (5, 4, 6)
RNG = np.random.default_rng(3)
STORED = RNG.integers(-500, 3000, SIZE_XYZ[::-1]).astype(np.int16)


def grid_with(direction: tuple[float, ...] = IDENTITY_DIRECTION) -> Grid:
    return Grid(SIZE_XYZ, (1.5, 2.5, 3.27), (-12.25, 40.0, -350.5), direction)


def the_series(folder: Path, modality: str = "PT") -> Series:
    (series,) = find_series(folder, "PT" if modality == "PT" else "CT")
    return series


@pytest.mark.parametrize(
    "direction",
    [
        IDENTITY_DIRECTION,
        OBLIQUE,
        (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0),  # prone
        (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, -1.0, 0.0),  # coronal slices
    ],
)
def test_voxels_come_back_at_their_places(tmp_path: Path, direction: tuple[float, ...]) -> None:
    grid = grid_with(direction)
    write_series(tmp_path, STORED, grid, modality="CT")
    image, headers = read_volume(the_series(tmp_path, "CT"))
    assert image.GetPixelID() == sitk.sitkInt16
    assert Grid.of(image).is_close(grid)
    assert np.array_equal(sitk.GetArrayFromImage(image), STORED - 1024)
    assert [header.SOPInstanceUID for header in headers] == [
        f"{SERIES_UID}.{number}" for number in range(1, 7)
    ]


def test_slices_from_head_to_feet_are_reversed(tmp_path: Path) -> None:
    """A grid whose third axis points to the feet gives the same image in the world."""
    downwards = Grid(SIZE_XYZ, (1.5, 2.5, 3.27), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, -1))
    write_series(tmp_path, STORED, downwards)
    image, _ = read_volume(the_series(tmp_path))
    assert Grid.of(image).is_close(Grid(SIZE_XYZ, (1.5, 2.5, 3.27), (0, 0, -5 * 3.27)))
    assert np.array_equal(sitk.GetArrayFromImage(image), STORED[::-1])


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    slopes = np.array([1.0, 0.5, 2.25, 4.0, 0.125, 3.0])
    write_series(tmp_path, STORED, grid_with(), slopes=slopes)
    image, headers = read_volume(the_series(tmp_path))
    assert image.GetPixelID() == sitk.sitkFloat32
    expected = STORED * slopes[:, None, None]
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), expected, rtol=1e-6)
    assert [float(header.RescaleSlope) for header in headers] == slopes.tolist()


def test_values_beyond_16_bits_stay_exact(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, grid_with(), slopes=np.full(6, 100.0))
    image, _ = read_volume(the_series(tmp_path))
    assert image.GetPixelID() == sitk.sitkFloat32
    assert np.array_equal(sitk.GetArrayFromImage(image), STORED.astype(np.float32) * 100)


def test_other_files_in_the_folder_do_not_matter(tmp_path: Path) -> None:
    write_series(tmp_path / "PT", STORED, grid_with())
    write_series(tmp_path / "copy", STORED, grid_with())
    write_series(tmp_path / "CT", STORED, grid_with(), modality="CT", uid=f"{SERIES_UID}.2")

    def make_localiser(index: int, header: Dataset) -> None:
        header.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]

    write_series(
        tmp_path / "scout", STORED, grid_with(), uid=f"{SERIES_UID}.3", change=make_localiser
    )
    (tmp_path / "DICOMDIR").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no slice")
    assert len(the_series(tmp_path).files) == 6
    assert len(the_series(tmp_path, "CT").files) == 6


def test_folder_without_the_modality_is_described(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"DICOM files of a CT series in .*, found none; give the"):
        find_series(tmp_path, "CT")
    write_series(tmp_path, STORED, grid_with())
    with pytest.raises(InputError, match=r"of a CT series in .*, found 6 of PT; give the folder"):
        find_series(tmp_path, "CT")


def test_several_series_are_listed_and_one_can_be_chosen(tmp_path: Path) -> None:
    for number in (10, 2):
        write_series(
            tmp_path / str(number), STORED, grid_with(), uid=f"{SERIES_UID}.{number}", number=number
        )
    series = find_series(tmp_path, "PT")
    with pytest.raises(InputError) as error:
        choose_series(series, None, "--pet-series")
    assert str(error.value) == (
        "expected one series, found 2 among 2 (PT of a test, 6 slices); 10 (PT of a test, 6 "
        "slices); choose one with --pet-series and its number or identifier"
    )
    assert choose_series(series, "10", "--pet-series").uid == f"{SERIES_UID}.10"
    assert choose_series(series, f"{SERIES_UID}.2", "--pet-series").number == "2"
    with pytest.raises(InputError, match="expected one series 3, found 0 among 2"):
        choose_series(series, "3", "--pet-series")


def test_series_with_the_same_number_are_listed_by_identifier(tmp_path: Path) -> None:
    for index in (1, 2):
        write_series(tmp_path / str(index), STORED, grid_with(), uid=f"{SERIES_UID}.{index}")
    with pytest.raises(InputError, match=rf"found 2 among {SERIES_UID}.1 \(.*; {SERIES_UID}.2 \("):
        choose_series(find_series(tmp_path, "PT"), "1", "--pet-series")


def move(where: int, by_mm: tuple[float, float, float]) -> Change:
    def change(index: int, header: Dataset) -> None:
        if index == where:
            place = np.array(header.ImagePositionPatient, dtype=float) + by_mm
            header.ImagePositionPatient = decimals(*place)

    return change


def tilt(index: int, header: Dataset) -> None:
    move(index, (0.0, 0.5 * index, 0.0))(index, header)


def to_coronal(index: int, header: Dataset) -> None:
    if index == 2:
        header.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]


def without_position(index: int, header: Dataset) -> None:
    if index == 2:
        del header.ImagePositionPatient


def with_frames(index: int, header: Dataset) -> None:
    header.NumberOfFrames = 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (move(2, (0, 0, -3.27)), "one slice at each position in .* export one frame"),
        (move(5, (0, 0, 3.27)), "3.27 mm apart in .*, found 6.54 mm between slices 5 and 6"),
        (move(0, (0, 0, -0.5)), "found 3.77 mm between slices 1 and 2"),
        (tilt, "shift of 0.50 mm from slice to slice, as with a tilted gantry"),
        (to_coronal, "one size, spacing and orientation in series 1"),
        (without_position, "ImagePositionPatient in every slice of series 1"),
        (with_frames, "one slice per file in series 1 .* dcm2niix"),
    ],
)
def test_uneven_or_shifted_slices_are_refused(tmp_path: Path, change: Change, words: str) -> None:
    write_series(tmp_path, STORED, grid_with(), change=change)
    with pytest.raises(InputError, match=words) as error:
        read_volume(the_series(tmp_path))
    assert "\n" not in str(error.value)


def test_positions_may_be_rounded(tmp_path: Path) -> None:
    def rounded(index: int, header: Dataset) -> None:
        header.ImagePositionPatient = [round(float(x), 1) for x in header.ImagePositionPatient]

    write_series(tmp_path, STORED, grid_with(), change=rounded)
    image, _ = read_volume(the_series(tmp_path))
    assert image.GetSpacing()[2] == pytest.approx(3.27, abs=0.02)


def test_single_slice_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, STORED[:1], grid_with())
    with pytest.raises(InputError, match="at least two slices in series 1"):
        read_volume(the_series(tmp_path))


def test_truncated_slice_is_refused(tmp_path: Path) -> None:
    write_series(tmp_path, STORED, grid_with())
    file = tmp_path / "003.dcm"
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"expected readable slices in .* export the series again"):
        read_volume(the_series(tmp_path))


def test_values_that_break_the_rules_of_dicom_cause_no_warning(tmp_path: Path) -> None:
    def odd(index: int, header: Dataset) -> None:
        header.AcquisitionTime = "noon"

    with disable_value_validation():
        write_series(tmp_path, STORED, grid_with(), change=odd)
    image, headers = read_volume(the_series(tmp_path))
    assert image.GetSize() == SIZE_XYZ
    assert headers[0].AcquisitionTime == "noon"

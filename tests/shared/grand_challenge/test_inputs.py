"""Inputs: where each one is read from, and which ones are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.editions import CURRENT
from shared.errors import InputError
from shared.geometry import Grid
from shared.grand_challenge.inputs import read_case
from tests.shared.grand_challenge.platform_case import (
    EHR,
    SIZE_XYZ,
    assert_is_the_case,
    ct_image,
    files_in,
    listed,
    run_job,
    the_ct,
    write_image,
)


def test_case_by_its_paths(case: Path) -> None:
    found = read_case(case, CURRENT)
    assert_is_the_case(found)
    assert found.remarks == ()


@pytest.mark.parametrize("socket_key", ["socket", "interface"])
def test_case_by_its_list(case: Path, socket_key: str) -> None:
    (case / "images/ct").rename(case / "images/elsewhere")
    content = listed(socket_key, **{"ct-image": "images/elsewhere"})
    (case / "inputs.json").write_text(json.dumps(content))
    assert_is_the_case(read_case(case, CURRENT))


def test_list_with_both_names_of_sockets_and_unknown_keys(case: Path) -> None:
    """The platform's own list names each socket twice and has many more keys."""
    content = listed(**{"ct-image": "images/elsewhere"})
    (case / "images/ct").rename(case / "images/elsewhere")
    for entry in content:
        entry["interface"] = entry["socket"] = {**entry["socket"], "pk": 7, "overlay": [None]}
        entry["pk"] = "c0ffee"
        entry["future"] = {"nested": [1, {}]}
    (case / "inputs.json").write_text(json.dumps(content))
    assert_is_the_case(read_case(case, CURRENT))


def test_sockets_of_other_algorithms_are_ignored(case: Path) -> None:
    content = listed(**{"thumbnail": "images/thumbnail"})
    (case / "inputs.json").write_text(json.dumps(content[::-1]))
    assert_is_the_case(read_case(case, CURRENT))


def test_list_without_paths_uses_the_paths_of_the_edition(case: Path) -> None:
    content = [{"socket": {"slug": entry["socket"]["slug"]}} for entry in listed()]
    (case / "inputs.json").write_text(json.dumps(content))
    assert_is_the_case(read_case(case, CURRENT))


def test_list_that_is_a_dangling_link_is_not_ignored(case: Path) -> None:
    (case / "inputs.json").symlink_to("elsewhere.json")
    with pytest.raises(InputError, match=r"expected a JSON file at .*inputs.json, found none"):
        read_case(case, CURRENT)


def test_ehr_in_the_list_itself(case: Path) -> None:
    (case / "ehr.json").unlink()
    content = listed()
    content[-1]["value"] = EHR
    (case / "inputs.json").write_text(json.dumps(content))
    assert_is_the_case(read_case(case, CURRENT))


def test_folders_may_be_symbolic_links(case: Path, tmp_path: Path) -> None:
    (case / "images/ct").rename(tmp_path / "elsewhere")
    (case / "images/ct").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(case)
    assert_is_the_case(read_case(tmp_path / "linked", CURRENT))


def test_images_may_be_symbolic_links(case: Path, tmp_path: Path) -> None:
    the_ct(case).rename(tmp_path / "stored.mha")
    the_ct(case).symlink_to(tmp_path / "stored.mha")
    assert_is_the_case(read_case(case, CURRENT))


@pytest.mark.parametrize("suffix", [".mha", ".MHA", ".tif", ".tiff"])
def test_suffixes_of_images(case: Path, suffix: str) -> None:
    the_ct(case).unlink()
    name = "scan" + suffix.lower()
    write_image(ct_image(), case / "images/ct" / name)
    (case / "images/ct" / name).rename(case / "images/ct" / ("scan" + suffix))
    found = read_case(case, CURRENT).ct_hu
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(ct_image()))


def test_other_files_next_to_the_image_are_ignored(case: Path) -> None:
    (case / "images/ct/readme.txt").write_text("hello")
    assert_is_the_case(read_case(case, CURRENT))


def test_uncompressed_images(case: Path) -> None:
    write_image(ct_image(), the_ct(case), compressed=False)
    assert_is_the_case(read_case(case, CURRENT))


@pytest.mark.parametrize("by_list", [False, True])
def test_optional_inputs_are_named_once_and_not_used(case: Path, by_list: bool) -> None:
    write_image(ct_image(), case / "images/ct-planning/plan.mha")
    if by_list:
        content = listed(**{"rt-dose-image": "images/dose"})
        (case / "inputs.json").write_text(json.dumps(content))
        write_image(ct_image(), case / "images/dose/dose.mha")
    found = read_case(case, CURRENT)
    assert_is_the_case(found)
    expected = ["planning-ct-image: present, not used"]
    expected += ["rt-dose-image: present, not used"] if by_list else []
    assert list(found.remarks) == expected


def test_an_unreadable_optional_input_does_no_harm(case: Path) -> None:
    (case / "images/rt-dose").mkdir()
    (case / "images/rt-dose/dose.mha").write_text("no image")
    assert read_case(case, CURRENT).remarks == ("rt-dose-image: present, not used",)


@pytest.mark.parametrize("ehr", ['{"Age": NaN}', '{"Age": Infinity}', '{"Age": null}', "{}"])
def test_ehr_without_a_usable_age(case: Path, ehr: str) -> None:
    (case / "ehr.json").write_text(ehr)
    assert read_case(case, CURRENT).clinical.age is None


def test_ehr_with_a_byte_order_mark(case: Path) -> None:
    (case / "ehr.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(EHR).encode())
    assert_is_the_case(read_case(case, CURRENT))


@pytest.mark.parametrize(
    "ehr",
    ['{"Age": 61, "M-stage": "M0",\n"CenterID": 5,\n}\n', '{"Age": 61, "T": [1, ], "CenterID": 5}'],
)
def test_ehr_with_a_trailing_comma_is_read_with_a_remark(case: Path, ehr: str) -> None:
    (case / "ehr.json").write_text(ehr)
    found = read_case(case, CURRENT)
    assert (found.clinical.age, found.clinical.centre_id) == (61, 5)
    assert found.remarks[0] == (
        "electronic-health-record: not valid JSON because of a trailing comma, which is ignored"
    )


def test_commas_in_texts_of_the_ehr_stay(case: Path) -> None:
    (case / "ehr.json").write_text(r'{"Age": 61, "M-stage": "\",]M0,}",}')
    remarks = " ".join(read_case(case, CURRENT).remarks)
    assert ",]M0,}" in remarks


def test_remarks_of_the_ehr_reach_the_case(case: Path) -> None:
    (case / "ehr.json").write_text('{"Age": 900}')
    assert "900 is outside" in " ".join(read_case(case, CURRENT).remarks)


@pytest.mark.parametrize(("modality", "outside"), [("ct", -1000), ("pet", 0)])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_some_voxels_without_a_number_are_repaired_with_a_remark(
    case: Path, modality: str, outside: float, broken: float
) -> None:
    path = next((case / "images" / modality).iterdir())
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
    image[1, 2, 3] = broken
    image[2, 2, 3] = broken
    write_image(image, path)
    found = read_case(case, CURRENT)
    repaired = found.ct_hu if modality == "ct" else found.pet
    assert repaired[1, 2, 3] == repaired[2, 2, 3] == outside
    assert repaired[3, 2, 3] == image[3, 2, 3]
    assert Grid.of(repaired) == Grid.of(image)
    expected = f"{modality}-image: 2 voxels are not finite and are replaced by {outside}"
    assert found.remarks == (expected,)


# Refused inputs


def no_ct(case: Path) -> None:
    the_ct(case).unlink()


def no_ct_folder(case: Path) -> None:
    the_ct(case).unlink()
    the_ct(case).parent.rmdir()


def two_cts(case: Path) -> None:
    write_image(ct_image(), case / "images/ct/second.tif")


def no_pet(case: Path) -> None:
    next((case / "images/pet").iterdir()).unlink()


def text_for_ct(case: Path) -> None:
    the_ct(case).write_text("This is a letter.\n")


def empty_file_for_ct(case: Path) -> None:
    the_ct(case).write_bytes(b"")


def truncate(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def truncated_ct(case: Path) -> None:
    truncate(the_ct(case), 0.6)


def truncated_uncompressed_ct(case: Path) -> None:
    write_image(ct_image(), the_ct(case), compressed=False)
    truncate(the_ct(case), 0.6)


def flat_ct(case: Path) -> None:
    write_image(ct_image()[:, :, 3], the_ct(case))


def ct_in_time(case: Path) -> None:
    write_image(sitk.JoinSeries([ct_image(), ct_image()]), the_ct(case))


def ct_in_colour(case: Path) -> None:
    write_image(sitk.Compose([ct_image()] * 3), the_ct(case))


def huge_ct(case: Path) -> None:
    content = the_ct(case).read_bytes()
    the_ct(case).write_bytes(content.replace(b"DimSize = 12 10 8", b"DimSize = 99999 99999 99999"))


def ct_elsewhere(case: Path) -> None:
    ct = ct_image()
    ct.SetOrigin((5000.0, 0.0, 0.0))
    write_image(ct, the_ct(case))


def ct_all_nan(case: Path) -> None:
    nan = sitk.GetImageFromArray(np.full(SIZE_XYZ[::-1], np.nan, np.float32))
    nan.CopyInformation(ct_image())
    write_image(nan, the_ct(case))


def pet_all_infinite(case: Path) -> None:
    path = next((case / "images/pet").iterdir())
    write_image(sitk.Image((6, 6, 6), sitk.sitkFloat32) + math.inf, path)


def ehr(content: str) -> Callable[[Path], None]:
    return lambda case: (case / "ehr.json").write_text(content) and None


def no_ehr(case: Path) -> None:
    (case / "ehr.json").unlink()


def inputs(content: object) -> Callable[[Path], None]:
    return lambda case: (case / "inputs.json").write_text(json.dumps(content)) and None


BAD_INPUTS = {
    "no CT": (no_ct, r"exactly one image .* for ct-image in \S+/images/ct, found none"),
    "no CT folder": (no_ct_folder, r"exactly one image .* for ct-image .*, found none"),
    "two CTs": (two_cts, r"exactly one image .*, found 2: scan.mha, second.tif"),
    "no PET": (no_pet, "for pet-image .*, found none"),
    "a text called .mha": (text_for_ct, r"ct-image, \S+ \S+scan.mha is .*not an image"),
    "an empty file": (empty_file_for_ct, r"ct-image, \S+ \S+scan.mha is .*not an image"),
    "truncated": (truncated_ct, r"ct-image, \S+ \S+scan.mha is truncated"),
    "truncated raw": (truncated_uncompressed_ct, r"ct-image, \S+ \S+scan.mha is truncated"),
    "more than memory holds": (huge_ct, r"ct-image, \S+ \S+scan.mha has a size of 99999 x 99999"),
    "2-D": (flat_ct, "3-D image .* for ct-image, .* 2 dimensions and 1 value"),
    "4-D": (ct_in_time, "3-D image .* for ct-image, .* 4 dimensions and 1 value"),
    "colours": (ct_in_colour, "3-D image .* for ct-image, .* 3 dimensions and 3 value"),
    "apart": (ct_elsewhere, "expected CT and PET to overlap, found CT from .* check"),
    "CT all NaN": (ct_all_nan, "expected numbers in .* for ct-image, found NaN"),
    "PET all infinite": (
        pet_all_infinite,
        "expected numbers in .* for pet-image, found NaN or inf",
    ),
    "no EHR": (no_ehr, r"expected a JSON file at \S+/ehr.json, found none"),
    "EHR no JSON": (ehr("Age: 60"), r"\S+/ehr.json is not valid JSON"),
    "EHR empty": (ehr(""), r"\S+/ehr.json is not valid JSON"),
    "EHR nested without end": (ehr("[" * 100_000), r"\S+/ehr.json is not valid JSON"),
    "EHR with two commas": (ehr('{"Age": 60,,}'), r"\S+/ehr.json is not valid JSON"),
    "EHR a list": (ehr(json.dumps([EHR])), "expected the EHR to be a JSON object .* a list"),
    "EHR null": (ehr("null"), "expected the EHR to be a JSON object .* null"),
    "list no list": (inputs({"ct-image": 1}), r"expected \S+/inputs.json to be a list"),
    "list of texts": (inputs(["ct-image"]), r"expected \S+/inputs.json to be a list of objects"),
    "list without slug": (inputs([{"socket": {}}]), r"expected \S+/inputs.json to be a list of ob"),
    "list without PET": (
        inputs([e for e in listed() if e["socket"]["slug"] != "pet-image"]),
        "expected the socket pet-image in inputs.json, found ct-image, electronic-health-record",
    ),
    "list empty": (inputs([]), "expected the socket ct-image in inputs.json, found none"),
}


@pytest.mark.parametrize(("spoil", "message"), list(BAD_INPUTS.values()), ids=list(BAD_INPUTS))
def test_bad_input_ends_with_one_line_and_no_output(
    case: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    message: str,
) -> None:
    spoil(case)
    capfd.readouterr()
    assert run_job(case, tmp_path / "output") == 1
    line, *others = capfd.readouterr().err.splitlines()  # also what C code has written
    assert others == []
    assert pytest.raises(InputError, match=message).matches(InputError(line)), line
    assert files_in(tmp_path / "output") == []


def test_a_good_case_leaves_stderr_empty_and_one_file(
    case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_job(case, tmp_path / "output") == 0
    printed = capfd.readouterr()
    assert printed.err == ""
    last = printed.out.splitlines()[-1]
    assert pytest.raises(
        ValueError, match=r"^done in \d+\.\d s, CPU time \d+\.\d s, peak memory \d+\.\d\d GB$"
    ).matches(ValueError(last))
    assert files_in(tmp_path / "output") == [
        "images",
        "images/tumor-lymph-node-segmentation",
        "images/tumor-lymph-node-segmentation/output.mha",
    ]

"""The platform's contract: what is read from where, what is refused, and how a job ends."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from shared import grand_challenge
from shared.case import Case
from shared.errors import InputError, ModelError
from shared.geometry import Grid
from shared.grand_challenge import (
    HECKTOR_2025,
    log,
    main,
    read_case,
    write_hpv,
    write_risk,
    write_segmentation,
)
from shared.preprocessing.pipeline import prepare
from shared.preprocessing.region import Preparation

SIZE_XYZ = (12, 10, 8)
EHR = {"Age": 61, "M-stage": "M0", "CenterID": 5}
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)


def ct_image(kind: type = np.int16) -> sitk.Image:
    rng = np.random.default_rng(0)
    ct = sitk.GetImageFromArray(rng.integers(-1000, 1000, SIZE_XYZ[::-1]).astype(kind))
    ct.SetSpacing((2.5, 3.0, 4.0))
    ct.SetOrigin((-30.0, 12.5, 100.0))
    ct.SetDirection(OBLIQUE)
    return ct


def pet_image() -> sitk.Image:
    pet = sitk.GetImageFromArray(np.ones((6, 6, 6), np.float32))
    pet.SetSpacing((6.0, 6.0, 6.0))
    pet.SetOrigin((-40.0, 10.0, 70.0))
    return pet


def write_image(image: sitk.Image, path: Path, compressed: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path), useCompression=compressed)


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """Return an input folder in the platform's layout."""
    folder = tmp_path / "input"
    write_image(ct_image(), folder / "images/ct/scan.mha")
    write_image(pet_image(), folder / "images/pet/0f3c.mha")
    (folder / "ehr.json").write_text(json.dumps(EHR))
    return folder


def the_ct(case: Path) -> Path:
    return case / "images/ct/scan.mha"


def listed(socket_key: str = "socket", **changes: Any) -> list[dict[str, Any]]:
    """Return an `inputs.json` as the platform writes it."""
    paths = {
        "ct-image": "images/ct",
        "pet-image": "images/pet",
        "electronic-health-record": "ehr.json",
        **changes,
    }
    return [
        {
            "file": None,
            "image": {"name": "scan.mha"} if "image" in slug else None,
            "value": None,
            socket_key: {"slug": slug, "relative_path": path, "kind": "Image"},
        }
        for slug, path in paths.items()
    ]


def assert_is_the_case(found: Case) -> None:
    assert np.array_equal(
        sitk.GetArrayViewFromImage(found.ct_hu), sitk.GetArrayViewFromImage(ct_image())
    )
    assert Grid.of(found.ct_hu) == Grid.of(ct_image())
    assert Grid.of(found.pet) == Grid.of(pet_image())
    assert (found.clinical.age, found.clinical.m_stage, found.clinical.centre_id) == (61, 0, 5)


# Reading


def test_case_by_its_paths(case: Path) -> None:
    found = read_case(case, HECKTOR_2025)
    assert_is_the_case(found)
    assert found.remarks == ()


@pytest.mark.parametrize("socket_key", ["socket", "interface"])
def test_case_by_its_list(case: Path, socket_key: str) -> None:
    (case / "images/ct").rename(case / "images/elsewhere")
    content = listed(socket_key, **{"ct-image": "images/elsewhere"})
    (case / "inputs.json").write_text(json.dumps(content))
    assert_is_the_case(read_case(case, HECKTOR_2025))


def test_sockets_that_are_not_ours_are_passed_over(case: Path) -> None:
    content = listed(**{"thumbnail": "images/thumbnail"})
    (case / "inputs.json").write_text(json.dumps(content[::-1]))
    assert_is_the_case(read_case(case, HECKTOR_2025))


def test_list_without_paths_falls_back_on_the_editions(case: Path) -> None:
    content = [{"socket": {"slug": entry["socket"]["slug"]}} for entry in listed()]
    (case / "inputs.json").write_text(json.dumps(content))
    assert_is_the_case(read_case(case, HECKTOR_2025))


def test_ehr_in_the_list_itself(case: Path) -> None:
    (case / "ehr.json").unlink()
    content = listed()
    content[-1]["value"] = EHR
    (case / "inputs.json").write_text(json.dumps(content))
    assert_is_the_case(read_case(case, HECKTOR_2025))


def test_folders_may_be_symbolic_links(case: Path, tmp_path: Path) -> None:
    (case / "images/ct").rename(tmp_path / "elsewhere")
    (case / "images/ct").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "linked").symlink_to(case)
    assert_is_the_case(read_case(tmp_path / "linked", HECKTOR_2025))


def test_images_may_be_symbolic_links(case: Path, tmp_path: Path) -> None:
    the_ct(case).rename(tmp_path / "stored.mha")
    the_ct(case).symlink_to(tmp_path / "stored.mha")
    assert_is_the_case(read_case(case, HECKTOR_2025))


@pytest.mark.parametrize("suffix", [".mha", ".MHA", ".tif", ".tiff"])
def test_suffixes_of_images(case: Path, suffix: str) -> None:
    the_ct(case).unlink()
    name = "scan" + suffix.lower()
    write_image(ct_image(), case / "images/ct" / name)
    (case / "images/ct" / name).rename(case / "images/ct" / ("scan" + suffix))
    found = read_case(case, HECKTOR_2025).ct_hu
    assert np.array_equal(sitk.GetArrayViewFromImage(found), sitk.GetArrayViewFromImage(ct_image()))


def test_other_files_beside_the_image_are_passed_over(case: Path) -> None:
    (case / "images/ct/readme.txt").write_text("hello")
    assert_is_the_case(read_case(case, HECKTOR_2025))


def test_uncompressed_images(case: Path) -> None:
    write_image(ct_image(), the_ct(case), compressed=False)
    assert_is_the_case(read_case(case, HECKTOR_2025))


@pytest.mark.parametrize("by_list", [False, True])
def test_optional_inputs_are_named_once_and_not_used(case: Path, by_list: bool) -> None:
    write_image(ct_image(), case / "images/ct-planning/plan.mha")
    if by_list:
        content = listed(**{"rt-dose-image": "images/dose"})
        (case / "inputs.json").write_text(json.dumps(content))
        write_image(ct_image(), case / "images/dose/dose.mha")
    found = read_case(case, HECKTOR_2025)
    assert_is_the_case(found)
    expected = ["planning-ct-image: present, not used"]
    expected += ["rt-dose-image: present, not used"] if by_list else []
    assert list(found.remarks) == expected


def test_an_unreadable_optional_input_does_no_harm(case: Path) -> None:
    (case / "images/rt-dose").mkdir()
    (case / "images/rt-dose/dose.mha").write_text("no image")
    assert read_case(case, HECKTOR_2025).remarks == ("rt-dose-image: present, not used",)


@pytest.mark.parametrize("ehr", ['{"Age": NaN}', '{"Age": Infinity}', '{"Age": null}', "{}"])
def test_ehr_without_a_usable_age(case: Path, ehr: str) -> None:
    (case / "ehr.json").write_text(ehr)
    assert read_case(case, HECKTOR_2025).clinical.age is None


def test_ehr_with_a_byte_order_mark(case: Path) -> None:
    (case / "ehr.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(EHR).encode())
    assert_is_the_case(read_case(case, HECKTOR_2025))


def test_remarks_of_the_ehr_reach_the_case(case: Path) -> None:
    (case / "ehr.json").write_text('{"Age": 900}')
    assert "900 is outside" in " ".join(read_case(case, HECKTOR_2025).remarks)


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
    found = read_case(case, HECKTOR_2025)
    repaired = found.ct_hu if modality == "ct" else found.pet
    assert repaired[1, 2, 3] == repaired[2, 2, 3] == outside
    assert repaired[3, 2, 3] == image[3, 2, 3]
    assert Grid.of(repaired) == Grid.of(image)
    expected = f"{modality}-image: 2 voxels are not finite and count as {outside}"
    assert found.remarks == (expected,)


# Refusing


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
    "a text called .mha": (text_for_ct, r"ct-image, found \S+scan.mha that is .*no image"),
    "an empty file": (empty_file_for_ct, r"ct-image, found \S+scan.mha that is .*no image"),
    "truncated": (truncated_ct, r"ct-image, found \S+scan.mha that is truncated"),
    "truncated raw": (truncated_uncompressed_ct, r"ct-image, found \S+scan.mha that is truncated"),
    "more than memory holds": (huge_ct, r"ct-image, found \S+scan.mha that is truncated"),
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
    "EHR no JSON": (ehr("Age: 60"), r"expected JSON in \S+/ehr.json"),
    "EHR empty": (ehr(""), r"expected JSON in \S+/ehr.json"),
    "EHR nested without end": (ehr("[" * 100_000), r"expected JSON in \S+/ehr.json"),
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


def segment_nothing(model: object, input_dir: Path, output_dir: Path) -> None:
    """Do what Task 1 does, but for the network."""
    case = read_case(input_dir, HECKTOR_2025)
    prepare(case, Preparation(spacing_mm=4, size_xyz=(16, 16, 16), interpolation="linear"))
    mask = Grid.of(case.ct_hu).filled(0, sitk.sitkUInt8)
    write_segmentation(output_dir, mask, HECKTOR_2025)


def run_job(
    case: Path, output: Path, run: Callable[..., None] = segment_nothing, *more: str
) -> int:
    arguments = ["--input", str(case), "--output", str(output), *more]
    return main(lambda _: None, run, Path("baked"), arguments)


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) if folder.exists() else []


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
    line, *others = capfd.readouterr().err.splitlines()  # of the file descriptor: C code too
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
        ValueError, match=r"^done in \d+\.\d s, peak memory \d+\.\d\d GB$"
    ).matches(ValueError(last))
    assert files_in(tmp_path / "output") == [
        "images",
        "images/tumor-lymph-node-segmentation",
        "images/tumor-lymph-node-segmentation/output.mha",
    ]


# Writing


def test_mask_is_written_as_it_is(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, SIZE_XYZ[::-1]).astype(np.uint8)
    mask = Grid.of(ct_image()).image(labels)
    write_segmentation(tmp_path, mask, HECKTOR_2025)
    found = sitk.ReadImage(str(tmp_path / "images/tumor-lymph-node-segmentation/output.mha"))
    assert found.GetPixelID() == sitk.sitkUInt8
    assert found.IsSameImageGeometryAs(ct_image())
    assert np.array_equal(sitk.GetArrayViewFromImage(found), labels)
    content = (tmp_path / HECKTOR_2025.segmentation).read_bytes()
    assert b"CompressedData = True" in content


@pytest.mark.parametrize(("decision", "text"), [(True, "true"), (False, "false")])
def test_hpv_is_a_bare_boolean(tmp_path: Path, decision: bool, text: str) -> None:
    write_hpv(tmp_path, decision, HECKTOR_2025)
    assert (tmp_path / "hpv-status.json").read_text() == text


@pytest.mark.parametrize(("sign", "expected"), [(1, 0.125), (-1, -0.125)])
def test_risk_is_a_bare_number_with_the_editions_sign(
    tmp_path: Path, sign: int, expected: float
) -> None:
    write_risk(tmp_path, 0.125, replace(HECKTOR_2025, risk_sign=sign))
    assert (tmp_path / "rfs.json").read_text() == str(expected)


def test_higher_is_earlier_in_2025() -> None:
    assert HECKTOR_2025.risk_sign == 1


@pytest.mark.parametrize("risk", [math.nan, math.inf, -math.inf])
def test_what_json_does_not_have_is_not_written(tmp_path: Path, risk: float) -> None:
    with pytest.raises(ValueError, match="JSON has no"):
        write_risk(tmp_path / "output", risk, HECKTOR_2025)
    assert files_in(tmp_path) == []


def fail(path: Path, *_: object, **__: object) -> None:
    """Write half a file, and stop."""
    Path(path).write_bytes(b"half")
    raise OSError("the disk is full")


@pytest.mark.parametrize("existed", [False, True])
def test_a_file_appears_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existed: bool
) -> None:
    target = tmp_path / HECKTOR_2025.segmentation
    mask = Grid.of(ct_image()).filled(1, sitk.sitkUInt8)
    before: list[str] = []
    if existed:
        write_segmentation(tmp_path, mask, HECKTOR_2025)
        before, content = files_in(tmp_path), target.read_bytes()
    monkeypatch.setattr(
        grand_challenge.sitk, "WriteImage", lambda image, path, **_: fail(Path(path))
    )
    with pytest.raises(OSError, match="disk is full"):
        write_segmentation(tmp_path, mask, HECKTOR_2025)
    assert files_in(tmp_path) == before
    assert not existed or target.read_bytes() == content


def test_an_old_file_is_replaced(tmp_path: Path) -> None:
    write_hpv(tmp_path, True, HECKTOR_2025)
    write_hpv(tmp_path, False, HECKTOR_2025)
    assert files_in(tmp_path) == ["hpv-status.json"]
    assert json.loads((tmp_path / "hpv-status.json").read_text()) is False


# The job


def test_help_of_the_command_names_its_folders(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(lambda _: None, segment_nothing, Path("baked"), ["--help"])
    assert {"--input", "--output", "--model"} <= set(capsys.readouterr().out.split())


def test_folders_are_the_platforms_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, ...]] = []
    monkeypatch.setattr(grand_challenge, "MODEL_TARBALL", Path("/nowhere"))
    assert main(lambda m: m, lambda *given: seen.append(given), Path("baked"), []) == 0
    assert seen == [(Path("baked"), Path("/input"), Path("/output"))]


@pytest.mark.parametrize(
    ("uploaded", "named", "expected"),
    [(False, False, "baked"), (True, False, "tarball"), (True, True, "named")],
)
def test_model_folder_is_the_named_else_the_uploaded_else_the_baked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uploaded: bool,
    named: bool,
    expected: str,
) -> None:
    monkeypatch.setattr(grand_challenge, "MODEL_TARBALL", tmp_path / "tarball")
    (tmp_path / "tarball").mkdir()
    if uploaded:
        (tmp_path / "tarball/model.json").write_text("{}")
    arguments = ["--model", str(tmp_path / "named")] if named else []
    seen: list[Path] = []
    assert main(seen.append, lambda *_: None, tmp_path / "baked", arguments) == 0
    assert seen == [tmp_path / expected]


def test_model_error_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def refuse(_: Path) -> None:
        raise ModelError("expected a card,\nfound   none")

    assert main(refuse, segment_nothing, tmp_path, ["--output", str(tmp_path / "output")]) == 1
    printed = capfd.readouterr()
    assert printed.err == "expected a card, found none\n"
    assert "Traceback" not in printed.out
    assert files_in(tmp_path) == []


def test_our_own_mistake_is_one_line_and_a_traceback_in_the_log(
    case: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def divide(*_: object) -> None:
        raise ZeroDivisionError("by\nnothing")

    assert run_job(case, tmp_path / "output", divide) == 1
    printed = capfd.readouterr()
    assert printed.err == ("unexpected ZeroDivisionError: by nothing; the log has the traceback\n")
    assert "Traceback" in printed.out
    assert "in divide" in printed.out


@pytest.mark.filterwarnings("error")
def test_remarks_with_any_text_of_the_ehr_can_be_logged(
    case: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (case / "ehr.json").write_text('{"Age": "\\ud800", "\\udfff\\n": 1, "Größe": 2}')
    log(*read_case(case, HECKTOR_2025).remarks)
    assert len(capfd.readouterr().out.splitlines()) == 3

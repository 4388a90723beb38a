"""Changes of a case: values, the health record, the list of inputs, the folders."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk

from tests.fuzz.core import Expectation
from tests.shared.grand_challenge.platform_case import EHR, listed, write_image

Rng = np.random.Generator
Change = Callable[[Rng, Path], tuple[str, Expectation]]

VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0,
    1,
    5,
    1e300,
    -1e300,
    10**400,
    "",
    "M1",
    "nan",
    "x" * 5000,
    [],
    {},
)
FOLDERS: Final = ("ct", "pet")


def image_of(case: Path, modality: str) -> Path:
    """Return the only image of a modality."""
    (path,) = (case / "images" / modality).iterdir()
    return path


def values(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Give an image values of any magnitude, sign and type, some of them not finite."""
    path = image_of(case, str(rng.choice(FOLDERS)))
    image = sitk.ReadImage(str(path))
    kinds = (np.float32, np.float64, np.int16, np.uint8, np.int64)
    kind = np.dtype(kinds[int(rng.integers(len(kinds)))])
    scale = 10.0 ** rng.uniform(-45, 39 if kind == np.float32 else 300)
    array = rng.normal(rng.uniform(-2, 2), rng.choice([0, 1]), image.GetSize()[::-1]) * scale
    with np.errstate(all="ignore"):
        if np.issubdtype(kind, np.integer):
            limits = np.iinfo(str(kind))
            array = np.clip(array, limits.min // 2, limits.max // 2)
        array = array.astype(kind)
    share = rng.choice([0, 0, 0.01, 0.5, 1])
    if np.issubdtype(kind, np.floating):
        broken = rng.choice([np.nan, np.inf, -np.inf])
        array[rng.random(array.shape) < share] = broken
    changed = sitk.GetImageFromArray(array)
    changed.CopyInformation(image)
    write_image(changed, path)
    is_empty = np.issubdtype(kind, np.floating) and share == 1
    return f"{kind} around {scale:.1g}", "refused" if is_empty else "either"


def ehr(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Write a health record with odd values."""
    keys = ["Age", "Gender", "Tobacco Consumption", "M-stage", "CenterID", "Treatment", "Odd"]
    record: dict[str, Any] = {key: VALUES[int(rng.integers(len(VALUES)))] for key in keys}
    text = json.dumps(record)
    if rng.random() < 0.3:
        text = text.replace("null", "NaN")
    (case / "ehr.json").write_text(text)
    return "an odd health record", "answered"


def broken_ehr(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Write a health record that is not a JSON object."""
    contents = [b"", b"[]", b"null", b"{" * 50_000, b"[" * 50_000, b"\xff\xfe", b'{"Age": 6', b"1"]
    (case / "ehr.json").write_bytes(contents[int(rng.integers(len(contents)))])
    return "a health record that is not a JSON object", "refused"


def changed_ehr(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Change some bytes of the health record."""
    content = bytearray(json.dumps(EHR).encode())
    for _ in range(int(rng.integers(1, 4))):
        content[int(rng.integers(len(content)))] = int(rng.integers(256))
    (case / "ehr.json").write_bytes(content)
    return "changed bytes of the health record", "either"


def inputs_json(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Write a list of inputs with odd entries."""
    content: Any = listed(str(rng.choice(["socket", "interface"])))
    entry = content[int(rng.integers(len(content)))]
    socket = entry.get("socket") or entry.get("interface")
    paths = ["/dev", "..", "", "x" * 5000, "\0", "images", 7, None, "images/ct/scan.mha"]
    socket["relative_path"] = paths[int(rng.integers(len(paths)))]
    (case / "inputs.json").write_text(json.dumps(content))
    return f"a list with the path {str(socket['relative_path'])[:20]!r}", "either"


def broken_inputs_json(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Write a list of inputs that does not have the expected form."""
    contents = [
        b"",
        b"{}",
        b"[1]",
        b'[{"socket": 1}]',
        b"[]",
        b'[{"socket": {"slug": 1}}]',
        b"\xff",
    ]
    (case / "inputs.json").write_bytes(contents[int(rng.integers(len(contents)))])
    return "a list of inputs of the wrong form", "refused"


def not_a_file(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Put a pipe, a device, a folder or a circle of links in the place of a file."""
    paths = [image_of(case, modality) for modality in FOLDERS] + [case / "ehr.json"]
    path = paths[int(rng.integers(len(paths)))]
    path.unlink()
    what = str(rng.choice(["pipe", "device", "folder", "circle", "nothing"]))
    if what == "pipe":
        os.mkfifo(path)
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "folder":
        path.mkdir()
    elif what == "circle":
        path.symlink_to(path)
    return f"{what} as {path.name}", "refused"


def pipe_as_list(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Put a pipe in the place of the list of inputs."""
    os.mkfifo(case / "inputs.json")
    return "pipe as inputs.json", "refused"


def more_files(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Add a file next to an image. A second image is refused; other files are ignored."""
    path = image_of(case, str(rng.choice(FOLDERS)))
    names = [b"._scan.mha", b".hidden.tif", b"readme.txt", b"second.mha", b"SECOND.TIFF"]
    name = names[int(rng.integers(len(names)))]
    shutil.copy(path, path.with_name(os.fsdecode(name)))
    is_second = name.lower().startswith(b"second")
    return f"{os.fsdecode(name)} as well", "refused" if is_second else "answered"


def rename(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Give an image an odd name."""
    path = image_of(case, str(rng.choice(FOLDERS)))
    names = [b"caf\xe9.mha", b"a b\n\x1b[31mc.mha", b"x" * 250 + b".mha", b"-r.MHA", b"%s%n.mha"]
    name = names[int(rng.integers(len(names)))]
    path.rename(path.with_name(os.fsdecode(name)))
    return f"the name {name[:20]!r}", "answered"


def other_format(rng: Rng, case: Path) -> tuple[str, Expectation]:
    """Store an image as TIFF, whole, cut or with a changed byte."""
    path = image_of(case, str(rng.choice(FOLDERS)))
    image = sitk.ReadImage(str(path))
    path.unlink()
    path = path.with_suffix(".tif")
    write_image(image, path, compressed=bool(rng.integers(2)))
    content = bytearray(path.read_bytes())
    what = str(rng.choice(["whole", "cut", "changed"]))
    if what == "cut":
        del content[int(rng.integers(len(content))) :]
    elif what == "changed":
        content[int(rng.integers(len(content)))] = int(rng.integers(256))
    path.write_bytes(content)
    return f"TIFF, {what}", "refused" if what == "cut" else "either"


CHANGES: Final[tuple[Change, ...]] = (
    values, values, values, ehr, broken_ehr, changed_ehr, inputs_json, broken_inputs_json,
    not_a_file, pipe_as_list, more_files, rename, other_format, other_format,
)  # fmt: skip

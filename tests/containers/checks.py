"""Checks of a run. A failed check states what was expected and what was found.

A check has a name and a problem, which is None if the check passed. Checks of outputs read the
files that were written, and never use the code that wrote them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from evaluation.running.engines.protocol import Run
from evaluation.running.logs import peak_memory_gb
from tests.containers.contract import LABELS, Contract, File

LEAST_AGREEMENT_DSC: Final = 0.98
"""Lowest DSC of each label with the expected mask. Execution providers and CPUs round differently
at the borders of lesions."""
RISK_TOLERANCE: Final = 1e-3
"""Relative tolerance of a risk and, near zero, absolute tolerance. Risks are standardised, so their
scale is 1."""
GEOMETRY_TOLERANCE: Final = 1e-6
"""Tolerance in mm, and of direction cosines. MetaImage files store geometry as decimal text."""
NIFTI_TOLERANCE: Final = 1e-3
"""The same for a truth; it is larger because NIfTI stores geometry in 32 bits."""

IMAGE_SUFFIXES: Final = (".mha", ".tif", ".tiff")


@dataclass(frozen=True)
class Check:
    """The result of one check of a run: its name, and the problem, if any."""

    name: str
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the check found no problem."""
        return self.problem is None


def check_end(run: Run) -> Check:
    """Check for exit code 0."""
    if run.exit_code == 0:
        return Check("exit code")
    ending = run.note or f"exit code {run.exit_code}"
    return Check("exit code", f"expected exit code 0, found {ending}{_quote(run.stderr)}")


def check_limits(run: Run, contract: Contract) -> Iterator[Check]:
    """Check that stderr is empty, and that the run was within its limits of time and memory."""
    yield check_silence(run)
    limit_s = contract.limit_s
    problem = f"expected at most {limit_s} s, found {run.seconds:.0f} s"
    yield Check("time", None if run.seconds <= limit_s else problem)
    peak_gb = peak_memory_gb(run.stdout)
    if peak_gb is None:
        last = run.stdout.strip().splitlines()[-1:] or ["nothing"]
        problem = f"expected 'peak memory … GB' in the last line of the log, found: {last[0]}"
        yield Check("memory", problem)
    else:
        problem = f"expected a peak below {contract.memory_gib:g} GiB, found {peak_gb:g} GB"
        is_enough = peak_gb * 1e9 < contract.memory_gib * 2**30
        yield Check("memory", None if is_enough else problem)


def check_silence(run: Run) -> Check:
    """Check that stderr is empty; otherwise the platform marks the job as "with warnings"."""
    is_silent = not run.stderr.strip()
    return Check("stderr", None if is_silent else f"expected nothing on stderr{_quote(run.stderr)}")


def check_files(output: Path, contract: Contract) -> Check:
    """Check that the output has exactly the expected files."""
    paths = files_in(output)
    if paths == contract.paths:
        return Check("files")
    return Check(
        "files",
        f"expected {_names(contract.paths)} and no other file, found {_names(paths)}",
    )


def check_empty(output: Path) -> str | None:
    """Return a problem if an output folder is not empty; it must not contain folders either."""
    paths = sorted(str(p.relative_to(output)) for p in output.rglob("*"))
    return f"expected an empty output folder, found {_names(paths)}" if paths else None


def check_content(output: Path, contract: Contract, case_input: Path) -> Iterator[Check]:
    """Check that the content of each file follows the contract."""
    for file in contract.files:
        if file.holds == "mask":
            yield from _check_mask(output / file.path, case_input)
        else:
            yield _check_value(output / file.path, file)


def check_agreement(output: Path, expected: Path, contract: Contract) -> Iterator[Check]:
    """Check that the files agree with the expected files of this case in the repository."""
    for file in contract.files:
        path, expected_path = output / file.path, expected / file.path
        problem: str | None
        if not expected_path.is_file():
            problem = (
                f"expected a file {expected_path} to compare with, found none; "
                "make it with --update-expected"
            )
        elif file.holds == "mask":
            problem = _mask_difference(path, expected_path)
        else:
            problem = _value_difference(path, expected_path, file)
        yield Check(f"agreement of {path.name}", problem)


def check_truth(dsc: Mapping[str, float], bounds: Mapping[str, float]) -> Check:
    """Check that the DSC with the truth reaches the lower bound of each label."""
    low = [
        f"{k}: expected DSC ≥ {bounds[k]:g} with the truth, found {dsc[k]:.3f}"
        for k in LABELS
        if dsc[k] < bounds[k]
    ]
    return Check("truth", "; ".join(low) or None)


def check_repeat(first: Path, second: Path, run: Run) -> Check:
    """Check that a second run wrote the same bytes."""
    name = "second run"
    ending = check_end(run)
    if not ending.passed:
        return Check(name, ending.problem)
    paths, paths_again = files_in(first), files_in(second)
    if paths != paths_again:
        return Check(name, f"expected {_names(paths)} again, found {_names(paths_again)}")
    changes = [n for n in paths if (first / n).read_bytes() != (second / n).read_bytes()]
    problem = f"expected the same bytes from both runs, found different ones in {_names(changes)}"
    return Check(name, problem if changes else None)


def check_rejection(name: str, run: Run, output: Path, words: str) -> Check:
    """Check for exit code 1, one line on stderr that contains the words, and no output."""
    problems = []
    if run.exit_code != 1:
        problems.append(f"expected exit code 1, found {run.note or run.exit_code}")
    lines = run.stderr.splitlines()
    if len(lines) != 1:
        problems.append(f"expected exactly one line on stderr, found {len(lines)}")
    if words not in run.stderr:
        problems.append(f"expected '{words}' on stderr{_quote(run.stderr)}")
    if leftovers := check_empty(output):
        problems.append(leftovers)
    return Check(name, "; ".join(problems) or None)


def find_ct(case_input: Path) -> Path:
    """Return the CT of a case."""
    folder = case_input / "images" / "ct"
    paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if len(paths) != 1:
        raise ValueError(f"expected one CT in {folder}, found {_names([p.name for p in paths])}")
    return paths[0]


def read_mask(path: Path) -> sitk.Image:
    """Read a label map; ValueError says why it cannot be read."""
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"expected an image in {path}: {reason}") from None


def dsc_by_label(prediction: sitk.Image, truth: sitk.Image) -> dict[str, float]:
    """Return the DSC per label of two masks of the same size; 1.0 if both are empty."""
    arrays = [sitk.GetArrayViewFromImage(image) for image in (prediction, truth)]
    return {name: _dsc(*(array == value for array in arrays)) for name, value in LABELS.items()}


def geometry_problem(
    image: sitk.Image,
    reference: sitk.Image | sitk.ImageFileReader,
    tolerance: float = GEOMETRY_TOLERANCE,
) -> str | None:
    """Return how the geometry of an image differs from that of a CT, or None if it does not."""
    for name in ("Size", "Spacing", "Origin", "Direction"):
        a, b = (getattr(each, f"Get{name}")() for each in (image, reference))
        if len(a) != len(b) or not np.allclose(a, b, rtol=0, atol=tolerance):
            return f"expected the CT's {name.lower()} {b}, found {a}"
    return None


def read_json(path: Path) -> Any:
    """Read strict JSON, without NaN and Infinity; ValueError says what is wrong."""

    def reject(constant: str) -> None:
        raise ValueError(f"expected strict JSON in {path.name}, found {constant}")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=reject)
    except json.JSONDecodeError as error:
        raise ValueError(f"expected strict JSON in {path.name}: {error}") from None


def files_in(folder: Path) -> list[str]:
    """Return the paths of all files below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir())


def _check_mask(path: Path, case_input: Path) -> Iterator[Check]:
    try:
        mask = read_mask(path)
    except ValueError as error:
        yield Check("mask", str(error))
        return
    kind = mask.GetPixelIDTypeAsString()
    values = sorted({int(v) for v in np.unique(sitk.GetArrayViewFromImage(mask))})
    if mask.GetPixelID() != sitk.sitkUInt8:
        yield Check("mask", f"expected 8-bit unsigned integers, found {kind}")
    elif not set(values) <= {0, *LABELS.values()}:
        yield Check("mask", f"expected only the labels 0, 1 and 2, found {values}")
    else:
        yield Check("mask")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(find_ct(case_input)))
    reader.ReadImageInformation()
    yield Check("geometry", geometry_problem(mask, reader))


def _check_value(path: Path, file: File) -> Check:
    name = f"value of {path.name}"
    try:
        value = read_json(path)
    except ValueError as error:
        return Check(name, str(error))
    if file.holds == "boolean":
        fits = isinstance(value, bool)
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and math.isfinite(value)
    expected = "true or false" if file.holds == "boolean" else "one finite number"
    problem = f"expected {expected} in {path.name}, found {json.dumps(value)[:80]}"
    return Check(name, None if fits else problem)


def _mask_difference(path: Path, expected_path: Path) -> str | None:
    mask, expected = read_mask(path), read_mask(expected_path)
    if mask.GetSize() != expected.GetSize():
        return f"expected a mask of size {expected.GetSize()}, found {mask.GetSize()}"
    dsc = dsc_by_label(mask, expected)
    low = [f"{k} {v:.4f}" for k, v in dsc.items() if v < LEAST_AGREEMENT_DSC]
    problem = f"expected DSC ≥ {LEAST_AGREEMENT_DSC} with the expected mask, found {', '.join(low)}"
    return problem if low else None


def _value_difference(path: Path, expected_path: Path, file: File) -> str | None:
    value, expected = read_json(path), read_json(expected_path)
    if file.holds == "boolean":
        same = value is expected
    else:
        same = math.isclose(value, expected, rel_tol=RISK_TOLERANCE, abs_tol=RISK_TOLERANCE)
    return None if same else f"expected {json.dumps(expected)}, found {json.dumps(value)}"


def _dsc(prediction: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    total = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / total if total else 1.0


def _quote(stderr: str) -> str:
    text = stderr.strip()
    if not text:
        return "; stderr is empty"
    lines = text.splitlines()
    more = f" (and {len(lines) - 1} lines above it)" if len(lines) > 1 else ""
    return f"; stderr ends: {lines[-1][:300]}{more}"


def _names(names: list[str]) -> str:
    return ", ".join(names) or "none"

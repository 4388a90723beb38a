"""What is checked of a run. Each check says what was expected and what was found, or nothing.

A check is a named question with one answer: its problem, or None where all is well. Checks of
outputs take the files that were written and never look at the code that wrote them.
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

from evaluation.running.engines import Run
from evaluation.running.logs import peak_memory_gb
from evaluation.running.tasks import LABELS, Task

LEAST_AGREEMENT_DSC: Final = 0.98
"""With the expected mask, per label: providers and CPUs round differently at the lesions' rims."""
RISK_TOLERANCE: Final = 1e-3
"""Relative, and absolute near zero: a risk is standardised, so its scale is 1."""
MEMORY_LIMIT_GB: Final = 15.0
GEOMETRY_TOLERANCE: Final = 1e-6
"""Millimetres, or cosine. MetaImage files hold geometry as decimal text."""
NIFTI_TOLERANCE: Final = 1e-3
"""The same of a truth: NIfTI holds geometry in 32 bits."""

IMAGE_SUFFIXES: Final = (".mha", ".tif", ".tiff")


@dataclass(frozen=True)
class Check:
    """One question about a run, and what is wrong if something is."""

    name: str
    problem: str | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem is None


def check_end(run: Run) -> Check:
    """Exit code 0."""
    if run.exit_code == 0:
        return Check("exit code")
    found = run.note or f"exit code {run.exit_code}"
    return Check("exit code", f"expected exit code 0, found {found}{_quote(run.stderr)}")


def check_limits(run: Run, task: Task) -> Iterator[Check]:
    """Silence on stderr, the time limit and the memory limit."""
    silent = not run.stderr.strip()
    yield Check("stderr", None if silent else f"expected nothing on stderr{_quote(run.stderr)}")
    in_time = run.seconds <= task.limit_s
    yield Check(
        "time", None if in_time else f"expected {task.limit_s} s at most, found {run.seconds:.0f} s"
    )
    peak_gb = peak_memory_gb(run.stdout)
    if peak_gb is None:
        last = run.stdout.strip().splitlines()[-1:] or ["nothing"]
        problem = f"expected 'peak memory … GB' in the last line of the log, found: {last[0]}"
        yield Check("memory", problem)
    else:
        enough = peak_gb < MEMORY_LIMIT_GB
        problem = f"expected a peak under {MEMORY_LIMIT_GB:g} GB, found {peak_gb:g} GB"
        yield Check("memory", None if enough else problem)


def check_files(output: Path, task: Task) -> Check:
    """Exactly the expected files."""
    found = files_in(output)
    if found == [task.output]:
        return Check("files")
    return Check("files", f"expected {task.output} and no other file, found {_names(found)}")


def check_empty(output: Path) -> str | None:
    """Return what an output folder that should be empty holds, folders included."""
    found = sorted(str(p.relative_to(output)) for p in output.rglob("*"))
    return f"expected an empty output folder, found {_names(found)}" if found else None


def check_content(output: Path, task: Task, case_input: Path) -> Iterator[Check]:
    """Whether the output file holds what its kind says."""
    path = output / task.output
    if task.kind == "mask":
        yield from _check_mask(path, case_input)
        return
    try:
        value = read_json(path)
    except ValueError as error:
        yield Check("value", str(error))
        return
    if task.kind == "boolean":
        fits = isinstance(value, bool)
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and math.isfinite(value)
    expected = "true or false" if task.kind == "boolean" else "one finite number"
    problem = f"expected {expected} in {path.name}, found {json.dumps(value)[:80]}"
    yield Check("value", None if fits else problem)


def check_agreement(output: Path, expected: Path, task: Task) -> Check:
    """Whether the output is the one that the repository holds for this case."""
    name = "agreement"
    if not (expected / task.output).is_file():
        return Check(
            name,
            f"expected a file {expected / task.output} to compare with, found none; "
            "make it with --update-expected",
        )
    if task.kind == "mask":
        found, wanted = (read_mask(folder / task.output) for folder in (output, expected))
        if found.GetSize() != wanted.GetSize():
            return Check(name, f"expected a mask of {wanted.GetSize()}, found {found.GetSize()}")
        dsc = dsc_by_label(found, wanted)
        low = [f"{k} {v:.4f}" for k, v in dsc.items() if v < LEAST_AGREEMENT_DSC]
        problem = (
            f"expected DSC ≥ {LEAST_AGREEMENT_DSC} with the expected mask, found {', '.join(low)}"
        )
        return Check(name, problem if low else None)
    risk_or_status, wanted_value = (read_json(f / task.output) for f in (output, expected))
    if task.kind == "boolean":
        same = risk_or_status is wanted_value
    else:
        same = math.isclose(
            risk_or_status, wanted_value, rel_tol=RISK_TOLERANCE, abs_tol=RISK_TOLERANCE
        )
    problem = f"expected {json.dumps(wanted_value)}, found {json.dumps(risk_or_status)}"
    return Check(name, None if same else problem)


def check_truth(dsc: Mapping[str, float], bounds: Mapping[str, float]) -> Check:
    """Whether the DSC with the truth reaches its bounds."""
    low = [
        f"{k}: expected DSC ≥ {bounds[k]:g} with the truth, found {dsc[k]:.3f}"
        for k in LABELS
        if dsc[k] < bounds[k]
    ]
    return Check("truth", "; ".join(low) or None)


def check_repeat(first: Path, second: Path, run: Run) -> Check:
    """Whether a second run wrote the same bytes."""
    name = "second run"
    ended = check_end(run)
    if not ended.passed:
        return Check(name, ended.problem)
    found, again = files_in(first), files_in(second)
    if found != again:
        return Check(name, f"expected {_names(found)} again, found {_names(again)}")
    changed = [n for n in found if (first / n).read_bytes() != (second / n).read_bytes()]
    problem = f"expected the same bytes from both runs, found other ones in {_names(changed)}"
    return Check(name, problem if changed else None)


def check_refusal(name: str, run: Run, output: Path, fragment: str) -> Check:
    """Whether a bad input ended with exit 1, one line that explains it, and no output."""
    problems = []
    if run.exit_code != 1:
        problems.append(f"expected exit code 1, found {run.note or run.exit_code}")
    lines = run.stderr.splitlines()
    if len(lines) != 1:
        problems.append(f"expected exactly one line on stderr, found {len(lines)}")
    if fragment not in run.stderr:
        problems.append(f"expected '{fragment}' on stderr{_quote(run.stderr)}")
    if left := check_empty(output):
        problems.append(left)
    return Check(name, "; ".join(problems) or None)


def find_ct(case_input: Path) -> Path:
    """Return the CT of a case."""
    folder = case_input / "images" / "ct"
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if len(found) != 1:
        raise ValueError(f"expected one CT in {folder}, found {_names([p.name for p in found])}")
    return found[0]


def read_mask(path: Path) -> sitk.Image:
    """Read a label map; ValueError says why it cannot be read."""
    try:
        return sitk.ReadImage(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ValueError(f"expected an image in {path}: {reason}") from None


def dsc_by_label(found: sitk.Image, truth: sitk.Image) -> dict[str, float]:
    """Return the DSC per label of two masks of one size; two empty ones agree (1.0)."""
    arrays = [sitk.GetArrayViewFromImage(image) for image in (found, truth)]
    return {name: _dsc(*(array == value for array in arrays)) for name, value in LABELS.items()}


def geometry_problem(
    found: sitk.Image,
    wanted: sitk.Image | sitk.ImageFileReader,
    tolerance: float = GEOMETRY_TOLERANCE,
) -> str | None:
    """Return where the geometry of an image departs from that of another."""
    for name in ("Size", "Spacing", "Origin", "Direction"):
        a, b = (getattr(image, f"Get{name}")() for image in (found, wanted))
        if len(a) != len(b) or not np.allclose(a, b, rtol=0, atol=tolerance):
            return f"expected the CT's {name.lower()} {b}, found {a}"
    return None


def read_json(path: Path) -> Any:
    """Read strict JSON, without NaN and Infinity; ValueError says what is wrong."""

    def refuse(constant: str) -> None:
        raise ValueError(f"expected strict JSON in {path.name}, found {constant}")

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
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
        yield Check("mask", f"expected labels 0, 1 and 2 only, found {values}")
    else:
        yield Check("mask")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(find_ct(case_input)))
    reader.ReadImageInformation()
    yield Check("geometry", geometry_problem(mask, reader))


def _dsc(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def _quote(stderr: str) -> str:
    text = stderr.strip()
    if not text:
        return "; stderr is empty"
    lines = text.splitlines()
    more = f" (and {len(lines) - 1} lines above it)" if len(lines) > 1 else ""
    return f"; stderr ends: {lines[-1][:300]}{more}"


def _names(names: list[str]) -> str:
    return ", ".join(names) or "none"

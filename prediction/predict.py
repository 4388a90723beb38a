"""Predict one case with the models of the checkout, and write everything to one folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import SimpleITK as sitk

from prediction.case_files import write_case_folder
from prediction.lesions import find_lesions
from prediction.page import Result, draw_picture, render_prediction
from shared.case import Case
from shared.doubts.find import find_doubts
from shared.files import whole, write_whole
from shared.geometry import Grid
from shared.models.chain import Chain

PAGE: Final = "prediction.html"
PICTURE: Final = "picture.png"
NUMBERS: Final = "prediction.json"
MASKS: Final = ("mask.mha", "mask.nii.gz")
"""The same mask in two formats: MetaImage keeps the exact geometry of the CT, and more viewers read
NIfTI."""
CASE: Final = "case"


def predict_case(case: Case, chain: Chain) -> Result:
    """Run the models on a case; the log goes to stdout.

    Parameters
    ----------
    chain : a chain with all three models.

    Raises
    ------
    InputError
        If CT and PET do not overlap.
    """
    print(*dict.fromkeys(chain.describe()), sep="\n", flush=True)  # prints each notice once
    prepared = chain.prepare(case)
    print(*prepared.remarks, sep="\n", flush=True)
    predictions = chain.predict(prepared, case.clinical, report=print)
    labels, mask, hpv, risk = (
        predictions.labels,
        predictions.mask,
        predictions.hpv,
        predictions.risk,
    )
    if labels is None or mask is None or hpv is None or risk is None:
        raise ValueError("expected a chain of all three models, found fewer")
    doubts = tuple(doubt.line for doubt in find_doubts(prepared, Grid.of(case.pet), labels))
    for doubt in doubts:
        print(doubt, flush=True)
    models = (chain.segmentation, chain.hpv, chain.survival)
    return Result(
        mask=mask,
        lesions=find_lesions(labels, prepared),
        hpv=hpv,
        risk=risk,
        notices=list(dict.fromkeys(model.card.notice for model in models if model is not None)),
        remarks=(*prepared.remarks, *doubts),
    )


def write_prediction(case: Case, result: Result, folder: Path) -> None:
    """Write mask, numbers, picture, page and the case in the platform's layout.

    Parameters
    ----------
    folder : a new folder, or one from an earlier prediction, whose files are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_case_folder(case, folder / CASE)
    for name in MASKS:
        with whole(folder / name) as draft:
            sitk.WriteImage(result.mask, str(draft), useCompression=True)
    write_whole(folder / NUMBERS, json.dumps(numbers_of(result), indent=2, allow_nan=False) + "\n")
    picture = draw_picture(case, result)
    with whole(folder / PICTURE) as draft:
        draft.write_bytes(picture.png)
    title = f"Prediction: {folder.resolve().name}"
    write_whole(folder / PAGE, render_prediction(case, result, picture, title=title))


def numbers_of(result: Result) -> dict[str, object]:
    """Return the content of `prediction.json`."""
    return {
        "lesions": [asdict(lesion) for lesion in result.lesions],
        "hpv": {"probability": result.hpv.probability, "is_positive": result.hpv.decision},
        "risk": result.risk,
        "notices": list(result.notices),
        "remarks": list(result.remarks),
    }

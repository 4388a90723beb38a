"""See what the models predict for a PET/CT of your own.

`python -m prediction COMMAND --help` explains a command.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import SimpleITK as sitk
import typer
from typer._completion_classes import completion_init

from prediction.case_files import read_case_files, write_case_folder
from prediction.predict import NUMBERS, PAGE, predict_case, write_prediction
from shared.command_line import run_command_line
from shared.models.chain import Chain

Ct: TypeAlias = Annotated[
    Path, typer.Argument(help="CT in HU: a NIfTI file, or a folder with DICOM slices.")
]
Pet: TypeAlias = Annotated[
    Path, typer.Argument(help="PET: a NIfTI file in SUV or Bq/mL, or a folder with DICOM slices.")
]
Ehr: TypeAlias = Annotated[
    Path | None, typer.Option(help='Health record, a JSON file such as {"Age": 61}.')
]
CtSeries: TypeAlias = Annotated[
    str | None, typer.Option(help="Number or UID of the CT series, if the folder has several.")
]
PetSeries: TypeAlias = Annotated[
    str | None, typer.Option(help="Number or UID of the PET series, if the folder has several.")
]
WeightKg: TypeAlias = Annotated[
    float | None, typer.Option(help="Body weight, if the DICOM PET does not state it.")
]
SuvFactor: TypeAlias = Annotated[
    float | None, typer.Option(help="Factor from the values of the PET to SUV.")
]

app = typer.Typer(
    add_completion=False,  # its script fails for `python -m`; completion.sh replaces it
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="See what the models predict for a PET/CT of your own.",
)


@app.command()
def run(
    ct: Ct,
    pet: Pet,
    out: Annotated[Path, typer.Argument(help="Folder for the results.")],
    ehr: Ehr = None,
    ct_series: CtSeries = None,
    pet_series: PetSeries = None,
    weight_kg: WeightKg = None,
    suv_factor: SuvFactor = None,
) -> None:
    """Predict lesions, HPV status and risk, and write mask, numbers, picture and page.

    Not for clinical use. The last line is JSON.
    """
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    case = read_case_files(
        ct=ct,
        pet=pet,
        ehr=ehr,
        ct_series=ct_series,
        pet_series=pet_series,
        weight_kg=weight_kg,
        suv_factor=suv_factor,
    )
    result = predict_case(case, Chain.load_checkout())
    write_prediction(case, result, out)
    print(f"open {out / PAGE} in a browser")
    print(json.dumps({"folder": str(out), "page": PAGE, "numbers": NUMBERS}))


@app.command("case")
def write_case(
    ct: Ct,
    pet: Pet,
    folder: Annotated[Path, typer.Argument(help="Folder for the case; input/ is made in it.")],
    ehr: Ehr = None,
    ct_series: CtSeries = None,
    pet_series: PetSeries = None,
    weight_kg: WeightKg = None,
    suv_factor: SuvFactor = None,
) -> None:
    """Write a PET/CT as a case in the platform's layout, without predicting anything.

    The containers and `python -m evaluation run` read such cases. The last line is JSON.
    """
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    case = read_case_files(
        ct=ct,
        pet=pet,
        ehr=ehr,
        ct_series=ct_series,
        pet_series=pet_series,
        weight_kg=weight_kg,
        suv_factor=suv_factor,
    )
    write_case_folder(case, folder)
    for remark in case.remarks:
        print(remark)
    print(json.dumps({"folder": str(folder)}))


def main() -> int:
    """Run the command line and return its exit code."""
    completion_init()  # Typer calls it only with `add_completion`
    return run_command_line(app, interrupted="the results are incomplete; run the command again")


if __name__ == "__main__":
    sys.exit(main())

"""Which CTs of a folder can carry a patient, and why others cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.phantom.real_anatomy import list_scans, prepared, refusal


def main(folder: Annotated[Path, typer.Argument(help="CTs and labels.")]) -> None:
    """List the CTs of FOLDER, each with the places it offers to tumours or why it is refused."""
    names = list_scans(str(folder))
    usable = 0
    for name in names:
        reason = refusal(str(folder), name)
        if reason is None:
            usable += 1
            places = prepared(str(folder), name).seats
            sides = (f"{place} {'left' if side > 0 else 'right'}" for place, side in places)
            print(f"{name}: {', '.join(sides)}")
        else:
            print(reason)
    print(f"{usable} of {len(names)} CTs can carry a patient")


if __name__ == "__main__":
    typer.run(main)

"""Lists which CTs of a folder are usable for patients, and why the others are not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from training.phantom.real.folder import list_scans, load_scan, why_unusable


def main(folder: Annotated[Path, typer.Argument(help="Folder of CTs and labels.")]) -> None:
    """List the CTs of FOLDER, with the places for tumours or the reason why a CT is unusable."""
    names = list_scans(str(folder))
    usable = 0
    for name in names:
        reason = why_unusable(str(folder), name)
        if reason is None:
            usable += 1
            places = load_scan(str(folder), name).seats
            sides = (f"{place} {'left' if side > 0 else 'right'}" for place, side in places)
            print(f"{name}: {', '.join(sides)}")
        else:
            print(reason)
    print(f"{usable} of {len(names)} CTs are usable")


if __name__ == "__main__":
    typer.run(main)

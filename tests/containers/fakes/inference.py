"""An algorithm for tests of the checks: it reads a case and outlines the voxels with high uptake.

Its model folder has a card with a notice and the SHA-256 of one file. The card's `fault` makes it
misbehave in one way.
"""

import atexit
import json
import os
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from shared.docker.check_model import check_folder
from shared.editions import CURRENT
from shared.errors import InputError
from shared.geometry import Grid, resample
from shared.grand_challenge.inputs import read_case
from shared.grand_challenge.job import main
from shared.grand_challenge.outputs import write_hpv, write_risk, write_segmentation


def init_model(folder: Path) -> dict[str, Any]:
    """Load the card."""
    card: dict[str, Any] = json.loads((folder / "model.json").read_bytes())
    if card.get("fault") == "ignores its model folder":
        return card
    check_folder(folder)
    print(card["notice"])
    return card


def run(card: dict[str, Any], input_dir: Path, output_dir: Path) -> None:
    """Write the output that the card asks for."""
    case = read_case(input_dir, CURRENT)
    ct = Grid.of(case.ct_hu)
    if ct.box_around(Grid.of(case.pet)).is_empty:
        raise InputError("expected CT and PET to overlap, found them apart")
    misbehave(card.get("fault"), input_dir, output_dir)
    pet = resample(case.pet, ct, interpolation="linear", outside=0)
    if card["holds"] == "mask":
        write_segmentation(output_dir, sitk.Cast(pet > 5, sitk.sitkUInt8), CURRENT)
    elif card["holds"] == "number":
        write_risk(output_dir, float(np.mean(sitk.GetArrayViewFromImage(pet))), CURRENT)
    else:
        write_hpv(output_dir, True, CURRENT)


def misbehave(fault: str | None, input_dir: Path, output_dir: Path) -> None:
    """Misbehave in the way that the card states."""
    if fault == "sleeps":
        time.sleep(60)
    if fault == "talks on stderr":
        atexit.register(os.write, 2, b"a library's warning\n")  # after the job has ended
    if fault == "writes more":
        (output_dir / "debug.txt").write_text("left behind")
    if fault == "tells its conditions":
        conditions = {
            "data_limit": resource.getrlimit(resource.RLIMIT_DATA)[0],
            "input_is_link": input_dir.is_symlink(),
            "input_mode": oct((input_dir / "ehr.json").stat().st_mode & 0o777),
            "output": os.listdir(output_dir),
            "environment": sorted(os.environ),
            "network": sorted(os.listdir("/sys/class/net")) if os.geteuid() == 0 else None,
        }
        print("conditions: " + json.dumps(conditions))


if __name__ == "__main__":
    raise SystemExit(main(init_model, run, baked_model=Path(__file__).parent / "model"))

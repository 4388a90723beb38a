"""nnU-Net's own predictor and our Task 1: `python -m tests.benchmarks.nnunet FOLDER`.

The command makes an environment with nnU-Net, trains a small nnU-Net on phantoms with nnU-Net's own
trainer, and imports it. Then both programs segment the same two cases with the same weights, one
program after the other: (a) a prepared region of a held-out patient, and (b) a whole scan of
512x512x300 voxels. The command prints the seconds of each stage, the CPU seconds of the network,
the peak memory, and the DSC between the two masks. Whatever FOLDER already contains is not made
again, so a restart resumes.

In (b), nnU-Net gets a PET on the CT's grid and segments the whole scan, while our program finds the
region first. nnU-Net also takes the scale of the PET from the whole scan, so the two masks of (b)
need not agree.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from tests.benchmarks.nnunet_environment import (
    CHECKPOINT,
    make_environment,
    results_folder,
    run_nnunet,
)

REPOSITORY: Final = Path(__file__).resolve().parents[2]
DATASET: Final = 25
PATIENTS: Final = 10
STAGES: Final = ("start-up", "preprocessing", "network", "export")
LEAST_DSC: Final = 0.995
LEAST_NETWORK_RATIO: Final = 2.5
LEAST_OTHER_RATIO: Final = 10.0
LEAST_MEMORY_RATIO: Final = 3.0

Part = Literal["a", "b"]
PARTS: Final[tuple[Part, ...]] = ("a", "b")
FolderArgument = Annotated[Path, typer.Argument(help="Folder for everything; several GB.")]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command("run")
def run(
    folder: FolderArgument,
    iterations: Annotated[int, typer.Option(help="Training iterations; 75 take minutes.")] = 75,
    part: Annotated[Part | None, typer.Option(help="Only this case; by default both.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Times that each program runs.")] = 1,
    mirror: Annotated[
        bool, typer.Option(help="Mirror each window along all axes, which takes 8 times as long.")
    ] = False,
    network: Annotated[
        bool, typer.Option(help="Run nnU-Net's network; without it, only the rest is compared.")
    ] = True,
) -> None:
    """Make what is missing, and compare the two programs."""
    folder = folder.resolve()
    results = _trained(folder, iterations)
    for name in PARTS if part is None else (part,):
        _compare(name, folder, results, rounds=rounds, mirror=mirror, network=network)


def _trained(folder: Path, iterations: int) -> Path:
    """Make environment, cohort, data set, network and model folder; return the results folder."""
    raw, preprocessed = folder / "raw", folder / "pre"
    name = f"Dataset{DATASET:03d}_HECKTOR"
    results = results_folder(folder, name)
    make_environment(folder)
    if not (raw / name / "splits_final.json").exists():
        cohort = str(folder / "cohort")
        _ours("training.phantom", cohort, "--patients", str(PATIENTS), "--small", "--seed", "11")
        _ours(
            "training", "nnunet-dataset", cohort, str(raw),
            "--runs", str(folder / "runs"), "--folds", "2",
        )  # fmt: skip
    if not (results / "fold_0" / CHECKPOINT).exists():
        run_nnunet(folder, "plan", dataset=DATASET)
        splits = (raw / name / "splits_final.json").read_bytes()
        (preprocessed / name / "splits_final.json").write_bytes(splits)
        run_nnunet(folder, "train", dataset=DATASET, fold=0, iterations=iterations)
    if not (folder / "model/model.json").exists():
        _ours("training", "import-nnunet", str(results), "--model", str(folder / "model"))
    return results


def _compare(
    name: Part, folder: Path, results: Path, *, rounds: int, mirror: bool, network: bool
) -> None:
    files = _region_files(folder) if name == "a" else _scan_files(folder)
    measured: dict[str, list[dict[str, float]]] = {"nnU-Net": [], "ours": []}
    masks = {"nnU-Net": folder / f"nnunet_{name}.nii.gz", "ours": folder / f"ours_{name}.nii.gz"}
    for _ in range(rounds):
        ours = _ours(
            "tests.benchmarks.nnunet", "ours", name, str(folder), str(masks["ours"]),
            str(time.time()), "--mirror" if mirror else "--no-mirror",
        )  # fmt: skip
        measured["ours"].append(json.loads(ours.splitlines()[-1]))
        output = str(masks["nnU-Net"]).removesuffix(".nii.gz")
        words = run_nnunet(
            folder, "predict", model=str(results), files=[str(file) for file in files],
            output=output, mirror=mirror, network=network, started=time.time(),
        )  # fmt: skip
        measured["nnU-Net"].append(json.loads(words.splitlines()[-1]))
    best = {
        who: {key: min(r[key] for r in rows) for key in rows[0]} for who, rows in measured.items()
    }
    theirs, mine = best["nnU-Net"], best["ours"]
    cases = {"a": "region of 144³ at 2 mm", "b": "whole scan of 512x512x300"}
    print(f"({name}) {cases[name]}, {'with' if mirror else 'without'} mirroring")
    print(f"  {'':16}{'nnU-Net':>10}{'ours':>10}{'ratio':>10}")
    for key in theirs:
        if not network and key.startswith("network"):
            continue
        unit = "GB" if key == "peak_gb" else "s"
        ratio = theirs[key] / mine[key]
        print(f"  {key:16}{theirs[key]:8.2f} {unit:2}{mine[key]:7.2f} {unit:2}{ratio:9.1f}")
    others = [sum(row[key] for key in STAGES if key != "network") for row in (theirs, mine)]
    limits = [("ratio of all else", others[0] / others[1], LEAST_OTHER_RATIO)]
    if name == "b":
        limits.append(("memory ratio", theirs["peak_gb"] / mine["peak_gb"], LEAST_MEMORY_RATIO))
    if network:
        ratio = theirs["network"] / mine["network"]
        limits.append(("network ratio", ratio, LEAST_NETWORK_RATIO))
        for label, value in _dsc(masks["nnU-Net"], masks["ours"]).items():
            limits.append((f"DSC of {label}", value, LEAST_DSC))
    for text, value, least in limits:
        verdict = "ok" if value >= least else "TOO LITTLE"
        print(f"  {text:20}{value:8.4f} (at least {least:g}) {verdict}")


@app.command(hidden=True)
def ours(part: Part, folder: Path, output: Path, started: float, mirror: bool = True) -> None:
    """Segment a case with our Task 1, and print the seconds of each stage as JSON."""
    import numpy as np
    import SimpleITK as sitk

    from shared.editions import CURRENT
    from shared.geometry import Grid
    from shared.grand_challenge.inputs import read_case
    from shared.models.segmentation import SegmentationModel
    from shared.postprocessing.restore import SegmentedRegion, restore
    from shared.preprocessing.pipeline import Prepared, Undo, prepare
    from shared.preprocessing.region import BODY_HU
    from shared.resources import peak_memory_gb

    model = SegmentationModel.load(folder / "model")
    times = [started, time.time()]
    if part == "a":
        images = [sitk.ReadImage(str(file)) for file in _region_files(folder)]
        ct_hu, pet_suv = (sitk.GetArrayFromImage(image) for image in images)
        grid = Grid.of(images[0])
        prepared = Prepared(
            ct_hu=ct_hu, pet_suv=pet_suv, body=ct_hu > BODY_HU, undo=Undo(grid, grid), remarks=()
        )
    else:
        prepared = prepare(read_case(folder / "scan", CURRENT), model.card.preparation)
    times.append(time.time())
    cpu_seconds = -time.process_time()
    probabilities = model.predict_probabilities(prepared, None if mirror else ())
    cpu_seconds += time.process_time()
    times.append(time.time())
    labels = probabilities.argmax(axis=0).astype(np.uint8)
    mask = restore(SegmentedRegion(labels=labels, probabilities=probabilities), prepared.undo)
    sitk.WriteImage(mask, str(output), useCompression=True)
    times.append(time.time())
    seconds = {name: b - a for name, a, b in zip(STAGES, times, times[1:], strict=False)}
    seconds["network CPU"] = cpu_seconds
    print(json.dumps(seconds | {"peak_gb": peak_memory_gb()}))


def _region_files(folder: Path) -> list[Path]:
    """Return CT and PET of the first patient whom the network was not trained on."""
    dataset = next((folder / "raw").iterdir())
    splits = json.loads((dataset / "splits_final.json").read_text())
    return [dataset / f"imagesTr/{splits[0]['val'][0]}_{k:04d}.nii.gz" for k in range(2)]


def _scan_files(folder: Path) -> list[Path]:
    """Make a whole-body case, and return its CT and its PET on the CT's grid, for nnU-Net."""
    import SimpleITK as sitk

    from tests.benchmarks.speed import make_case

    files = [folder / f"scan_{k:04d}.nii.gz" for k in range(2)]
    if not files[1].exists():
        if not (folder / "scan").exists():
            make_case(folder / "scan")
        ct = sitk.ReadImage(str(folder / "scan/images/ct/ct.mha"), sitk.sitkFloat32)
        pet = sitk.ReadImage(str(folder / "scan/images/pet/pet.mha"), sitk.sitkFloat32)
        sitk.WriteImage(ct, str(files[0]))
        sitk.WriteImage(
            sitk.Resample(pet, ct, sitk.Transform(), sitk.sitkLinear, 0.0), str(files[1])
        )
    return files


def _dsc(first: Path, second: Path) -> dict[str, float]:
    """Return the DSC between two masks of GTVp, GTVn and both together."""
    import SimpleITK as sitk

    from shared.conventions import LESIONS, Label
    from shared.metrics.segmentation import dice

    theirs, mine = (sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in (first, second))
    scores = {name: dice(theirs, mine, label) for name, label in LESIONS.items()}
    lesions = [(mask > 0).astype(mask.dtype) for mask in (theirs, mine)]
    return scores | {"both": dice(lesions[0], lesions[1], Label.GTVP)}


def _ours(module: str, *words: str) -> str:
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(
        command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    app()

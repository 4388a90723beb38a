"""Seconds and memory of a Task 1 case: `python -m tests.benchmarks.speed`.

The command times every stage except the network on a whole-body phantom of 512x512x300 voxels, with
linear and with B-spline interpolation. It also times the start of a process up to the first network
call, and one window of the network in the serving runtime and in torch. It fails if a limit is
exceeded. The limits are for seconds on an idle machine. The CPU seconds, which are also printed,
depend less on other programs. Each measurement runs in a separate process, because the peak memory
of a process never falls.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import typer

REPOSITORY: Final = Path(__file__).resolve().parents[2]
SAMPLE_CASE: Final = REPOSITORY / "tests/cases/whole_body/input"
SLICES: Final = 300
NETWORKS: Final = {
    "reference": ((16, 32, 64, 128, 256), (96, 96, 96)),
    "demo": ((16, 32, 64, 80, 80), (80, 80, 80)),
    "paper": ((32, 64, 128, 256, 320), (128, 128, 128)),
}
"""Filters and window of each network. The ratio of the two runtimes depends on network and CPU, and
its limit is for the reference network. The paper's window is 192³, which takes half a minute per
call, so it is smaller here."""
REPEATS: Final = 7
"""Processes that time the reference network. The limit is for their median: ratios vary by 5 %."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def make_case(folder: Path) -> None:
    """Write a whole-body PET/CT of 512x512x300 voxels as a Grand Challenge case."""
    import SimpleITK as sitk

    from training.phantom import Kind, make_patient

    kind = Kind(spacing_mm=(0.98, 0.98, 3.27), whole_body=True, bqml=False)
    patient = make_patient(seed=1, index=0, kind=kind)
    ct = patient.ct_hu
    first = max(0, ct.GetSize()[2] - SLICES)
    for name, image in (("ct", ct[:, :, first:]), ("pet", patient.pet_suv)):
        path = folder / "images" / name / f"{name}.mha"
        path.parent.mkdir(parents=True)
        sitk.WriteImage(image, str(path), useCompression=True)
    (folder / "ehr.json").write_text(json.dumps(patient.ehr), encoding="utf-8")


@app.command(hidden=True)
def stages(folder: Path, interpolation: str) -> None:
    """Print seconds and CPU seconds of each stage without a network, and peak memory, as JSON."""
    import numpy as np
    import SimpleITK as sitk

    from shared.conventions import Label
    from shared.editions import CURRENT
    from shared.grand_challenge.inputs import read_case
    from shared.grand_challenge.outputs import write_segmentation
    from shared.postprocessing.components import remove_small
    from shared.postprocessing.restore import SegmentedRegion, restore
    from shared.preprocessing.pipeline import prepare
    from shared.preprocessing.region import Preparation, find_region
    from shared.resources import peak_memory_gb

    seconds: dict[str, float] = {}
    cpu_seconds: dict[str, float] = {}

    def timed(name: str, stage: Callable[..., Any], *arguments: object) -> Any:
        started, cpu_started = time.perf_counter(), time.process_time()
        result = stage(*arguments)
        seconds[name] = time.perf_counter() - started
        cpu_seconds[name] = time.process_time() - cpu_started
        return result

    preparation = Preparation.model_validate(
        {"spacing_mm": 1.0, "size_xyz": (288, 288, 288), "interpolation": interpolation}
    )
    case = timed("read", read_case, folder, CURRENT)
    size = "x".join(str(n) for n in case.ct_hu.GetSize())
    timed("find the region", find_region, case.ct_hu, case.pet, preparation)
    prepared = timed("prepare", prepare, case, preparation)
    del case  # as in Task 1's program
    for times in (seconds, cpu_seconds):
        times["resample"] = times.pop("prepare") - times["find the region"]
    labels = np.zeros(prepared.ct_hu.shape, np.uint8)
    labels[120:160, 120:160, 120:160] = Label.GTVP
    labels[60:80, 180:200, 120:150] = Label.GTVN
    minimum = dict.fromkeys((Label.GTVP, Label.GTVN), 100.0)
    labels = timed("components", remove_small, labels, 1.0, minimum)
    probabilities = np.empty((len(Label), *labels.shape), np.float32)
    for label in Label:
        probabilities[label] = labels == label
    segmented = SegmentedRegion(labels=labels, probabilities=probabilities)
    mask = timed("restore", restore, segmented, prepared.undo)
    with tempfile.TemporaryDirectory() as output:
        timed("write", write_segmentation, Path(output), mask, CURRENT)
    assert sitk.GetArrayViewFromImage(mask).any(), "the lesions must be in the mask"
    result = {"size": size, "seconds": seconds, "cpu_seconds": cpu_seconds}
    print(json.dumps({**result, "peak_gb": peak_memory_gb()}))


@app.command(hidden=True)
def start() -> None:
    """Print the seconds from the process's start to the first network call, as JSON."""
    import psutil

    sys.path.insert(0, str(REPOSITORY / "task1_segmentation"))
    import inference  # type: ignore[import-not-found]

    from shared.models.onnx import Network

    def report(*_: object, **__: object) -> None:
        seconds = time.time() - psutil.Process().create_time()
        print(json.dumps({"seconds": seconds}))
        raise SystemExit

    Network.__call__ = report  # type: ignore[method-assign,assignment]
    with tempfile.TemporaryDirectory() as output:
        model = inference.init_model(REPOSITORY / "task1_segmentation/model")
        inference.run(model, SAMPLE_CASE, Path(output))


@app.command(hidden=True)
def window(name: str) -> None:
    """Print seconds of one window of a network in the serving runtime and in torch, as JSON."""
    import numpy as np
    import torch
    from numpy.random import default_rng

    from shared.models.card import load_card
    from shared.models.networks.dynunet import DynUNetConfig
    from shared.models.onnx import Network
    from shared.models.segmentation import SegmentationCard
    from training.export.model_folder import MemberModel, export_model

    torch.manual_seed(0)
    filters, size = NETWORKS[name]
    config = DynUNetConfig(filters=filters)
    trained = config.build(in_channels=2).eval()
    network = config.reference(trained)
    card = load_card(REPOSITORY / "task1_segmentation/model", SegmentationCard)
    card = card.model_copy(update={"window_zyx": size})
    image = default_rng(0).normal(size=(1, 2, *size)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_model(MemberModel(name="network", model=trained, config=config), path, card)
        served = Network(path)
        tensor = torch.from_numpy(image)
        with torch.inference_mode():
            torch_seconds, seconds = _best_in_turn(
                lambda: network(tensor), lambda: served(image=image)
            )
    result = {"provider": served.provider, "seconds": seconds, "torch": torch_seconds}
    print(json.dumps({"size": size, **result}))


@app.command("run")
def run() -> None:
    """Measure everything, print it, and fail if a limit is exceeded."""
    is_fast = True
    with tempfile.TemporaryDirectory() as folder:
        make_case(Path(folder))
        for interpolation, limit in (("linear", 3.0), ("bspline", 7.0)):
            measured = _measure("stages", folder, interpolation)
            print(f"{interpolation}, CT {measured['size']}, region 288³ at 1 mm")
            for name, seconds in measured["seconds"].items():
                cpu_seconds = measured["cpu_seconds"][name]
                print(f"  {name:16} {seconds:6.2f} s, {cpu_seconds:6.2f} s of CPU")
            print(f"  CPU time of all  {sum(measured['cpu_seconds'].values()):6.2f} s")
            total = sum(measured["seconds"].values())
            is_fast &= _report("all but the network", total, limit, "s")
            is_fast &= _report("peak memory", measured["peak_gb"], 2.0, "GB")
    is_fast &= _report(
        "process start to first network call", _measure("start")["seconds"], 2.0, "s"
    )
    for name in NETWORKS:
        ratios = []
        for _ in range(REPEATS if name == "reference" else 1):
            measured = _measure("window", name)
            ratios.append(measured["torch"] / measured["seconds"])
            print(
                f"{name} network, one window of {measured['size']}: {measured['provider']} "
                f"{measured['seconds']:.2f} s, torch fp32 {measured['torch']:.2f} s, "
                f"{ratios[-1]:.2f} times as fast"
            )
        if name == "reference":
            is_fast &= _report("torch seconds per serving second", -median(ratios), -2.5, "")
    raise SystemExit(0 if is_fast else 1)


def _best_in_turn(*calls: Callable[[], object], rounds: int = 8) -> list[float]:
    """Return the shortest time of each call; calls alternate, so that other load affects all."""
    seconds: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, seconds, strict=True):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return [min(times) for times in seconds]


def _measure(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.speed", *arguments]
    process = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return measured


def _report(name: str, value: float, highest: float, unit: str) -> bool:
    """Print a value and its limit; a negative limit is one that the value must not fall below."""
    word = "at most" if highest > 0 else "at least"
    is_within = value <= highest
    print(
        f"  {name:36} {abs(value):6.2f} {unit} ({word} {abs(highest):g} {unit}) "
        f"{'ok' if is_within else 'TOO MUCH' if highest > 0 else 'TOO LITTLE'}"
    )
    return is_within


if __name__ == "__main__":
    app()

"""Training and inference on a GPU, within minutes: `python -m tests.benchmarks.gpu OUT`.

The stages run in this order:

- `versions`: the versions of the software, and the device.
- `phantoms`: makes many small phantoms, and a few of full size.
- `steps`: steps of the configuration `paper` for each task, and the precisions compared on one
  batch.
- `training`: trains each task in the configuration `demo`, Task 1 for as many epochs as `--minutes`
  allows.
- `inference`: the trained `demo` network with torch and with ONNX Runtime, and the `paper` network
  with torch, each compared with torch on the CPU.

Each stage writes OUT/STAGE.md before the next one starts, so an interruption loses only the current
stage. A restart skips the stages that are complete. The trained models are in OUT/model/TASK.

`--device cpu --quick` rehearses every stage on a CPU with few phantoms and one epoch. `demo` takes
the place of `paper`, and the inference of the `paper` network is left out.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Final, Literal

import monai
import numpy as np
import torch
import typer
from scipy.special import softmax
from torch import nn

from shared.conventions import LESIONS, Volume
from shared.files import write_whole
from shared.metrics.segmentation import dice
from shared.models.card import load_card
from shared.models.onnx import PROVIDERS, Network
from shared.models.segmentation import SegmentationCard
from shared.models.sliding_window import sliding_window
from shared.resources import granted_cpus
from tests.benchmarks.steps import time_steps, training_on
from training.cohort.cache import PreparedPatient, prepare_cohort
from training.cohort.folds import HoldOut
from training.config import Configuration, Precision, load_configuration
from training.export.record import read_run
from training.export.run import WEIGHTS
from training.loop.hardware import Device, Hardware
from training.loop.memory import autocast
from training.tasks.base import FoldTraining, Task
from training.tasks.discovery import TASKS
from training.train import Options, train_patients

PRECISIONS: Final[tuple[Precision, ...]] = ("32-true", "bf16-mixed", "16-mixed")
GRADIENT_SCALE: Final = 1024.0
"""Factor on the loss before the backward pass, so that gradients in fp16 do not become 0."""
HELD_OUT: Final = 12
"""How many of the small phantoms the training holds out, as for the demo weights."""
PATIENTS_AT_FULL_SIZE: Final = 8
"""How many patients the steps of `paper` use; preparing one takes several seconds."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@dataclass(frozen=True, kw_only=True)
class Session:
    """The options of the command, which all stages share."""

    out: Path
    device: Device
    is_quick: bool
    patients: int
    seed: int
    minutes: float
    anatomy: Path | None

    @property
    def hardware(self) -> Hardware:
        """One GPU, or the CPU."""
        return Hardware(devices=1, accelerator="gpu" if self.device == "cuda" else "cpu")

    @property
    def hold_out(self) -> HoldOut:
        """The patients whom Task 1 does not train on."""
        return HoldOut(count=8 if self.is_quick else HELD_OUT)

    @property
    def workers(self) -> int:
        """Number of processes that load data."""
        return 0 if self.is_quick else min(granted_cpus() - 1, 12)

    def prepared(self, configuration: Configuration, name: str) -> list[PreparedPatient]:
        """Return the prepared patients of a cohort in OUT."""
        return prepare_cohort(
            self.out / name,
            self.out / "cache" / name,
            configuration.preparation,
            workers=granted_cpus(),
        )

    def training_on(
        self,
        task: Task,
        configuration: Configuration,
        patients: list[PreparedPatient],
        *,
        workers: int = 0,
        steps: int = 1,
    ) -> FoldTraining:
        """Return the training of a fold, see `tests.benchmarks.steps.training_on`."""
        return training_on(
            task,
            configuration,
            patients,
            runs=self.out / "runs",
            workers=workers,
            steps=steps,
            hardware=self.hardware,
        )


def versions(session: Session) -> Iterator[str]:
    """Yield the versions and the device."""
    yield f"Python {platform.python_version()}"
    yield f"torch {torch.__version__}, MONAI {monai.__version__}"
    if session.device == "cuda":
        gpu = torch.cuda.get_device_properties(0)
        yield f"{gpu.name}, {gpu.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}"
    yield f"{granted_cpus()} CPUs"


def phantoms(session: Session) -> Iterator[str]:
    """Make the cohorts and yield the seconds."""
    sizes = {"cohort": 24 if session.is_quick else session.patients}
    real = () if session.anatomy is None else ("--anatomy", session.anatomy, "--real-share", "0.4")
    if not session.is_quick:
        sizes["full_size"] = PATIENTS_AT_FULL_SIZE
    for name, count in sizes.items():
        started = time.perf_counter()
        subprocess.run(
            [
                *(sys.executable, "-m", "training.phantom", str(session.out / name)),
                *(
                    "--patients",
                    str(count),
                    "--seed",
                    str(session.seed),
                    "--workers",
                    str(granted_cpus()),
                ),
                *("--prevalence", "0.6"),  # so that even a few patients include both HPV statuses
                *(["--small", *map(str, real)] if name == "cohort" else []),
            ],
            check=True,
        )
        yield f"{name}: {count} phantoms in {time.perf_counter() - started:.0f} s"


def steps(session: Session) -> Iterator[str]:
    """Take steps of each task and yield a table."""
    configuration = load_configuration("demo" if session.is_quick else "paper")
    patients = session.prepared(configuration, "cohort" if session.is_quick else "full_size")
    count = 2 if session.is_quick else 20
    yield "| task | s per step | waiting for data | peak GB on the GPU |"
    yield "|---|---|---|---|"
    for task in TASKS.values():
        training = session.training_on(
            task, configuration, patients, workers=session.workers, steps=count + 1
        )
        times = time_steps(task, training, count)
        memory = "" if times.peak_gpu_gb is None else f"{times.peak_gpu_gb:.1f}"
        yield f"| {task.name} | {times.total:.3f} | {times.waiting / times.total:.0%} | {memory} |"
    yield ""
    yield from precisions(session, configuration, patients)


def precisions(
    session: Session, configuration: Configuration, patients: list[PreparedPatient]
) -> Iterator[str]:
    """Yield the loss of a batch of each task in each precision, and the cosine of its gradient."""
    yield "| task | precision | loss | cosine of the gradient with that in fp32 |"
    yield "|---|---|---|---|"
    for task in TASKS.values():
        training = session.training_on(task, configuration, patients)
        torch.manual_seed(0)
        module = task.module(training).to(session.device).eval()
        # The samples are in float32, so that all precisions see the same numbers.
        exact = replace(training, hardware=replace(session.hardware, precision="32-true"))
        samples = next(iter(task.loaders(exact)[0]))
        batch = {name: value.to(session.device) for name, value in samples.items()}
        reference: torch.Tensor | None = None
        for precision in PRECISIONS:
            if session.device == "cpu" and precision == "16-mixed":
                continue
            module.zero_grad()
            with autocast(session.device, precision):
                loss = module.loss(batch)
            (GRADIENT_SCALE * loss).backward()
            gradients = [p.grad.flatten() for p in module.parameters() if p.grad is not None]
            gradient = torch.cat(gradients).double() / GRADIENT_SCALE
            reference = gradient if reference is None else reference
            cosine = float(nn.functional.cosine_similarity(gradient, reference, dim=0))
            yield f"| {task.name} | {precision} | {float(loss.detach()):.5f} | {cosine:.5f} |"


def training(session: Session) -> Iterator[str]:
    """Train the configuration `demo`, and yield the epochs and the minutes of each task.

    On a GPU, Task 1's crops are as large as its windows: a step takes 33 ms, instead of 30 ms with
    the smaller crops of `demo`.
    """
    configuration = _with_true_inputs(load_configuration("demo"))
    if session.is_quick:
        configuration = _quick(configuration)
    elif session.device == "cuda":
        configuration = _with_large_crops(configuration)
    patients = session.prepared(configuration, "cohort")
    runs = session.out / "runs"
    for task in TASKS.values():
        started = time.perf_counter()
        train_patients(
            task,
            patients,
            configuration,
            runs=runs,
            options=Options(
                configuration="demo",
                # Tasks 2 and 3 hold out the same patients as Task 1, which is the default.
                hold_out=HoldOut() if task.follows else session.hold_out,
                workers=session.workers,
                model=session.out / "model" / task.name,
                hardware=session.hardware,
                # The other tasks take seconds: Task 3's encoder is frozen, and Task 2 is linear.
                hours=None if task.follows or session.is_quick else session.minutes / 60,
            ),
        )
        minutes = (time.perf_counter() - started) / 60
        kinds = " and ".join(task.kinds(configuration))
        settings = task.settings(read_run(runs / task.name).configuration)
        epochs = f", {settings.epochs} epochs" if "network" in kinds else ""
        yield f"{task.name}: {kinds}{epochs}, in {minutes:.1f} minutes"


def _with_true_inputs(configuration: Configuration) -> Configuration:
    """Return the configuration with true masks and HPV status: Task 1 has only one fold here."""
    return configuration.model_copy(
        update={
            "hpv": configuration.hpv.model_copy(update={"masks": "true"}),
            "survival": configuration.survival.model_copy(update={"masks": "true", "hpv": "true"}),
        }
    )


def _with_large_crops(configuration: Configuration) -> Configuration:
    task1 = configuration.segmentation
    larger = task1.model_copy(update={"crop_zyx": task1.window_zyx})
    return configuration.model_copy(update={"segmentation": larger})


def _quick(configuration: Configuration) -> Configuration:
    """Return the configuration with one epoch of Tasks 1 and 3."""
    task1, task3 = configuration.segmentation, configuration.hpv
    short = {"epochs": 1, "validate_every_epochs": 1}
    mean = None if task1.averaging is None else task1.averaging.model_copy(update={"epochs": 1})
    return configuration.model_copy(
        update={
            "segmentation": task1.model_copy(update={**short, "averaging": mean}),
            "hpv": task3.model_copy(update={**short, "batch_size": 4}),
        }
    )


def inference(session: Session) -> Iterator[str]:
    """Yield the seconds of both networks, and how well they agree with torch on the CPU."""
    yield from _demo_on_a_region(session)
    if not session.is_quick:
        yield ""
        yield from _paper_on_a_window(session)


def _demo_on_a_region(session: Session) -> Iterator[str]:
    """Segment one region with the trained `demo` network and yield seconds and DSC."""
    configuration = load_configuration("demo")
    network, image = _network_and_image(session, configuration, "cohort")
    (weights,) = (session.out / "runs/segmentation").glob(f"fold*/{WEIGHTS['network']}")
    network.load_state_dict(torch.load(weights, weights_only=True))
    folder = session.out / "model/segmentation"
    graph = folder / load_card(folder, SegmentationCard).members[0].file

    predictors: dict[str, Callable[[Volume], Volume]] = {
        "torch on cpu": partial(_torch, network, "cpu")
    }
    if session.device == "cuda":
        predictors["torch on cuda"] = partial(_torch, network, "cuda")
    for provider in PROVIDERS:
        runtime = Network(graph, [provider])
        if runtime.provider == provider:
            predictors[f"ONNX Runtime, {provider}"] = partial(_graph, runtime)
    yield "| demo network, one region | seconds | DSC with torch on the CPU, GTVp and GTVn |"
    yield "|---|---|---|"
    reference = None
    for name, predict in predictors.items():
        _on_region(predict, image, configuration)  # warm-up, which is not timed
        logits, seconds = _on_region(predict, image, configuration)
        labels = logits.argmax(axis=0).astype(np.uint8)
        reference = labels if reference is None else reference
        scores = ", ".join(f"{dice(labels, reference, label):.4f}" for label in LESIONS.values())
        yield f"| {name} | {seconds:.2f} | {scores} |"


def _paper_on_a_window(session: Session) -> Iterator[str]:
    """Yield the seconds of the `paper` network, with random weights, on one window of a region."""
    configuration = load_configuration("paper")
    torch.manual_seed(0)
    network, image = _network_and_image(session, configuration, "full_size")
    size_z, size_y, size_x = configuration.segmentation.window_zyx
    window = image[None, :, :size_z, :size_y, :size_x]
    started = time.perf_counter()
    reference = softmax(_torch(network, "cpu", window), axis=1)
    seconds = time.perf_counter() - started
    yield "| paper network, one window | seconds | largest difference of a probability | labels |"
    yield "|---|---|---|---|"
    yield f"| torch on cpu | {seconds:.2f} | | |"
    for precision in PRECISIONS:
        with autocast("cuda", precision):
            _torch(network, "cuda", window)  # warm-up, which is not timed
            started = time.perf_counter()
            probabilities = softmax(_torch(network, "cuda", window), axis=1)
            seconds = time.perf_counter() - started
        difference = np.abs(probabilities - reference).max()
        equal = np.mean(probabilities.argmax(axis=1) == reference.argmax(axis=1))
        yield f"| torch on cuda, {precision} | {seconds:.2f} | {difference:.4f} | {equal:.4f} |"


def _network_and_image(
    session: Session, configuration: Configuration, cohort: str
) -> tuple[nn.Module, Volume]:
    """Return the untrained network of Task 1, and the channels of a patient's region."""
    task = TASKS["segmentation"]
    patient = session.prepared(configuration, cohort)[:1]
    fold = session.training_on(task, configuration, patient)
    image = task.windows(patient, fold)[0]["image"].float().numpy()
    return task.network(configuration, ()), image


def _on_region(
    predict: Callable[[Volume], Volume], image: Volume, configuration: Configuration
) -> tuple[Volume, float]:
    """Return the logits of a region, and the seconds."""
    serving = configuration.segmentation
    started = time.perf_counter()
    logits = sliding_window(
        predict,
        image,
        window_zyx=serving.window_zyx,
        overlap=serving.overlap,
        outputs=len(LESIONS) + 1,
    )
    return logits, time.perf_counter() - started


def _torch(network: nn.Module, device: Literal["cuda", "cpu"], window: Volume) -> Volume:
    network.to(device).eval()
    with torch.inference_mode():
        logits: Volume = network(torch.from_numpy(window).to(device)).float().cpu().numpy()
    return logits


def _graph(network: Network, window: Volume) -> Volume:
    return network(image=window)


STAGES: Final = (versions, phantoms, steps, training, inference)


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="Folder for cohorts, runs, models and tables.")],
    device: Annotated[Device, typer.Option(help="cpu only to rehearse.")] = "cuda",
    patients: Annotated[int, typer.Option(min=1, help="Small phantoms to train on.")] = 240,
    seed: Annotated[int, typer.Option(help="Of the phantoms.")] = 17,
    quick: Annotated[bool, typer.Option("--quick", help="A rehearsal of all stages.")] = False,
    minutes: Annotated[float, typer.Option(min=0.5, help="For the training of Task 1.")] = 4,
    stage: Annotated[
        list[str] | None, typer.Option(help="Run only this one; may be repeated.")
    ] = None,
    anatomy: Annotated[
        Path | None,
        typer.Option(help="Real CTs for a part of the phantoms, see training/phantom/README.md."),
    ] = None,
) -> None:
    """Run the stages, and print their tables."""
    unknown = set(stage or ()) - {each.__name__ for each in STAGES}
    if unknown:
        names = ", ".join(each.__name__ for each in STAGES)
        sys.exit(f"expected stages among {names}, found {', '.join(sorted(unknown))}")
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("expected a GPU that torch sees, found none; rehearse with --device cpu --quick")
    session = Session(
        out=out.resolve(),
        device=device,
        is_quick=quick,
        patients=patients,
        seed=seed,
        minutes=minutes,
        anatomy=anatomy,
    )
    out.mkdir(parents=True, exist_ok=True)
    for each in STAGES:
        if stage and each.__name__ not in stage:
            continue
        table = out / f"{each.__name__}.md"
        if not table.exists():
            started = time.perf_counter()
            lines = list(each(session))
            lines.append(f"\n{time.perf_counter() - started:.0f} s")
            write_whole(table, "\n".join(lines) + "\n")
        print(f"## {each.__name__}\n\n{table.read_text(encoding='utf-8')}", flush=True)


if __name__ == "__main__":
    app()

"""The training loop: it resumes, averages weights, and gives the same result on two processes."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import lightning
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.metrics.segmentation import Detections, Overlap
from tests.training.synthetic import configuration, fold_training, make_patient
from tests.training.two_processes import run_on_two
from training.cohort.cache import PreparedPatient
from training.config import Configuration
from training.loop.fit import NETWORK, RESULT, FitResult, fit
from training.loop.hardware import Hardware, TrainingError
from training.records import read_record
from training.samples.batches import Share
from training.samples.dataset import Sample
from training.tasks.base import FoldTraining
from training.tasks.segmentation import Segmentation, SegmentationModule, Totals

CPU = Hardware(devices=1, accelerator="cpu")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Ignore the warnings of Lightning and MONAI."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def patients() -> list[PreparedPatient]:
    return [make_patient(number) for number in range(6)]


def first_four(patients: list[PreparedPatient], settings: Configuration) -> FoldTraining:
    """Return a training on the first four patients that holds out the others."""
    return fold_training(settings, patients[:4], patients[4:], seed=3)


def train(
    training: FoldTraining,
    folder: Path,
    make: Callable[[], SegmentationModule] | None = None,
    hardware: Hardware = CPU,
) -> nn.Module:
    task = Segmentation()
    torch.manual_seed(training.seed)
    make = make or (lambda: task.module(training))
    return fit(make, *task.loaders(training), folder, hardware).network


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


class Interrupted(SegmentationModule):
    """A module whose training is interrupted in the middle of an epoch."""

    def __init__(self, *arguments: Any, after: int) -> None:
        super().__init__(*arguments)
        self.steps_left = after

    def loss(self, batch: Sample) -> Tensor:
        if self.steps_left == 0:
            raise InterruptedError
        self.steps_left -= 1
        return super().loss(batch)


class SampleRecorder(SegmentationModule):
    """A module that records the samples of its training."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.samples: list[float] = []

    def loss(self, batch: Sample) -> Tensor:
        self.samples += [float(image.double().sum()) for image in batch["image"]]
        return super().loss(batch)


Module = TypeVar("Module", bound=SegmentationModule)


def factory(
    kind: type[Module], training: FoldTraining, modules: list[Module], **arguments: Any
) -> Callable[[], Module]:
    """Return a function that makes a module of a kind and appends it to `modules`."""

    def make() -> Module:
        settings = training.configuration
        network = Segmentation().network(settings, ())
        modules.append(kind(network, settings.segmentation, training.seed, 6.0, **arguments))
        return modules[-1]

    return make


@pytest.mark.parametrize(
    ("after", "steps_left"),
    [(3, [4, 4, 0, 0]), (9, [0, 2, 0, 0])],
    ids=["in the main training", "in averaging"],
)
def test_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    patients: list[PreparedPatient], tmp_path: Path, after: int, steps_left: list[int]
) -> None:
    """The weights agree to 1e-6 after 3 epochs of 2 steps and 2 epochs of averaging.

    No epoch is repeated. The last two modules, with the weights to serve and the late
    weights, are not trained.
    """
    training = first_four(patients, configuration(epochs=3, averaging=2))
    whole = train(training, tmp_path / "whole")
    settings = training.configuration.segmentation
    steps = iter([after, max(0, after - 6)])

    def make() -> SegmentationModule:
        network = Segmentation().network(training.configuration, ())
        return Interrupted(network, settings, training.seed, 6.0, after=next(steps))

    with pytest.raises(InterruptedError):
        train(training, tmp_path / "parts", make)
    assert not (tmp_path / "parts" / RESULT).exists()
    modules: list[SampleRecorder] = []
    resumed = train(training, tmp_path / "parts", factory(SampleRecorder, training, modules))
    assert [len(module.samples) // 2 for module in modules] == steps_left
    torch.testing.assert_close(weights(resumed), weights(whole), atol=1e-6, rtol=0)
    one, other = (read_record(FitResult, tmp_path / name / RESULT) for name in ("whole", "parts"))
    assert one.model_copy(update={"train_seconds": other.train_seconds}) == other


def test_complete_training_is_not_repeated(patients: list[PreparedPatient], tmp_path: Path) -> None:
    training = first_four(patients, configuration(epochs=1))
    first = train(training, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = train(training, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert torch.equal(weights(first), weights(again))


class WeightRecorder(SegmentationModule):
    """A module that records its weights after each epoch; its scores can be set."""

    def __init__(self, *arguments: Any, scores: Iterator[float] | None = None) -> None:
        super().__init__(*arguments)
        self.weights: list[Tensor] = []
        self.fixed_scores = scores

    def on_train_epoch_end(self) -> None:
        self.weights.append(weights(self.network))

    def scores(self, observations: Sequence[Totals]) -> dict[str, float]:
        if self.fixed_scores is None:
            return super().scores(observations)
        return {"score": next(self.fixed_scores, 0.0)}


@pytest.mark.parametrize(("scores", "best"), [((0.2, 0.9, 0.4), 1), ((0.1, 0.2, 0.3), 2)])
def test_epoch_with_the_best_score_is_kept(
    patients: list[PreparedPatient], tmp_path: Path, scores: tuple[float, ...], best: int
) -> None:
    training = first_four(patients, configuration(epochs=3))
    modules: list[WeightRecorder] = []
    network = train(
        training, tmp_path, factory(WeightRecorder, training, modules, scores=iter(scores))
    )
    assert torch.equal(weights(network), modules[0].weights[best])
    stored = torch.load(tmp_path / NETWORK, weights_only=True)
    assert all(torch.equal(stored[name], value) for name, value in network.state_dict().items())
    result = read_record(FitResult, tmp_path / RESULT)
    assert result.best == {"score": pytest.approx(max(scores))}


def test_held_out_patients_do_not_choose_the_weights_that_predict_them(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    """The best epoch is the first of 11; the late weights are the mean of the last two."""
    training = first_four(patients, configuration(epochs=11))
    modules: list[WeightRecorder] = []
    scores = iter([0.9, *[0.2] * 10, 0.4])
    make = factory(WeightRecorder, training, modules, scores=scores)
    task = Segmentation()
    fitted = fit(make, *task.loaders(training), tmp_path, CPU)
    assert torch.equal(weights(fitted.network), modules[0].weights[0])
    expected = torch.stack(modules[0].weights[-2:]).mean(dim=0)
    torch.testing.assert_close(weights(fitted.late), expected, atol=1e-6, rtol=0)
    result = read_record(FitResult, tmp_path / RESULT)
    assert (result.best["score"], result.late["score"]) == (pytest.approx(0.9), pytest.approx(0.4))
    assert result.optimism == {"score": pytest.approx(0.5)}
    again = fit(make, *task.loaders(training), tmp_path, CPU)
    assert torch.equal(weights(again.late), weights(fitted.late))


@pytest.mark.parametrize("averaging", [None, 2])
def test_late_weights_are_served_if_the_configuration_says_so(
    patients: list[PreparedPatient], tmp_path: Path, averaging: int | None
) -> None:
    training = first_four(patients, configuration(epochs=2, averaging=averaging, checkpoint="last"))
    modules: list[WeightRecorder] = []
    fitted = fit(
        factory(WeightRecorder, training, modules),
        *Segmentation().loaders(training),
        tmp_path,
        CPU,
    )
    assert torch.equal(weights(fitted.network), weights(fitted.late))
    expected = torch.stack(modules[1].weights).mean(0) if averaging else modules[0].weights[-1]
    torch.testing.assert_close(weights(fitted.network), expected, atol=1e-6, rtol=0)
    result = read_record(FitResult, tmp_path / RESULT)
    assert result.kept == ("mean of weights" if averaging else "late weights")
    assert result.averaged == (result.late if averaging else None)


@pytest.mark.parametrize("averaging", [None, 2])
def test_nobody_held_out_serves_the_late_weights_or_their_mean(
    patients: list[PreparedPatient], tmp_path: Path, averaging: int | None
) -> None:
    """Even if `checkpoint` is "best" and `keep` is "better", and also after a restart."""
    settings = configuration(epochs=2, averaging=averaging)
    if settings.segmentation.averaging is not None:
        better = settings.segmentation.averaging.model_copy(update={"keep": "better"})
        task1 = settings.segmentation.model_copy(update={"averaging": better})
        settings = settings.model_copy(update={"segmentation": task1})
    training = fold_training(settings, patients[:4], [], seed=3)
    loaders = Segmentation().loaders(training)
    interrupted: list[Interrupted] = []
    with pytest.raises(InterruptedError):
        fit(factory(Interrupted, training, interrupted, after=3), *loaders, tmp_path, CPU)
    modules: list[WeightRecorder] = []
    fitted = fit(factory(WeightRecorder, training, modules), *loaders, tmp_path, CPU)
    assert torch.equal(weights(fitted.network), weights(fitted.late))
    assert len(modules[0].weights) == 1  # only the second epoch was left
    expected = torch.stack(modules[1].weights).mean(0) if averaging else modules[0].weights[-1]
    torch.testing.assert_close(weights(fitted.network), expected, atol=1e-6, rtol=0)
    result = read_record(FitResult, tmp_path / RESULT)
    assert result.kept == ("mean of weights" if averaging else "late weights")
    assert (result.best, result.late, result.optimism) == ({}, {}, {})
    assert result.averaged == ({} if averaging else None)
    assert not list(tmp_path.rglob("best.ckpt"))
    again = fit(factory(WeightRecorder, training, []), *loaders, tmp_path, CPU)
    assert torch.equal(weights(again.network), weights(fitted.network))


def test_averaging_takes_the_mean_of_the_weights_after_each_epoch(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    training = first_four(patients, configuration(epochs=1, averaging=3))
    modules: list[WeightRecorder] = []
    network = train(training, tmp_path, factory(WeightRecorder, training, modules))
    assert len(modules[1].weights) == 3
    expected = torch.stack(modules[1].weights).mean(dim=0)
    torch.testing.assert_close(weights(network), expected, atol=1e-6, rtol=0)
    result = read_record(FitResult, tmp_path / RESULT)
    assert result.kept == "mean of weights"
    assert result.train_seconds > 0
    assert result.averaged is not None
    assert set(result.averaged) == set(result.best)
    assert {"gtvp_dice", "gtvn_aggregated_dice", "gtvn_aggregated_f1", "score"} <= set(result.best)


def test_averaging_draws_samples_that_the_main_training_did_not_draw(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    training = first_four(patients, configuration(epochs=2, averaging=2))
    modules: list[SampleRecorder] = []
    train(training, tmp_path, factory(SampleRecorder, training, modules))
    trained, averaged = modules[0].samples, modules[1].samples
    assert len(trained) == len(averaged) == 8
    assert len({*trained, *averaged}) == 16


def test_worse_mean_is_discarded_if_the_configuration_says_so(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    settings = configuration(epochs=1, averaging=1)
    mean = settings.segmentation.averaging
    assert mean is not None
    # This rate ruins the weights, but the loss stays finite for one epoch.
    high_rate = mean.model_copy(update={"learning_rate": 3.0, "keep": "better"})
    task1 = settings.segmentation.model_copy(update={"averaging": high_rate})
    training = first_four(patients, settings.model_copy(update={"segmentation": task1}))
    modules: list[WeightRecorder] = []
    network = train(
        training, tmp_path, factory(WeightRecorder, training, modules, scores=iter([0.5, 0.3, 0.1]))
    )
    result = read_record(FitResult, tmp_path / RESULT)
    assert result.kept == "best checkpoint"
    assert result.best == {"score": 0.5}
    assert torch.equal(weights(network), modules[0].weights[0])


def test_half_precision_and_accumulated_gradients(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    """With five patients, batches of one and two batches in a step, an epoch has two steps."""
    settings = configuration(epochs=2, averaging=2, batch_size=1, batch_dice=False)
    training = first_four(patients, settings)
    hardware = dataclasses.replace(CPU, precision="bf16-mixed", accumulate_batches=2)
    training = dataclasses.replace(
        training, patients=patients[:5], held_out=patients[5:], hardware=hardware
    )
    steps: list[int] = []

    class StepCounter(WeightRecorder):
        def on_train_end(self) -> None:
            steps.append(self.global_step)

        def loss(self, batch: Sample) -> Tensor:
            assert torch.is_autocast_enabled("cpu")
            assert batch["image"].dtype == torch.bfloat16
            return super().loss(batch)

    modules: list[StepCounter] = []
    network = train(training, tmp_path, factory(StepCounter, training, modules), hardware)
    assert steps == [4, 4]
    assert all(p.dtype == torch.float32 for p in network.parameters())
    expected = torch.stack(modules[1].weights).mean(dim=0)
    torch.testing.assert_close(weights(network), expected, atol=1e-6, rtol=0)


def test_full_disk_keeps_the_previous_checkpoint(
    patients: list[PreparedPatient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = first_four(patients, configuration(epochs=3))
    modules: list[WeightRecorder] = []

    def draft(path: Path) -> Path:
        drafted = path.with_name(f"draft-{path.name}")
        if modules[0].current_epoch == 1:
            drafted.symlink_to("/dev/full")
        return drafted

    with monkeypatch.context() as patched:
        patched.setattr("shared.files.draft_of", draft)
        with pytest.raises(OSError, match="No space left"):
            train(training, tmp_path, factory(WeightRecorder, training, modules))
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "best.ckpt",
        "last.ckpt",
        "log",
        "log.txt",
    }
    resumed: list[SampleRecorder] = []
    train(training, tmp_path, factory(SampleRecorder, training, resumed))
    assert len(resumed[0].samples) == 2 * 2 * 2  # two epochs of two batches of two


class PartlyNan(WeightRecorder):
    """A module whose loss is not finite in some steps."""

    def __init__(self, *arguments: Any, steps: Sequence[int]) -> None:
        super().__init__(*arguments)
        self.steps = steps

    def loss(self, batch: Sample) -> Tensor:
        factor = float("nan") if self.global_step in self.steps else 1.0
        return super().loss(batch) * factor


def test_step_whose_loss_is_not_finite_is_left_out(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    """Both steps of the second of three epochs; the weights do not change in this epoch."""
    training = first_four(patients, configuration(epochs=3, cosine_decay=False))
    modules: list[PartlyNan] = []
    with pytest.warns(UserWarning, match=r"the gradient is nan and the loss nan at step 2: the st"):
        train(training, tmp_path, factory(PartlyNan, training, modules, steps=[2, 3]))
    first, second, third = modules[0].weights
    assert torch.equal(first, second)
    assert not torch.equal(second, third)
    assert torch.isfinite(third).all()


def test_many_steps_in_a_row_that_are_not_finite_stop_the_training(
    patients: list[PreparedPatient], tmp_path: Path
) -> None:
    """Nine steps in a row do not stop it; ten do."""
    training = first_four(patients, configuration(epochs=11))
    steps = [*range(0, 9), *range(10, 20)]
    with pytest.raises(TrainingError, match=r"loss nan at step 19, and 10 steps in a row were lef"):
        train(training, tmp_path, factory(PartlyNan, training, [], steps=steps))
    assert not (tmp_path / RESULT).exists()


def test_number_of_processes_is_what_lightning_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert Hardware(nodes=2).processes == 8
    assert Hardware(devices=3, accelerator="gpu").processes == 3
    assert Hardware(accelerator="cpu").processes == 1
    assert Hardware(accelerator="cpu").device == "cpu"
    with pytest.raises(TrainingError, match="expected 5 GPUs, found 4; use fewer devices"):
        Hardware(devices=5).check()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Hardware().processes == 1
    assert Hardware(devices=2).processes == 2


@pytest.mark.parametrize("is_gpu", [True, False])
def test_gpu_gets_pinned_batches_and_tuned_convolutions(
    patients: list[PreparedPatient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_gpu: bool
) -> None:
    options: dict[str, Any] = {}

    def trainer(**given: Any) -> None:
        options.update(given)
        raise InterruptedError

    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(lightning, "Trainer", trainer)
    hardware = Hardware(accelerator="auto")
    training = dataclasses.replace(first_four(patients, configuration()), hardware=hardware)
    assert [loader.pin_memory for loader in Segmentation().loaders(training)] == [is_gpu, is_gpu]
    with pytest.raises(InterruptedError):
        train(training, tmp_path, hardware=hardware)
    assert options["benchmark"] is is_gpu


@pytest.mark.slow  # CI runs it in a step of its own
def test_two_processes_equal_one_with_twice_the_batch(tmp_path: Path) -> None:
    """The gradients of a step agree to 1e-5 of the largest entry; scores are of all patients.

    If the loss of one process is not finite, the gradient is not finite in both processes.
    """
    run_on_two(tmp_path)
    ones, twos = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    assert twos.pop("nan") == [True, True]
    assert set(ones) == set(twos) == {"segmentation", "hpv", "survival"}
    for name, one in ones.items():
        two = twos[name]
        assert float(one["gradient"].abs().max()) > 1e-3
        tolerance = 1e-5 * float(one["gradient"].abs().max())
        torch.testing.assert_close(two["gradient"], one["gradient"], atol=tolerance, rtol=0)
        if name != "survival":  # each process has its own running mean of batch norm
            assert two["scores"] == pytest.approx(one["scores"])
        assert two["counts"] == [1, 2]  # the processes share the three held-out patients
        assert one["counts"] == [3]


def test_single_process_has_all_patients() -> None:
    assert list(Share(3)) == [0, 1, 2]
    assert len(Share(3)) == 3


def test_totals_of_parts_add_up() -> None:
    parts = [
        Totals([0.5], Overlap(1, 2, 2), Detections(1, 0, 1)),
        Totals([1.0, 0.0], Overlap(0, 0, 4), Detections(0, 0, 1)),
    ]
    scores = Totals.of(parts).scores()
    assert scores["gtvp_dice"] == pytest.approx(0.5)
    assert scores["gtvn_aggregated_dice"] == pytest.approx(0.25)
    assert scores["gtvn_aggregated_f1"] == pytest.approx(0.5)
    assert np.isclose(sum(scores.values()), 1.25)

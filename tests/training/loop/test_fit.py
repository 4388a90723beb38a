"""The training loop: stopped and resumed, averaged, and on two processes as on one."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shared.metrics.segmentation import Detections, Overlap
from tests.training.synthetic import configuration, patient
from tests.training.two_processes import run_on_two
from training.cohort.cache import Cached
from training.config import Configuration
from training.loop.fit import NETWORK, RESULT, Hardware, TrainingError, fit
from training.samples.batches import Share
from training.samples.dataset import Sample
from training.tasks.segmentation import Segmentation, SegmentationModule, Totals
from training.train import Job

CPU = Hardware(devices=1, accelerator="cpu")


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Let Lightning and MONAI warn of what is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def patients() -> list[Cached]:
    return [patient(number) for number in range(6)]


def job(patients: list[Cached], settings: Configuration) -> Job:
    return Job(settings, patients[:4], patients[4:], (), None, seed=3, workers=0, runs=Path())


def train(
    work: Job,
    folder: Path,
    make: Callable[[], SegmentationModule] | None = None,
    hardware: Hardware = CPU,
) -> nn.Module:
    task = Segmentation()
    torch.manual_seed(work.seed)
    return fit(make or (lambda: task.module(work)), *task.loaders(work), folder, hardware)


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


class Stops(SegmentationModule):
    """A training that ends in the middle of an epoch, as if it were killed."""

    def __init__(self, *arguments: Any, after: int) -> None:
        super().__init__(*arguments)
        self.left = after

    def loss(self, batch: Sample) -> Tensor:
        if self.left == 0:
            raise InterruptedError
        self.left -= 1
        return super().loss(batch)


class Watches(SegmentationModule):
    """A training that keeps what it is shown."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.shown: list[float] = []

    def loss(self, batch: Sample) -> Tensor:
        self.shown += [float(image.double().sum()) for image in batch["image"]]
        return super().loss(batch)


Module = TypeVar("Module", bound=SegmentationModule)


def making(kind: type[Module], work: Job, made: list[Module], **told: Any) -> Callable[[], Module]:
    """Return what makes modules of a kind, with what they are told; they are added to `made`."""

    def make() -> Module:
        network = Segmentation().network(work.configuration, ())
        made.append(kind(network, work.configuration.segmentation, work.seed, 6.0, **told))
        return made[-1]

    return make


@pytest.mark.parametrize(
    ("after", "left"),
    [(3, [4, 4, 0]), (9, [0, 2, 0])],
    ids=["in the training proper", "in averaging"],
)
def test_interrupted_and_resumed_ends_where_uninterrupted_ends(
    patients: list[Cached], tmp_path: Path, after: int, left: list[int]
) -> None:
    """Same weights to 1e-6: 3 epochs of 2 steps, then 2 of averaging; only what was left is done.

    The last of the modules that are made carries the chosen weights and is not trained.
    """
    work = job(patients, configuration(epochs=3, averaging=2))
    whole = train(work, tmp_path / "whole")
    settings = work.configuration.segmentation
    steps = iter([after, max(0, after - 6)])

    def stopping() -> SegmentationModule:
        network = Segmentation().network(work.configuration, ())
        return Stops(network, settings, work.seed, 6.0, after=next(steps))

    with pytest.raises(InterruptedError):
        train(work, tmp_path / "parts", stopping)
    assert not (tmp_path / "parts" / RESULT).exists()
    made: list[Watches] = []
    resumed = train(work, tmp_path / "parts", making(Watches, work, made))
    assert [len(module.shown) // 2 for module in made] == left
    torch.testing.assert_close(weights(resumed), weights(whole), atol=1e-6, rtol=0)
    results = [json.loads((tmp_path / name / RESULT).read_text()) for name in ("whole", "parts")]
    for key in ("kept", "best", "averaged"):
        assert results[0][key] == results[1][key]


def test_a_finished_training_is_not_done_again(patients: list[Cached], tmp_path: Path) -> None:
    work = job(patients, configuration(epochs=1))
    first = train(work, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = train(work, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert torch.equal(weights(first), weights(again))


class Records(SegmentationModule):
    """A training that keeps its weights after each epoch, and may be told its scores."""

    def __init__(self, *arguments: Any, scores: Iterator[float] | None = None) -> None:
        super().__init__(*arguments)
        self.kept: list[Tensor] = []
        self.told = scores

    def on_train_epoch_end(self) -> None:
        self.kept.append(weights(self.network))

    def scores(self, seen: Sequence[Totals]) -> dict[str, float]:
        return super().scores(seen) if self.told is None else {"score": next(self.told)}


@pytest.mark.parametrize(("scores", "best"), [((0.2, 0.9, 0.4), 1), ((0.1, 0.2, 0.3), 2)])
def test_the_epoch_with_the_best_score_is_kept(
    patients: list[Cached], tmp_path: Path, scores: tuple[float, ...], best: int
) -> None:
    work = job(patients, configuration(epochs=3))
    made: list[Records] = []
    network = train(work, tmp_path, making(Records, work, made, scores=iter(scores)))
    assert torch.equal(weights(network), made[0].kept[best])
    stored = torch.load(tmp_path / NETWORK, weights_only=True)
    assert all(torch.equal(stored[name], value) for name, value in network.state_dict().items())
    result = json.loads((tmp_path / RESULT).read_text())
    assert result["best"] == {"score": pytest.approx(max(scores))}


def test_averaging_is_the_mean_of_the_weights_after_each_epoch(
    patients: list[Cached], tmp_path: Path
) -> None:
    work = job(patients, configuration(epochs=1, averaging=3))
    made: list[Records] = []
    network = train(work, tmp_path, making(Records, work, made))
    assert len(made[1].kept) == 3
    expected = torch.stack(made[1].kept).mean(dim=0)
    torch.testing.assert_close(weights(network), expected, atol=1e-6, rtol=0)
    result = json.loads((tmp_path / RESULT).read_text())
    assert result["kept"] == "mean of weights"
    assert result["train_seconds"] > 0
    assert set(result["averaged"]) == set(result["best"])
    assert {"gtvp_dice", "gtvn_aggregated_dice", "gtvn_aggregated_f1", "score"} <= set(
        result["best"]
    )


def test_averaging_sees_samples_that_the_training_has_not_seen(
    patients: list[Cached], tmp_path: Path
) -> None:
    work = job(patients, configuration(epochs=2, averaging=2))
    made: list[Watches] = []
    train(work, tmp_path, making(Watches, work, made))
    trained, averaged = made[0].shown, made[1].shown
    assert len(trained) == len(averaged) == 8
    assert len({*trained, *averaged}) == 16


def test_a_worse_mean_is_left_where_the_configuration_says_so(
    patients: list[Cached], tmp_path: Path
) -> None:
    settings = configuration(epochs=1, averaging=1)
    mean = settings.segmentation.averaging
    assert mean is not None
    # Such a rate ruins the weights; the check for finite losses stays quiet over one epoch.
    ruinous = mean.model_copy(update={"learning_rate": 3.0, "keep": "better"})
    task1 = settings.segmentation.model_copy(update={"averaging": ruinous})
    work = job(patients, settings.model_copy(update={"segmentation": task1}))
    made: list[Records] = []
    network = train(work, tmp_path, making(Records, work, made, scores=iter([0.5, 0.1])))
    assert json.loads((tmp_path / RESULT).read_text())["kept"] == "best checkpoint"
    assert torch.equal(weights(network), made[0].kept[0])


def test_half_precision_and_added_up_gradients(patients: list[Cached], tmp_path: Path) -> None:
    """Five batches of one, two to a step: three steps an epoch, the last of one batch."""
    work = job(patients, configuration(epochs=2, averaging=2, batch_size=1))
    work = dataclasses.replace(work, fitted=patients[:5], held_out=patients[5:])
    steps: list[int] = []

    class Counts(Records):
        def on_train_end(self) -> None:
            steps.append(self.global_step)

        def loss(self, batch: Sample) -> Tensor:
            assert torch.is_autocast_enabled("cpu")
            return super().loss(batch)

    made: list[Counts] = []
    hardware = dataclasses.replace(CPU, precision="bf16-mixed", accumulate_batches=2)
    network = train(work, tmp_path, making(Counts, work, made), hardware)
    assert steps == [6, 6]
    assert all(p.dtype == torch.float32 for p in network.parameters())
    expected = torch.stack(made[1].kept).mean(dim=0)
    torch.testing.assert_close(weights(network), expected, atol=1e-6, rtol=0)


def test_a_full_disk_leaves_the_checkpoint_before(
    patients: list[Cached], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = job(patients, configuration(epochs=3))
    made: list[Records] = []

    def draft(path: Path) -> Path:
        drafted = path.with_name(f"draft-{path.name}")
        if made[0].current_epoch == 1:
            drafted.symlink_to("/dev/full")
        return drafted

    with monkeypatch.context() as patched:
        patched.setattr("shared.files.draft_of", draft)
        with pytest.raises(OSError, match="No space left"):
            train(work, tmp_path, making(Records, work, made))
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["epoch"] == 0
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt", "log"}
    watched: list[Watches] = []
    train(work, tmp_path, making(Watches, work, watched))
    assert len(watched[0].shown) == 2 * 2 * 2  # two epochs of two batches of two


def test_a_loss_that_is_no_number_stops_at_once(patients: list[Cached], tmp_path: Path) -> None:
    work = job(patients, configuration())

    class Diverges(SegmentationModule):
        def loss(self, batch: Sample) -> Tensor:
            return super().loss(batch) * float("nan")

    def diverging() -> SegmentationModule:
        network = Segmentation().network(work.configuration, ())
        return Diverges(network, work.configuration.segmentation, work.seed, 6.0)

    with pytest.raises(TrainingError, match="the loss became nan at step 0; lower the learning"):
        train(work, tmp_path, diverging)
    assert not (tmp_path / RESULT).exists()


def test_a_gradient_that_is_not_finite_is_warned_of(patients: list[Cached], tmp_path: Path) -> None:
    work = job(patients, configuration(epochs=1))

    class Explodes(SegmentationModule):
        def loss(self, batch: Sample) -> Tensor:
            loss = super().loss(batch)
            loss.register_hook(lambda gradient: gradient * float("inf"))
            return loss

    def exploding() -> SegmentationModule:
        network = Segmentation().network(work.configuration, ())
        return Explodes(network, work.configuration.segmentation, work.seed, 6.0)

    with (
        pytest.warns(UserWarning, match="the gradient is .* at step 0"),
        pytest.raises(TrainingError),
    ):
        train(work, tmp_path, exploding)


def test_processes_are_counted_as_lightning_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert Hardware(nodes=2).processes == 8
    assert Hardware(devices=3, accelerator="gpu").processes == 3
    assert Hardware(accelerator="cpu").processes == 1
    assert Hardware(accelerator="cpu").device == "cpu"
    with pytest.raises(TrainingError, match="expected the 5 GPUs of --devices, found 4"):
        Hardware(devices=5).check()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Hardware().processes == 1
    assert Hardware(devices=2).processes == 2


def test_two_processes_do_what_one_does_with_twice_the_batch(tmp_path: Path) -> None:
    """Averaged gradient of one step, to 1e-5 of its largest entry; scores of all patients."""
    run_on_two(tmp_path)
    one, two = (torch.load(tmp_path / f"{name}.pt") for name in ("one", "two"))
    assert float(one["gradient"].abs().max()) > 1e-3
    tolerance = 1e-5 * float(one["gradient"].abs().max())
    torch.testing.assert_close(two["gradient"], one["gradient"], atol=tolerance, rtol=0)
    assert two["scores"] == pytest.approx(one["scores"])
    assert two["seen"] == [1, 2]  # of three patients, by either process
    assert one["seen"] == [3]


def test_without_other_processes_each_has_everything() -> None:
    assert list(Share(3)) == [0, 1, 2]
    assert len(Share(3)) == 3


def test_totals_of_parts_are_those_of_all() -> None:
    parts = [
        Totals([0.5], Overlap(1, 2, 2), Detections(1, 0, 1)),
        Totals([1.0, 0.0], Overlap(0, 0, 4), Detections(0, 0, 1)),
    ]
    scores = Totals.of(parts).scores()
    assert scores["gtvp_dice"] == pytest.approx(0.5)
    assert scores["gtvn_aggregated_dice"] == pytest.approx(0.25)
    assert scores["gtvn_aggregated_f1"] == pytest.approx(0.5)
    assert np.isclose(sum(scores.values()), 1.25)

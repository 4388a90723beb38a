"""The training tasks are found without a list, each after the tasks that it starts from."""

from __future__ import annotations

from shared.editions import CURRENT
from shared.tasks import TASK_NAMES
from training.tasks.discovery import TASKS


def test_each_task_is_found_after_those_that_it_starts_from() -> None:
    assert list(TASKS) == ["segmentation", "hpv", "survival"]
    assert set(TASKS) == set(TASK_NAMES) == set(CURRENT.outputs)


def test_each_task_names_the_model_and_the_card_that_serve_it() -> None:
    for name, task in TASKS.items():
        assert task.name == name
        assert task.model_type.card_type.model_fields["task"].default == name

"""Finds the scoring of each task: `SCORING` in the file of this folder that has the task's name.

A new task needs no change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias, Union

from pydantic import Field

from evaluation.schema import TaskMetrics
from evaluation.tasks.base import TaskScoring
from shared.errors import InputError
from shared.tasks import TASK_NAMES, TaskName


def _find_scorings() -> dict[TaskName, TaskScoring[Any, Any]]:
    modules = {task: f"{__package__}.{task}" for task in TASK_NAMES}
    return {
        task: import_module(module).SCORING for task, module in modules.items() if find_spec(module)
    }


SCORINGS: Final[Mapping[TaskName, TaskScoring[Any, Any]]] = _find_scorings()
"""The scoring of each task, in the order of `TASK_NAMES`."""

if TYPE_CHECKING:
    AnyTaskMetrics: TypeAlias = TaskMetrics
else:
    AnyTaskMetrics = Annotated[
        Union[tuple(scoring.metrics for scoring in SCORINGS.values())],  # noqa: UP007
        Field(discriminator="task"),
    ]
"""The metrics of any task, as the type of a pydantic field."""


def scoring_of(task: TaskName) -> TaskScoring[Any, Any]:
    """Return the scoring of a task.

    Raises
    ------
    InputError
        If no file defines the scoring of the task.
    """
    if task not in SCORINGS:
        raise InputError(
            f"expected one of the tasks {', '.join(SCORINGS)}, found {task}; to score it, add "
            f"evaluation/tasks/{task}.py"
        )
    return SCORINGS[task]

"""The training tasks by name: what the command line trains and the studies score.

A task is a class in this folder that implements `Task`. All files here are imported, and each such
class is entered, so a new task needs no other change.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import Final

from shared.tasks import TaskName
from training.tasks.base import Task


def _find_tasks() -> dict[TaskName, Task]:
    names = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])]
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    tasks = [
        value()
        for module in modules
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, Task)
        and value.__module__ == module.__name__
        and not inspect.isabstract(value)
    ]
    by_name = {task.name: task for task in tasks}
    order = TopologicalSorter({name: task.follows for name, task in by_name.items()})
    return {name: by_name[name] for name in order.static_order()}


TASKS: Final[Mapping[TaskName, Task]] = MappingProxyType(_find_tasks())
"""From a name to its task, in the order of training."""

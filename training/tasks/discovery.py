"""Finds the training tasks by name, for the command line and the studies.

A task is a class in this folder that implements `Task`. This module imports all files here and
collects these classes, so a new task needs no other change in `training`.
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
"""The tasks by name, in the order of training."""

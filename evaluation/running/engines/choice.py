"""Chooses an engine by its name."""

from __future__ import annotations

from pathlib import Path

from evaluation.running.engines.container import ContainerEngine
from evaluation.running.engines.native import NativeEngine, PythonOf
from evaluation.running.engines.process import succeeds
from evaluation.running.engines.protocol import Engine, EngineError


def choose(
    *,
    root: Path,
    name: str,
    variant: str,
    build: bool,
    work: Path,
    python_of: PythonOf | None = None,
) -> Engine:
    """Return the engine with a name.

    Parameters
    ----------
    root : the checkout.
    name : "docker", "podman", "native", or "auto", which is the first of these that works.
    variant : "cpu" or "gpu" images.
    build : whether to build images or use existing ones; the native engine needs none.
    work : folder for the files of the native engine.
    python_of : for the native engine, returns a program's interpreter; by default that of its lock
        file.

    Raises
    ------
    EngineError
        If the chosen engine does not work on this machine.
    """
    if name == "auto":
        name = next((c for c in ("docker", "podman") if succeeds(c, "info")), "native")
    elif name != "native" and not succeeds(name, "info"):
        raise EngineError(
            f"expected a working {name}, but '{name} info' fails; start it, or use --engine native"
        )
    if name != "native":
        return ContainerEngine(root=root, command=name, variant=variant, build=build)
    if variant == "gpu":
        raise EngineError(
            "expected Docker or Podman for --variant gpu, found the native engine; start one of "
            "them, or use --variant cpu"
        )
    return NativeEngine(root=root, work=work, python_of=python_of)

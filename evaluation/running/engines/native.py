"""Runs programs without containers, in a Python environment made from an image's lock file."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from evaluation.running.engines.invoke import DRIVER, drive, interpret, total_limit_s
from evaluation.running.engines.process import (
    available_cpus,
    free_port,
    prefix_to_die_with_parent,
    prefix_with_tmpfs,
    prefix_without_network,
    run_process,
    succeeds,
)
from evaluation.running.engines.protocol import EngineError, Run
from evaluation.running.programs import Program, lay_out
from shared.grand_challenge.server import PORT

PythonOf: TypeAlias = Callable[[Program], Path]
"""Returns the interpreter with a program's libraries."""


class NativeEngine:
    """Runs the programs of the checkout as processes on this machine.

    Parameters
    ----------
    root : the checkout.
    work : folder for the programs, each laid out as in its image.
    python_of : returns a program's interpreter; `locked_python(root)` by default.
    """

    def __init__(self, *, root: Path, work: Path, python_of: PythonOf | None = None) -> None:
        self._root = root
        self._work = work
        self._python_of = python_of
        self._pythons: dict[str, Path] = {}
        self._isolation = prefix_without_network()
        self._prefix = [*prefix_to_die_with_parent(), *self._isolation]

    @property
    def description(self) -> str:
        """One line that says how the programs run, and which of the platform's limits apply."""
        network = "cut off" if self._isolation else "not cut off (unshare is not permitted)"
        return (
            "engine native: no image was built; the code runs here, in the environment of the "
            f"images' lock file; limited data memory, network {network}"
        )

    @property
    def tmpfs_options(self) -> frozenset[str]:
        """All tmpfs options if processes may mount file systems here; otherwise none."""
        may_mount = succeeds(*self._isolation, *prefix_with_tmpfs(self._root, "ro"), "true")
        return frozenset({"ro", "size", "nr_inodes"} if may_mount else ())

    def prepare(self, program: Program, log: Path) -> None:
        """Lay out the application as in the image."""
        if not self._app(program).exists():  # the application is the same in both modes
            lay_out(program, root=self._root, folder=self._app(program))
        python_of = self._python_of or locked_python(self._root)
        self._pythons[program.name] = python_of(program)

    def identify(self, program: Program) -> str:
        """Return a digest of the code and the model cards, which hold digests of the networks."""
        app = self._app(program)
        files = [*app.rglob("*.py"), *(self._root / "shared").rglob("*.py"), *app.rglob("*.json")]
        digest = hashlib.sha256()
        for path in sorted(files):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:12]

    def prepare_machine(self, program: Program) -> None:
        """Check that this machine sees the interpreter and the folder of the program."""
        for path in (self._pythons[program.name], self._app(program)):
            if not path.exists():
                raise EngineError(
                    f"expected {path} on every worker's machine, found none; share the checkout "
                    "and the results folder among the machines"
                )

    def leave_machine(self) -> None:
        """Remove nothing: all machines share the folders of the programs."""

    def run(
        self,
        program: Program,
        *,
        case: Path,
        output: Path,
        logs: Path,
        uploaded: Path | None = None,
        output_tmpfs: str | None = None,
        cpus: frozenset[int] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Run:
        """Run a program in a new process."""
        output.mkdir()
        link = logs / "input"
        link.symlink_to(case)
        app, limits = self._app(program), program.limits
        options = [
            *("--input", str(link)),
            *("--output", str(output)),
            *(program.upload_option, str(uploaded or app / "model")),
        ]
        command = [str(self._pythons[program.name]), *program.arguments, *options]
        if limits.mode == "invoke":
            # Without a network of its own, the run shares the ports of the machine.
            port = PORT if self._isolation else free_port()
            command = [*command, "--port", str(port)]
            command = drive(DRIVER, port, limits=limits, command=command)
        if output_tmpfs is not None:
            command = [*prefix_with_tmpfs(output, output_tmpfs), *command]
        environment = {
            "HECKTOR_API_METHOD": limits.mode,
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(logs),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
        }
        _set_writable(case, False)
        try:
            run = run_process(
                [*self._prefix, *command],
                limit_s=total_limit_s(limits),
                logs=logs,
                folder=app,
                environment=environment,
                memory_limit_bytes=limits.memory_bytes,
                cpus=available_cpus(cpus, limits.cpus),
                cancelled=cancelled,
            )
            return interpret(run, limits, logs) if limits.mode == "invoke" else run
        finally:
            _set_writable(case, True)
            link.unlink()

    def close(self) -> None:
        """Remove the applications."""
        shutil.rmtree(self._work, ignore_errors=True)

    def _app(self, program: Program) -> Path:
        return self._work / program.name


def locked_python(root: Path) -> PythonOf:
    """Return a function that makes a program's environment and returns its interpreter.

    The environment is in the checkout. The function raises EngineError if it cannot be made.
    """

    def make(program: Program) -> Path:
        script = root / "shared" / "docker" / "environment.sh"
        venv = root / program.environment
        process = subprocess.run(
            [str(script), str(venv), str(root / program.lock)], capture_output=True, text=True
        )
        if process.returncode != 0:
            raise EngineError(
                f"{script.name} ended with exit code {process.returncode}:\n{process.stderr}"
            )
        return venv / "bin" / "python"

    return make


def _set_writable(folder: Path, writable: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():  # chmod would change the target of the link
            continue
        mode = path.stat().st_mode & 0o555
        path.chmod(mode | 0o200 if writable else mode)

"""Runs programs in containers of Docker or Podman."""

from __future__ import annotations

import hashlib
import os
import secrets
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Final

from evaluation.running.engines.gpu_memory import watched_gpu_memory
from evaluation.running.engines.invoke import DRIVER, drive, interpret, total_limit_s
from evaluation.running.engines.process import (
    available_cpus,
    last_lines,
    prefix_to_die_with_parent,
    run_process,
    succeeds,
)
from evaluation.running.engines.protocol import EngineError, Image, Run
from evaluation.running.limits import Limits
from evaluation.running.programs import Program
from shared.grand_challenge.server import PORT

CASE_MOUNT: Final = PurePosixPath("/mnt/case")
"""Where the case is in the container; `/input` is a symbolic link to it, as on the platform."""
OUTPUT_MOUNT: Final = PurePosixPath("/output")
DRIVER_MOUNT: Final = PurePosixPath("/mnt/invoke_driver.py")
MODE_LABEL: Final = "org.grand-challenge.api-method"
"""The label from which the platform reads the mode of an image."""
NEVER: Final = "0001-01-01"
"""The start time that both engines report for a container that never started."""


def hardening(limits: Limits) -> list[str]:
    """Return the options for the platform's limits, and for some stricter limits.

    `--memory-swap` limits memory and swap together. It equals `--memory`, so the container cannot
    swap.
    """
    return [
        *("--network", "none"),
        "--read-only",
        *("--tmpfs", "/tmp"),
        *("--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges"),
        *("--memory", str(limits.memory_bytes)),
        *("--memory-swap", str(limits.memory_bytes)),
        *("--ulimit", f"data={limits.memory_bytes}"),
        *("--pids-limit", "128"),
    ]


class ContainerEngine:
    """Docker or Podman.

    Parameters
    ----------
    root : the checkout.
    command : "docker" or "podman".
    variant : "cpu" or "gpu" images.
    build : whether to build images, or use existing ones.
    """

    def __init__(self, *, root: Path, command: str, variant: str, build: bool) -> None:
        self._root = root
        self._command = command
        self._variant = variant
        self._build = build
        self._gpu = variant == "gpu" and succeeds("nvidia-smi")
        # Unique to this engine, so that it removes only its own images.
        self._token = secrets.token_hex(4)
        self._linked_images: list[str] = []
        self._prefix = prefix_to_die_with_parent()

    @property
    def description(self) -> str:
        """The engine with its version."""
        version = subprocess.run(
            [self._command, "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
        gpu = ", with GPU" if self._gpu else ", no GPU"
        return f"engine {self._command}: {self._variant} images{gpu} ({version})"

    @property
    def tmpfs_options(self) -> frozenset[str]:
        """Names of the tmpfs options; Podman cannot limit the number of files in a tmpfs."""
        return frozenset({"ro", "size", *(["nr_inodes"] if self._command == "docker" else [])})

    def prepare(self, program: Program, log: Path) -> Image:
        """Build the image, and a second one in which `/input` is a symbolic link."""
        if self._build:
            script = self._root / program.name / "do_build.sh"
            options = ["--variant", self._variant] if program.has_variants else []
            options += ["--api-method", program.limits.mode]
            with log.open("w", encoding="utf-8") as file:
                code = subprocess.run(
                    [str(script), *options],
                    env={**os.environ, "ENGINE": self._command},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                ).returncode
            if code != 0:
                raise EngineError(f"{script.name} ended with exit code {code}:\n{last_lines(log)}")
        image = self._inspect(program, "omit --no-build")
        self._link_input(program)
        return image

    def identify(self, program: Program) -> str:
        """Return the image's identifier."""
        return self._inspect(program, "prepare it first").identifier

    def prepare_machine(self, program: Program) -> None:
        """Prepare another machine, which must have loaded the image from a file or a registry."""
        self._inspect(program, "load it on every worker's machine")
        self._link_input(program)

    def leave_machine(self) -> None:
        """Remove the images with the linked input."""
        for name in self._linked_images:
            subprocess.run([self._command, "rmi", name], capture_output=True)

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
        """Run a program in a new container, which is always removed afterwards."""
        output.mkdir()
        output.chmod(0o777)  # The image's user, not ours, writes here.
        name = f"hecktor-{hashlib.sha256(str(logs.resolve()).encode()).hexdigest()[:16]}"
        self._call("rm", "--force", name, check=False)
        limits = program.limits
        options = [*hardening(limits), *self._dialect(program), "--name", name]
        options += _mount(case, CASE_MOUNT)
        if output_tmpfs is None:
            options += _mount(output, OUTPUT_MOUNT, writable=True)
        else:
            options += ["--tmpfs", f"{OUTPUT_MOUNT}:{output_tmpfs}"]
        if uploaded is not None:
            options += _mount(uploaded, program.upload_mount)
        options += ["--cpus", str(len(available_cpus(cpus, limits.cpus)))]
        command: list[str] = []
        if limits.mode == "invoke":
            options += [*_mount(DRIVER, DRIVER_MOUNT), "--entrypoint", "python"]
            program_command = ["python", *program.arguments]
            driver = Path(DRIVER_MOUNT)
            command = drive(driver, PORT, limits=limits, command=program_command)[1:]
        # Creating and starting are separate calls, so that the engine's warnings do not become part
        # of the algorithm's stderr.
        image = self._linked_image(program)
        container = self._call("create", *options, image, *command).split()[-1]
        try:
            with watched_gpu_memory(is_used=self._gpu and limits.gpu) as gpu:
                run = run_process(
                    [*self._prefix, self._command, "start", "--attach", container],
                    limit_s=total_limit_s(limits),
                    logs=logs,
                    stop=lambda: self._call("kill", container),
                    cancelled=cancelled,
                )
            run = replace(run, peak_gpu_memory_gb=gpu.peak_gb)
            template = "{{.State.OOMKilled}} {{.State.StartedAt}}"
            killed, started = self._call("inspect", "--format", template, container).split()[:2]
            if limits.mode == "invoke":
                run = interpret(run, limits, logs)
            if started.startswith(NEVER):
                raise EngineError(
                    f"{self._command} could not start the container: {run.stderr.strip()}"
                )
            if killed == "true":
                run = replace(run, note=f"exceeded the memory limit of {limits.memory_gib:g} GiB")
        finally:
            self._call("rm", "--force", container)
            if os.geteuid() != 0:
                self._hand_over(program, output)
        return run

    def files(self, program: Program) -> Iterator[tarfile.TarInfo]:
        """Yield an entry for each file, link and folder of a prepared program's image."""
        container = self._call("create", self._image(program)).split()[-1]
        command = [self._command, "export", container]
        try:
            with (
                subprocess.Popen(command, stdout=subprocess.PIPE) as process,
                tarfile.open(fileobj=process.stdout, mode="r|") as archive,
            ):
                yield from archive
        finally:
            self._call("rm", "--force", container)

    def close(self) -> None:
        """Remove the images with the linked input."""
        self.leave_machine()

    def _image(self, program: Program) -> str:
        suffix = "-invoke" if program.limits.mode == "invoke" else ""
        variant = self._variant if program.has_variants else "cpu"
        return f"hecktor2025/{program.name}:{variant}{suffix}"

    def _inspect(self, program: Program, remedy: str) -> Image:
        name = self._image(program)
        template = f'{{{{.Id}}}} {{{{.Size}}}} {{{{index .Config.Labels "{MODE_LABEL}"}}}}'
        try:
            answer = self._call("image", "inspect", "--format", template, name)
        except EngineError:
            raise EngineError(f"expected the image {name}, found none; {remedy}") from None
        identifier, size, *label = answer.split()
        mode = program.limits.mode
        if label != [mode]:
            raise EngineError(
                f"expected the label {MODE_LABEL}={mode} of the image {name}, found "
                f"{' '.join(label) or 'none'}; build it with --api-method {mode}"
            )
        return Image(name, identifier.removeprefix("sha256:")[:12], int(size))

    def _linked_image(self, program: Program) -> str:
        # The process ID is part of the name, so that two workers on one machine do not share an
        # image: the first to leave would remove it.
        return f"{self._image(program)}-linked-{self._token}-{os.getpid()}"

    def _link_input(self, program: Program) -> None:
        """Build an image that adds one file to the program's image: the link /input -> /mnt/case.

        The link cannot be created in the running container, whose root file system is read-only. It
        cannot be mounted either, because bind mounts follow links on the host.
        """
        link = tarfile.TarInfo("input")
        link.type, link.linkname = tarfile.SYMTYPE, str(CASE_MOUNT)
        with tempfile.TemporaryDirectory() as context:
            with tarfile.open(Path(context) / "input.tar", "w") as archive:
                archive.addfile(link)
            recipe = f"FROM {self._image(program)}\nADD input.tar /\n"
            (Path(context) / "Dockerfile").write_text(recipe, encoding="utf-8")
            self._call("build", "--quiet", "--tag", self._linked_image(program), context)
        self._linked_images.append(self._linked_image(program))

    def _dialect(self, program: Program) -> list[str]:
        gpu = self._gpu and program.limits.gpu
        if self._command == "podman":
            # SELinux, which the distributions behind Podman use, would block the mounted folders.
            # Podman's own limits on files and processes may exceed what the machine permits.
            return [
                *("--security-opt", "label=disable"),
                *("--ulimit", "nofile=1024:1024"),
                *("--ulimit", "nproc=1024:1024"),
                *(("--device", "nvidia.com/gpu=all") if gpu else ()),
            ]
        return ["--gpus", "all"] if gpu else []

    def _hand_over(self, program: Program, output: Path) -> None:
        """Let everyone delete the outputs. Only the image's user, who owns them, can allow that."""
        mount = _mount(output, OUTPUT_MOUNT, writable=True)
        options = ["run", "--rm", "--network", "none", *self._dialect(program), *mount]
        command = [self._image(program), "-R", "a+rwX", str(OUTPUT_MOUNT)]
        self._call(*options, "--entrypoint", "chmod", *command, check=False)

    def _call(self, *arguments: str, check: bool = True) -> str:
        """Return what the engine prints for a command."""
        process = subprocess.run([self._command, *arguments], capture_output=True, text=True)
        if check and process.returncode != 0:
            raise EngineError(f"{self._command} {arguments[0]}: {process.stderr.strip()}")
        return process.stdout.strip()


def _mount(source: Path, target: PurePosixPath, writable: bool = False) -> list[str]:
    mode = "" if writable else ",readonly"
    return ["--mount", f"type=bind,source={source},target={target}{mode}"]

"""How one run of an algorithm is made: in a container, or natively where there is no engine.

Both give the algorithm the platform's conditions as far as they can: no network, a read-only input
behind a symbolic link, a fresh output folder, limited memory. A `Run` is all that the checks see.

Several runs may go on at once, each in a thread of its own. None outlives its caller: a process
dies with the thread that started it, and a container left by a caller that was killed is removed
when its folder of logs is used again.
"""

from __future__ import annotations

import hashlib
import os
import resource
import secrets
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from evaluation.running.tasks import EVALUATION, MEMORY_LIMIT_BYTES, Task, stage_model
from shared.errors import HecktorError

CASE_MOUNT: Final = "/mnt/case"
"""Where the case lies in the container; `/input` is a symbolic link to it, as on the platform."""

MODEL_MOUNT: Final = "/opt/ml/model"
TRUTH_MOUNT: Final = "/opt/ml/input/data/ground_truth"
"""Where the platform unpacks an algorithm's model tarball, and an evaluation's ground truth."""

HARDENING: Final = (
    *("--network", "none"),
    "--read-only",
    *("--tmpfs", "/tmp"),
    *("--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges"),
    *("--memory", str(MEMORY_LIMIT_BYTES)),
    *("--memory-swap", str(MEMORY_LIMIT_BYTES)),
    *("--ulimit", f"data={MEMORY_LIMIT_BYTES}"),
    *("--pids-limit", "128"),
)
"""The platform's limits and stricter: what runs under these runs there. Memory and swap together
equal memory alone, so there is no swap."""


NEVER: Final = "0001-01-01"
"""When a container started that never did, to both engines."""


POLL_S: Final = 0.5
"""How often a run looks whether it is out of time or cancelled."""


class EngineError(HecktorError):
    """An image cannot be made or an engine cannot be used; the message tells the next step."""


class Cancelled(Exception):  # noqa: N818  # no error: somebody wanted it
    """A run was stopped because its caller stops; nothing is known of the algorithm."""


@dataclass(frozen=True)
class Run:
    """What one run left behind.

    Attributes
    ----------
    exit_code : None where it was stopped.
    stdout, stderr : what it wrote there.
    seconds : from start to end, starting the container included.
    note : why it was stopped or killed, where that is known.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Image:
    """An image as built."""

    name: str
    identifier: str
    size_bytes: int


class Engine(Protocol):
    """A way to run the algorithms."""

    @property
    def description(self) -> str:
        """One line: what runs the algorithms, and what that leaves out."""

    def prepare(self, task: Task, log: Path) -> Image | None:
        """Make a task ready to run; return its image where there is one."""

    def identify(self, task: Task) -> str:
        """Return what tells a prepared task from one of other code or models."""

    def prepare_machine(self, task: Task) -> None:
        """Make another machine ready for a prepared task; it has the image or sees our files."""

    def leave_machine(self) -> None:
        """Remove what `prepare_machine` made, in the process that called it."""

    def run(
        self,
        task: Task,
        case: Path,
        output: Path,
        logs: Path,
        uploaded: Path | None = None,
        cpus: frozenset[int] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Run:
        """Run a task once.

        Parameters
        ----------
        case : the staged input.
        output : a new, empty folder.
        logs : where `stdout.txt` and `stderr.txt` go; one run at a time uses it.
        uploaded : what the platform unpacks beside the image: a model folder to use instead of the
            task's own; for the evaluation, the ground truth.
        cpus : which of this machine's CPUs the run may use; a container may use as many.
        cancelled : stops the run once it is set.

        Raises
        ------
        EngineError
            If it could not be started.
        Cancelled
            If `cancelled` was set before the end.
        """

    def close(self) -> None:
        """Remove what `prepare` made beside the image."""


class ContainerEngine:
    """Docker or Podman."""

    def __init__(self, root: Path, command: str, variant: str, build: bool) -> None:
        self._root = root
        self._command = command
        self._variant = variant
        self._build = build
        self._gpu = variant == "gpu" and _succeeds("nvidia-smi")
        # Of this engine alone: another run's engine removes its own images while we go on.
        self._token = secrets.token_hex(4)
        self._linked: list[str] = []
        self._prefix = _death_with_parent()

    @property
    def description(self) -> str:
        """The engine with its version."""
        version = subprocess.run(
            [self._command, "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
        gpu = ", with GPU" if self._gpu else ", no GPU"
        return f"engine {self._command}: {self._variant} images{gpu} ({version})"

    def prepare(self, task: Task, log: Path) -> Image:
        """Build the image, and beside it one in which `/input` is a symbolic link."""
        name = self._image(task)
        if self._build:
            script = self._root / task.name / "do_build.sh"
            variant = [] if task == EVALUATION else ["--variant", self._variant]
            with log.open("w", encoding="utf-8") as file:
                code = subprocess.run(
                    [str(script), *variant],
                    env={**os.environ, "ENGINE": self._command},
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    stdin=subprocess.DEVNULL,
                ).returncode
            if code != 0:
                raise EngineError(f"{script.name} ended with exit code {code}:\n{_tail(log)}")
        image = self._inspect(name, "leave out --no-build")
        self._link_input(task)
        return image

    def identify(self, task: Task) -> str:
        """Return the image's identifier."""
        return self._inspect(self._image(task), "prepare it first").identifier

    def prepare_machine(self, task: Task) -> None:
        """Make another machine ready, which has the image from `do_save.sh` or a registry."""
        self._inspect(self._image(task), "load it on every worker's machine")
        self._link_input(task)

    def leave_machine(self) -> None:
        """Remove the images with the linked input."""
        for name in self._linked:
            subprocess.run([self._command, "rmi", name], capture_output=True)

    def run(
        self,
        task: Task,
        case: Path,
        output: Path,
        logs: Path,
        uploaded: Path | None = None,
        cpus: frozenset[int] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Run:
        """Run a task in a new container, which is gone afterwards, whatever happens."""
        output.mkdir()
        output.chmod(0o777)  # The image's user, not ours, writes here.
        name = f"hecktor-{hashlib.sha256(str(logs.resolve()).encode()).hexdigest()[:16]}"
        self._call("rm", "--force", name, check=False)
        options = [*HARDENING, *self._dialect(), "--name", name, *_mount(case, CASE_MOUNT)]
        options += _mount(output, "/output", writable=True)
        if uploaded is not None:
            options += _mount(uploaded, TRUTH_MOUNT if task == EVALUATION else MODEL_MOUNT)
        if cpus is not None:
            options += ["--cpus", str(len(cpus))]
        # Created first and started then: so the engine's own warnings do not pass for the
        # algorithm's stderr.
        container = self._call("create", *options, self._linked_image(task)).split()[-1]
        try:
            run = _run(
                [*self._prefix, self._command, "start", "--attach", container],
                limit_s=task.limit_s,
                logs=logs,
                stop=lambda: self._call("kill", container),
                cancelled=cancelled,
            )
            template = "{{.State.OOMKilled}} {{.State.StartedAt}}"
            killed, started = self._call("inspect", "--format", template, container).split()[:2]
            if started.startswith(NEVER):
                raise EngineError(f"{self._command} could not start it: {run.stderr.strip()}")
            if killed == "true":
                run = Run(
                    run.exit_code, run.stdout, run.stderr, run.seconds, "out of its 15 GB of memory"
                )
        finally:
            self._call("rm", "--force", container)
            if os.geteuid() != 0:
                self._hand_over(task, output)
        return run

    def close(self) -> None:
        """Remove the images with the linked input."""
        self.leave_machine()

    def _image(self, task: Task) -> str:
        return f"hecktor2025/{task.name}:{'cpu' if task == EVALUATION else self._variant}"

    def _inspect(self, name: str, remedy: str) -> Image:
        try:
            found = self._call("image", "inspect", "--format", "{{.Id}} {{.Size}}", name)
        except EngineError:
            raise EngineError(f"expected the image {name}, found none; {remedy}") from None
        identifier, size = found.split()
        return Image(name, identifier.removeprefix("sha256:")[:12], int(size))

    def _linked_image(self, task: Task) -> str:
        # The process too: of two workers on a machine, one may leave before the other.
        return f"{self._image(task)}-linked-{self._token}-{os.getpid()}"

    def _link_input(self, task: Task) -> None:
        """Build a task's image plus one file: the link /input -> /mnt/case.

        A container's root is read-only here, so the link cannot be made in it, and bind mounts
        follow links on the host.
        """
        link = tarfile.TarInfo("input")
        link.type, link.linkname = tarfile.SYMTYPE, CASE_MOUNT
        with tempfile.TemporaryDirectory() as context:
            with tarfile.open(Path(context) / "input.tar", "w") as archive:
                archive.addfile(link)
            recipe = f"FROM {self._image(task)}\nADD input.tar /\n"
            (Path(context) / "Dockerfile").write_text(recipe, encoding="utf-8")
            self._call("build", "--quiet", "--tag", self._linked_image(task), context)
        self._linked.append(self._linked_image(task))

    def _dialect(self) -> list[str]:
        if self._command == "podman":
            # Else SELinux, which guards Podman's home distributions, hides the mounted folders; and
            # its own limits on files and processes may be above what the machine lets it set.
            return [
                *("--security-opt", "label=disable"),
                *("--ulimit", "nofile=1024:1024"),
                *("--ulimit", "nproc=1024:1024"),
                *(("--device", "nvidia.com/gpu=all") if self._gpu else ()),
            ]
        return ["--gpus", "all"] if self._gpu else []

    def _hand_over(self, task: Task, output: Path) -> None:
        """Let us delete what the image's user wrote; only that user may change its permissions."""
        mount = _mount(output, "/output", writable=True)
        options = ["run", "--rm", "--network", "none", *self._dialect(), *mount]
        image = self._image(task)
        self._call(*options, "--entrypoint", "chmod", image, "-R", "a+rwX", "/output", check=False)

    def _call(self, *arguments: str, check: bool = True) -> str:
        """Return what the engine prints for a command."""
        done = subprocess.run([self._command, *arguments], capture_output=True, text=True)
        if check and done.returncode != 0:
            raise EngineError(f"{self._command} {arguments[0]}: {done.stderr.strip()}")
        return done.stdout.strip()


class NativeEngine:
    """The same `inference.py` in a Python environment made from the images' lock file."""

    def __init__(self, root: Path, work: Path, python: Path) -> None:
        self._root = root
        self._work = work
        self._python = python
        self._pythons: dict[str, Path] = {}
        self._isolation = _network_isolation()
        self._prefix = [*_death_with_parent(), *self._isolation]

    @property
    def description(self) -> str:
        """What this way of running leaves out."""
        network = "cut off" if self._isolation else "not cut off (unshare is not permitted)"
        return (
            "engine native: no image was built; inference.py runs here, in the environment of the "
            f"images' lock file; 15 GB of data memory, network {network}"
        )

    def prepare(self, task: Task, log: Path) -> None:
        """Lay the application out as it is in the image."""
        app = self._app(task)
        app.mkdir(parents=True)
        (app / "shared").symlink_to(self._root / "shared")
        if task == EVALUATION:
            (app / "evaluation").symlink_to(self._root / "evaluation")
            self._pythons[task.name] = locked_python(
                self._root, ".venv-evaluation", "evaluation/requirements.lock"
            )
        else:
            shutil.copy(self._root / task.name / "inference.py", app)
            stage_model(self._root, task, app / "model")

    def identify(self, task: Task) -> str:
        """Return a digest of the code and of the model cards, which hold their networks' own."""
        app = self._app(task)
        files = [*app.rglob("*.py"), *(self._root / "shared").rglob("*.py"), *app.rglob("*.json")]
        digest = hashlib.sha256()
        for path in sorted(files):
            digest.update(path.name.encode() + path.read_bytes())
        return digest.hexdigest()[:12]

    def prepare_machine(self, task: Task) -> None:
        """See that another machine sees the application."""
        for path in (self._python, self._app(task)):
            if not path.exists():
                raise EngineError(
                    f"expected {path} on every worker's machine, found none; share the checkout "
                    "and the folder of the run among the machines"
                )

    def leave_machine(self) -> None:
        """Leave the application, which all machines share."""

    def run(
        self,
        task: Task,
        case: Path,
        output: Path,
        logs: Path,
        uploaded: Path | None = None,
        cpus: frozenset[int] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Run:
        """Run a task in a new process."""
        output.mkdir()
        link = logs / "input"
        link.symlink_to(case)
        app = self._app(task)
        option = "--truth" if task == EVALUATION else "--model"
        paths = [
            *("--input", str(link)),
            *("--output", str(output)),
            *(option, str(uploaded or app / "model")),
        ]
        python = self._pythons.get(task.name, self._python)
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(logs),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
        }
        _set_writable(case, False)
        try:
            return _run(
                [*self._prefix, str(python), *task.program, *paths],
                limit_s=task.limit_s,
                logs=logs,
                folder=app,
                environment=environment,
                memory_limit_bytes=MEMORY_LIMIT_BYTES,
                cpus=cpus,
                cancelled=cancelled,
            )
        finally:
            _set_writable(case, True)
            link.unlink()

    def close(self) -> None:
        """Remove the applications."""
        shutil.rmtree(self._work, ignore_errors=True)

    def _app(self, task: Task) -> Path:
        return self._work / task.name


def choose(
    root: Path,
    name: str,
    variant: str,
    build: bool,
    work: Path,
    python: Callable[[], Path],
) -> Engine:
    """Return the engine of a name; "auto" takes Docker, else Podman, else native.

    Parameters
    ----------
    root : the checkout.
    variant : "cpu" or "gpu" images.
    build : whether to build images, or take those that are there.
    work : a folder for the native engine's files.
    python : returns the interpreter of the images' lock file; asked only where it is needed.

    Raises
    ------
    EngineError
        If the engine asked for does not work here.
    """
    if name == "auto":
        name = next((c for c in ("docker", "podman") if _succeeds(c, "info")), "native")
    elif name != "native" and not _succeeds(name, "info"):
        raise EngineError(
            f"expected a working {name}, but '{name} info' fails; start it, or use --engine native"
        )
    if name != "native":
        return ContainerEngine(root, name, variant, build)
    if variant == "gpu":
        raise EngineError("expected Docker or Podman for --variant gpu, found neither")
    return NativeEngine(root, work, python())


def locked_python(root: Path, venv: str, lock: str) -> Path:
    """Return the interpreter of an environment made from a lock file, both below the checkout.

    Raises
    ------
    EngineError
        If the environment cannot be made.
    """
    script = root / "shared" / "docker" / "environment.sh"
    made = subprocess.run(
        [str(script), str(root / venv), str(root / lock)], capture_output=True, text=True
    )
    if made.returncode != 0:
        raise EngineError(f"{script.name} ended with exit code {made.returncode}:\n{made.stderr}")
    return root / venv / "bin" / "python"


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _network_isolation() -> list[str]:
    """Return the command prefix that takes a process's network away, where that is permitted."""
    for prefix in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        if _succeeds(*prefix, "true"):
            return prefix
    return []


def _death_with_parent() -> list[str]:
    """Return the command prefix that kills a process when the thread that started it ends."""
    prefix = ["setpriv", "--pdeathsig", "KILL"]
    return prefix if _succeeds(*prefix, "true") else []


def _mount(source: Path, target: str, writable: bool = False) -> list[str]:
    mode = "" if writable else ",readonly"
    return ["--mount", f"type=bind,source={source},target={target}{mode}"]


def _set_writable(folder: Path, writable: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode & 0o555
        path.chmod(mode | 0o200 if writable else mode)


def _run(
    command: Sequence[str],
    *,
    limit_s: int,
    logs: Path,
    stop: Callable[[], object] | None = None,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
    memory_limit_bytes: int | None = None,
    cpus: frozenset[int] | None = None,
    cancelled: threading.Event | None = None,
) -> Run:
    """Run a command to its end or its time limit, its output in files.

    `stop` ends what the command runs elsewhere. The command's own processes are a group of their
    own, so that an interrupt reaches them through us, in order.
    """

    def set_limits() -> None:
        if memory_limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_DATA, (memory_limit_bytes, memory_limit_bytes))
        if cpus is not None:
            os.sched_setaffinity(0, cpus)

    out, err = logs / "stdout.txt", logs / "stderr.txt"
    note = ""
    started = time.perf_counter()
    with out.open("wb") as out_file, err.open("wb") as err_file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out_file,
            stderr=err_file,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=set_limits,
        )
        try:
            while not _ends_within(process, POLL_S):
                if cancelled is not None and cancelled.is_set():
                    raise Cancelled
                if time.perf_counter() - started > limit_s:
                    note = f"stopped after the task's limit of {limit_s} s"
                    if stop is not None:
                        stop()
                    break
        finally:
            seconds = time.perf_counter() - started
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return Run(
        exit_code=None if note else process.returncode,
        stdout=out.read_text(encoding="utf-8", errors="replace"),
        stderr=err.read_text(encoding="utf-8", errors="replace"),
        seconds=seconds,
        note=note,
    )


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _tail(log: Path, lines: int = 15) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(text[-lines:])

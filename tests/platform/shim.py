"""Run a program under the platform's own runtime, sagemaker-shim, on this machine.

The platform adds the runtime to the image, and the runtime starts the image's entry point as a
child process. Here it starts the same entry point natively. Nothing else is simulated: the real
runtime provides the inputs and collects the outputs.
"""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from evaluation.running.engines.process import free_port
from evaluation.running.programs import Program
from shared.grand_challenge.job import Mode
from tests.platform.s3 import S3, START_LIMIT_S, wait_for

# The same as `sagemaker-shim serve`, whose port cannot be chosen.
SERVE: Final = """
import logging.config, sys, uvicorn
from sagemaker_shim.app import app
from sagemaker_shim.cli import LOGGING_CONFIG, set_memory_limits
logging.config.dictConfig(LOGGING_CONFIG)
set_memory_limits()
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, loop="asyncio")
"""

UPLOADS: Final = {"--model": "MODEL", "--truth": "GROUND_TRUTH"}
"""The runtime's name for an uploaded tarball, by the program's option for its folder."""


@dataclass(frozen=True, kw_only=True)
class App:
    """What the runtime needs to know about an image.

    Attributes
    ----------
    program : the entry point.
    folder : working directory.
    environment : variables that the image sets.
    upload_option : option with which the program takes the folder of an uploaded tarball.
    """

    program: tuple[str, ...]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    upload_option: str = "--model"


def app_of(program: Program, mode: Mode, *, python: Path, folder: Path) -> App:
    """Return the image of a program that `lay_out` has arranged in a folder."""
    return App(
        program=(str(python), *program.arguments),
        folder=folder,
        environment=image_environment(mode),
        upload_option=program.upload_option,
    )


def image_environment(mode: Mode) -> dict[str, str]:
    """Return the variables that an image sets, except the PATH."""
    return {
        "HECKTOR_API_METHOD": mode,
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
    }


@dataclass(frozen=True)
class Line:
    """A line in the platform's log of a job."""

    job: str | None
    stream: Literal["stdout", "stderr"]
    text: str


@dataclass(frozen=True)
class Result:
    """What the platform records about a job.

    Attributes
    ----------
    message : message of the runtime itself for the user.
    last_stderr : the last lines on stderr; the user sees only the very last one.
    outputs : contents of the collected files, by path.
    """

    return_code: int
    message: str
    last_stderr: list[str]
    outputs: dict[str, bytes]


class Session:
    """One start of the runtime, which can run several jobs.

    Parameters
    ----------
    programs : folder of the programs of the runtime's environment.
    folder : an empty folder for inputs, outputs and the log.
    uploaded : an uploaded tarball, or a folder with its files.
    limit_s : time limit of a job.
    memory_mb : memory limit in MiB.
    """

    def __init__(
        self,
        app: App,
        mode: Mode,
        *,
        programs: Path,
        s3: S3,
        folder: Path,
        uploaded: Path | None = None,
        limit_s: float = 600,
        memory_mb: int = 15360,
    ) -> None:
        self._programs = programs
        self._s3 = s3
        self._folder = folder
        self._app = app
        self._mode = mode
        self._uploaded = uploaded
        self._limit_s = limit_s
        self._memory_mb = memory_mb
        self._prefix = secrets.token_hex(8)
        self._port = free_port()
        self._output = folder / "runtime.log"
        for name in ("output", "uploaded", "data"):
            (folder / name).mkdir()

    def run(self, cases: Mapping[str, Path]) -> list[Result | None]:
        """Run jobs in one invocation, as the platform does; None for jobs that were not started."""
        tasks = json.dumps([self._task(job, case) for job, case in cases.items()])
        with self._output.open("ab") as file:
            subprocess.run(
                [self._programs / "sagemaker-shim", "invoke", "-t", tasks],
                env=self._environment(),
                stdout=file,
                stderr=file,
                check=True,
                cwd=self._app.folder,
            )
        return [self._result(job) for job in cases]

    @contextmanager
    def served(self) -> Iterator[Session]:
        """Keep the runtime running, so that `post` can run another job after a failed one."""
        with self._output.open("ab") as file:
            process = subprocess.Popen(
                [self._programs / "python", "-c", SERVE, str(self._port)],
                env=self._environment(),
                stdout=file,
                stderr=file,
                cwd=self._app.folder,
            )
        try:
            wait_for(f"http://127.0.0.1:{self._port}/ping", process)
            yield self
        finally:
            process.terminate()  # it ends the algorithm, too
            process.wait(START_LIMIT_S)

    def post(self, job: str, case: Path) -> Result:
        """Run one job in a running runtime."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/invocations",
            json.dumps(self._task(job, case)).encode(),
            {"Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=START_LIMIT_S + self._limit_s).close()
        result = self._result(job)
        assert result is not None
        return result

    def lines(self, stream: str, job: str | None = None) -> list[str]:
        """Return the lines that the user sees in the platform's log, for one job or for all."""
        return [
            line.text for line in self._lines() if line.stream == stream and job in (None, line.job)
        ]

    @property
    def runtime_log(self) -> str:
        """The log of the runtime itself."""
        return self._output.read_text(encoding="utf-8")

    def _lines(self) -> Iterator[Line]:
        for text in self.runtime_log.splitlines():
            if text.startswith("{"):
                entry = json.loads(text)
                if not entry["internal"]:
                    yield Line(entry["task"], entry["source"], entry["log"])

    def _environment(self) -> dict[str, str]:
        folder, web_port = self._folder, str(free_port())
        arguments = ["--input", str(folder / "input"), "--output", str(folder / "output")]
        arguments += ["--port", web_port]
        uploads = {}
        if self._uploaded is not None:
            self._s3.put(f"{self._prefix}/uploaded.tar.gz", _tarball(self._uploaded))
            arguments += [self._app.upload_option, str(folder / "uploaded")]
            name = UPLOADS[self._app.upload_option]
            uploads = {
                name: f"s3://{self._s3.bucket}/{self._prefix}/uploaded.tar.gz",
                f"{name}_DEST": folder / "uploaded",
            }
        settings = {
            "ENTRYPOINT_B64J": _encoded(self._app.program),
            "CMD_B64J": _encoded(arguments),
            "API_METHOD": self._mode,
            "SET_EXTRA_GROUPS": "False",
            "INPUT_PATH": folder / "input",
            "OUTPUT_PATH": folder / "output",
            "LINKED_INPUT_PARENT": folder / "data",
            "WRITABLE_DIRECTORIES": folder / "uploaded",
            "POST_CLEAN_DIRECTORIES": folder / "uploaded",
            "MAX_MEMORY_MB": self._memory_mb,
            "RUNTIME_OUTPUT_BUCKET_NAME": self._s3.bucket,
            "RUNTIME_OUTPUT_PREFIX": f"{self._prefix}/setup",
            "SIGNING_KEY_HEX": "00",
            "START_AND_HEALTH_TIMEOUT_SECONDS": START_LIMIT_S,
            "HEALTH_CHECK_CALL_TIMEOUT_SECONDS": 1,
            "USER_WEBSERVER_PORT": web_port,
            **uploads,
        }
        return {
            "PATH": os.defpath,  # without HOME, as for a user without a passwd entry
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": "none",
            "AWS_SECRET_ACCESS_KEY": "none",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_S3_ENDPOINT_URL": self._s3.endpoint,
            **{f"GRAND_CHALLENGE_COMPONENT_{name}": str(v) for name, v in settings.items()},
            **self._app.environment,
        }

    def _task(self, job: str, case: Path) -> dict[str, Any]:
        """Upload a case and return the task that the platform creates for it."""
        inputs = []
        for path in sorted(p for p in case.rglob("*") if p.is_file()):
            key = f"{self._prefix}/{job}/input/{path.relative_to(case)}"
            self._s3.put(key, path.read_bytes())
            inputs.append(
                {
                    "relative_path": str(path.relative_to(case)),
                    "bucket_name": self._s3.bucket,
                    "bucket_key": key,
                    "decompress": False,
                }
            )
        return {
            "pk": job,
            "inputs": inputs,
            "output_bucket_name": self._s3.bucket,
            "output_prefix": self._output_prefix(job),
            "timeout": f"PT{self._limit_s}S",
        }

    def _output_prefix(self, job: str) -> str:
        return f"{self._prefix}/{job}/output/"

    def _result(self, job: str) -> Result | None:
        prefix = self._output_prefix(job)
        try:
            content = self._s3.get(f"{prefix}.sagemaker_shim/inference_result.json")
        except urllib.error.HTTPError:
            return None
        result = json.loads(content)
        keys = [key for key in self._s3.keys(prefix) if ".sagemaker_shim" not in key]
        assert keys == sorted(output["bucket_key"] for output in result["outputs"])
        return Result(
            return_code=result["return_code"],
            message=result["user_safe_error_message"],
            last_stderr=[line.rstrip("\n") for line in result["user_process_last_stderr_lines"]],
            outputs={key.removeprefix(prefix): self._s3.get(key) for key in keys},
        )


def _encoded(words: Sequence[str]) -> str:
    return base64.b64encode(json.dumps(list(words)).encode()).decode()


def _tarball(source: Path) -> bytes:
    """Return the bytes of a tarball; a folder is packed with its files at the root."""
    if source.is_file():
        return source.read_bytes()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path in sorted(source.iterdir()):
            archive.add(path, path.name)
    return content.getvalue()

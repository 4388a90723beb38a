"""Run the platform's own runtime, sagemaker-shim, on this machine, with moto as its S3.

The platform adds the runtime to the image, and the runtime starts the image's entry point as a
child process. Here it starts the same entry point natively. Nothing else is simulated: the real
runtime provides the inputs and collects the outputs.
"""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote

import pytest

from shared.files import locked
from shared.tasks import Algorithm

ROOT: Final = Path(__file__).resolve().parents[2]
REQUIREMENTS: Final = ("sagemaker-shim==0.8.3", "moto[server]==5.2.5")
START_LIMIT_S: Final = 120
"""A generous limit, because many tests may run at once."""

Mode = Literal["exec", "invoke"]

# The same as `sagemaker-shim serve`, whose port cannot be chosen.
SERVE: Final = """
import logging.config, sys, uvicorn
from sagemaker_shim.app import app
from sagemaker_shim.cli import LOGGING_CONFIG, set_memory_limits
logging.config.dictConfig(LOGGING_CONFIG)
set_memory_limits()
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None, loop="asyncio")
"""


def find_python() -> str | None:
    """Return a Python 3.12 interpreter, which the runtime needs, or None."""
    names = [shutil.which("python3.12")]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    names += map(str, sorted(pyenv.glob("versions/3.12.*/bin/python3.12")))
    for name in names:
        # pyenv's python3.12 fails unless this version is selected.
        if name and subprocess.run([name, "-c", ""], capture_output=True).returncode == 0:
            return name
    return None


def install() -> Path:
    """Install the runtime below the checkout if necessary, and return the folder of its programs.

    Skips the test if Python 3.12 is not available.
    """
    venv = ROOT / ".venv-shim"
    venv.mkdir(exist_ok=True)
    stamp = venv / "stamp"
    with locked(stamp):
        if not stamp.is_file() or stamp.read_text() != str(REQUIREMENTS):
            python = find_python()
            if python is None:
                pytest.skip("sagemaker-shim needs Python 3.12, which is not installed here")
            _uv("venv", "--allow-existing", "--python", python, str(venv))
            _uv("pip", "install", "--python", str(venv / "bin/python"), *REQUIREMENTS)
            stamp.write_text(str(REQUIREMENTS))
    return venv / "bin"


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", "--quiet", "--no-progress", *arguments]
    subprocess.run(command, check=True, cwd=ROOT)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True)
class S3:
    """A local S3 with one bucket."""

    endpoint: str
    bucket: str = "platform"

    def put(self, key: str, content: bytes) -> None:
        self._call(key, content)

    def get(self, key: str) -> bytes:
        return self._call(key)

    def keys(self, prefix: str) -> list[str]:
        tree = ET.fromstring(self._call(f"?list-type=2&prefix={prefix}"))
        return sorted(e.text or "" for e in tree.iter() if e.tag.endswith("}Key"))

    def _call(self, path: str, content: bytes | None = None) -> bytes:
        # moto requires a signature but does not check it. It would parse the content as a form if
        # the content type were urllib's default.
        headers = {
            "Authorization": "AWS4-HMAC-SHA256 Credential=none/20260101/us-east-1/s3/aws4",
            "Content-Type": "application/octet-stream",
        }
        url = f"{self.endpoint}/{self.bucket}/{quote(path, safe='/?=&')}"
        method = "GET" if content is None else "PUT"
        request = urllib.request.Request(url, content, headers, method=method)
        with urllib.request.urlopen(request, timeout=START_LIMIT_S) as reply:
            answer: bytes = reply.read()
            return answer


@contextmanager
def local_s3(programs: Path, log: Path) -> Iterator[S3]:
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [programs / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=file,
            stderr=file,
        )
    try:
        s3 = S3(f"http://127.0.0.1:{port}")
        _wait_for(f"{s3.endpoint}/moto-api/", process)
        s3.put("", b"")  # creates the bucket
        yield s3
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_LIMIT_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=START_LIMIT_S).close()
            return
        except OSError:
            assert process.poll() is None, f"{url}: the process ended"
            assert time.monotonic() < end, f"{url} does not answer"
            time.sleep(0.1)


@dataclass(frozen=True)
class App:
    """The program and environment variables of an image, and the model tarball, if any."""

    program: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    tarball: bytes | None = None


def lay_out(algorithm: Algorithm, folder: Path) -> Path:
    """Arrange the files of an algorithm as in its image, and return its program."""
    folder.mkdir()
    (folder / "shared").symlink_to(ROOT / "shared")
    for place, source in algorithm.model_folders(ROOT).items():
        shutil.copytree(source, folder / "model" / place, dirs_exist_ok=True)
    return Path(shutil.copy(ROOT / algorithm.name / "inference.py", folder))


def image_environment(mode: Mode) -> dict[str, str]:
    """Return the variables that an image sets."""
    return {"HECKTOR_API_METHOD": mode, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}


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
    """One start of the runtime, which can run several jobs."""

    def __init__(
        self,
        programs: Path,
        s3: S3,
        folder: Path,
        app: App,
        mode: Mode,
        *,
        limit_s: int = 600,
        memory_mb: int = 15360,
    ) -> None:
        self._programs = programs
        self._s3 = s3
        self._folder = folder
        self._app = app
        self._mode = mode
        self._limit_s = limit_s
        self._memory_mb = memory_mb
        self._prefix = folder.name
        self._port = free_port()
        self._output = folder / "runtime.log"
        for name in ("output", "model", "data"):
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
                cwd=self._folder,
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
                cwd=self._folder,
            )
        try:
            _wait_for(f"http://127.0.0.1:{self._port}/ping", process)
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
        if self._app.tarball is not None:
            self._s3.put(f"{self._prefix}/model.tar.gz", self._app.tarball)
            arguments += ["--model", str(folder / "model")]
        settings = {
            "ENTRYPOINT_B64J": _encoded(self._app.program),
            "CMD_B64J": _encoded(arguments),
            "API_METHOD": self._mode,
            "SET_EXTRA_GROUPS": "False",
            "INPUT_PATH": folder / "input",
            "OUTPUT_PATH": folder / "output",
            "LINKED_INPUT_PARENT": folder / "data",
            "WRITABLE_DIRECTORIES": folder / "model",
            "POST_CLEAN_DIRECTORIES": folder / "model",
            "MODEL_DEST": folder / "model",
            "MAX_MEMORY_MB": self._memory_mb,
            "RUNTIME_OUTPUT_BUCKET_NAME": self._s3.bucket,
            "RUNTIME_OUTPUT_PREFIX": f"{self._prefix}/setup",
            "SIGNING_KEY_HEX": "00",
            "START_AND_HEALTH_TIMEOUT_SECONDS": START_LIMIT_S,
            "HEALTH_CHECK_CALL_TIMEOUT_SECONDS": 1,
            "USER_WEBSERVER_PORT": web_port,
        }
        if self._app.tarball is not None:
            settings["MODEL"] = f"s3://{self._s3.bucket}/{self._prefix}/model.tar.gz"
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


def tarball(folder: Path) -> bytes:
    """Return a model folder as a tarball, as a user uploads it."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, path.name)
    return content.getvalue()

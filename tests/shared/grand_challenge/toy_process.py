"""The toy algorithm in a separate process, as in a container."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("toy_algorithm.py")
LIMIT_S = 120
"""A generous limit, because many tests may run at once."""


@dataclass
class Toy:
    """A running toy algorithm."""

    process: subprocess.Popen[bytes]
    folder: Path
    port: int = 0

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def log(self) -> str:
        return (self.folder / "stdout").read_bytes().decode("utf-8")  # strict, as on the platform

    @property
    def errors(self) -> str:
        return (self.folder / "stderr").read_bytes().decode("utf-8")

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + LIMIT_S
        while text not in self.log:
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < end, f"expected '{text}' in the log, found {self.log}"
            time.sleep(0.02)

    def stop(self, number: signal.Signals) -> float:
        """Send a signal and return how long the process took to end."""
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(LIMIT_S)
        return time.monotonic() - start

    def call(self, method: str, path: str, body: bytes | None = None) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT_S)
        connection.request(method, path, body)
        status = connection.getresponse().status
        connection.close()
        return status

    def invoke(self, age: float, do: str = "nothing") -> int:
        """Write a case as the platform does, and call the server to answer it."""
        lay_out(self.folder, age, do)
        return self.call("POST", "/invoke")

    @property
    def risk(self) -> float:
        """The risk that was written; the output folder must contain nothing else."""
        (path,) = self.output.iterdir()
        risk: float = json.loads(path.read_bytes())
        return risk


def lay_out(folder: Path, age: float, do: str) -> None:
    """Write a case, make the input folder a link to it, and empty the output folder."""
    case = folder / f"case-{time.monotonic_ns()}"
    case.mkdir()
    (case / "ehr.json").write_text(json.dumps({"Age": age, "do": do}))
    link = folder / "input"
    link.unlink(missing_ok=True)
    link.symlink_to(case)
    output = folder / "output"
    output.mkdir(exist_ok=True)
    for path in output.iterdir():
        path.unlink()


@contextmanager
def toy(
    folder: Path, *arguments: str, age: float = 0, do: str = "nothing", **environment: str
) -> Iterator[Toy]:
    """Start the toy algorithm, by default in exec mode on one case."""
    lay_out(folder, age, do)
    paths = ["--input", str(folder / "input"), "--output", str(folder / "output")]
    with (folder / "stdout").open("ab") as stdout, (folder / "stderr").open("ab") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), *paths, *arguments],
            stdout=stdout,
            stderr=stderr,
            env={"PATH": os.defpath, "LANG": "C", **environment},
        )
        try:
            yield Toy(process, folder)
        finally:
            process.kill()
            process.wait()


@contextmanager
def toy_server(folder: Path, **environment: str) -> Iterator[Toy]:
    """Start the toy algorithm in invoke mode, on a free port."""
    with toy(folder, "--port", "0", HECKTOR_API_METHOD="invoke", **environment) as server:
        server.wait_for("ready for POST /invoke on port")
        server.port = int(server.log.split()[-1])
        yield server


def run_toy(folder: Path, *arguments: str, do: str = "nothing", **environment: str) -> Toy:
    """Run the toy algorithm to its end."""
    with toy(folder, *arguments, age=61, do=do, **environment) as process:
        process.process.wait(LIMIT_S)
        return process

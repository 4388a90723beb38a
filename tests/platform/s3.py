"""A local S3, moto, with the inputs and outputs of the platform's runtime."""

from __future__ import annotations

import subprocess
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from evaluation.running.engines.process import free_port

START_LIMIT_S: Final = 300
"""The platform's own limit for the start of a server; enough even if many tests run at once."""


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
    """Start an S3 on this machine.

    Parameters
    ----------
    programs : folder of the programs of the runtime's environment.
    log : file for the output of the S3.
    """
    port = free_port()
    with log.open("wb") as file:
        process = subprocess.Popen(
            [programs / "moto_server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=file,
            stderr=file,
        )
    try:
        s3 = S3(f"http://127.0.0.1:{port}")
        wait_for(f"{s3.endpoint}/moto-api/", process)
        s3.put("", b"")  # creates the bucket
        yield s3
    finally:
        process.kill()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers; RuntimeError if its process ends or it takes too long."""
    end = time.monotonic() + START_LIMIT_S
    while True:
        with suppress(OSError):
            urllib.request.urlopen(url, timeout=START_LIMIT_S).close()
            return
        if process.poll() is not None:
            raise RuntimeError(f"expected an answer of {url}, found that its process has ended")
        if time.monotonic() > end:
            raise RuntimeError(f"expected an answer of {url} within {START_LIMIT_S} s")
        time.sleep(0.1)

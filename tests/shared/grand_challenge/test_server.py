"""Invoke mode: cases one after another in one process."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.shared.grand_challenge.platform_case import files_in
from tests.shared.grand_challenge.toy_process import Toy, lay_out, run_toy, toy_server

STOP_LIMIT_S = 5
"""Generous; on an idle machine, the end takes less than a second, as the documentation says."""


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toy]:
    with toy_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def server(shared_server: Toy) -> Toy:
    """Return a server that has answered cases of other tests before."""
    (shared_server.folder / "stderr").open("wb").close()
    return shared_server


def test_models_are_loaded_once_and_before_the_port_opens(tmp_path: Path) -> None:
    with toy_server(tmp_path) as server:
        assert re.match(
            r"models from baked\nloading\nmodels loaded in \d+\.\d s\nready for", server.log
        )
        assert [server.call("GET", "/health") for _ in range(2)] == [200, 200]
        assert [server.invoke(61), server.invoke(62)] == [201, 201]
        assert server.log.count("loading") == 1


def test_each_call_reads_the_case_that_is_there_now(server: Toy) -> None:
    for age in (61, 47, 61):
        assert server.invoke(age) == 201
        assert server.risk == age
    assert server.errors == ""


OUT_OF_MEMORY = "out of memory; raise the memory limit (the log has the traceback)"


@pytest.mark.parametrize(
    ("do", "line"),
    [
        ("refuse", "expected an age, found none; add it"),
        ("break down", "unexpected ZeroDivisionError: by nothing; the log has the traceback"),
        ("exhaust memory", OUT_OF_MEMORY),
        (
            "exhaust memory in C",
            OUT_OF_MEMORY,
        ),
    ],
)
def test_bad_case_is_one_line_and_the_next_case_is_answered(
    server: Toy, do: str, line: str
) -> None:
    assert server.invoke(61, do) == 500
    assert files_in(server.output) == []
    assert server.errors == f"{line}\n"
    assert server.call("GET", "/health") == 200
    assert server.invoke(47) == 201
    assert server.risk == 47
    assert server.errors == f"{line}\n"


def test_calls_during_a_case_do_not_affect_it(server: Toy) -> None:
    statuses: list[int] = []
    call = threading.Thread(target=lambda: statuses.append(server.invoke(61, "wait")))
    waits = server.log.count("waiting")
    call.start()
    while server.log.count("waiting") == waits:
        time.sleep(0.02)
    assert server.call("GET", "/health") == 200
    assert server.call("POST", "/invoke") == 503
    assert statuses == []
    call.join()
    assert statuses == [201]
    assert server.risk == 61
    assert server.errors == ""


def test_client_that_hangs_up_does_no_harm(server: Toy) -> None:
    lay_out(server.folder, 61, "wait")
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /invoke HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while (status := server.call("POST", "/invoke")) == 503:
        time.sleep(0.02)
    assert status == 201
    assert server.errors == ""


def test_silent_client_does_not_block_others(server: Toy) -> None:
    with socket.create_connection(("127.0.0.1", server.port)):
        assert server.call("GET", "/health") == 200
        assert server.invoke(61) == 201


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("POST", "/health", 404), ("GET", "/invoke", 404), ("PUT", "/invoke", 501)],
)
def test_other_requests_are_refused(server: Toy, method: str, path: str, status: int) -> None:
    assert server.call(method, path) == status
    assert server.errors == ""


def test_body_of_a_call_is_ignored(server: Toy) -> None:
    assert server.call("POST", "/invoke", b"x" * 100_000) == 201


def test_memory_and_time_are_those_of_the_call(server: Toy) -> None:
    for do in ("use memory", "nothing"):
        assert server.invoke(61, do) == 201
    lines = re.findall(r"^done in .+, CPU time (.+) s, peak memory (.+) GB$", server.log, re.M)
    (_, large), (cpu_s, small) = lines[-2:]
    assert float(large) > float(small) + 0.3
    assert float(cpu_s) < 0.2  # without the start of the server


def test_any_text_reaches_the_streams_as_utf8(server: Toy) -> None:
    start = len(server.log)
    assert server.invoke(61, "print any text") == 201
    log = server.log[start:]  # decoded strictly, so it is UTF-8
    assert r"file caf\udce9" in log
    assert r"RuntimeWarning: about caf\udce9" in log
    assert max(len(line.encode()) for line in log.splitlines()) < 2**16
    assert server.errors == ""
    assert server.invoke(61, "refuse any text") == 500
    assert server.errors.startswith(r"file caf\udce9 ää")
    assert server.errors.endswith("ä … (200015 bytes, shortened)\n")
    assert server.errors.count("\n") == 1
    assert len(server.errors.encode()) < 2**16


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("is_busy", [False, True])
def test_signal_ends_the_server_at_once(
    tmp_path: Path, number: signal.Signals, is_busy: bool
) -> None:
    with toy_server(tmp_path) as server:
        if is_busy:
            threading.Thread(target=_ignore_result, args=(server,), daemon=True).start()
            server.wait_for("in C code")
            assert files_in(server.output) != []
        assert server.stop(number) < STOP_LIMIT_S
        assert server.process.returncode == 128 + number
        assert server.errors == ""
        assert files_in(server.output) == []


def _ignore_result(server: Toy) -> None:
    with pytest.raises(OSError, match=r"."):
        server.invoke(61, "stay in C")


def test_broken_model_ends_the_server_with_one_line(tmp_path: Path) -> None:
    end = run_toy(tmp_path, "--api-method", "invoke", "--model", "broken", "--port", "0")
    assert end.process.returncode == 1
    assert end.errors == "expected a card in broken, found none\n"


def test_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        end = run_toy(tmp_path, "--api-method", "invoke", "--port", port)
    assert end.process.returncode == 1
    assert re.fullmatch(rf"expected port {port} to be free, .*\n", end.errors)

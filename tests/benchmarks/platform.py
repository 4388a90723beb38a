"""Exec against invoke mode, and memory over many calls: `python -m tests.benchmarks.platform`.

For each algorithm, the command answers a case in exec mode and in invoke mode alternately. It
prints the seconds and CPU seconds of both modes, and what a call in invoke mode saves, as the
median and the range over the rounds. Other programs running at the same time affect the seconds
strongly, but the CPU seconds little. In exec mode, the time is from the start of the process to its
end.

Then one server answers many calls: a case, a bad case and another case, in turn. The command fails
if an answer differs from that of exec mode by a byte, or if the memory of the process, averaged
over the last 20 calls, is not within 5 % of the average over the first 20.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from evaluation.running.programs import lay_out, program_of
from shared.editions import CURRENT
from shared.grand_challenge.job import Mode
from shared.tasks import Algorithm
from tests.platform.environment import ROOT
from tests.platform.shim import image_environment

CASES: Final = ("no_primary", "oblique_flipped")
ROUNDS: Final = 9
"""How often both modes are timed."""
SHARE: Final = 0.05
"""Fraction by which the two averages of the memory may differ."""
WINDOW: Final = 20
"""Number of calls at the start and at the end whose memory is compared."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The time that a case took."""

    seconds: float
    cpu_seconds: float


class Workplace:
    """An algorithm, and the input and output folders that the platform gives it."""

    def __init__(self, algorithm: Algorithm, folder: Path) -> None:
        program = program_of(algorithm)
        lay_out(program, root=ROOT, folder=folder / "app")
        self._program = folder / "app" / program.arguments[0]
        self._folder = folder
        self._output = folder / "output" / algorithm.outputs[0].path
        for name in CASES:
            shutil.copytree(ROOT / "tests/cases" / name / "input", folder / name)
        shutil.copytree(folder / CASES[0], folder / "bad")
        shutil.rmtree(folder / "bad/images/pet")

    def lay_out_case(self, name: str) -> None:
        """Empty the output folder, and make the input folder a link to a case."""
        (self._folder / "input").unlink(missing_ok=True)
        (self._folder / "input").symlink_to(self._folder / name)
        shutil.rmtree(self._folder / "output", ignore_errors=True)
        (self._folder / "output").mkdir()

    def answer(self) -> bytes:
        """Return the file that the algorithm wrote."""
        return self._output.read_bytes()

    def log(self, mode: Mode) -> str:
        """Return what the last process of a mode has printed, on both streams."""
        return (self._folder / f"{mode}.txt").read_text(encoding="utf-8")

    def start(self, mode: Mode) -> subprocess.Popen[bytes]:
        """Start the program as its image does."""
        paths = [
            argument
            for name in ("input", "output")
            for argument in (f"--{name}", str(self._folder / name))
        ]
        with (self._folder / f"{mode}.txt").open("wb") as file:
            return subprocess.Popen(
                [sys.executable, str(self._program), *paths, "--port", "0"],
                env=image_environment(mode),
                stdout=file,
                stderr=file,
            )

    def run(self, name: str) -> Cost:
        """Answer a case in exec mode and return its cost."""
        self.lay_out_case(name)
        start = time.perf_counter()
        process = self.start("exec")
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, self.log("exec")
        return Cost(seconds=seconds, cpu_seconds=usage.ru_utime + usage.ru_stime)


class Server:
    """A running server."""

    def __init__(self, workplace: Workplace, process: subprocess.Popen[bytes], port: int) -> None:
        self._workplace = workplace
        self._process = process
        self._port = port

    def call(self, name: str) -> tuple[int, Cost]:
        """Send a case to the server; return the HTTP status and the cost."""
        self._workplace.lay_out_case(name)
        cpu_start, start = self._cpu_seconds(), time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", self._port)
        connection.request("POST", "/invoke")
        status = connection.getresponse().status
        connection.close()
        seconds = time.perf_counter() - start
        return status, Cost(seconds=seconds, cpu_seconds=self._cpu_seconds() - cpu_start)

    def _cpu_seconds(self) -> float:
        """Return the CPU time of the process so far."""
        text = Path(f"/proc/{self._process.pid}/stat").read_text("ascii")
        user, system = map(int, text.rpartition(")")[2].split()[11:13])
        return (user + system) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Return the resident memory of the process now, in MB (10^6 bytes)."""
        text = Path(f"/proc/{self._process.pid}/status").read_text("ascii")
        return int(text.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


@contextmanager
def serving(workplace: Workplace) -> Iterator[Server]:
    """Start the algorithm in invoke mode."""
    workplace.lay_out_case(CASES[0])
    process = workplace.start("invoke")
    try:
        while not (port := re.search(r"^ready for .* port (\d+)\n", workplace.log("invoke"), re.M)):
            assert process.poll() is None, workplace.log("invoke")
            time.sleep(0.1)
        yield Server(workplace, process, int(port[1]))
    finally:
        process.terminate()
        process.wait()


def compare_modes(workplace: Workplace, rounds: int) -> None:
    """Print the cost of a case in both modes, which take turns."""
    name = CASES[0]
    with serving(workplace) as server:
        _, first = server.call(name)
        pairs = [(workplace.run(name), server.call(name)[1]) for _ in range(rounds)]
    print(f"  {rounds} rounds at a load of {os.getloadavg()[0]:.1f}; median and range")
    for unit in ("seconds", "cpu_seconds"):
        alone, call = (
            [getattr(cost, unit) for cost in costs] for costs in zip(*pairs, strict=True)
        )
        saved = [one - other for one, other in zip(alone, call, strict=True)]
        print(
            f"  {unit}: exec {_spread(alone)}, call {_spread(call)}, saved {_spread(saved)}; "
            f"first call {getattr(first, unit):.2f}",
            flush=True,
        )


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def exec_answers(workplace: Workplace) -> dict[str, bytes]:
    """Return the answers of exec mode by case."""
    answers = {}
    for name in CASES:
        workplace.run(name)
        answers[name] = workplace.answer()
    return answers


def watch_memory(workplace: Workplace, calls: int, answers: dict[str, bytes]) -> bool:
    """Answer many calls, and return whether memory stays constant and answers equal exec mode."""
    names = (CASES[0], "bad", CASES[1])
    memory, same = [], True
    with serving(workplace) as server:
        for index in range(calls):
            name = names[index % len(names)]
            status, _ = server.call(name)
            memory.append(server.memory_mb())
            if name == "bad":
                same &= status == 500
            else:
                same &= status == 201 and workplace.answer() == answers[name]
    first, last = statistics.mean(memory[:WINDOW]), statistics.mean(memory[-WINDOW:])
    is_flat = abs(last - first) <= SHARE * first
    print(
        f"  {calls} calls: {first:.0f} MB during the first {WINDOW}, {last:.0f} MB during the last "
        f"{WINDOW} ({last / first - 1:+.1%}) {'ok' if is_flat else 'TOO DIFFERENT'}; "
        f"answers {'as in exec mode' if same else 'DIFFER'}"
    )
    return is_flat and same


def main(
    algorithm: Annotated[
        list[str] | None, typer.Option(help="Name of a task's folder (default: all).")
    ] = None,
    calls: Annotated[
        int, typer.Option(help=f"Calls of one server, at least {2 * WINDOW}; 0: only the times.")
    ] = 200,
    rounds: Annotated[int, typer.Option(min=1, help="How often both modes are timed.")] = ROUNDS,
) -> None:
    """Measure, print, and fail if the memory grows or an answer differs."""
    if 0 < calls < 2 * WINDOW:
        raise typer.BadParameter(f"expected 0 or at least {2 * WINDOW} calls, found {calls}")
    is_good = True
    for each in CURRENT.algorithms:
        if algorithm and each.name not in algorithm:
            continue
        print(each.name)
        with tempfile.TemporaryDirectory() as folder:
            workplace = Workplace(each, Path(folder))
            compare_modes(workplace, rounds)
            if calls:
                is_good &= watch_memory(workplace, calls, exec_answers(workplace))
    raise SystemExit(0 if is_good else 1)


if __name__ == "__main__":
    typer.run(main)

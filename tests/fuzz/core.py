"""Run numbered hostile cases of one kind, and count how each ends.

A kind is a module of this package with two functions::

    def make(rng: numpy.random.Generator, folder: Path) -> FuzzCase
    def judge(case: FuzzCase) -> Verdict

`make` writes one hostile case into an empty folder and says what must happen. `judge` runs the
program on it, in the same process, and says what happened; an exception in either is a defect. All
random choices come from `rng`, so the seed and the number reproduce a case.

Child processes run the cases in batches. If a child dies, runs out of memory or takes too long
for a case, that case is a defect, and a new child continues with the next case.
"""

from __future__ import annotations

import json
import os
import queue
import resource
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

Expectation = Literal["answered", "refused", "either"]
Outcome = Literal["answered", "refused", "defect"]

CASE_LIMIT_S: Final = 60.0
CHILD_MEMORY_BYTES: Final = 6 * 10**9
REPOSITORY: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class FuzzCase:
    """One hostile case.

    Attributes
    ----------
    folder : the folder of the case; `judge` may write into it.
    what : what is hostile about the case, in a few words.
    expected : what must happen; "either" if both are right, for example after a digit has changed.
    more : anything else that the kind's `judge` needs.
    """

    folder: Path
    what: str
    expected: Expectation
    more: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """How a case ended; a defect has a note that explains it."""

    outcome: Outcome
    note: str = ""

    @classmethod
    def of(cls, case: FuzzCase, outcome: Literal["answered", "refused"], note: str) -> Verdict:
        """Return the verdict on an answer or a refusal: a defect if the other was expected."""
        if case.expected in (outcome, "either"):
            return cls(outcome)
        return cls("defect", f"{outcome} instead of {case.expected}: {note}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The verdict on a numbered case."""

    number: int
    what: str
    verdict: Verdict
    seconds: float


def run(
    kind: str, *, numbers: Sequence[int], seed: int, workers: int, memory_bytes: int
) -> list[Result]:
    """Run the cases with these numbers in child processes, and return their results in order."""
    with ThreadPoolExecutor(workers) as pool:
        shares = [numbers[worker::workers] for worker in range(workers)]
        batches = pool.map(
            lambda share: list(_run_share(kind, share, seed=seed, memory_bytes=memory_bytes)),
            shares,
        )
        results = [result for batch in batches for result in batch]
    return sorted(results, key=lambda result: result.number)


def run_in_child(kind: str, *, numbers: Sequence[int], seed: int, memory_bytes: int) -> None:
    """Run cases in this process and print a line of JSON before and after each."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as report:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        module = import_module(f"tests.fuzz.{kind}")
        for number in numbers:
            print(json.dumps({"number": number}), file=report, flush=True)
            started = time.perf_counter()
            what, verdict = _run_case(module.make, module.judge, number=number, seed=seed)
            line = {
                "what": what,
                "outcome": verdict.outcome,
                "note": verdict.note,
                "seconds": time.perf_counter() - started,
            }
            print(json.dumps(line), file=report, flush=True)


def _run_case(
    make: Callable[[np.random.Generator, Path], FuzzCase],
    judge: Callable[[FuzzCase], Verdict],
    *,
    number: int,
    seed: int,
) -> tuple[str, Verdict]:
    what = "not made"
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        try:
            case = make(np.random.default_rng([seed, number]), Path(folder))
            what = case.what
            return what, judge(case)
        except Exception:  # any exception here is what the fuzzing looks for
            return what, Verdict("defect", traceback.format_exc())


def _run_share(
    kind: str, numbers: Sequence[int], *, seed: int, memory_bytes: int
) -> Iterator[Result]:
    """Run cases in a child; after a defect that ends it, run the remaining ones in a new child."""
    remaining = list(numbers)
    while remaining:
        results = list(_run_child(kind, remaining, seed=seed, memory_bytes=memory_bytes))
        yield from results
        remaining = remaining[len(results) :]


def _run_child(
    kind: str, numbers: Sequence[int], *, seed: int, memory_bytes: int
) -> Iterator[Result]:
    """Yield the results of a child; the last is a defect if the child died or took too long."""
    command = [sys.executable, "-m", "tests.fuzz", kind, "--seed", str(seed), "--child"]
    command += ["--memory-bytes", str(memory_bytes)]
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(list(numbers)).encode())
        child.stdin.close()
        lines: queue.Queue[bytes] = queue.Queue()
        threading.Thread(target=_pass_on, args=(child, lines), daemon=True).start()
        number, problem = numbers[0], ""
        try:
            for _ in range(2 * len(numbers)):
                line = lines.get(timeout=CASE_LIMIT_S)
                if not line:
                    problem = f"the process ended with code {child.wait()}"
                    break
                content = json.loads(line)
                if "number" in content:
                    number = content["number"]
                else:
                    yield Result(
                        number=number,
                        what=content["what"],
                        verdict=Verdict(content["outcome"], content["note"]),
                        seconds=content["seconds"],
                    )
        except queue.Empty:
            problem = f"the case took more than {CASE_LIMIT_S:g} s"
        child.kill()
        child.wait()
        if problem:
            errors.seek(0)
            tail = errors.read()[-2000:].decode(errors="replace")
            verdict = Verdict("defect", f"{problem}\n{tail}".strip())
            yield Result(number=number, what="", verdict=verdict, seconds=CASE_LIMIT_S)


def _pass_on(child: subprocess.Popen[bytes], lines: queue.Queue[bytes]) -> None:
    """Put the child's lines into the queue, then an empty line that marks the end."""
    assert child.stdout is not None
    with child.stdout:
        for line in child.stdout:
            lines.put(line)
    lines.put(b"")


def describe(results: Sequence[Result]) -> tuple[list[str], int]:
    """Return the lines to print, the summary last, and the number of defects."""
    counts = Counter(result.verdict.outcome for result in results)
    answered, refused, defects = counts["answered"], counts["refused"], counts["defect"]
    lines = [
        f"case {result.number}, {result.what or 'unnamed'}: {result.verdict.note}"
        for result in results
        if result.verdict.outcome == "defect"
    ]
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    longest_s = max((result.seconds for result in results), default=0.0)
    lines.append(f"largest process {peak_gb:.2f} GB, longest case {longest_s:.1f} s")
    lines.append(f"{len(results)} cases: {answered} answered, {refused} refused, {defects} defects")
    return lines, defects

"""If a call ends its process, uses too much memory or never returns, only this call is lost."""

from __future__ import annotations

import os
import resource
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from evaluation.isolation import LIMITS as DEFAULT_LIMITS
from evaluation.isolation import Limits, Lost, call_isolated, preload
from evaluation.jobs import jobs_by_case
from evaluation.predictions import read_predictions
from evaluation.tasks import segmentation
from evaluation.tasks.base import Entry
from evaluation.truth import read_truth
from shared.editions import CURRENT
from shared.errors import InputError
from shared.geometry import Grid
from tests.benchmarks.evaluation import masks
from tests.evaluation.submission import QUICK, Submission, image

preload("evaluation.isolation")
LIMITS = Limits(memory_bytes=10**9, seconds=1)


def act(order: str) -> tuple[str, int]:
    """Do what the order says, and return it with the number of the process."""
    if order == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif order == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif order == "exit":
        os._exit(7)
    elif order == "memory":
        np.ones(10**9)
    elif order == "hang":
        while True:
            time.sleep(60)
    elif order == "bug":
        raise KeyError(order)
    elif order == "refuse":
        raise InputError("expected another order")
    return order, os.getpid()


CAUSES = {
    "segfault": "ended with SIGSEGV",
    "kill": "ended with SIGKILL; the machine may have run out of memory",
    "exit": "ended with exit code 7",
    "memory": "needs more than 1 GB of memory",
    "hang": "takes more than 1 s",
    "bug": "ended with an unexpected KeyError: 'bug'; the log has the traceback",
}


@pytest.mark.parametrize("workers", [1, 2])
def test_lost_calls_change_no_other_result(workers: int) -> None:
    orders = [order for cause in CAUSES for order in (cause, f"after {cause}")]
    results = list(call_isolated(act, orders, workers=workers, limits=LIMITS))
    lost = {o: r.cause for o, r in zip(orders, results, strict=True) if isinstance(r, Lost)}
    assert lost == CAUSES
    answers = [result[0] for result in results if not isinstance(result, Lost)]
    assert answers == [f"after {cause}" for cause in CAUSES]


def test_healthy_processes_are_used_again() -> None:
    orders = [str(number) for number in range(20)]
    results = list(call_isolated(act, orders, workers=2))
    assert [result[0] for result in results if not isinstance(result, Lost)] == orders
    pids = {result[1] for result in results if not isinstance(result, Lost)}
    assert len(pids) <= 2
    assert os.getpid() not in pids


def test_refusal_of_the_function_is_raised() -> None:
    with pytest.raises(InputError, match="expected another order"):
        list(call_isolated(act, ["fine", "refuse", "fine"], workers=1))


def test_no_requests_give_no_results() -> None:
    assert list(call_isolated(act, [], workers=2)) == []


def limits_of_process(_: int) -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_DATA)[0], resource.getrlimit(resource.RLIMIT_CORE)[1]


def test_process_has_its_limits_and_dumps_no_core() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert list(call_isolated(limits_of_process, [1], workers=1, limits=LIMITS)) == [(10**9, 0)]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_processes_end_with_the_calls() -> None:
    results = list(call_isolated(act, ["a", "b"], workers=2))
    pids = [result[1] for result in results if not isinstance(result, Lost)]
    assert not any(map(is_running, pids))


@pytest.mark.slow
def test_mask_of_a_long_scan_needs_less_than_half_of_the_memory(submission: Submission) -> None:
    grid = Grid((512, 512, 1000), (0.98, 0.98, 1.5), (0.0, 0.0, 0.0))
    truth, prediction = masks(grid, np.random.default_rng(0))
    submission.add_truth("MDA-1", image(truth, grid))
    submission.add_mask("MDA-1", image(prediction, grid))
    submission.write()
    (job,) = jobs_by_case(read_predictions(submission.input / "predictions.json"), CURRENT).values()
    case = read_truth(submission.truth)["MDA-1"]
    assert case.mask is not None
    entry = Entry(case=case, truth=case.mask, job=job, input_dir=submission.input)
    score = partial(segmentation._score_case, edition=CURRENT, rules=QUICK)
    half = replace(DEFAULT_LIMITS, memory_bytes=DEFAULT_LIMITS.memory_bytes // 2)
    (result,) = call_isolated(score, [entry], workers=1, limits=half)
    assert not isinstance(result, Lost), result
    assert result[0].failure is None

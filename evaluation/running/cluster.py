"""Runs cases on the workers of a Dask scheduler; the one file that knows Dask.

Scheduler, workers and this process see the same checkout, cases and folder of the run, under the
same paths. Each worker runs as many cases at once as it has threads. Start them with::

    dask scheduler
    PYTHONPATH=CHECKOUT dask worker SCHEDULER --nworkers 4 --nthreads 1
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence

from distributed import Client, KilledWorker, WorkerPlugin, as_completed
from distributed.worker import Worker

from evaluation.running.engines import Engine, EngineError
from evaluation.running.runner import NotStarted, Order, Outcome, Pool, run_case
from evaluation.running.tasks import Task

CONNECT_TIMEOUT_S = 20


def on_cluster(address: str) -> Pool:
    """Return a pool of the workers of the scheduler at an address, such as `tcp://host:8786`.

    A case goes to another worker if its worker dies; one that several workers have died of counts
    as not started. When this process stops, cases that wait are dropped; those that run come to
    their end on their workers and are kept.

    Raises
    ------
    EngineError
        While running, if the scheduler does not answer or a worker's machine is not ready.
    """

    def run(orders: Sequence[Order]) -> Iterator[Outcome]:
        if not orders:
            return
        try:
            client = Client(address, timeout=CONNECT_TIMEOUT_S)
        except (OSError, TimeoutError, ValueError) as error:
            raise EngineError(
                f"expected a Dask scheduler at {address}, found none ({error}); start one with "
                "`dask scheduler`, and workers with `dask worker`"
            ) from None
        machine = _Machine(orders[0].engine, orders[0].task)
        with client, contextlib.ExitStack() as at_end:
            client.register_plugin(machine)
            at_end.callback(client.unregister_worker_plugin, machine.name)
            cases = dict(zip(client.map(run_case, orders, pure=False), orders, strict=True))
            for future in as_completed(cases):
                try:
                    yield future.result()
                except KilledWorker:
                    yield NotStarted(
                        cases[future].case.name,
                        "each worker that ran it died; see the workers' logs, they may need more "
                        "memory",
                    )

    return run


class _Machine(WorkerPlugin):
    """Makes each worker's machine ready, of workers that come later too, and clears it."""

    def __init__(self, engine: Engine, task: Task) -> None:
        # Of this run alone: a plugin replaces another one of its name.
        self.name = f"hecktor-{task.name}-{secrets.token_hex(4)}"
        self._engine = engine
        self._task = task

    def setup(self, worker: Worker) -> None:
        """Prepare the machine."""
        self._engine.prepare_machine(self._task)

    def teardown(self, worker: Worker) -> None:
        """Clear the machine, where the worker or the run ends."""
        self._engine.leave_machine()

"""Runs cases on the workers of a Dask scheduler; the only file that uses Dask.

Scheduler, workers and this process must see the same checkout, cases and results folder, under the
same paths. Each worker runs as many cases at once as it has threads. Start scheduler and workers
with::

    dask scheduler
    PYTHONPATH=CHECKOUT dask worker SCHEDULER --nworkers 4 --nthreads 1
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence

from distributed import Client, KilledWorker, WorkerPlugin, as_completed
from distributed.worker import Worker

from evaluation.running.engines.protocol import Engine, EngineError
from evaluation.running.programs import Program
from evaluation.running.runner import Ending, NotStarted, Order, Pool, run_case

CONNECT_TIMEOUT_S = 20


def cluster_pool(address: str, connect_timeout_s: float = CONNECT_TIMEOUT_S) -> Pool:
    """Return a pool of the workers of the scheduler at an address, such as `tcp://host:8786`.

    If a worker dies, its case goes to another worker; a case during which several workers died
    counts as not started. When this process stops, waiting cases are dropped. Running cases
    continue to their end on their workers, and their jobs are kept. The pool raises `EngineError`
    if the scheduler does not answer or a worker's machine is not ready.
    """

    def run(orders: Sequence[Order]) -> Iterator[Ending]:
        if not orders:
            return
        try:
            client = Client(address, timeout=connect_timeout_s)
        except (OSError, TimeoutError, ValueError) as error:
            raise EngineError(
                f"expected a Dask scheduler at {address}, found none ({error}); start one with "
                "`dask scheduler`, and workers with `dask worker`"
            ) from None
        first = orders[0]
        machine = _Machine(first.engine, first.program)
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
                        "each worker that ran it died, perhaps for lack of memory; see the logs of "
                        "the workers",
                    )

    return run


class _Machine(WorkerPlugin):
    """Prepares and later cleans the machine of each worker, including workers that join later."""

    def __init__(self, engine: Engine, program: Program) -> None:
        # Unique to this run, because a new plugin replaces one with the same name.
        self.name = f"hecktor-{program.name}-{secrets.token_hex(4)}"
        self._engine = engine
        self._program = program

    def setup(self, worker: Worker) -> None:
        """Prepare the machine."""
        self._engine.prepare_machine(self._program)

    def teardown(self, worker: Worker) -> None:
        """Clean up the machine when the worker or the run ends."""
        self._engine.leave_machine()

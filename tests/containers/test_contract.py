"""The independent contract of the platform agrees with `shared.tasks` and `shared.editions`."""

from __future__ import annotations

from shared.conventions import LESIONS
from shared.editions import CURRENT
from shared.tasks import TaskName
from tests.containers.contract import ALGORITHMS, LABELS, MEMORY_LIMIT_GB, Holds

TASKS: dict[Holds, TaskName] = {"mask": "segmentation", "number": "survival", "boolean": "hpv"}


def test_editions_agree_with_the_contract() -> None:
    from_edition = [
        (
            algorithm.name,
            algorithm.limit_s,
            [(o.task, o.path, o.risk_sign) for o in algorithm.outputs],
        )
        for algorithm in CURRENT.algorithms
    ]
    from_contract = [
        (
            contract.name,
            contract.limit_s,
            [(TASKS[f.holds], f.path, 1 if f.higher_is_earlier else -1) for f in contract.files],
        )
        for contract in ALGORITHMS
    ]
    assert from_edition == from_contract
    assert {contract.ct_slug for contract in ALGORITHMS} == {CURRENT.ct.slug}
    assert {name: int(label) for name, label in LESIONS.items()} == LABELS
    assert CURRENT.memory_limit_bytes == MEMORY_LIMIT_GB * 2**30

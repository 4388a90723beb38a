"""The independent contract of the platform agrees with `shared.tasks` and `shared.editions`."""

from __future__ import annotations

from evaluation.running.limits import current_profile
from shared.conventions import LESIONS
from shared.editions import CURRENT
from shared.tasks import TaskName
from tests.containers.contract import ALGORITHMS, EVALUATION, LABELS, Holds

TASKS: dict[Holds, TaskName] = {"mask": "segmentation", "number": "survival", "boolean": "hpv"}


def test_editions_agree_with_the_contract() -> None:
    from_edition = [
        (
            algorithm.name,
            limits_of(algorithm.name),
            [(o.task, o.path, o.risk_sign) for o in algorithm.outputs],
        )
        for algorithm in CURRENT.algorithms
    ]
    from_contract = [
        (
            contract.name,
            ("exec", contract.limit_s, contract.memory_gib),
            [(TASKS[f.holds], f.path, 1 if f.higher_is_earlier else -1) for f in contract.files],
        )
        for contract in ALGORITHMS
    ]
    assert from_edition == from_contract
    assert {contract.ct_slug for contract in ALGORITHMS} == {CURRENT.ct.slug}
    assert {name: int(label) for name, label in LESIONS.items()} == LABELS


def limits_of(container: str) -> tuple[str, int, float]:
    limits = current_profile().of(container)
    return limits.mode, limits.time_s, limits.memory_gib


def test_evaluation_is_checked_against_a_shorter_time_than_the_platforms() -> None:
    _, time_s, memory_gib = limits_of(EVALUATION.name)
    assert EVALUATION.limit_s < time_s
    assert EVALUATION.memory_gib == memory_gib

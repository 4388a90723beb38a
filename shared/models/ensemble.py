"""The graphs of a model folder, checked against its card.

A single one stays loaded between calls; several are loaded one after another, because their
memory adds up (15 checkpoints at once ran out of it, a HECKTOR 2025 team reports).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Self

from shared.errors import ModelError
from shared.models.card import Card, Member, load_card
from shared.models.onnx import Network


class Ensemble:
    """A model folder whose card, files and graphs agree; the base of the three tasks' models.

    Attributes
    ----------
    card : the folder's card.
    """

    task: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        """Open a model folder and load its first graph; `load` does the same."""
        self.card: Card = load_card(folder, self.task)
        self._folder = folder
        self._loaded = (self.card.members[0], self._load(self.card.members[0]))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a model folder.

        Raises
        ------
        ModelError
            If the folder does not hold a model for this task, a graph's inputs are not those of
            the card, or the card asks for what this code does not do.
        """
        return cls(folder)

    def networks(self) -> Iterator[tuple[Member, Network]]:
        """Yield every member with its graph, loaded; at most one is in memory."""
        for member in self.card.members:
            if self._loaded[0] is not member:
                del self._loaded
                self._loaded = (member, self._load(member))
            yield self._loaded

    def describe(self) -> list[str]:
        """Return what the log should say of the model: the notice first, then how it runs."""
        card, network = self.card, self._loaded[1]
        kinds = Counter(member.kind for member in card.members)
        names = {"network": "network", "linear": "linear model"}
        counts = [f"{n} {names[kind]}{'s' if n > 1 else ''}" for kind, n in kinds.items()]
        return [
            card.notice,
            f"{card.task} model: {card.configuration} configuration, {' and '.join(counts)}, "
            f"{network.provider} provider",
            *network.remarks,
        ]

    def _load(self, member: Member) -> Network:
        network = Network(self._folder / member.file)
        expected: dict[str, tuple[int, ...]] = {}
        if member.kind == "network":
            expected["image"] = (1, len(self.card.channels), *self.card.window_zyx)
        if self.card.clinical:
            expected["clinical"] = (1, len(self.card.clinical))
        if member.kind == "linear":
            expected["measures"] = (1, len(self.card.measures))
        if network.inputs != expected:
            raise ModelError(
                f"expected {self._folder / member.file} to take {expected} as its card says, "
                f"found {network.inputs}; export the model again"
            )
        return network

"""Runs the ONNX graphs of a model folder, after checking each against the folder's card.

If a folder has only one graph, the graph stays loaded between calls. If it has several, only one is
in memory at a time. (A HECKTOR 2025 team reports that 15 checkpoints together did not fit.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, Self, TypeVar

from shared.errors import ModelError
from shared.models.card import CardT, Member, load_card
from shared.models.onnx import Network

T = TypeVar("T")


class Ensemble(Generic[CardT]):
    """The members of a model folder; the base class of each task's model.

    A graph is checked against the card when it is loaded: the first one when the folder is opened,
    the others when they are used.

    If a member fails to load, the object remains usable, and the next call tries again.

    Attributes
    ----------
    card : the card of the model folder.
    """

    card_type: type[CardT]

    def __init__(self, folder: Path) -> None:
        """Open a model folder and load its first graph; see `load` for the errors."""
        self.card = load_card(folder, self.card_type)
        self._folder = folder
        self._loaded: tuple[Member, Network] | None = None
        network = self._network(self.card.members[0])
        self._provider, self._remarks = network.provider, network.remarks

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load a model folder.

        Raises
        ------
        ModelError
            If the folder does not hold a model for this task, the inputs of the first graph differ
            from those of the card, or this version does not support the card.
        """
        return cls(folder)

    def for_each(self, predict: Callable[[Network], T]) -> Iterator[tuple[Member, T]]:
        """Yield each member and the result of `predict` on it, with one graph in memory at a time.

        Raises
        ------
        ModelError
            If a graph does not load, or its inputs differ from those of the card.
        """
        for member in self.card.members:
            yield member, predict(self._network(member))

    def describe(self) -> list[str]:
        """Return lines for the log about the model: the notice, then a description."""
        card = self.card
        kinds = Counter(member.kind for member in card.members)
        names = {"network": "network", "linear": "linear model"}
        counts = [f"{n} {names[kind]}{'s' if n > 1 else ''}" for kind, n in kinds.items()]
        return [
            card.notice,
            f"{card.task} model: {card.configuration} configuration, {' and '.join(counts)}, "
            f"{self._provider} provider",
            *self._remarks,
        ]

    def _network(self, member: Member) -> Network:
        if self._loaded is None or self._loaded[0] is not member:
            self._loaded = None  # This frees the memory before the next graph is loaded.
            self._loaded = (member, self._load(member))
        return self._loaded[1]

    def _load(self, member: Member) -> Network:
        network = Network(
            self._folder / member.file,
            sha256=member.sha256,
            precision=self.card.compute_precision,
        )
        expected = self.card.input_shapes(member.kind)
        if network.inputs != expected:
            raise ModelError(
                f"expected {self._folder / member.file} to take {expected} as its card says, "
                f"found {network.inputs}; export the model again"
            )
        return network

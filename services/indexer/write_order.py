"""The order of one stream's images that share an id: the later one wins."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class WriteTurn:
    """An image's place among those of its id that are under way."""

    id: str
    number: int
    follows: bool  # another image of this id was under way when this one came


@dataclass
class _State:
    under_way: int = 0
    written: int = -1


class WriteOrder:
    """Knows, per id under way, the latest turn written. Images overtake each other between stages,
    rows of one id must not. Owned by one stream."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self._next = 0

    def enter(self, identity: str) -> WriteTurn:
        state = self._states.setdefault(identity, _State())
        turn = WriteTurn(identity, self._next, follows=state.under_way > 0)
        self._next += 1
        state.under_way += 1
        return turn

    def leave(self, turn: WriteTurn) -> None:
        state = self._states[turn.id]
        state.under_way -= 1
        if state.under_way == 0:
            del self._states[turn.id]

    def wrote(self, turn: WriteTurn) -> None:
        state = self._states[turn.id]
        state.written = max(state.written, turn.number)

    def is_superseded(self, turn: WriteTurn) -> bool:
        """Whether a later image of the same id has been written already."""
        return self._states[turn.id].written > turn.number

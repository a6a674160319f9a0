"""Requests that say what one before them said, but for their tensors: they are not parsed again.

A client that asks for one frame after the other sends the same names, shapes and parameters each time. Whatever of a
message is not raw contents is its outline; two messages of one length whose outlines agree, byte for byte, mean the
same but for the contents, which lie at the same places: a reader only ever looks at the outline to find them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Place = tuple[int, int]
"""Begin and end in a message [byte]."""
Meaning = TypeVar("Meaning")
_MOST = 64
_MOST_BYTES = 4096  # of an outline that is worth being remembered


@dataclass(frozen=True, slots=True)
class Outline(Generic[Meaning]):
    """A message that was parsed.

    Args:
        contents: Where its raw contents lie, in order.
        meaning: What the rest of it says.
        pieces: The rest of it, each with where it begins and ends.
    """

    contents: tuple[Place, ...]
    meaning: Meaning
    pieces: tuple[tuple[int, int, bytes], ...]


class Outlines(Generic[Meaning]):
    """The outlines of the messages read last; one of each length."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, Outline[Meaning]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes) -> Outline[Meaning] | None:
        """Return the outline of a message; None where it has to be parsed."""
        known = self._known.get(len(data))
        if known is not None:
            for begin, end, piece in known.pieces:
                if data[begin:end] != piece:
                    return None
        return known

    def keep(self, data: bytes, contents: Sequence[Place], meaning: Meaning) -> None:
        """Remember a message; one whose outline is long is not worth it."""
        begins = (0, *(end for _, end in contents))
        ends = (*(begin for begin, _ in contents), len(data))
        if sum(ends) - sum(begins) > _MOST_BYTES:
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        pieces = tuple((begin, end, data[begin:end]) for begin, end in zip(begins, ends, strict=True))
        self._known[len(data)] = Outline(tuple(contents), meaning, pieces)

"""Rows of a long list, kept as tuples: as dicts, thousands take three times as much memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload


class ToldRows(Sequence[dict[str, Any]]):
    """A list of dicts, each made when it is looked at; a change of one is lost."""

    def __init__(self, rows: list[tuple[Any, ...]], tell: Callable[..., dict[str, Any]]) -> None:
        """Keep rows, and what makes a dict of one's values."""
        self._rows, self._tell = rows, tell

    def convert(self, plain: Callable[[Any], Any]) -> None:
        """Put another value in the place of each."""
        for number, row in enumerate(self._rows):
            self._rows[number] = tuple(plain(value) for value in row)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """One after the other, none of them kept."""
        return (self._tell(*row) for row in self._rows)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, place: slice) -> ToldRows: ...

    def __getitem__(self, place: int | slice) -> dict[str, Any] | ToldRows:
        """One of them, or some as they are kept."""
        if isinstance(place, slice):
            return ToldRows(self._rows[place], self._tell)
        return self._tell(*self._rows[place])

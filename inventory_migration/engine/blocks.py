"""Blocks of sealed rows, of which no more than one is held at a time: millions of rows have seals.

Of a block it is known where it lies and what its hash is. What was kept of each of its rows is read
where two blocks differ, or are written down: out of the ledger, or out of a file beside. What
is hashed, and when, is in `evidence.py`.
"""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import overload

ROW_BYTES = 8
"""How much of a row's hash is kept to tell it from another; a block's own is whole."""

IN_MEMORY = 1_000_000
"""How many bytes of rows are kept in memory until they go to a file."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What is known of a block's rows.

    Attributes:
        hashes: The first bytes of each row's hash, one behind the other.
        positions: Of each row, where they do not simply follow each other.
    """

    hashes: bytes = b""
    positions: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """The seal of rows by their positions.

    Attributes:
        first: Where it begins.
        last: Where it ends.
        sha256: The hash of all its rows.
        records: Of how many rows something is kept; 0 where only the block was sealed.
        read: Reads what is kept of them.
    """

    first: int
    last: int
    sha256: str
    records: int = 0
    read: Callable[[], Rows] = Rows

    def each(self) -> dict[int, bytes]:
        """What is known of each row, by position."""
        rows = self.read()
        hashes = (rows.hashes[at : at + ROW_BYTES] for at in range(0, len(rows.hashes), ROW_BYTES))
        found: dict[int, bytes] = {}
        places = rows.positions or range(self.first, self.last + 1)
        for position, row in zip(places, hashes, strict=False):
            # Two rows of one position are another thing than one.
            found[position] = found.get(position, b"") + row
        return found


class Kept(Sequence[Block]):
    """Blocks of the ledger in columns, each made when it is looked at."""

    def __init__(self, read: Callable[[int, str], Rows]) -> None:
        """Begin with none; what is kept of rows is read by where a block begins, and its hash."""
        self._firsts, self._lasts, self._records = array("q"), array("q"), array("q")
        self._hashes: list[str] = []
        self._read = read

    def add(self, first: int, last: int, sha256: str, records: int) -> None:
        """Add one, as `Block` has it."""
        self._firsts.append(first)
        self._lasts.append(last)
        self._records.append(records)
        self._hashes.append(sha256)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._hashes)

    @overload
    def __getitem__(self, place: int) -> Block: ...

    @overload
    def __getitem__(self, place: slice) -> list[Block]: ...

    def __getitem__(self, place: int | slice) -> Block | list[Block]:
        """One of them, or some."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        first, sha256 = self._firsts[place], self._hashes[place]
        read = partial(self._read, first, sha256)
        return Block(first, self._lasts[place], sha256, self._records[place], read)


class Beside:
    """A file without a name for what is read of rows; gone once no block of it is needed."""

    def __init__(self) -> None:
        """Begin with nothing, in memory."""
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115
        self._size = 0
        weakref.finalize(self, self._file.close)

    def put(self, rows: Rows) -> Callable[[], Rows]:
        """Write rows down; returns what reads them back.

        Raises:
            OSError: There is no room.
        """
        at, positions = self._size, array("q", rows.positions).tobytes()
        self._file.seek(at)
        self._file.write(rows.hashes)
        self._file.write(positions)
        self._size += len(rows.hashes) + len(positions)
        return partial(self._get, at, len(rows.hashes), len(positions))

    def _get(self, at: int, hashes: int, positions: int) -> Rows:
        self._file.seek(at)
        found = self._file.read(hashes)
        return Rows(found, array("q", self._file.read(positions)))


def differing(before: Sequence[Block], now: Sequence[Block]) -> Iterator[tuple[int, int]]:
    """The positions that two looks at the same blocks differ at, as ranges.

    A range is a single row, but where only blocks were sealed.
    """
    current = {block.first: block for block in now}
    for block in before:
        other = current.pop(block.first, None)
        if other is None or (other.sha256, other.last) != (block.sha256, block.last):
            rows = _differing_rows(block, other)
            yield from ((row, row) for row in rows)
            if not rows:
                yield block.first, block.last
    # Rows before the first block, where a snapshot has none.
    others = chain.from_iterable(block.each() for block in current.values())
    yield from ((row, row) for row in others)


def some_of(ranges: Iterable[tuple[int, int]], most: int) -> tuple[int, list[tuple[int, int]]]:
    """How many ranges there are, and the first of them."""
    count, found = 0, []
    for count, each in enumerate(ranges, start=1):
        if count <= most:
            found.append(each)
    return count, found


def _differing_rows(before: Block, now: Block | None) -> list[int]:
    """The positions that differ, as far as the rows of both are known."""
    then = before.each()
    here = now.each() if now is not None else {}
    if not then or (now is not None and not here):
        return []
    return sorted(p for p in then.keys() | here.keys() if then.get(p) != here.get(p))

"""What a report states as JSON text, a piece at a time.

A whole text of thousands of chunks, and what it is put together from, take more memory than the
facts themselves.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from inventory_migration.engine.told_rows import ToldRows


class _Rows(list[Any]):
    """A list to an encoder, which keeps none of the rows that it goes through."""

    def __init__(self, rows: Any) -> None:
        """Refuse what is no JSON value and no rows either."""
        if not isinstance(rows, ToldRows):
            raise TypeError(f"{type(rows).__name__} is no JSON value")
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


_CANONICAL = json.JSONEncoder(
    sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_Rows
)
_INDENTED = json.JSONEncoder(indent=2, ensure_ascii=False, default=_Rows)
_AS_IT_IS = json.JSONEncoder(ensure_ascii=False, default=_Rows)

_AT_ONCE = 1_000
"""How many values and signs make a piece."""


def indented(content: Any) -> Iterator[str]:
    """JSON values as people read them."""
    return _pieces(_INDENTED, content)


def sha256(content: Any) -> str:
    """The hash of JSON values, in one spelling: keys in order, nothing between them."""
    found = hashlib.sha256()
    for piece in _pieces(_CANONICAL, content):
        found.update(piece.encode())
    return found.hexdigest()


def packed(content: Any) -> bytes:
    """JSON values as `unpacked` reads them: in their own order, which forms for reading go by."""
    return b"".join(_compressed(piece.encode() for piece in _pieces(_AS_IT_IS, content)))


def unpacked(content: bytes) -> Any:
    """What was packed."""
    return json.loads(zlib.decompress(content))


def _compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj()
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _pieces(encoder: json.JSONEncoder, content: Any) -> Iterator[str]:
    # Goes through lists as anyone does; `encode` has a way of its own into them.
    found = encoder.iterencode(content)
    return iter(lambda: "".join(islice(found, _AT_ONCE)), "")

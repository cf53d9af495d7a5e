"""What processes write down outside of the database: acknowledgements, and what they have met."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

_open: dict[Path, int] = {}
"""Files that this process appends to; each process has files of its own."""


@dataclass(frozen=True)
class Notes:
    """A folder that survives every process: what was acknowledged, and what was met.

    Each process appends to a file of its own, line by line.
    """

    folder: Path

    def write(self, kind: str, *words: object) -> None:
        """Append a line, in one write, so that a kill leaves all of it or nothing."""
        line = " ".join(str(word).replace("\n", " ") for word in words) + "\n"
        path = self.folder / f"{kind}.{os.getpid()}"
        if path not in _open:
            _open[path] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(_open[path], line.encode())

    def say(self, word: str) -> None:
        """Tell all processes something, until it is taken back."""
        (self.folder / f"said-{word}").touch()

    def unsay(self, word: str) -> None:
        """Take back what was said."""
        (self.folder / f"said-{word}").unlink(missing_ok=True)

    def said(self, word: str) -> bool:
        """Whether something has been said and not taken back."""
        return (self.folder / f"said-{word}").exists()

    def read(self, kind: str) -> list[list[str]]:
        """All lines of a kind, whoever wrote them."""
        return [
            line.split()
            for path in sorted(self.folder.glob(f"{kind}.*"))
            for line in path.read_text().splitlines()
        ]

    def chunks_done(self) -> set[tuple[int, int]]:
        """Migration and number of each chunk whose commit was acknowledged."""
        return {(int(migration), int(chunk)) for migration, chunk in self.read("chunk")}

    def ended(self) -> list[tuple[int, str]]:
        """Each migration whose end was told, with the state that was told."""
        return [(int(migration), state) for migration, state in self.read("ended")]

    def met(self) -> Counter[str]:
        """What operators were told, by condition."""
        return Counter(words[0] for words in self.read("met"))

    def unforeseen(self) -> list[str]:
        """What no operator could have mended by giving the command again."""
        return [" ".join(words) for words in self.read("unforeseen")]

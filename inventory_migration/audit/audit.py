"""An audit: everything that was found at one moment, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from inventory_migration.audit import findings
from inventory_migration.audit.dependencies import Dependencies
from inventory_migration.audit.findings import Finding
from inventory_migration.audit.profile import Profile
from inventory_migration.quality.suites import SEVERITIES

FORMAT: Final = 1
"""The version of the JSON document; one that programs must be changed for has another."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        mapping: The mapping's name.
        mapping_hash: What the mapping says of what moves, as a hash.
        database: Host and database.
        role: Who looked.
        server: The server's version.
        program: This program's version.
        as_of: The moment that was looked at.
        elapsed_seconds: How long it took.
        passed: Whether the first gate would let a migration begin.
        expectations: How many expectations were judged.
        findings: What is not as it should be, the gravest first.
        profile: How much there is, and in what state.
        dependencies: What hangs on it.
    """

    mapping: str
    mapping_hash: str
    database: str
    role: str
    server: str
    program: str
    as_of: str
    elapsed_seconds: float
    passed: bool
    expectations: int
    findings: tuple[Finding, ...]
    profile: Profile
    dependencies: Dependencies

    @property
    def counts(self) -> dict[str, int]:
        """How many findings there are of each severity."""
        return {level: sum(f.severity == level for f in self.findings) for level in SEVERITIES}

    @property
    def conclusion(self) -> str:
        """What it all comes to, in a sentence."""
        if not self.findings:
            return (
                "Nothing was found that is not as it should be, and a migration may begin."
                if self.passed
                else "A migration may not begin."
            )
        counted = ", ".join(
            f"{n} {level}{'s' if level == 'warning' and n > 1 else ''}"
            for level, n in self.counts.items()
            if n
        )
        number = len(self.findings)
        then = (
            "a migration may begin all the same"
            if self.passed
            else "no migration may begin before the critical ones are mended"
        )
        return f"{number} {'finding' if number == 1 else 'findings'} ({counted}); {then}."

    def is_worse(self, severity: str) -> bool:
        """Whether there is a finding of a severity or worse."""
        return bool(findings.at_least(self.findings, severity))

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "document": "audit",
            "format": FORMAT,
            "mapping": self.mapping,
            "mapping_hash": self.mapping_hash,
            "database": self.database,
            "role": self.role,
            "server": self.server,
            "program": self.program,
            "as_of": self.as_of,
            "elapsed_seconds": self.elapsed_seconds,
            "conclusion": self.conclusion,
            "gate": {"passed": self.passed, "expectations": self.expectations},
            **findings.to_json(self.findings),
            "profile": self.profile.to_json(),
            **self.dependencies.to_json(),
        }

    def about(self) -> dict[str, str]:
        """Return where, when and by what it was made, by names for reading."""
        return {
            "database": self.database,
            "looked at by": self.role,
            "as of": self.as_of.replace("T", " "),
            "server": f"PostgreSQL {self.server}",
            "mapping": f"{self.mapping}, SHA-256 {self.mapping_hash}",
            "program": f"inventory-migration {self.program}",
            "took": f"{self.elapsed_seconds:.1f} s",
        }

"""Processes that go on with a migration, or take it back, and outlive the dashboard.

Each is the command line's own command. What it logs lies in the state folder; what it said when it
could not go on is read from there. Whether it may be started is decided in `actions.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
import yaml
from psycopg.conninfo import make_conninfo
from pydantic import ValidationError

from inventory_migration import logs, project
from inventory_migration.dashboard import tokens
from inventory_migration.engine import ledger
from inventory_migration.errors import MappingInvalid, MigrationError
from inventory_migration.mapping import StockMapping, load_mapping

if TYPE_CHECKING:
    from inventory_migration.engine.ledger import Migration
    from inventory_migration.verbs import Target

_PACKAGES = Path(__file__).resolve().parent.parent.parent
_KEPT = 200
"""How many logs are kept."""


@dataclass(frozen=True)
class Options:
    """What a process that goes on is given.

    Attributes:
        workers: How many move chunks at the same time; None leaves it to the command.
        as_superuser: Whether the application's triggers may run with a superuser's rights.
    """

    workers: int | None = None
    as_superuser: bool = False

    @property
    def words(self) -> list[str]:
        """They as the command line takes them."""
        workers = [] if self.workers is None else ["--workers", str(self.workers)]
        return [*workers, *self.as_superuser * ["--as-superuser"]]


@dataclass(frozen=True)
class Started:
    """A process that was started.

    Attributes:
        action: What it does: resume or roll_back.
        migration_id: With which migration.
        by: Who asked for it.
        at: When.
        answer: The file of its answer, an object in JSON.
        log: The file of what it logs.
    """

    action: str
    migration_id: int
    by: str
    at: datetime
    answer: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    @property
    def is_running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with; None while it runs."""
        return self.process.poll()

    @property
    def sentence(self) -> str | None:
        """Why it did not do what was asked; None while it runs, and where it did."""
        if not self.exit_code:
            return None
        try:
            told = str(json.loads(self.answer.read_text(encoding="utf-8"))["error"]["message"])
        except (OSError, ValueError, LookupError, TypeError):
            told = f"it ended with code {self.exit_code} and said nothing; its log is {self.log}"
        return logs.hide_passwords(told, secrets=self.secrets)


def start(target: Target, words: list[str], *, action: str, migration_id: int, by: str) -> Started:
    """Start a command in a session of its own, so that it goes on when the dashboard ends.

    The database is told in its environment, which only this account can read, not in its arguments.

    Args:
        target: The database.
        words: The command and its options.
        action: What it does, as a viewer calls it.
        migration_id: With which migration.
        by: For whom; the trail names them in whatever the process does.
    """
    folder = _folder()
    at = datetime.now(UTC)
    stem = f"{at:%Y%m%d-%H%M%S-%f}-{action}-{migration_id}"
    answer, log = folder / f"{stem}.json", folder / f"{stem}.log"
    conninfo = make_conninfo(**target.parameters)
    environment = {
        **os.environ,
        "INVENTORY_DATABASE_URL": conninfo,
        "INVENTORY_ON_BEHALF_OF": by,
        "INVENTORY_HOME": str(project.state_folder()),
        # The code that runs here, whatever else lies in the working folder.
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(_PACKAGES), os.environ.get("PYTHONPATH", "")))
        ),
    }
    environment.pop(tokens.VARIABLE, None)
    with answer.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(  # noqa: S603 - our own program, its words as a list
            [sys.executable, "-P", "-c", _PROGRAM, *words, "--json", "--log-format", "text"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
    return Started(action, migration_id, by, at, answer, log, process, logs.known_secrets(conninfo))


_PROGRAM = "from inventory_migration.cli import main; main()"


def mapping_file(target: Target, found: Migration, given: Path | None) -> Path:
    """A file that holds a migration's mapping in the very version that it was planned with.

    It is the file that was given, or the one that is known by the mapping's name; where neither is
    that version, it is written from what the ledger keeps of it.

    Raises:
        MappingInvalid: What the ledger keeps is not understood by this version of the tool.
    """
    known = project.listing("mappings", ".yaml").get(found.mapping)
    for path in (given, known):
        if path is not None and _hash(path) == found.mapping_hash:
            return path.absolute()
    with target.reader.connect() as connection:
        definition = connection.execute(
            sa.select(ledger.migration.c.definition).where(
                ledger.migration.c.migration_id == found.migration_id
            )
        ).scalar_one()
    folder = _folder() / "mappings"
    folder.mkdir(exist_ok=True)
    path = folder / f"{found.mapping}-{found.mapping_hash[:12]}.yaml"
    try:
        same = StockMapping.model_validate(definition).hash == found.mapping_hash
    except ValidationError:
        same = False
    if not same:
        problem = (
            f"the mapping {found.mapping} that migration {found.migration_id} was planned with was "
            "kept by another version of inventory-migration; start the dashboard with its file: "
            "--mapping PATH"
        )
        raise MappingInvalid(origin=found.mapping, problems=[problem])
    # At once, so that nobody reads half of it.
    written = path.with_suffix(f".{os.getpid()}.tmp")
    written.write_text(yaml.safe_dump(definition, sort_keys=False, allow_unicode=True), "utf-8")
    written.replace(path)
    return path


def _hash(path: Path) -> str | None:
    try:
        return load_mapping(path).hash
    except MigrationError:
        return None


def _folder() -> Path:
    """Where logs lie, for this account alone; the oldest go."""
    folder = project.state_folder() / "dashboard" / "processes"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    files = sorted(path for path in folder.iterdir() if path.suffix in {".json", ".log"})
    for path in files[: -2 * _KEPT]:
        path.unlink(missing_ok=True)
    return folder

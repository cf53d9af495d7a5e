"""Where things lie: folders, mappings and suites, environment files, and what serves pages.

Only paths and environment variables belong here. Nothing in this module knows what a mapping means
or opens a connection.
"""

from __future__ import annotations

import logging
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit, urlunsplit

from inventory_migration.errors import EnvFileInvalid, ProjectFileMissing, ProjectFolderMissing

Kind = Literal["expectations", "mappings"]

logger = logging.getLogger(__name__)

NOTIFIED_EVERYWHERE = ("INVENTORY_NOTIFY_URL", "INVENTORY_NOTIFY_SLACK_URL")
"""The variables of the channels that need no mapping to name them."""

_PACKAGE = Path(__file__).resolve().parent

_DAGSTER_DEFAULTS = """\
# Written by inventory-migration when it made this folder; yours to change.
telemetry:
  enabled: false
nux:
  enabled: false
"""


def project_folder() -> Path:
    """Return the checkout that holds this package, or the working folder if there is none."""
    checkout = _PACKAGE.parent
    return checkout if (checkout / "workspace.yaml").is_file() else Path.cwd()


def state_folder() -> Path:
    """Return the folder for everything that the tool keeps on disk, and make it.

    It is `$INVENTORY_HOME`, or `.inventory` in the project. It ignores itself in git, since a
    wheel's user works in a repository whose .gitignore does not know it.
    """
    chosen = os.environ.get("INVENTORY_HOME")
    folder = Path(chosen).expanduser().absolute() if chosen else project_folder() / ".inventory"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise ProjectFolderMissing("INVENTORY_HOME", str(folder), _words(error)) from error
    return folder


def report_file(mapping: str, migration_id: int, ending: str = "html") -> Path:
    """Return where the report of a migration is written, whether it has been or not."""
    return state_folder() / "reports" / f"{mapping}-{migration_id}.{ending}"


def dagster_home() -> Path:
    """Return Dagster's instance folder, `$DAGSTER_HOME` or one in the state folder, and make it.

    The folder in the state folder gets a small dagster.yaml: without one Dagster warns on every
    command.
    """
    chosen = os.environ.get("DAGSTER_HOME")
    if chosen:
        folder = Path(chosen).expanduser().absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProjectFolderMissing("DAGSTER_HOME", str(folder), _words(error)) from error
        return folder
    folder = state_folder() / "dagster"
    folder.mkdir(exist_ok=True)
    configuration = folder / "dagster.yaml"
    if not configuration.exists():
        configuration.write_text(_DAGSTER_DEFAULTS)
    return folder


def dashboard_url(migration_id: int | None = None) -> str | None:
    """The page of a migration, or of all, on the dashboard at `$INVENTORY_DASHBOARD_URL`."""
    path = "" if migration_id is None else f"migrations/{migration_id}"
    return _page("INVENTORY_DASHBOARD_URL", path)


def dagster_run_url(run_id: str) -> str | None:
    """The page of a run in the Dagster UI at `$INVENTORY_DAGSTER_URL`."""
    return _page("INVENTORY_DAGSTER_URL", f"runs/{quote(run_id, safe='')}")


def report_url(name: str) -> str | None:
    """The page of a report, by its file's name, where `$INVENTORY_REPORT_URL` serves them."""
    return _page("INVENTORY_REPORT_URL", quote(name, safe=""))


def listing(kind: Kind, suffix: str) -> dict[str, Path]:
    """Return every file of a kind by its stem; an earlier place hides the names of a later one."""
    found: dict[str, Path] = {}
    for folder in _places(kind):
        for path in sorted(folder.glob(f"*{suffix}")):
            found.setdefault(path.name.removesuffix(suffix), path)
    return dict(sorted(found.items()))


def find(kind: Kind, filename: str) -> Path:
    """Return the file of that name: from the environment's, the project's, or the package's folder.

    Raises:
        ProjectFileMissing: No place has it.
    """
    for folder in _places(kind):
        path = folder / filename
        if path.is_file():
            return path
    known = listing(kind, Path(filename).suffix)
    raise ProjectFileMissing(kind, filename, known=[path.name for path in known.values()])


def load_env_file(path: Path | str) -> dict[str, str]:
    """Read KEY=VALUE lines into the environment; what the environment already has wins.

    Blank lines, comments, a leading `export` and quotes are understood, as other tools write such
    files. There is no
    interpolation: a `$` in a password stays a `$`.

    Returns:
        The variables that were set.

    Raises:
        EnvFileInvalid: The file can not be read, or a line is no assignment.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = _words(error) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise EnvFileInvalid(str(path), None, f"can not be read: {reason}") from error
    found: dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        assignment = re.fullmatch(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)", line)
        if assignment is None:
            raise EnvFileInvalid(str(path), number, "expected KEY=VALUE")
        name, value = assignment.groups()
        found[name] = _unquoted(value, path, number)
    added = {name: value for name, value in found.items() if name not in os.environ}
    os.environ.update(added)
    return added


def _page(variable: str, path: str) -> str | None:
    """A page below the address that a variable has; None where it has none that can be linked."""
    base = _address(variable, os.environ.get(variable, "").strip())
    return base and f"{base}/{path}"


@lru_cache(maxsize=16)
def _address(variable: str, given: str) -> str | None:
    """An address without what must not be shown: names, passwords, tokens; told once where bad."""
    if not given:
        return None
    try:
        parts = urlsplit(given)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        # Nothing fails for the want of a link. What was given may hold a secret.
        logger.warning(
            "%s is no address such as http://127.0.0.1:8642, so that nothing links there", variable
        )
        return None
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))


def _unquoted(value: str, path: Path, number: int) -> str:
    if value[:1] in {"'", '"'}:
        quoted = re.fullmatch(r"""(['"])(.*)\1\s*(?:#.*)?""", value)
        if quoted is None:
            raise EnvFileInvalid(str(path), number, "the quote is never closed")
        return quoted.group(2)
    # Only a "#" after white space starts a comment: passwords contain it.
    return re.split(r"\s#", value, maxsplit=1)[0].rstrip()


def _places(kind: Kind) -> list[Path]:
    variable = f"INVENTORY_{kind.upper()}"
    places = [project_folder() / kind, _PACKAGE / kind]
    chosen = os.environ.get(variable)
    if chosen:
        folder = Path(chosen).expanduser().absolute()
        # A misspelt folder must not silently become "use what ships".
        if not folder.is_dir():
            raise ProjectFolderMissing(variable, str(folder))
        places.insert(0, folder)
    return places


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()

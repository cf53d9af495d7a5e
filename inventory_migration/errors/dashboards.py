"""What keeps the dashboard, or figures, from being served."""

from __future__ import annotations

from inventory_migration.errors.base import MigrationError


class AddressNotServed(MigrationError):
    """An address of pages or figures is taken, or is none of this machine's."""

    exit_code = 2

    def __init__(self, *, host: str, port: int, why: str, command: str = "dashboard") -> None:
        """Name the address and what the system says of it."""
        what = {"dashboard": "the dashboard", "metrics": "metrics"}[command]
        self.host, self.port, self.why = host, port, why
        super().__init__(
            f"{what} can not be served at {host}, port {port}: {why.lower()}; choose "
            f"another with 'inventory-migration {command} --port N', and --host"
        )


class TokenMissing(MigrationError):
    """The dashboard would be reached from other machines, and asks nobody who they are."""

    exit_code = 2

    def __init__(self, *, host: str) -> None:
        """Name the address."""
        self.host = host
        super().__init__(
            f"whoever reaches {host} could steer migrations: say who may, with --token-file PATH "
            "or in INVENTORY_DASHBOARD_TOKEN, or serve the dashboard at 127.0.0.1 alone"
        )


class TokensInvalid(MigrationError):
    """The dashboard's tokens can not be read, or are none that could be relied on."""

    exit_code = 2

    def __init__(self, *, problems: list[str]) -> None:
        """List what is wrong, by line and without the lines: they may hold a token."""
        self.problems = problems
        super().__init__("; ".join(problems))


class CertificateInvalid(MigrationError):
    """The dashboard's certificate and key can not be used."""

    exit_code = 2

    def __init__(self, *, why: str) -> None:
        """Keep why."""
        self.why = why
        super().__init__(
            f"the dashboard can not be served by TLS: {why}; --tls-cert and --tls-key name files "
            "in PEM form that belong together"
        )


class ActionRefused(MigrationError):
    """What a viewer of the dashboard asked for is not for them, or not for this moment."""

    def __init__(self, why: str) -> None:
        """Keep why."""
        self.why = why
        super().__init__(why)

"""What is wrong with a command, its files and folders, or with the demo."""

from __future__ import annotations

from collections.abc import Sequence

from inventory_migration.errors.base import MigrationError, nearest


class ProjectFileMissing(MigrationError):
    """A mapping or suite that was asked for is in none of the places for such files."""

    exit_code = 2

    def __init__(self, kind: str, filename: str, *, known: Sequence[str] = ()) -> None:
        """Keep what was asked for and what there is instead."""
        self.kind = kind
        self.filename = filename
        self.known = tuple(known)
        there = f"there is {', '.join(self.known)}" if self.known else "there is none at all"
        super().__init__(
            f"No file {filename} among the {kind} ({there}); correct the name, or point "
            f"INVENTORY_{kind.upper()} to the folder that holds it."
        )


class ProjectFolderMissing(MigrationError):
    """An environment variable names a folder that does not exist or can not be used."""

    exit_code = 2

    def __init__(self, variable: str, folder: str, reason: str = "it does not exist") -> None:
        """Keep the variable, the folder and what is wrong with it."""
        self.variable = variable
        self.folder = folder
        self.reason = reason
        super().__init__(
            f"The folder {folder} can not be used: {reason}; set {variable} to another folder."
        )


class EnvFileInvalid(MigrationError):
    """A file of environment variables can not be read, or one of its lines is no assignment."""

    exit_code = 2

    def __init__(self, path: str, line: int | None, reason: str) -> None:
        """Keep the place; the line's text stays out, it may hold a password."""
        self.path = path
        self.line = line
        self.reason = reason
        place = path if line is None else f"{path}, line {line}"
        super().__init__(f"{place}: {reason}.")


class DemoArgumentInvalid(MigrationError):
    """An argument of the demo is out of its range."""

    exit_code = 2

    def __init__(self, *, argument: str, value: object, expected: str) -> None:
        """Name the argument, what was given, and what may be."""
        self.argument, self.value, self.expected = argument, value, expected
        super().__init__(f"--{argument} {value}: expected {expected}")


class DemoConflict(MigrationError):
    """The demo's names belong to something else in this database."""

    exit_code = 2

    def __init__(self, *, tables: list[str]) -> None:
        """List the tables; none of them is ever dropped."""
        self.tables = tables
        super().__init__(
            f"this database has {', '.join(tables)} in schema public, not made by the demo; "
            "nothing was changed; name an empty database in INVENTORY_DATABASE_URL, then run "
            "'inventory-migration demo' again"
        )


class DemoExists(MigrationError):
    """The database holds a demo already."""

    exit_code = 2

    def __init__(self, *, tables: list[str]) -> None:
        """List the demo's tables that were found."""
        self.tables = tables
        super().__init__(
            f"this database holds a demo already ({', '.join(tables)}); nothing was changed; "
            "'inventory-migration demo --replace' drops it and makes a new one"
        )


class DemoInUse(MigrationError):
    """Something that is not the demo's depends on its tables, so they can not be dropped."""

    exit_code = 2

    def __init__(self, *, dependents: list[str]) -> None:
        """List what depends, in the server's words."""
        self.dependents = dependents
        super().__init__(
            f"the demo can not be replaced: {'; '.join(dependents)}; nothing was changed; drop "
            "these first, then 'inventory-migration demo --replace'"
        )


class ExampleUnknown(MigrationError):
    """There is no example of this name."""

    exit_code = 2

    def __init__(self, *, name: str, known: list[str]) -> None:
        """Name what was asked for, and those that there are."""
        self.name, self.known = name, known
        super().__init__(
            f"no example {name}{nearest(name, known)}; there is {', '.join(known)}, and "
            "'inventory-migration examples' tells of each"
        )


class ExampleConflict(MigrationError):
    """The database has tables of an example's names already."""

    exit_code = 2

    def __init__(self, *, example: str, tables: list[str]) -> None:
        """List the tables; none of them is ever changed."""
        self.example, self.tables = example, tables
        super().__init__(
            f"this database has {', '.join(tables)} in schema public already; nothing was changed; "
            "name an empty database in INVENTORY_DATABASE_URL (the embedded server's is emptied "
            f"by 'inventory-migration db reset'), then 'inventory-migration examples --load "
            f"{example}' again"
        )


class ReportNotWritten(MigrationError):
    """The folder for the report can not be written."""

    exit_code = 2

    def __init__(self, *, folder: str, why: str, command: str = "report --out DIR") -> None:
        """Name the folder and what is wrong with it, and the command that takes another."""
        self.folder, self.why = folder, why
        super().__init__(
            f"the report can not be written to {folder}: {why.lower()}; name another folder with "
            f"'inventory-migration {command}', or set INVENTORY_HOME"
        )


class CommandUnclear(MigrationError):
    """A command that could mean several things, or that nobody confirmed."""

    exit_code = 2

    def __init__(self, why: str) -> None:
        """Keep what is missing or too much."""
        self.why = why
        super().__init__(why)

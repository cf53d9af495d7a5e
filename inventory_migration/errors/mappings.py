"""What is wrong with a mapping, with its companies or with a suite of expectations."""

from __future__ import annotations

from collections.abc import Sequence

from inventory_migration.errors.base import MigrationError, on_one_line


class MappingNotFound(MigrationError):
    """There is no mapping of this name or at this path."""

    exit_code = 2

    def __init__(self, *, name: str, known: list[str], why: str = "") -> None:
        """Say what was looked for and what there is."""
        self.name, self.known, self.why = name, known, why
        there_is = f"known mappings: {', '.join(known)}" if known else "no mapping is known"
        super().__init__(
            f"no mapping {name}: {why.lower()}; correct the path after --mapping"
            if why
            else f"no mapping {name}: {there_is}; name one of them or give --mapping PATH"
        )


class MappingInvalid(MigrationError):
    """A mapping is no valid file, or does not fit the database; all problems at once."""

    exit_code = 2

    def __init__(self, *, origin: str, problems: list[str]) -> None:
        """List the problems, one a line."""
        self.origin, self.problems = origin, problems
        super().__init__("\n".join(on_one_line(problem) for problem in problems))


class NoStockFound(MigrationError):
    """No table of the database looks like it holds stock, and none was named."""

    exit_code = 2

    def __init__(self, *, where: str, tables: Sequence[str]) -> None:
        """Name the database, and the tables that come nearest."""
        self.where, self.tables = where, list(tables)
        nearest = f" (the nearest: {', '.join(self.tables)})" if self.tables else ""
        super().__init__(
            f"no table of this database ({where}) looks like stock: none that the role can see is "
            f"named so and has a column named like a quantity{nearest}; name the table with "
            "'inventory-migration init --table NAME'"
        )


class TableUnknown(MigrationError):
    """There is no table of the name that was given, or there are several."""

    exit_code = 2

    def __init__(self, *, table: str, several: Sequence[str], hint: str) -> None:
        """Name the table, and those that may be meant."""
        self.table, self.several = table, list(several)
        super().__init__(
            f"--table {table} may be any of {', '.join(self.several)}; name it with its schema"
            if self.several
            else f"there is no table {table} that the role can see{hint}; name another with --table"
        )


class MappingUndecided(MigrationError):
    """A proposed mapping has keys that only a person can decide."""

    exit_code = 3

    def __init__(self, *, mapping: str, undecided: Sequence[str], file: str) -> None:
        """List what is open, by the key of the mapping."""
        self.mapping, self.undecided, self.file = mapping, list(undecided), file
        super().__init__(
            f"{mapping}: not decided: {'; '.join(self.undecided)}; mend these keys, which "
            f"the file marks UNDECIDED, then 'inventory-migration test --mapping {file}'"
        )


class TargetTaken(MigrationError):
    """A migration of another mapping writes this target, or has written it."""

    exit_code = 2

    def __init__(
        self, *, mapping: str, target: str, owner: str, migration_id: int, state: str
    ) -> None:
        """Name the target, the mapping that it belongs to, and both ways out."""
        self.mapping, self.target, self.owner = mapping, target, owner
        self.migration_id, self.state = migration_id, state
        super().__init__(
            f"{mapping}: {target} is moved by the mapping {owner}, whose migration {migration_id} "
            f"is {state.replace('_', ' ')}; go on with that mapping (a renamed file takes its name "
            f"back), or undo it first with 'inventory-migration rollback {owner}'"
        )


class DefaultLocationWrong(MigrationError):
    """Companies that would not have exactly one default location."""

    exit_code = 3

    def __init__(
        self,
        *,
        mapping: str,
        companies: list[str],
        why: str,
        then: str = "mend them and run again",
    ) -> None:
        """List every company concerned, and say what to do about them."""
        self.mapping, self.companies = mapping, companies
        super().__init__(f"{mapping}: {why}: {', '.join(companies)}; {then}")


class SuiteInvalid(MigrationError):
    """A suite of expectations has problems that would make its gate pass or fail for no reason."""

    exit_code = 2

    def __init__(self, origin: str, problems: Sequence[str]) -> None:
        """Keep the file and every problem, one a line."""
        self.origin = origin
        self.problems = tuple(problems)
        super().__init__(
            "\n".join(f"{origin}: {on_one_line(problem)}." for problem in self.problems)
        )


class LooseningRefused(MigrationError):
    """A mapping loosens an expectation that is not there, or that must hold; all at once."""

    exit_code = 2

    def __init__(self, *, mapping: str, problems: Sequence[str]) -> None:
        """List the problems, one a line."""
        self.mapping, self.problems = mapping, tuple(problems)
        super().__init__(
            "\n".join(
                f"{mapping}: expectations.loosen: {on_one_line(problem)}" for problem in problems
            )
            + "; mend this section of the mapping, and try again"
        )


class SuiteParametersMissing(MigrationError):
    """A suite was to be judged without a value that its expectations are about."""

    exit_code = 2

    def __init__(self, origin: str, names: Sequence[str]) -> None:
        """Keep the file and the names without a usable value."""
        self.origin = origin
        self.names = tuple(names)
        super().__init__(
            f"{origin}: needs a number for {', '.join(names)}; "
            "a suite of your own may only use the parameters of the one that ships."
        )


class SuiteChanged(MigrationError):
    """A suite's file was changed while the definitions made from it were in use."""

    exit_code = 3
    retryable = True

    def __init__(self, *, suite: str) -> None:
        """Name the suite."""
        self.suite = suite
        super().__init__(
            f"the suite {suite} expects something else than when Dagster loaded it; reload the "
            "code location and judge it again"
        )

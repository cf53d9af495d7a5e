"""Every condition that stops a migration or a command, as a class with its facts.

A class is named by the condition, keeps the facts as attributes, and builds one sentence that says
what is wrong, where, and which command comes next. `exit_code` is what the shell sees; `retryable`
says whether the same call may succeed later without anybody changing anything. Decisions about what
to do with an error do not belong here.
"""

from inventory_migration.errors.base import (
    MigrationError,
)
from inventory_migration.errors.commands import (
    CommandUnclear,
    DemoArgumentInvalid,
    DemoConflict,
    DemoExists,
    DemoInUse,
    EnvFileInvalid,
    ProjectFileMissing,
    ProjectFolderMissing,
    ReportNotWritten,
)
from inventory_migration.errors.databases import (
    AuthenticationFailed,
    DatabaseMissing,
    DatabaseUnreachable,
    DatabaseUrlInvalid,
    EmbeddedServerFailed,
    LedgerTooNew,
    PrivilegeMissing,
    ServerTooOld,
    StatementFailed,
    SuperuserRefused,
)
from inventory_migration.errors.mappings import (
    DefaultLocationWrong,
    MappingInvalid,
    MappingNotFound,
    SuiteChanged,
    SuiteInvalid,
    SuiteParametersMissing,
    TargetTaken,
)
from inventory_migration.errors.migrations import (
    ControlTotalsDiffer,
    GateRefused,
    LockNotObtained,
    MigrationBusy,
    MigrationFailed,
    MigrationHeld,
    MigrationPaused,
    MigrationRolledBack,
    NothingMigrated,
    RecordUnknown,
    RunFailed,
    ServerRestarted,
    StartRefused,
    ValidationFailed,
    VerdictNotFinal,
    WritersActive,
)

__all__ = [
    "AuthenticationFailed",
    "CommandUnclear",
    "ControlTotalsDiffer",
    "DatabaseMissing",
    "DatabaseUnreachable",
    "DatabaseUrlInvalid",
    "DefaultLocationWrong",
    "DemoArgumentInvalid",
    "DemoConflict",
    "DemoExists",
    "DemoInUse",
    "EmbeddedServerFailed",
    "EnvFileInvalid",
    "GateRefused",
    "LedgerTooNew",
    "LockNotObtained",
    "MappingInvalid",
    "MappingNotFound",
    "MigrationBusy",
    "MigrationError",
    "MigrationFailed",
    "MigrationHeld",
    "MigrationPaused",
    "MigrationRolledBack",
    "NothingMigrated",
    "PrivilegeMissing",
    "ProjectFileMissing",
    "ProjectFolderMissing",
    "RecordUnknown",
    "ReportNotWritten",
    "RunFailed",
    "ServerRestarted",
    "ServerTooOld",
    "StartRefused",
    "StatementFailed",
    "SuiteChanged",
    "SuiteInvalid",
    "SuiteParametersMissing",
    "SuperuserRefused",
    "TargetTaken",
    "ValidationFailed",
    "VerdictNotFinal",
    "WritersActive",
]

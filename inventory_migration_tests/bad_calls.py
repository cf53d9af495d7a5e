"""Bad input beside the mapping: in the data, in the environment, on the command line."""

from __future__ import annotations

from typing import Any

import yaml

from inventory_migration.engine.ledger import VERSION
from inventory_migration_tests import stage
from inventory_migration_tests.bad_input import OWN_LOCATIONS, Case

# The role outlives the database, and is there already where another test has made it.
TRIGGER_OF_ANOTHER = """
    SELECT 'CREATE ROLE bad_input_application'
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'bad_input_application') \\gexec
    GRANT ALL ON SCHEMA public TO bad_input_application;
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    ALTER FUNCTION note() OWNER TO bad_input_application;
    CREATE TRIGGER note BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION note();
"""


def line(name: str, said: str, *words: str, **more: Any) -> Case:
    """A mistake on the command line."""
    return Case(f"command line: {name}", (said,), words, **more)


def environment(name: str, *says: str, **more: Any) -> Case:
    """A mistake around the program."""
    return Case(f"environment: {name}", says, **{"words": ("status",), **more})


TEST = ("test", "--mapping", "MAPPING")
DATA = [
    Case(
        "data: two default locations of a company",
        words=TEST,
        code=3,
        sql=OWN_LOCATIONS
        + "INSERT INTO locations (company_id, is_default) VALUES (1, true), (1, true)",
        answer="failed: default-location-unambiguous: 1 row; for example 1, Company 1",
    ),
    Case(
        "data: no default location, and none may be made",
        words=TEST,
        code=3,
        sql=OWN_LOCATIONS,
        change={"locations.create": None},
        answer="failed: default-location-present: 3 companies without a default location, which the mapping may not create; for example Company 1, Company 2, Company 3",
    ),
    Case(
        "data: more is wrong than may be quarantined",
        words=TEST,
        code=3,
        sql="UPDATE stock_items SET quantity = NULL",
        change={"thresholds": {"after_records": 1}},
        answer="failed: quarantine-within-threshold: 1 row; for example 30 of 30",
    ),
    Case(
        "data: an item twice, where that is to fail",
        words=TEST,
        code=3,
        sql="UPDATE stock_items SET sku = 'SAME'",
        change={"rules": {"item_duplicate": "fail"}},
        answer="failed: item-once-per-company: 3 rows; for example 1, 11, 12",
    ),
    Case(
        "data: a quantity that is no number, where that is to fail",
        words=TEST,
        code=3,
        sql="ALTER TABLE stock_items ALTER quantity TYPE text; UPDATE stock_items SET quantity = 'ten' WHERE id = 3",
        change={"rules": {"quantity_not_a_number": "fail"}},
        answer="failed: quantity-numeric: 1 of 30 rows; for example 3",
    ),
    Case(
        "data: a default location of no company",
        words=TEST,
        code=3,
        sql=OWN_LOCATIONS + "INSERT INTO locations (company_id, is_default) VALUES (99, true)",
        answer="failed: default-location-of-a-company: 1 row; for example 1",
    ),
]

ENVIRONMENT = [
    environment(
        "another kind of database",
        'The database URL can not be understood: "mysql" is not PostgreSQL; write postgresql://user:password@host:5432/database into INVENTORY_DATABASE_URL, with special characters of the password percent-encoded (@ as %40, / as %2F).',
        environment={"INVENTORY_DATABASE_URL": "mysql://ann@db/shop"},
    ),
    environment(
        "no URL at all",
        "The database URL can not be understood: it has no postgresql:// and no keyword=value; write postgresql://user:password@host:5432/database into INVENTORY_DATABASE_URL, with special characters of the password percent-encoded (@ as %40, / as %2F).",
        environment={"INVENTORY_DATABASE_URL": "shop"},
    ),
    environment(
        "a URL with a bare @",
        "The database URL can not be understood: a delimiter (@, / or :) stands where none belongs; write postgresql://user:password@host:5432/database into INVENTORY_DATABASE_URL, with special characters of the password percent-encoded (@ as %40, / as %2F).",
        environment={"INVENTORY_DATABASE_URL": "postgresql://ann:p@ss@db/shop"},
    ),
    environment(
        "a URL with a parameter that nobody knows",
        "The database URL can not be understood: libpq knows no parameter colour; write postgresql://user:password@host:5432/database into INVENTORY_DATABASE_URL, with special characters of the password percent-encoded (@ as %40, / as %2F).",
        environment={"INVENTORY_DATABASE_URL": "postgresql://ann@db/shop?colour=red"},
    ),
    environment(
        "a port that is no number",
        "The database URL can not be understood: a delimiter (@, / or :) stands where none belongs; write postgresql://user:password@host:5432/database into INVENTORY_DATABASE_URL, with special characters of the password percent-encoded (@ as %40, / as %2F).",
        environment={"INVENTORY_DATABASE_URL": "postgresql://ann@db:port/shop"},
    ),
    environment(
        "nobody answers",
        "Can not reach the database (host 127.0.0.1:1, database shop): Connection refused; check INVENTORY_DATABASE_URL and that the server runs, or unset it to use the embedded server.",
        environment={"INVENTORY_DATABASE_URL": "postgresql://ann@127.0.0.1:1/shop"},
    ),
    environment(
        "no such host",
        "Can not reach the database (host no.such.host.invalid:5432, database shop): failed to resolve host 'no.such.host.invalid': …; check INVENTORY_DATABASE_URL and that the server runs, or unset it to use the embedded server.",
        environment={"INVENTORY_DATABASE_URL": "postgresql://ann@no.such.host.invalid/shop"},
    ),
    environment(
        "no such database",
        'The server (socket SOCKET, database nowhere) has no database "nowhere"; list what it has with psql --list and correct INVENTORY_DATABASE_URL.',
        environment={"INVENTORY_DATABASE_URL": "NO DATABASE"},
    ),
    environment(
        "no such role",
        'The database (socket SOCKET, database DB) refuses role "nobody_knows": role "nobody_knows" does not exist; check role and password in INVENTORY_DATABASE_URL (or PGPASSWORD, ~/.pgpass) and the server\'s pg_hba.conf.',
        environment={"INVENTORY_DATABASE_URL": "NO ROLE"},
    ),
    environment(
        "no such service",
        'Can not reach the database (service nowhere, host localhost:5432, database root): definition of service "nowhere" not found; check INVENTORY_DATABASE_URL and that the server runs, or unset it to use the embedded server.',
        environment={"INVENTORY_DATABASE_URL": "service=nowhere"},
    ),
    environment(
        "no such sslmode",
        'Can not reach the database (host 127.0.0.1:1, database x): invalid sslmode value: "maybe"; check INVENTORY_DATABASE_URL and that the server runs, or unset it to use the embedded server.',
        environment={"INVENTORY_DATABASE_URL": "postgresql://ann@127.0.0.1:1/x?sslmode=maybe"},
    ),
    environment(
        "no folder of mappings",
        "The folder HOME/none can not be used: it does not exist; set INVENTORY_MAPPINGS to another folder.",
        words=("test", "shop"),
        environment={"INVENTORY_MAPPINGS": "HOME/none"},
    ),
    environment(
        "a mapping whose file has another name",
        "HOME/store.yaml: says name: shop; a mapping is found by its file's name",
        words=("test", "store"),
        environment={"INVENTORY_MAPPINGS": "HOME"},
        files={"store.yaml": yaml.safe_dump(stage.DEFINITION)},
    ),
    environment(
        "no folder of expectations",
        "The folder HOME/none can not be used: it does not exist; set INVENTORY_EXPECTATIONS to another folder.",
        words=TEST,
        environment={"INVENTORY_EXPECTATIONS": "HOME/none"},
    ),
    environment(
        "a suite that is no JSON",
        "HOME/audit_profile.json: is not JSON: line 1, column 2: Expecting property name enclosed in double quotes.",
        words=TEST,
        environment={"INVENTORY_EXPECTATIONS": "HOME"},
        files={"audit_profile.json": "{"},
    ),
    environment(
        "a suite without expectations",
        "HOME/audit_profile.json: it expects nothing, so that it would always pass.",
        words=TEST,
        environment={"INVENTORY_EXPECTATIONS": "HOME"},
        files={"audit_profile.json": '{"name": "audit_profile", "expectations": []}'},
    ),
    environment(
        "a state folder that is a file",
        "The folder HOME/file can not be used: file exists; set INVENTORY_HOME to another folder.",
        words=("run", "--mapping", "MAPPING"),
        environment={"INVENTORY_HOME": "HOME/file"},
        files={"file": ""},
    ),
    environment(
        "a folder of Dagster that is a file",
        "The folder HOME/file can not be used: file exists; set DAGSTER_HOME to another folder.",
        words=("run", "--mapping", "MAPPING"),
        environment={"DAGSTER_HOME": "HOME/file"},
        files={"file": ""},
    ),
    environment(
        "no file of variables",
        "HOME/none: can not be read: no such file or directory.",
        words=("status", "--env-file", "HOME/none"),
    ),
    environment(
        "a file of variables with a sentence",
        "HOME/env, line 2: expected KEY=VALUE.",
        words=("status", "--env-file", "HOME/env"),
        files={"env": "PGPORT=5432\nuse the other one\n"},
    ),
    environment(
        "a file of variables with an open quote",
        "HOME/env, line 1: the quote is never closed.",
        words=("status", "--env-file", "HOME/env"),
        files={"env": "PGPASSWORD='open\n"},
    ),
    environment(
        "a file of variables that is not UTF-8",
        "HOME/env: can not be read: it is not UTF-8 text.",
        words=("status", "--env-file", "HOME/env"),
        files={"env": b"PGPASSWORD=\xff\n"},
    ),
    environment(
        "a role that may not read",
        'shop: the role WORKER lacks SELECT ON "public"."companies"; nothing was written; let the owner of the tables execute what \'inventory-migration grants --mapping MAPPING\' prints, or connect as another role',
        words=("run", "--mapping", "MAPPING"),
        lacking=("SELECT ON companies",),
    ),
    environment(
        "a role that may not write",
        'shop: the role WORKER lacks DELETE ON "public"."locations"; UPDATE ("location_id") ON "public"."stock_items"; nothing was written; let the owner of the tables execute what \'inventory-migration grants --mapping MAPPING\' prints, or connect as another role',
        words=("run", "--mapping", "MAPPING"),
        lacking=("UPDATE (location_id) ON stock_items", "DELETE ON locations"),
    ),
    environment(
        "a role that may not use the schema",
        "shop: source.table: the role may not use schema public, which has a table stock_items; 'inventory-migration grants', called by the owner of the tables, prints what it needs",
        "shop: company.table: the role may not use schema public, which has a table companies; 'inventory-migration grants', called by the owner of the tables, prints what it needs",
        "shop: locations.table: the role may not use schema public, which has a table locations; 'inventory-migration grants', called by the owner of the tables, prints what it needs",
        words=("run", "--mapping", "MAPPING"),
        lacking=("USAGE ON SCHEMA public",),
    ),
    environment(
        "a role that may not read the ledger",
        "Role \"WORKER\" lacks a privilege (socket SOCKET, database DB): permission denied for table version; 'inventory-migration grants', called by the owner of the tables, prints what it needs.",
        sql=f"CREATE TABLE inventory_migration.version AS SELECT {VERSION} AS version",
        lacking=("CREATE ON SCHEMA public",),
    ),
    environment(
        "a superuser, and triggers of others",
        "postgres is a superuser and note would run as superuser on every write; connect as the worker role ('inventory-migration grants' prints what it needs) or say --as-superuser",
        words=("run", "--mapping", "MAPPING"),
        sql=TRIGGER_OF_ANOTHER,
    ),
    environment(
        "a ledger of a later version",
        f"the ledger of this database has version 99, this program knows {VERSION}; update inventory-migration",
        sql="CREATE SCHEMA inventory_migration; CREATE TABLE inventory_migration.version (version int); INSERT INTO inventory_migration.version VALUES (99)",
    ),
    environment(
        "row level security hides records",
        "shop: source.table: row level security hides rows of stock_items from this role",
        words=("run", "--mapping", "MAPPING"),
        sql="ALTER TABLE stock_items ENABLE ROW LEVEL SECURITY",
        lacking=("CREATE ON SCHEMA public",),
    ),
]

LINES = [
    line(
        "unknown command",
        "No such command 'rum'. Did you mean 'run', 'resume'?; 'inventory-migration --help' says what there is",
        "rum",
    ),
    line(
        "unknown option",
        "No such option: --jsn (Possible options: --json); 'inventory-migration run --help' says what there is",
        "run",
        "--jsn",
    ),
    line(
        "one word too many",
        "Got unexpected extra argument(s) (store); 'inventory-migration run --help' says what there is",
        "run",
        "shop",
        "store",
    ),
    line(
        "workers that are no number",
        "Invalid value for '--workers': should be a valid integer, unable to parse string as an integer; 'inventory-migration run --help' says what there is",
        "run",
        "--workers",
        "many",
    ),
    line(
        "no worker",
        "Invalid value for '--workers': should be greater than or equal to 1; 'inventory-migration run --help' says what there is",
        "run",
        "--workers",
        "0",
    ),
    line(
        "an option without its value",
        "Option '--mapping' requires an argument; 'inventory-migration --help' says what there is",
        "run",
        "--mapping",
    ),
    line(
        "a value for a switch",
        "Option '--json' does not take a value; 'inventory-migration --help' says what there is",
        "run",
        "--json=yes",
    ),
    line(
        "unknown form of the log",
        "Invalid value for '--log-format': 'xml' is not one of 'text', 'json'; 'inventory-migration status --help' says what there is",
        "status",
        "--log-format",
        "xml",
    ),
    line(
        "a log in no folder",
        "the log file HOME/none/log can not be written: no such file or directory; name another with --log-file",
        "status",
        "--log-file",
        "HOME/none/log",
    ),
    line(
        "unknown mapping",
        "no mapping shopp: known mappings: inventory_batches, stock_items; name one of them or give --mapping PATH",
        "test",
        "shopp",
    ),
    line(
        "which mapping",
        "say which mapping (inventory_batches, stock_items), or give one with --mapping PATH",
        "run",
    ),
    line(
        "one mapping twice",
        "two of the mappings given are called shop; give one of them",
        "test",
        "--mapping",
        "MAPPING",
        "--mapping",
        "MAPPING",
    ),
    line(
        "unknown phase",
        "shop: there is no phase pilott; its phases are rest",
        "run",
        "--mapping",
        "MAPPING",
        "--stop-after",
        "pilott",
    ),
    line(
        "show without a key",
        "Missing argument '[NAME] KEY'; 'inventory-migration show --help' says what there is",
        "show",
    ),
    line(
        "show of three words",
        "give NAME and KEY, not 3 words; quote a key with blanks",
        "show",
        "shop",
        "1",
        "2",
        "--mapping",
        "MAPPING",
    ),
    line(
        "show of a record that nobody knows",
        "shop: no stock record with key 4711; give the key as the table holds it, the parts of a composite key separated by commas",
        "show",
        "4711",
        "--mapping",
        "MAPPING",
    ),
    line(
        "a key of another type",
        "shop: no stock record with key abc; give the key as the table holds it, the parts of a composite key separated by commas",
        "show",
        "abc",
        "--mapping",
        "MAPPING",
    ),
    line(
        "a key of too many parts",
        "shop: no stock record with key 1,2; give the key as the table holds it, the parts of a composite key separated by commas",
        "show",
        "1,2",
        "--mapping",
        "MAPPING",
    ),
    line(
        "nothing to resume",
        "nothing was ever migrated with shop in this database; look first with 'inventory-migration test --mapping MAPPING', then 'run --mapping MAPPING'",
        "resume",
        "--mapping",
        "MAPPING",
    ),
    line(
        "nothing to report",
        "nothing was ever migrated with shop in this database; look first with 'inventory-migration test --mapping MAPPING', then 'run --mapping MAPPING'",
        "report",
        "--mapping",
        "MAPPING",
    ),
    line(
        "a number that is none",
        "Invalid value for '--id': should be a valid integer, unable to parse string as an integer; 'inventory-migration rollback --help' says what there is",
        "rollback",
        "--id",
        "last",
        "--mapping",
        "MAPPING",
    ),
    line(
        "a role without a name",
        "a role's name is empty; say which role with --role ROLE",
        "grants",
        "--role",
        "",
        "--mapping",
        "MAPPING",
    ),
    line(
        "nothing that could be tried again",
        "nothing was ever migrated with shop in this database; look first with 'inventory-migration test --mapping MAPPING', then 'run --mapping MAPPING'",
        "quarantine",
        "retry",
        "--all",
        "--mapping",
        "MAPPING",
    ),
    line(
        "which records to try again",
        "say which records to try again: their keys, or --rule RULE, or --all",
        "quarantine",
        "retry",
        "--mapping",
        "MAPPING",
    ),
    line(
        "a waiver without a reason",
        "a waiver needs a reason; say it with --reason TEXT",
        "quarantine",
        "waive",
        "4711",
        "--reason",
        " ",
        "--mapping",
        "MAPPING",
    ),
    line(
        "an unknown state of the quarantine",
        "Invalid value for '--state': 'lost' is not one of 'open', 'retried', 'waived'; 'inventory-migration quarantine list --help' says what there is",
        "quarantine",
        "list",
        "--state",
        "lost",
    ),
    line(
        "unknown command of the server",
        "No such command 'restart'. Did you mean 'start', 'reset', 'status'?; 'inventory-migration db --help' says what there is",
        "db",
        "restart",
    ),
    line(
        "a demo of more than all",
        "--dirty 2.0: expected a share from 0 to 1",
        "demo",
        "--dirty",
        "2",
    ),
    line("a demo of fewer than none", "--items -5: expected 0 or more", "demo", "--items", "-5"),
]

"""What our writes set off in an application is named: triggers, and what they change."""

from __future__ import annotations

from typing import Any

import pytest

from inventory_migration.catalog import resolve
from inventory_migration.demo import create_demo
from inventory_migration.engine.triggers import columns_assigned, fired_triggers, tables_written
from inventory_migration.mapping import named_mapping
from inventory_migration_tests.conftest import Database


@pytest.mark.parametrize(
    ("source", "columns"),
    [
        ("BEGIN NEW.updated_at := now(); RETURN NEW; END", ["updated_at"]),
        ("begin new.Updated_At = now(); return new; end", ["updated_at"]),
        ('BEGIN NEW."updatedAt":=now(); NEW.total := NEW.a + NEW.b; END', ["updatedAt", "total"]),
        ("BEGIN IF NEW.a = 1 THEN NEW.b = 2; ELSE NEW.c := 3; END IF; END", ["b", "c"]),
        ("BEGIN NEW.tags[1] := 'x'; NEW.data['k'] := '1'; END", ["tags", "data"]),
        ("BEGIN SELECT a, b INTO STRICT NEW.x, NEW.y FROM t; END", ["x", "y"]),
        ("BEGIN -- NEW.a := 1;\n /* ; NEW.b := 2; */ RAISE NOTICE '; NEW.c := 3'; END", []),
        ("BEGIN IF NEW.a = OLD.a AND NEW.b = 1 THEN RETURN NULL; END IF; END", []),
        ("BEGIN NEW := jsonb_populate_record(NEW, '{}'); RETURN NEW; END", None),
        ("BEGIN SELECT * INTO NEW FROM t; END", None),
    ],
)
def test_the_columns_that_a_function_assigns_are_found(
    source: str, columns: list[str] | None
) -> None:
    assert columns_assigned(source) == columns


def test_the_tables_that_a_function_writes_are_found() -> None:
    source = """
    BEGIN
        INSERT INTO audit.log (row) VALUES ('UPDATE fake SET x');
        UPDATE ONLY counters SET n = n + 1; DELETE FROM "Old Stock" WHERE id = OLD.id;
        INSERT INTO totals VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 2;
        PERFORM 1 FROM counters FOR UPDATE OF counters;
        TRUNCATE TABLE scratch;
    END"""
    named = tables_written(source)
    assert named == ["audit.log", "counters", '"Old Stock"', "totals", "scratch"]


def fired(database: Database) -> dict[str, dict[str, Any]]:
    with database.engine.connect() as connection:
        resolved = resolve(connection, named_mapping("stock_items"))
        return {found["name"]: found for found in fired_triggers(connection, resolved)}


def test_only_the_triggers_that_a_migration_fires_are_listed(database: Database) -> None:
    create_demo(database.engine, companies=2, items=10)
    database.psql("""
        ALTER TABLE stock_items ADD COLUMN location_id bigint;
        CREATE TABLE history (id bigint);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO history VALUES (NEW.id); RETURN NULL; END $$;
        CREATE FUNCTION any_row() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN EXECUTE 'SELECT 1'; RETURN NEW; END $$;
        CREATE TRIGGER touched BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER kept AFTER UPDATE OF location_id ON stock_items
            FOR EACH ROW EXECUTE FUNCTION keep();
        CREATE TRIGGER dynamic BEFORE UPDATE ON stock_items
            FOR EACH ROW EXECUTE FUNCTION any_row();
        CREATE TRIGGER located AFTER INSERT ON locations
            FOR EACH ROW EXECUTE FUNCTION keep();
        CREATE TRIGGER on_insert BEFORE INSERT ON stock_items
            FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER on_quantity BEFORE UPDATE OF quantity ON stock_items
            FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER off BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION touch();
        ALTER TABLE stock_items DISABLE TRIGGER off;
        CREATE TRIGGER tidy BEFORE UPDATE ON stock_items FOR EACH ROW
            EXECUTE FUNCTION suppress_redundant_updates_trigger();
    """)
    found = fired(database)
    assert list(found) == ["dynamic", "kept", "tidy", "touched", "located"]
    assert found["touched"]["columns_changed"] == ["updated_at"]
    assert found["touched"]["understood"]
    assert found["kept"]["columns_changed"] == []
    assert found["kept"]["tables_written"] == ["history"]
    assert not found["dynamic"]["understood"]
    assert not found["tidy"]["understood"]
    assert found["located"]["table"] == "locations"


def test_the_triggers_of_a_partition_are_listed_too(database: Database) -> None:
    create_demo(database.engine, companies=2, items=10)
    database.psql("""
        DROP TABLE order_lines;
        ALTER TABLE stock_items RENAME TO items_1;
        ALTER TABLE items_1 ALTER id DROP IDENTITY;
        CREATE TABLE stock_items (LIKE items_1, PRIMARY KEY (id)) PARTITION BY RANGE (id);
        ALTER TABLE stock_items ATTACH PARTITION items_1 DEFAULT;
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
        CREATE TRIGGER above BEFORE UPDATE ON stock_items FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE TRIGGER below BEFORE UPDATE ON items_1 FOR EACH ROW EXECUTE FUNCTION touch();
    """)
    assert {name: found["table"] for name, found in fired(database).items()} == {
        "above": "stock_items",
        "below": "items_1",
    }

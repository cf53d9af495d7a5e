"""The list of guards fits the code and the documentation; that each removal is noticed takes long.

The removals themselves are tried in `chaos/test_mutation.py`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from inventory_migration_tests.mutation.guards import GUARDS, Guard
from inventory_migration_tests.mutation.remove import PROJECT, copy_without, source

NAMES = [guard.name for guard in GUARDS]
RELIABILITY = PROJECT / "docs" / "reliability.md"


@pytest.mark.parametrize("guard", GUARDS, ids=NAMES)
def test_a_guard_is_found_once_and_what_is_left_is_a_module_with_a_test_to_miss_it(
    guard: Guard,
) -> None:
    text = source(guard)
    assert text.count(guard.text) == 1
    changed = text.replace(guard.text, guard.instead)
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))
    module, _, test = guard.test.partition("::")
    assert f"\ndef {test}(" in (PROJECT / "inventory_migration_tests" / module).read_text("utf-8")


def test_the_documentation_lists_every_guard_with_what_it_is_for_and_who_misses_it() -> None:
    table = RELIABILITY.read_text("utf-8").partition("## Guards\n")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert rows[1:] == [
        f"| {guard.name} | {guard.without} | `{guard.test.partition('::')[2]}` |"
        for guard in GUARDS
    ]


def test_a_guard_that_is_not_there_cannot_be_taken_away(tmp_path: Path) -> None:
    guard = Guard("none", "nothing", "engine/chunk.py", "not in there", "", "test_chunk.py::test_a")
    with pytest.raises(ValueError, match=r"none: found 0 times in engine/chunk\.py"):
        copy_without(guard, tmp_path)

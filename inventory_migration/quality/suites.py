"""Reading suites: `expectations/<name>.json`, held against all that Great Expectations lets pass.

Great Expectations drops an expectation whose type or severity it does not know, and an empty suite
succeeds; a gate must do neither. `load_suite` reports every problem of a file at once. Running a
suite is in `verdict.py`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from inventory_migration.errors import SuiteInvalid
from inventory_migration.project import find
from inventory_migration.quality import queries

CRITICAL: Final = "critical"
WARNING: Final = "warning"
INFO: Final = "info"
"""What is only worth knowing: it refuses no gate, and warns of nothing."""

SEVERITIES: Final = (CRITICAL, WARNING, INFO)

ROWS_QUERY: Final = "unexpected_rows_expectation"
"""The type of an expectation that is a query for rows which should not be there."""

_SUITE_KEYS = {"name", "expectations", "meta", "notes"}
_EXPECTATION_KEYS = {"type", "kwargs", "severity", "meta", "description", "notes"}
_TEXTS = ("key", "rule", "why", "effect", "advice")
_META_KEYS = {*_TEXTS, "integrity"}
_BLIND = {
    "expect_query_results_to_match_comparison": "compares the first 200 rows only",
    "expect_column_values_to_be_json_parseable": "is not implemented for SQL",
}


@dataclass(frozen=True)
class Suite:
    """A suite that can be run.

    Attributes:
        name: Its name, which is also its file's.
        origin: The file it was read from.
        expectations: What it expects, each with its severity; queries with their placeholders.
        relations: The SELECTs that the queries may name.
        keys: The columns of the batch that `{keys}` stands for.
        sample: The columns of the batch that name an offending row.
        parameters: The names of the values that it needs when it runs.
        left_out: The keys of the expectations that do not apply to the mapping.
    """

    name: str
    origin: str
    expectations: tuple[Mapping[str, Any], ...]
    relations: Mapping[str, str]
    keys: tuple[str, ...]
    sample: tuple[str, ...]
    parameters: frozenset[str]
    left_out: frozenset[str] = frozenset()


def load_suite(
    name: str,
    *,
    severities: Mapping[str, str],
    relations: Mapping[str, str],
    keys: Sequence[str] = ("key_text",),
    without: Collection[str] = (),
    extra: Sequence[Mapping[str, Any]] = (),
    told: bool = False,
    path: Path | None = None,
) -> Suite:
    """Read a suite, refusing whatever Great Expectations would drop or misread.

    Args:
        name: The suite's name, `expectations/<name>.json` in the environment's folder, the project
            or the package.
        severities: Each rule of the mapping with the severity of its action.
        relations: The SELECTs that queries may name, by name; `batch` is always one of them.
        keys: The key columns of the batch, which queries name as `{keys}`.
        without: Rules that do not apply to the mapping, whose expectations are left out, and keys
            of expectations that do not.
        extra: Expectations of the user's own rules, appended to the file's.
        told: Whether each expectation must have the texts of a finding.
        path: The file to read instead of looking `name` up.

    Raises:
        ProjectFileMissing: No place has such a file.
        SuiteInvalid: The file has problems; lists all of them.
    """
    origin = path or find("expectations", f"{name}.json")
    raw = _read(origin)
    problems = list(_suite_problems(raw, name))
    listed = raw.get("expectations")
    listed = [*listed, *extra] if isinstance(listed, list) else list(extra)
    expectations: list[Mapping[str, Any]] = []
    parameters: set[str] = set()
    seen: set[str] = set()
    left_out: set[str] = set()
    for number, candidate in enumerate(listed, start=1):
        label = _label(candidate, number)
        rule = _meta(candidate).get("rule")
        if rule in without or _meta(candidate).get("key") in without:
            left_out.add(str(_meta(candidate).get("key")))
            continue
        found = list(_problems(candidate, severities, {*relations, "batch"}))
        if told:
            found += _untold(candidate)
        key = _meta(candidate).get("key")
        if isinstance(key, str) and key in seen:
            found.append(f'meta.key "{key}" is given twice')
        seen.add(str(key))
        if not found:
            expectation = _with_severity(candidate, severities)
            found = list(_refusals(expectation))
            expectations.append(expectation)
            parameters |= _parameters(expectation["kwargs"])
        problems += [f"{label}: {problem}" for problem in found]
    if problems:
        raise SuiteInvalid(str(origin), problems)
    return Suite(
        name=name,
        origin=str(origin),
        expectations=tuple(expectations),
        relations=dict(relations),
        keys=tuple(keys),
        sample=tuple(raw.get("meta", {}).get("sample", ["key_text"])),
        parameters=frozenset(parameters),
        left_out=frozenset(left_out),
    )


def _read(origin: Path) -> dict[str, Any]:
    try:
        raw = json.loads(origin.read_text(encoding="utf-8"))
    except OSError as error:
        raise SuiteInvalid(str(origin), [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SuiteInvalid(str(origin), ["is not UTF-8 text"]) from None
    except json.JSONDecodeError as error:
        raise SuiteInvalid(
            str(origin), [f"is not JSON: line {error.lineno}, column {error.colno}: {error.msg}"]
        ) from None
    if not isinstance(raw, dict):
        raise SuiteInvalid(str(origin), ["is not a JSON object"])
    return raw


def _suite_problems(raw: Mapping[str, Any], name: str) -> Iterator[str]:
    yield from (f'unknown key "{key}"' for key in raw if key not in _SUITE_KEYS)
    if raw.get("name") != name:
        yield f'its name is {json.dumps(raw.get("name"))} and must be "{name}"'
    if not isinstance(raw.get("expectations"), list) or not raw["expectations"]:
        yield "it expects nothing, so that it would always pass"
    meta = raw.get("meta", {})
    sample = meta.get("sample", ["key_text"]) if isinstance(meta, dict) else None
    if not isinstance(sample, list) or not sample or not all(isinstance(c, str) for c in sample):
        yield "meta.sample must be a list of the columns that name an offending row"


def _problems(
    candidate: object, severities: Mapping[str, str], relations: set[str]
) -> Iterator[str]:
    """What can be said about an expectation without Great Expectations."""
    if not isinstance(candidate, Mapping):
        yield "is not an object"
        return
    yield from (f'unknown key "{key}"' for key in candidate if key not in _EXPECTATION_KEYS)
    kind = candidate.get("type")
    if not isinstance(kind, str):
        yield "has no type"
    elif kind in _BLIND:
        yield f"{kind} {_BLIND[kind]}; write it as {ROWS_QUERY}"
    if not isinstance(candidate.get("kwargs"), Mapping):
        yield "kwargs must be an object"
    else:
        yield from _kwargs_problems(candidate["kwargs"], relations)
    severity = candidate.get("severity")
    if severity is not None and severity not in SEVERITIES:
        yield f"severity {json.dumps(severity)} must be {CRITICAL}, {WARNING} or {INFO}"
    yield from _meta_problems(candidate, severities)


def _meta_problems(candidate: Mapping[str, Any], severities: Mapping[str, str]) -> Iterator[str]:
    meta = candidate.get("meta", {})
    if not isinstance(meta, Mapping):
        yield "meta must be an object"
        return
    yield from (f'unknown key "meta.{key}"' for key in meta if key not in _META_KEYS)
    yield from (
        f"meta.{key} must be text"
        for key in _TEXTS
        if key in meta and not (isinstance(meta[key], str) and meta[key])
    )
    if not isinstance(meta.get("integrity", False), bool):
        yield "meta.integrity must be true or false"
    if "key" not in meta:
        yield "has no meta.key"
    rule = meta.get("rule")
    if isinstance(rule, str) and rule not in severities:
        yield f'meta.rule "{rule}" is no rule of the mapping{nearest(rule, severities)}'
    if rule is not None and candidate.get("severity") is not None:
        yield "has a rule, so that the mapping decides its severity; take severity away"


def _untold(candidate: object) -> Iterator[str]:
    """The texts of a finding that an expectation lacks."""
    if not isinstance(candidate, Mapping):
        return
    meta = _meta(candidate)
    if not candidate.get("description"):
        yield "has no description, which says what is expected"
    if "why" not in meta:
        yield "has no meta.why, which says why it matters here"
    if "advice" not in meta:
        yield "has no meta.advice, which says what to do about it"
    if "effect" not in meta and "rule" not in meta:
        yield "has no meta.effect, which says what the tool will do where no rule says it"


def _kwargs_problems(kwargs: Mapping[str, Any], relations: set[str]) -> Iterator[str]:
    for name, value in kwargs.items():
        is_parameter = isinstance(value, Mapping) and list(value) == ["$PARAMETER"]
        if isinstance(value, Mapping) and name != "row_condition" and not is_parameter:
            yield f'{name} is an object, but no {{"$PARAMETER": "name"}}'
        if is_parameter and not re.fullmatch(r"[a-z_][a-z0-9_]*", str(value["$PARAMETER"])):
            yield f"{name}: a parameter is a name, not {json.dumps(value['$PARAMETER'])}"
    query = kwargs.get("unexpected_rows_query")
    if query is None:
        return
    if not isinstance(query, str):
        yield "unexpected_rows_query must be text; write numbers as {$name} inside it"
        return
    try:
        used = queries.placeholders(query)
    except ValueError as error:
        yield f"unexpected_rows_query: {error}"
        return
    known = relations | {"keys"}
    yield from (
        f"there is no relation {{{field}}}{nearest(field, known)}"
        for field in dict.fromkeys(used)
        if field not in known and not field.startswith("$")
    )
    if all(field == "keys" or field.startswith("$") for field in used):
        yield "unexpected_rows_query reads no relation, neither {batch} nor another"
    yield from (
        f"write {{{field}}} AS name: older servers refuse a subquery without a name"
        for field in queries.without_alias(query, relations)
    )


def _refusals(expectation: Mapping[str, Any]) -> Iterator[str]:
    """What Great Expectations says of an expectation, instead of dropping it."""
    from great_expectations.compatibility.pydantic import ValidationError
    from great_expectations.exceptions.exceptions import ExpectationNotFoundError
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    tried = dict(expectation)
    if tried["type"] == ROWS_QUERY and "unexpected_rows_query" in tried["kwargs"]:
        # The query was checked, and is not yet what Great Expectations will get.
        tried["kwargs"] = {**tried["kwargs"], "unexpected_rows_query": "SELECT 1 FROM {batch}"}
    try:
        ExpectationConfiguration(**tried).to_domain_obj()
    except ExpectationNotFoundError:
        hint = nearest(tried["type"], list_registered_expectation_implementations())
        yield f'unknown expectation type "{tried["type"]}"{hint}'
    except ValidationError as error:
        messages: dict[str, str] = {}
        for detail in error.errors():
            # One wrong value fails each branch of a union; the first branch says it best.
            messages.setdefault(str(detail["loc"][0]), detail["msg"])
        for field, message in messages.items():
            yield message if field == "__root__" else f"{field}: {message}"
    except Exception as error:  # its own errors have no common base
        yield str(error)


def _with_severity(candidate: Mapping[str, Any], severities: Mapping[str, str]) -> dict[str, Any]:
    rule = candidate["meta"].get("rule")
    severity = severities[rule] if rule else candidate.get("severity", CRITICAL)
    return {**candidate, "severity": severity}


def _parameters(kwargs: Mapping[str, Any]) -> set[str]:
    found = {
        value["$PARAMETER"]
        for name, value in kwargs.items()
        if name != "row_condition" and isinstance(value, Mapping)
    }
    query = kwargs.get("unexpected_rows_query", "")
    return found | {f[1:] for f in queries.placeholders(query) if f.startswith("$")}


def _label(candidate: object, number: int) -> str:
    key = _meta(candidate).get("key")
    return f'expectation {number} "{key}"' if isinstance(key, str) else f"expectation {number}"


def _meta(candidate: object) -> Mapping[str, Any]:
    meta = candidate.get("meta") if isinstance(candidate, Mapping) else None
    return meta if isinstance(meta, Mapping) else {}


def nearest(name: str, known: Collection[str]) -> str:
    """What somebody may have meant, to be added to a problem."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known: {', '.join(sorted(known))}" if 0 < len(known) < 12 else ""

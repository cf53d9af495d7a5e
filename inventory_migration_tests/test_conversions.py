"""Texts that become numbers, tidier texts and points in time: the SQL held against plain Python.

Whatever a text holds, nothing here may raise: one such record would fail the statement of a whole
chunk, on a server that has nothing to ask beforehand.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from inventory_migration.catalog import column_sql
from inventory_migration.catalog.conversions import (
    number_sql,
    number_state_sql,
    unconverted_sql,
    unread_number_sql,
)
from inventory_migration.database import create_engine, escaped
from inventory_migration.embedded import EmbeddedServer
from inventory_migration.mapping import Standardised
from inventory_migration_tests import hostile
from inventory_migration_tests.conftest import Database, made_database

# The White_Space of Unicode, and the mark that spreadsheets put at the beginning of a file.
BLANKS = (
    " \t\n\v\f\r\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)
BERLIN = ZoneInfo("Europe/Berlin")


def standardised(*steps: Any, column: str = "raw") -> Standardised:
    return Standardised.model_validate({"column": column, "as": [*steps]})


@pytest.fixture(scope="module")
def emptied(server: EmbeddedServer) -> Iterator[Database]:
    """A database without a table: texts come as parameters."""
    with made_database(server) as made:
        yield made


@pytest.fixture(scope="module")
def asked(emptied: Database) -> Iterator[sa.Connection]:
    """One session in an awkward time zone, whose setting must not matter."""
    with emptied.engine.connect() as connection:
        connection.execute(sa.text("SET TimeZone = 'Pacific/Chatham'"))
        connection.execute(sa.text("SET DateStyle = 'SQL, MDY'"))
        yield connection
        connection.rollback()


def read(connection: sa.Connection, texts: list[str | None], *sql: str) -> list[tuple[Any, ...]]:
    """What each expression over `s.raw` makes of each text, in a single statement."""
    found = connection.execute(
        sa.text(
            escaped(f"SELECT {', '.join(sql)} FROM unnest(")
            + "CAST(:texts AS text[])) WITH ORDINALITY AS s(raw, place) ORDER BY place"
        ),
        {"texts": texts},
    )
    return [tuple(row) for row in found]


def characters(likely: str) -> st.SearchStrategy[str]:
    """Texts that often are what is wanted, often nearly, and sometimes anything at all."""
    any_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    return st.text(likely, max_size=12) | any_text


def groups(thousands: str, decimal: str) -> re.Pattern[str]:
    t, d = f"[{re.escape(thousands)}]", re.escape(decimal)
    return re.compile(
        rf"[+-]?(([0-9]+|[0-9]{{1,3}}({t}[0-9]{{3}})+)({d}[0-9]*)?|{d}[0-9]+)([eE][+-]?[0-9]{{1,3}})?"
    )


def number(text: str | None, thousands: str, decimal: str) -> Decimal | None:
    """The number that a text holds."""
    text = (text or "").strip(BLANKS)
    if len(text) >= 1000 or not groups(thousands, decimal).fullmatch(text):
        return None
    bare = "".join(c for c in text if c not in thousands)
    return Decimal(bare.replace(decimal, "."))


def written_number(separator: str, decimal: str) -> st.SearchStrategy[str]:
    """Numbers as people write them with these separators."""
    return st.builds(
        lambda n, places, blank: (
            blank + f"{n:,.{places}f}".translate({ord(","): separator, ord("."): decimal}) + blank
        ),
        st.decimals(-(10**12), 10**12, places=3),
        st.integers(0, 3),
        st.sampled_from(["", " ", "\xa0", "\t"]),
    )


NUMBERS: dict[str, tuple[Any, str, str]] = {
    "usual": ("numeric", ",", "."),
    "european": ({"numeric": {"thousands": ".", "decimal": ","}}, ".", ","),
    "french": ({"numeric": {"thousands": " ", "decimal": ","}}, " \xa0\u2009\u202f", ","),
    "swiss": ({"numeric": {"thousands": "'"}}, "'\u2019", "."),
}


@pytest.mark.parametrize("written", NUMBERS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_number_in_groups_is_read_as_its_separators_say_and_nothing_ever_raises(
    asked: sa.Connection, written: str, data: st.DataObject
) -> None:
    step, thousands, decimal = NUMBERS[written]
    texts = data.draw(
        st.lists(
            st.none()
            | written_number(thousands[0], decimal)
            | characters("0123456789.,' +-eE\xa0\u202f\u2019")
            | st.sampled_from(["9" * 999, "9" * 1000, "1e999", "-1e-999", "NaN", "#REF!", "1,234"]),
            min_size=1, max_size=40,
        )
    )  # fmt: skip
    column = standardised(step)
    found = read(asked, texts, number_sql(column, "text"), number_state_sql(column, "text"))
    wanted = [number(text, thousands, decimal) for text in texts]
    assert [value for value, _ in found] == wanted
    assert [state for _, state in found] == [
        "missing"
        if not (text or "").strip(BLANKS)
        else ("ok" if value is not None else "not_a_number")
        for text, value in zip(texts, wanted, strict=True)
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | characters("0123456789.eE+- \t,"), min_size=1, max_size=40))
@example(["9" * 999, "9" * 1000, "1e999", "1e-999", "1e1000", "Infinity", "nan", "0x1", "1_0"])
def test_text_that_is_not_standardised_is_read_as_plain_numbers_alone(
    asked: sa.Connection, texts: list[str | None]
) -> None:
    found = read(asked, texts, number_sql("raw", "text"), number_state_sql("raw", "text"))
    plain = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
    for text, (value, state) in zip(texts, found, strict=True):
        bare = (text or "").strip(" ")
        if not bare:
            assert (value, state) == (None, "missing")
        elif len(text or "") < 1000 and plain.fullmatch(bare):
            assert (value, state) == (Decimal(bare), "ok")
        else:
            assert (value, state) == (None, "not_a_number")


STEPS = {
    "trim": lambda text: text.strip(BLANKS),
    "collapse_space": lambda text: re.sub(f"[{BLANKS}]+", " ", text),
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(characters("aB ß\t\n\xa0\u2028\u3000\ufeff\u200b"), min_size=1, max_size=40),
    st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=3),
)
def test_texts_are_tidied_step_by_step(
    asked: sa.Connection, texts: list[str | None], steps: list[str]
) -> None:
    found = read(asked, texts, column_sql(standardised(*steps)))
    for text, (value,) in zip(texts, found, strict=True):
        wanted = text or ""
        for step in steps:
            wanted = STEPS[step](wanted)
        assert value == wanted


def test_capitals_are_those_of_the_database_also_behind_a_pattern(asked: sa.Connection) -> None:
    texts: list[str | None] = ["straße ", "ä\tb", None]
    plain = read(asked, texts, "upper(s.raw)")
    assert read(asked, texts, column_sql(standardised("upper"))) == plain
    tidied = read(asked, texts, column_sql(standardised("trim", "collapse_space", "upper")))
    assert tidied == [(p and p.strip().replace("\t", " "),) for (p,) in plain]


FORMATS: dict[str, tuple[str, str]] = {
    "DD.MM.YYYY HH24:MI": (
        r"(?P<d>[0-9]{1,2})\.(?P<m>[0-9]{1,2})\.(?P<y>[0-9]{4}) "
        r"(?P<h>[0-9]{1,2}):(?P<mi>[0-9]{1,2})",
        "{:%d.%m.%Y %H:%M}",
    ),
    "YYYYMMDDHH24MISS": (
        r"(?P<y>[0-9]{4})(?P<m>[0-9]{2})(?P<d>[0-9]{2})"
        r"(?P<h>[0-9]{2})(?P<mi>[0-9]{2})(?P<s>[0-9]{2})",
        "{:%Y%m%d%H%M%S}",
    ),
    'YYYY-MM-DD"T"HH24:MI:SS.USTZH:TZM': (
        r"(?P<y>[0-9]{4})-(?P<m>[0-9]{1,2})-(?P<d>[0-9]{1,2})T(?P<h>[0-9]{1,2}):(?P<mi>[0-9]{1,2})"
        r":(?P<s>[0-9]{1,2})\.(?P<us>[0-9]{1,6})(?P<oh>[+-][0-9]{1,2}):(?P<om>[0-9]{2})",
        "{:%Y-%m-%dT%H:%M:%S.%f}-03:30",
    ),
    "MM/DD/YYYY HH12:MI AM": (
        r"(?P<m>[0-9]{1,2})/(?P<d>[0-9]{1,2})/(?P<y>[0-9]{4}) "
        r"(?P<h12>[0-9]{1,2}):(?P<mi>[0-9]{1,2}) (?P<am>[AaPp][Mm])",
        "{:%m/%d/%Y %I:%M %p}",
    ),
    "YYYY-MM-DD": (r"(?P<y>[0-9]{4})-(?P<m>[0-9]{1,2})-(?P<d>[0-9]{1,2})", "{:%Y-%m-%d}"),
}


def moment(text: str | None, pattern: str, zone: dt.tzinfo) -> dt.datetime | None:
    """The point in time that a text says, in UTC."""
    found = re.fullmatch(pattern, (text or "").strip(BLANKS))
    if found is None:
        return None
    said = found.groupdict()
    hour = int(said.get("h", "0"))
    if "h12" in said:
        if not 1 <= int(said["h12"]) <= 12:
            return None
        hour = int(said["h12"]) % 12 + (12 if said["am"].lower() == "pm" else 0)
    try:
        local = dt.datetime(
            int(said["y"]), int(said["m"]), int(said["d"]), hour, int(said.get("mi", "0")),
            int(said.get("s", "0")), int(said.get("us", "0").ljust(6, "0")),
        )  # fmt: skip
        if "oh" in said:
            offset = abs(int(said["oh"])) * 60 + int(said["om"])
            if abs(int(said["oh"])) > 15 or int(said["om"]) > 59:
                return None
            sign = -1 if said["oh"].startswith("-") else 1
            return (local - sign * dt.timedelta(minutes=offset)).replace(tzinfo=dt.UTC)
        # Of a local time that comes twice, the server takes the one without summer time.
        there = local.replace(tzinfo=zone, fold=1).astimezone(dt.UTC)
    except (ValueError, OverflowError):
        return None
    return there if there.astimezone(zone).replace(tzinfo=None) == local else None


@pytest.mark.parametrize("wanted", FORMATS)
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_a_time_is_read_exactly_or_not_at_all_and_nothing_ever_raises(
    asked: sa.Connection, wanted: str, data: st.DataObject
) -> None:
    pattern, written = FORMATS[wanted]
    berlin = "TZH" not in wanted and data.draw(st.booleans())
    # Further off, the tables of time zones that servers and Python have may differ.
    first, last = (1980, 2037) if berlin else (2, 9998)
    moments = st.datetimes(dt.datetime(first, 1, 1), dt.datetime(last, 12, 31))
    sound = moments.map(written.format)
    broken = st.builds(
        lambda text, at, digit: text[: at % len(text)] + digit + text[at % len(text) + 1 :],
        sound, st.integers(0, 40), st.sampled_from("0123456789 :.-+T\u0663"),
    )  # fmt: skip
    awkward = st.sampled_from(
        ["29.02.2023 10:00", "29.02.2024 10:00", "30.02.2024 1:1", "01.01.0000 00:00",
         "31.04.2024 00:00", "01.13.2024 00:00", "00.01.2024 00:00", "01.01.2024 24:00",
         "01.01.2024 23:60", "31.03.2024 02:30", "27.10.2024 02:30", "20240230000000",
         "20241231235960", "00000101000000", "99991231235959", "02/30/2024 11:00 AM",
         "12/31/2024 12:00 am", "12/31/2024 12:59 PM", "12/31/2024 00:00 AM",
         "2024-02-30", "2023-02-29", "0000-01-01", "2024-1-1", "2024-13-01", "\xa02024-01-01\n",
         "2024-01-01T00:00:00.5+15:59", "2024-01-01T00:00:00.5+16:00",
         "2024-01-01T00:00:00.5-00:30", "2024-01-01T00:00:00.5-00:60", "", " ", "infinity", "now"]
    )  # fmt: skip
    texts = data.draw(
        st.lists(
            st.none() | sound | broken | awkward | characters("0123456789.:-/ TAPM"),
            min_size=1, max_size=40,
        )
    )  # fmt: skip
    if berlin:
        texts = [t for t in texts if not re.search(r"\b(?!19[89]|20[0-3])[0-9]{4}", t or "")]
    step = {"timestamptz": wanted, **({"zone": "Europe/Berlin"} if berlin else {})}
    utc = f"({column_sql(standardised(step))}) AT TIME ZONE 'UTC'"
    found = read(asked, texts, utc)
    zone = BERLIN if berlin else dt.UTC
    told = [value and value.replace(tzinfo=dt.UTC) for (value,) in found]
    assert told == [moment(text, pattern, zone) for text in texts]


@pytest.mark.parametrize(
    ("wanted", "text", "expected"),
    [
        ("YYYY-MM-DD HH24:MITZH", "2024-01-01 00:00+15", "2023-12-31 09:00"),
        ("YYYY-MM-DD HH24:MITZH", "2024-01-01 00:00-15", "2024-01-01 15:00"),
        ("YYYY-MM-DD HH24:MITZH", "2024-01-01 00:00+16", None),
        ("YYYY-MM-DD HH24:MITZH:TZM", "2024-01-01 00:00-00:30", "2024-01-01 00:30"),
        ("YYYY-MM-DD HH24:MITZH:TZM", "2024-01-01 00:00+05:60", None),
        ("YYYY-MM-DD HH24", "2024-01-01 23", "2024-01-01 23:00"),
        ("YYYY-MM-DD HH24", "2024-01-01 24", None),
        ("YYYY-MM-DD HH12AM", "2024-01-01 12am", "2024-01-01 00:00"),
        ("YYYY-MM-DD HH12AM", "2024-01-01 0am", None),
        ("YYYY-MM-DD HH12AM", "2024-01-01 13pm", None),
        ("YYYY-MM-DD MI", "2024-01-01 60", None),
        ("YYYY-MM-DD SS", "2024-01-01 60", None),
        ("YYYY-MM-DD", "0000-01-01", None),
        ("YYYY-MM-DD", "2024-00-01", None),
        ("YYYY-MM-DD", "2024-13-01", None),
        ("YYYY-MM-DD", "2024-02-00", None),
        ("YYYY-MM-DD", "2024-02-29", "2024-02-29 00:00"),
        ("YYYY-MM-DD", "2023-02-29", None),
        ("YYYYMMDD", "2024021", None),
    ],
)
def test_each_limit_of_a_time_holds(
    asked: sa.Connection, wanted: str, text: str, expected: str | None
) -> None:
    at = f"({column_sql(standardised({'timestamptz': wanted}))}) AT TIME ZONE 'UTC'"
    ((value,),) = read(asked, [text], at)
    assert (value and f"{value:%Y-%m-%d %H:%M}") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("31.03.2024 02:30", None),
        ("27.10.2024 02:30", "2024-10-27 01:30:00"),
        ("1.7.2024 9:05", "2024-07-01 07:05:00"),
    ],
)
def test_a_local_time_that_the_clocks_leave_out_is_none(
    asked: sa.Connection, text: str, expected: str | None
) -> None:
    step = {"timestamptz": "DD.MM.YYYY HH24:MI", "zone": "Europe/Berlin"}
    ((value,),) = read(
        asked, [text], f"(({column_sql(standardised(step))}) AT TIME ZONE 'UTC')::timestamp(0)"
    )
    assert (None if value is None else f"{value:%Y-%m-%d %H:%M:%S}") == expected


def test_without_a_zone_a_text_is_in_utc_whatever_the_session_has(asked: sa.Connection) -> None:
    at = column_sql(standardised({"timestamptz": "DD.MM.YYYY HH24:MI"}))
    ((seconds,),) = read(asked, ["01.02.2024 10:30"], f"extract(epoch FROM {at})::bigint")
    assert dt.datetime.fromtimestamp(seconds, dt.UTC) == dt.datetime(
        2024, 2, 1, 10, 30, tzinfo=dt.UTC
    )


def test_quoted_letters_of_a_format_mean_nothing_but_themselves(asked: sa.Connection) -> None:
    step = {"timestamptz": hostile.FORMAT}
    at = f"({column_sql(standardised(step))}) AT TIME ZONE 'UTC'"
    texts: list[str | None] = [hostile.SOME_TIME, hostile.SOME_TIME.replace("/*", "//")]
    assert read(asked, texts, at) == [(dt.datetime(2024, 2, 29, 10, 30),), (None,)]


def test_what_does_not_convert_is_told_as_it_is_and_not_at_any_length(asked: sa.Connection) -> None:
    count = standardised("trim", "numeric")
    counted = standardised({"timestamptz": "YYYY-MM-DD"})
    texts: list[str | None] = [" #REF! ", "1,234", "", " ", None, "x" * 80, "x" * 200, "2024-02-30"]
    found = read(
        asked, texts,
        unread_number_sql("quantity", count, "text"), unconverted_sql('at "1"', counted),
        unread_number_sql("quantity", "raw", "text"),
    )  # fmt: skip
    assert found == [
        ('quantity " #REF! "', 'at "1" " #REF! "', 'quantity " #REF! "'),
        (None, 'at "1" "1,234"', 'quantity "1,234"'),
        (None, None, None),
        (None, None, None),
        (None, None, None),
        (f'quantity "{"x" * 80}"', f'at "1" "{"x" * 80}"', f'quantity "{"x" * 80}"'),
        (f'quantity "{"x" * 80}..."', f'at "1" "{"x" * 80}..."', f'quantity "{"x" * 80}..."'),
        ('quantity "2024-02-30"', 'at "1" "2024-02-30"', 'quantity "2024-02-30"'),
    ]


def test_a_text_may_have_a_collation_that_knows_no_patterns(asked: sa.Connection) -> None:
    undone = asked.begin_nested()
    try:
        asked.execute(
            sa.text(
                "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', "
                "deterministic = false)"
            )
        )
    except sa.exc.NotSupportedError:
        undone.rollback()
        pytest.skip(
            "this PostgreSQL is built without ICU: apt-get install postgresql, and run the test "
            "with --server=system"
        )
    day = column_sql(standardised({"timestamptz": "YYYY-MM-DD"}))
    columns = [
        number_sql("raw", "text"),
        number_state_sql("raw", "text"),
        column_sql(standardised("trim", "collapse_space", "upper")),
        number_sql(standardised("numeric"), "text"),
        number_state_sql(standardised("numeric"), "text"),
        f"extract(year FROM {day})::integer",
    ]
    found = asked.execute(
        sa.text(
            escaped(
                f"SELECT {', '.join(columns)} FROM (SELECT t COLLATE ci AS raw "
                "FROM unnest(ARRAY[' 12 ', '2024-01-02', ' ', '1,234']) t) AS s"
            )
        )
    )
    assert [tuple(row) for row in found] == [
        (12, "ok", "12", 12, "ok", None),
        (None, "not_a_number", "2024-01-02", None, "not_a_number", 2024),
        (None, "missing", "", None, "missing", None),
        (None, "not_a_number", "1,234", 1234, "ok", None),
    ]
    undone.rollback()


def test_a_database_may_have_another_encoding(database: Database) -> None:
    """White space that an encoding does not have must not keep a statement from being sent."""
    name = f"{database.name}_latin"
    newer = int(database.psql("SHOW server_version_num")) >= 150_000
    database.psql(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' "
        + ("LOCALE_PROVIDER libc" if newer else "")
    )
    engine = create_engine(database.url.replace(f"/{database.name}?", f"/{name}?"))
    columns = [
        column_sql(standardised("trim", "collapse_space", "upper")),
        number_sql(standardised({"numeric": {"thousands": " ", "decimal": ","}}), "text"),
        number_sql(standardised({"numeric": {"thousands": "'"}}), "text"),
        f"({column_sql(standardised({'timestamptz': 'YYYY-MM-DD'}))}) AT TIME ZONE 'UTC'",
    ]
    try:
        with engine.connect() as connection:
            assert read(connection, ["\xa01\xa0234,5 ", " 2024-01-02\xa0", "1'234"], *columns) == [
                ("1 234,5", Decimal("1234.5"), None, None),
                ("2024-01-02", None, None, dt.datetime(2024, 1, 2)),
                ("1'234", None, Decimal(1234), None),
            ]
    finally:
        engine.dispose()
        database.psql(f"DROP DATABASE {name}")


STEP: TypeAdapter[Standardised] = TypeAdapter(Standardised)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([], "at least 1 item"),
        (["lower"], "should be trim, collapse_space, upper, numeric, {numeric: ...} or"),
        ([["trim"]], "should be trim, collapse_space, upper, numeric"),
        (["numeric", "trim"], "come last"),
        ([{"timestamptz": "YYYY-MM-DD"}, "numeric"], "come last"),
        ([{"numeric": {"thousands": "."}}], "cannot be the same"),
        ([{"numeric": {"thousands": "x"}}], "Input should be"),
        ([{"timestamptz": "DD.MM.YY"}], "'YY' begins with no pattern"),
        ([{"timestamptz": "YYYY-MM-DDTHH24:MI"}], 'such as "T"'),
        ([{"timestamptz": "YYYY-MM"}], "DD is missing"),
        ([{"timestamptz": "YYYY-MM-DD-DD"}], "DD is there twice"),
        ([{"timestamptz": "YYYY-MM-DD HH12:MI"}], "HH12 and AM go together"),
        ([{"timestamptz": "YYYY-MM-DD HH24:MI PM"}], "HH12 and AM go together"),
        ([{"timestamptz": "YYYY-MM-DD HH24 HH12 AM"}], "say the same"),
        ([{"timestamptz": "YYYY-MM-DD SS.US MS"}], "say the same"),
        ([{"timestamptz": "YYYY-MM-DD HH24:MI.US"}], "US needs SS"),
        ([{"timestamptz": "YYYY-MM-DD TZM"}], "TZM needs TZH"),
        ([{"timestamptz": "YYYY-MM-DD TZH", "zone": "UTC"}], "leave zone out"),
        ([{"timestamptz": "YYYY-MM-DD", "zones": "UTC"}], "Extra inputs"),
    ],
)
def test_steps_that_make_no_sense_are_refused(steps: list[Any], why: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(why)):
        STEP.validate_python({"column": "raw", "as": steps})


@pytest.mark.parametrize("step", ["trim", "numeric", {"timestamptz": "YYYY-MM-DD"}])
def test_a_step_may_stand_alone(step: Any) -> None:
    alone = STEP.validate_python({"column": "raw", "as": step})
    assert alone == STEP.validate_python({"column": "raw", "as": [step]})


def test_a_text_has_one_origin() -> None:
    for origin in ({}, {"column": "raw", "sql": "s.raw"}):
        with pytest.raises(ValidationError, match="give either column or sql"):
            STEP.validate_python({**origin, "as": ["trim"]})

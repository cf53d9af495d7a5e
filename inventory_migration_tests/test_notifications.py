"""Notifications: who is told of what, once; and that nobody who is told can hold up the work."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import sqlalchemy as sa

from inventory_migration.catalog import resolve
from inventory_migration.database import create_engine
from inventory_migration.engine import control, gates, ledger, notifications, posting, rollback
from inventory_migration.engine.undo_scope import Scope
from inventory_migration.errors import MappingInvalid, MigrationPaused
from inventory_migration.mapping import StockMapping, parse_mapping
from inventory_migration.mapping.notifications import News
from inventory_migration.notifications import delivering, delivery, message, schema
from inventory_migration.notifications.slack import slack
from inventory_migration_tests import stage
from inventory_migration_tests.commands import answer, im, mapping_file, program, sentence
from inventory_migration_tests.conftest import Database
from inventory_migration_tests.receivers import (
    SECRET_PATH,
    Receiver,
    described,
    dripping,
    receiving,
)
from inventory_migration_tests.sessions import until

pytestmark = pytest.mark.one_server

VALID = jsonschema.Draft202012Validator(
    schema.load(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)
TWO_PHASES = [{"name": "pilot", "companies": 1}, {"name": "rest"}]
SENT = (
    "SELECT event, state, attempts, failure FROM inventory_migration.notification ORDER BY event_id"
)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def begin(database: Database, mapping: StockMapping = stage.MAPPING) -> None:
    """What the first step of a run does before anything can happen."""
    with database.engine.begin() as connection:
        ledger.install(connection)
        notifications.subscribe(connection, mapping)


def undo(database: Database, mapping: StockMapping = stage.MAPPING) -> None:
    with control.Claim(database.engine) as claim:
        rollback.roll_back(database.engine, mapping, claim, reason="a mistake & <more>")


def test_a_whole_life_is_told_in_order_and_each_event_once(
    database: Database, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DASHBOARD", "REPORT", "DAGSTER"):
        monkeypatch.setenv(f"INVENTORY_{name}_URL", f"https://{name.lower()}.example")
    stage.shop(database)
    mapping = stage.mapping(phases=TWO_PHASES)
    begin(database, mapping)
    with delivering(database.engine, mapping):
        stage.locations(database, mapping)
        with pytest.raises(MigrationPaused):
            stage.transform(database, mapping, stop_after="pilot")
        again = stage.Start(explicit=True, resume=True, run_id="r-1")
        stage.transform(database, mapping, start=again)
        stage.close(database, mapping, again)
        undo(database, mapping)
    assert described(told.got) == [
        ("started", "running"),
        ("phase_done", "running"),
        ("paused", "paused"),
        ("resumed", "running"),
        ("phase_done", "running"),
        ("finished", "verified"),
        ("rolled_back", "rolled_back"),
    ]
    for got in told.got:
        VALID.validate(got.said)
        assert got.said.keys() == VALID.schema["properties"].keys()
    assert len({got.said["notification_id"] for got in told.got}) == len(told.got)
    paused, finished, undone = told.got[2].said, told.got[5].said, told.got[6].said
    assert paused["reason"] == "stopped after phase pilot"
    assert told.got[1].said["phase"] == "pilot"
    assert finished["mapping"] == "shop"
    assert undone["reason"] == "a mistake & <more>"
    assert undone["records"]["undone"] == 30
    assert undone["units"] == {"before": "465", "after": "465", "difference": "0"}
    assert database.name in finished["database"]
    assert "password" not in finished["database"]
    assert finished["links"] == {
        "dashboard": "https://dashboard.example/migrations/1",
        "report": "https://report.example/shop-1.html",
        "dagster": "https://dagster.example/runs/r-1",
    }
    # No report is written of what stands still.
    assert paused["links"]["report"] is None
    deliver(database, mapping)
    assert len(told.got) == 7


def sent(database: Database) -> list[list[str]]:
    """The messages that the ledger knows: event, state, attempts, failure."""
    return [line.split("|") for line in database.psql(SENT).splitlines()]


def happen(database: Database, *kinds: str, mapping: str = "shop", ago: str = "0") -> None:
    """Let the trail have events, as another process would leave them."""
    for kind in kinds:
        database.psql(f"""
            INSERT INTO inventory_migration.event (who, kind, detail, at)
            VALUES ('somebody', '{kind}', '{{"mapping": "{mapping}", "reason": "so"}}',
                    clock_timestamp() - interval '{ago}')
        """)


def deliver(database: Database, mapping: StockMapping | None = stage.MAPPING) -> float:
    """What a command does around its work; returns how long it took."""
    began = time.monotonic()
    with delivering(database.engine, mapping):
        pass
    return time.monotonic() - began


def test_a_threshold_a_part_and_what_stood_still_are_told_as_what_they_are(
    database: Database, told: Receiver
) -> None:
    stage.shop(database)
    mapping = stage.mapping(
        phases=TWO_PHASES,
        thresholds={"quarantined_percent": 1, "after_records": 1, "action": "continue"},
    )
    database.psql("UPDATE stock_items SET quantity = NULL WHERE id = 7")
    begin(database, mapping)
    with delivering(database.engine, mapping):
        stage.migrate(database, mapping)
        with control.Claim(database.engine) as claim:
            only = Scope(phases=("pilot",))
            rollback.roll_back(database.engine, mapping, claim, scope=only, reason="too early")
        with database.engine.begin() as connection:
            resolved = resolve(connection, mapping)
            gates.note_refusal(connection, resolved, "transformed_stock", "2 rows astray")
        happen(database, "monitoring_failed")
    found = {got.said["event"]: got.said for got in told.got}
    assert [got.said["event"] for got in told.got] == [
        *("started", "threshold", "threshold", "phase_done", "phase_done", "finished"),
        *("rolled_back", "gate_refused", "monitoring_failed"),
    ]
    for said in found.values():
        VALID.validate(said)
    assert found["threshold"]["threshold"]["action"] == "continue"
    assert "1 of 10 records" in found["threshold"]["reason"]
    # The rest stands, and is not finished a second time.
    assert found["rolled_back"]["state"] == "verified"
    assert "pilot" in found["rolled_back"]["reason"]
    assert (found["gate_refused"]["gate"], found["gate_refused"]["migration_id"]) == (
        "transformed_stock",
        None,
    )
    said = slack(found["rolled_back"])
    assert "Rolled back in part, and verified: shop" in said["text"]


@pytest.mark.parametrize("kind", ["hangs", "drips", "refuses", "is not found"])
def test_a_receiver_that_does_not_answer_holds_up_neither_the_work_nor_other_receivers(
    database: Database,
    receiver: Receiver,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(delivery, "FLUSH_SECONDS", 1.0)
    monkeypatch.setattr(posting, "SECONDS", 0.4)
    caplog.set_level(logging.DEBUG)
    over = threading.Event()
    resolve_name = socket.getaddrinfo

    def never_resolves(host: Any, *rest: Any, **more: Any) -> Any:
        if host == "nowhere.example":
            over.wait(60)
        return resolve_name(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", never_resolves)
    with ExitStack() as stack:
        stack.callback(over.set)
        url = {
            "hangs": lambda: stack.enter_context(receiving(hangs=True)).url,
            "drips": lambda: stack.enter_context(dripping()),
            "refuses": lambda: f"http://127.0.0.1:9/{SECRET_PATH}",
            "is not found": lambda: f"http://nowhere.example/{SECRET_PATH}",
        }[kind]()
        monkeypatch.setenv("AWAY", url)
        monkeypatch.setenv("THERE", receiver.url)
        mapping = stage.mapping(notifications=[{"url_variable": "AWAY"}, {"url_variable": "THERE"}])
        begin(database, mapping)
        happen(database, "state_running", "state_paused")
        took = deliver(database, mapping)
    assert took < 3
    assert len(receiver.got) == 2
    rows = database.psql(
        "SELECT url_variable, state, failure LIKE 'it does not answer: %', attempts > 0 "
        "FROM inventory_migration.notification ORDER BY event_id, 1"
    ).splitlines()
    # In their order: the second waits for the first.
    assert rows == [
        *("AWAY|pending|t|t", "THERE|delivered||t"),
        *("AWAY|pending||f", "THERE|delivered||t"),
    ]
    told = caplog.text + database.psql("SELECT t FROM inventory_migration.notification t")
    assert "AWAY: it does not answer" in caplog.text
    assert SECRET_PATH not in told


def test_what_a_receiver_answers_decides_whether_and_when_it_is_tried_again(
    database: Database, told: Receiver
) -> None:
    begin(database)
    # It has stumbled: the same message again, with the same id, and the next one behind it.
    told.answer(503, 200)
    happen(database, "state_paused", "state_held")
    assert deliver(database) < 4
    assert told.events == ["paused", "paused", "held"]
    ids = [got.said["notification_id"] for got in told.got]
    assert ids[0] == ids[1] != ids[2]
    assert sent(database) == [["paused", "delivered", "2", ""], ["held", "delivered", "1", ""]]
    # It has had enough: nothing at all is posted until it wants to hear again.
    told.answer((429, {"Retry-After": "900"}))
    happen(database, "state_failed", "state_aborted")
    assert deliver(database) < 3
    assert deliver(database) < 3
    assert told.events[3:] == ["failed"]
    wait = "SELECT bool_and(due_at BETWEEN now() + '800 s' AND now() + '1000 s')"
    assert database.psql(f"{wait} FROM inventory_migration.notification WHERE state = 'pending'")
    database.psql("UPDATE inventory_migration.notification SET due_at = now()")
    # It refuses this very message, and takes the next.
    told.answer(400, 200)
    deliver(database)
    assert told.events[4:] == ["failed", "aborted"]
    assert sent(database)[2:] == [
        ["failed", "given_up", "2", "it answered 400"],
        ["aborted", "delivered", "1", ""],
    ]
    # It points elsewhere, where nobody follows.
    with receiving() as elsewhere:
        told.answer((307, {"Location": elsewhere.url}), (302, {"Location": elsewhere.url}))
        happen(database, "state_rolled_back", "state_verified")
        deliver(database)
        assert elsewhere.got == []
    assert [row[1] for row in sent(database)[4:]] == ["given_up", "given_up"]
    assert "no redirect is followed" in sent(database)[4][3]


def test_one_message_that_is_never_taken_does_not_keep_the_others_for_ever(
    database: Database, told: Receiver
) -> None:
    begin(database)
    happen(database, "state_paused", "state_held")
    told.answer((500, {"Retry-After": "0"}))
    with delivering(database.engine, stage.MAPPING):
        until(lambda: "held" in told.events, "the second message")
        told.answer(200)
    assert told.events.index("held") == 5


def test_a_url_may_hold_a_name_and_a_password_and_none_of_it_is_shown(
    database: Database,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv(
        "INVENTORY_NOTIFY_URL", receiver.url.replace("http://", "http://me:pa55w%20rd@")
    )
    begin(database)
    happen(database, "state_paused")
    receiver.answer(404)
    deliver(database)
    (got,) = receiver.got
    assert base64.b64decode(got.headers["Authorization"].split()[1]) == b"me:pa55w rd"
    kept = database.psql("SELECT t FROM inventory_migration.notification t")
    assert "it answered 404" in kept
    for secret in ("pa55w", SECRET_PATH):
        assert secret not in kept + caplog.text


def test_what_a_process_had_no_time_to_tell_is_told_by_the_next_one(
    database: Database, told: Receiver
) -> None:
    begin(database)
    script = """
import sys, time
from inventory_migration.database import create_engine
from inventory_migration.engine import ledger
from inventory_migration.notifications import delivering
engine = create_engine(sys.argv[1])
with delivering(engine):
    with engine.begin() as connection:
        ledger.note(connection, "state_paused", mapping="shop", reason="first")
    time.sleep(600)
"""
    with receiving(hangs=True) as hanging:
        killed = subprocess.Popen(
            [sys.executable, "-c", script, database.url],
            env={**os.environ, "INVENTORY_NOTIFY_URL": hanging.url},
        )
        # It has said so and knows of no answer when it dies; what comes behind, nobody has read.
        until(lambda: hanging.got, "the first message", 60)
        happen(database, "state_held")
        killed.kill()
        killed.wait(30)
        told.answer(200)
        until(lambda: CLAIMED not in database.psql(LOCKS), "the end of its session")
        deliver(database)
    assert told.events == ["paused", "held"]
    # A receiver that has had it can tell.
    again = told.got[0].said["notification_id"]
    assert hanging.got[0].said["notification_id"] == again
    assert [row[1] for row in sent(database)] == ["delivered", "delivered"]


LOCKS = "SELECT 'claimed' FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted"
CLAIMED = "claimed"


def test_two_processes_at_once_tell_each_event_once(database: Database, told: Receiver) -> None:
    begin(database)
    others = [delivery.Deliverer(create_engine(database.url)) for _ in range(2)]
    with delivering(database.engine, stage.MAPPING):
        for _ in range(5):
            happen(database, "state_paused", "state_held")
    for other in others:
        other.close()
    assert told.events == ["paused", "held"] * 5
    assert {row[2] for row in sent(database)} == {"1"}


def test_a_mapping_says_who_hears_what_and_a_process_that_knows_only_its_name_obeys(
    database: Database, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as chat, receiving() as alarms:
        monkeypatch.setenv("CHAT", chat.url)
        monkeypatch.setenv("ALARMS", alarms.url)
        mapping = stage.mapping(
            notifications=[
                {"url_variable": "CHAT", "format": "slack"},
                {"url_variable": "ALARMS", "events": ["failed", "held"]},
                {"url_variable": "INVENTORY_NOTIFY_URL", "events": ["finished"]},
            ]
        )
        begin(database, mapping)
        happen(database, "state_paused", "state_failed", "state_verified")
        happen(database, "state_held", mapping="other")
        deliver(database, None)
        assert [got.said["text"].split(":")[0] for got in chat.got] == [
            *("⏸ Paused", "✖ Failed", "✔ Finished and verified"),
        ]
        assert alarms.events == ["failed"]
        # Its own word on a receiver goes before the one for all mappings, and for none else.
        assert told.events == ["finished", "held"]
        # One who is named no more hears nothing more; one who comes later hears no old news.
        begin(database, stage.mapping(notifications=[{"url_variable": "LATER"}]))
        monkeypatch.setenv("LATER", alarms.url)
        happen(database, "state_failed")
        deliver(database, None)
        assert len(chat.got) == 3
        assert alarms.events == ["failed", "failed"]


def test_a_message_waits_for_a_process_that_knows_its_url_but_not_for_ever(
    database: Database, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(database)
    database.psql(
        "UPDATE inventory_migration.notification_channel SET since = since - interval '1 day'"
    )
    happen(database, "state_paused", ago="7 hours")
    happen(database, "state_held", ago="5 hours")
    monkeypatch.delenv("INVENTORY_NOTIFY_URL")
    deliver(database, None)
    assert sent(database) == []
    monkeypatch.setenv("INVENTORY_NOTIFY_URL", told.url)
    told.answer(500)
    monkeypatch.setattr(delivery, "FLUSH_SECONDS", 0.5)
    deliver(database)
    assert set(told.events) == {"held"}
    # Meanwhile it is news no more.
    database.psql("""
        ALTER TABLE inventory_migration.event DISABLE TRIGGER append_only;
        UPDATE inventory_migration.event SET at = at - interval '2 hours';
    """)
    count = len(told.got)
    deliver(database)
    assert len(told.got) == count
    ((_, state, _, failure),) = sent(database)
    assert (state, failure) == (
        "given_up",
        "it was news no more after 6 hours; the last time it answered 500",
    )


def test_a_ledger_that_somebody_holds_does_not_hold_up_the_end_of_the_work(
    database: Database, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FLUSH_SECONDS", 0.5)
    begin(database)
    happen(database, "state_paused")
    with database.engine.begin() as holder:
        holder.execute(sa.text("LOCK TABLE inventory_migration.notification"))
        assert deliver(database) < 3
    assert told.got == []
    until(lambda: deliver(database) and told.got, "the message")
    assert told.events == ["paused"]


def test_what_happens_before_anybody_could_be_named_is_news_to_them_all_the_same(
    database: Database, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.delenv("INVENTORY_NOTIFY_URL")
        begin(database)
    happen(database, "state_held")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL"
    with ExitStack() as stack, database.engine.begin() as holder:
        holder.execute(sa.text("LOCK TABLE inventory_migration.notification_channel"))
        stack.enter_context(delivering(database.engine))
        until(lambda: database.psql(waiting) == "1", "its turn")
        happen(database, "state_paused")
    assert told.events == ["paused"]


def test_it_has_a_session_of_its_own_that_holds_no_transaction_and_ends_with_the_work(
    database: Database, told: Receiver
) -> None:
    begin(database)
    ours = f"""
        SELECT state FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = '{delivery.APPLICATION}'
    """
    with receiving(hangs=True) as hanging, pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "FLUSH_SECONDS", 0.3)
        patch.setenv("INVENTORY_NOTIFY_URL", hanging.url)
        with delivering(database.engine, stage.MAPPING):
            happen(database, "state_paused")
            until(lambda: hanging.got, "the message")
            until(lambda: database.psql(ours) == "idle", "a session at rest")
        until(lambda: database.psql(ours) == "", "its end")
        assert sent(database)[0][1:3] == ["pending", "1"]
        assert "had not answered when the work was over" in sent(database)[0][3]
    with delivering(database.engine, stage.mapping()), pytest.MonkeyPatch.context() as patch:
        patch.delenv("INVENTORY_NOTIFY_URL")
        until(lambda: database.psql(ours) == "idle", "a session at rest")
    told.got.clear()


@pytest.mark.slow
def test_a_dashboard_tells_what_is_left_over_unless_it_only_looks(
    database: Database, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    begin(database)
    happen(database, "state_held")
    for words, events in ((("--read-only",), []), ((), ["held"])):
        serving = program("dashboard", "--port", "0", *words)
        assert serving.stdout is not None
        try:
            until(lambda: "http://" in serving.stdout.readline(), "the page", 60)  # noqa: B023
            until(lambda: told.events == events, "the message", 60)  # noqa: B023
        finally:
            serving.send_signal(signal.SIGTERM)
            serving.communicate(timeout=60)
        assert told.events == events


def test_a_json_message_is_signed_where_there_is_a_secret(
    database: Database, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(database)
    happen(database, "state_paused")
    deliver(database)
    monkeypatch.setenv("INVENTORY_NOTIFY_SECRET", "kn0wn to both")
    happen(database, "state_held")
    deliver(database)
    unsigned, signed = told.got
    assert "X-Inventory-Migration-Signature" not in unsigned.headers
    digest = hmac.new(b"kn0wn to both", signed.body, hashlib.sha256).hexdigest()
    assert signed.headers["X-Inventory-Migration-Signature"] == f"sha256={digest}"
    assert signed.headers["X-Inventory-Migration-Event"] == "held"
    assert signed.headers["X-Inventory-Migration-Notification"] == signed.said["notification_id"]


def test_slack_gets_text_without_markup_and_within_its_limits() -> None:
    hostile = "<!channel> & *bold* <https://evil.example|click> `x` " * 400
    for event in get_args(News):
        said = {
            **message.trial("shop", database="host db:5432, database <b>&amp;"),
            "event": event,
            "reason": hostile,
            "who": "a<b>&c by \n psql",
            "records": dict.fromkeys(VALID.schema["properties"]["records"]["required"], 7),
            "percent": 99.9,
            "units": {"before": "1", "after": None, "difference": None},
            "elapsed_seconds": 3723.4,
            "migration_id": 12,
            "threshold": {"trigger": "quarantined", "where": "phase x", "action": "pause"},
            "links": {
                "dashboard": "https://d.example/m/12?a=1&b=<2>|3",
                "report": None,
                "dagster": "https://e.example/runs/1",
            },
            "state": "paused",
        }
        found = slack(said)
        texts = list(texts_of(found["blocks"]))
        assert len(found["blocks"]) <= 50
        assert all(0 < len(text["text"]) <= 3000 for text in texts)
        assert all(
            0 < len(field["text"]) <= 2000
            for block in found["blocks"]
            for field in block.get("fields", [])
        )
        # What comes from outside stands where there is no markup, and could not begin any.
        for text in [{"text": found["text"]}, *texts]:
            if text.get("type") != "mrkdwn":
                assert not set("<>") & set(text["text"])
                assert re.search(r"&(?!amp;|lt;|gt;)", text["text"]) is None
        marked = " ".join(text["text"] for text in texts if text.get("type") == "mrkdwn")
        assert "bold" not in marked
        assert "<https://d.example/m/12?a=1&amp;b=%3C2%3E%7C3|Dashboard>" in marked
        assert "1 h 2 min" in json.dumps(found)
    assert slack({**said, "at": "2026-01-01T00:00:00+00:00"})["blocks"][-1]["elements"][0][
        "text"
    ].endswith("late")


def texts_of(value: Any) -> Iterator[dict[str, Any]]:
    """Every text object within blocks."""
    if isinstance(value, dict):
        if "text" in value and isinstance(value["text"], str):
            yield value
        for item in value.values():
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)


def test_a_test_message_says_who_got_it(
    told: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", "postgresql://u:s3cretpw@db.example/shop")
    assert "INVENTORY_NOTIFY_URL (json): it arrived." in im("notifications", "test").stdout
    VALID.validate(told.got[0].said)
    assert told.got[0].said["test"] is True
    assert "db.example" in told.got[0].said["database"]
    assert "s3cretpw" not in told.got[0].body.decode()
    path = mapping_file(tmp_path, notifications=[{"url_variable": "CHAT", "format": "slack"}])
    words = ("notifications", "test", "--mapping", path)
    unset = im(*words, code=2)
    assert sentence(unset).startswith("Error: The test message did not arrive (CHAT: the envi")
    assert "INVENTORY_NOTIFY_URL (json): it arrived." in unset.stdout
    monkeypatch.setenv("CHAT", told.url)
    told.answer(404, 200)
    found = answer(*words, code=2)
    assert sorted(one["arrived"] for one in found["channels"]) == [False, True]
    assert found["error"]["kind"] == "MessageNotDelivered"
    assert SECRET_PATH not in json.dumps(found)
    monkeypatch.delenv("INVENTORY_NOTIFY_URL")
    assert "Nobody is told of anything: set" in sentence(im("notifications", "test", code=2))


def test_what_became_of_each_message_is_listed(
    database: Database, told: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INVENTORY_DATABASE_URL", database.url)
    assert "No event was told to anybody." in im("notifications", "list").stdout
    begin(database)
    happen(database, "state_paused", "state_held")
    told.answer(404, 200)
    deliver(database)
    held, paused = answer("notifications", "list")
    assert (held["event"], held["state"], held["failure"]) == ("held", "delivered", None)
    assert (paused["event"], paused["state"], paused["failure"]) == (
        *("paused", "given_up"),
        "it answered 404",
    )
    shown = im("notifications", "list", "--limit", 1).stdout
    assert "arrived" in shown
    assert "404" not in shown


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("[{url_variable: A}, {url_variable: A}]", "two entries name A"),
        ("[{url_variable: 'https://hooks.example'}]", "url_variable"),
        ("[{url_variable: A, events: [weather]}]", "'started', 'resumed'"),
        ("[{url_variable: A, format: teams}]", "'json' or 'slack'"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused_with_the_mapping(section: str, said: str) -> None:
    text = json.dumps(stage.DEFINITION)[:-1] + f', "notifications": {section}}}'
    with pytest.raises(MappingInvalid, match=said):
        parse_mapping(text, origin="shop.yaml")


def test_who_is_told_is_no_part_of_what_moves() -> None:
    named = stage.mapping(notifications=[{"url_variable": "CHAT", "format": "slack"}])
    assert named.hash == stage.MAPPING.hash

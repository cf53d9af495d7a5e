"""Buttons and the dialog behind them: what may be done with a migration, and what came of it.

Which buttons there are, and what is let through, is decided in `actions.py` on the server: to
hide a button protects nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from markupsafe import Markup
from nicegui import run

from inventory_migration.dashboard import actions, marks
from inventory_migration.dashboard.actions import Offer
from inventory_migration.dashboard.context import Context
from inventory_migration.dashboard.elements import Live, Tag
from inventory_migration.dashboard.wording import Picture
from inventory_migration.database import explain
from inventory_migration.errors import MigrationError, StillBusy
from inventory_migration.report import html
from inventory_migration.report.text import printable

_FIELDS = """(event) => {
  event.preventDefault();
  emit(Object.fromEntries(new FormData(event.target)));
}"""

_DID_SECONDS = 15.0

_REACHES = {actions.RESUME: "verified", actions.ROLL_BACK: "rolled_back"}
"""The state in which a process that was started has done what it was started for."""

_CLOSE = '(event) => event.target.closest("dialog").close()'


@dataclass(frozen=True)
class Question:
    """What the dialog says of an action.

    Attributes:
        button: What is written on its button.
        kind: How the button looks: main, harm, or neither.
        title: What is asked; `{}` is the migration.
        text: What comes of it.
        doing: What is said while it is under way.
        done: What is said afterwards.
        reason: Whether a reason is kept in the trail.
        write_stop: Whether one may say that the application's writes are stopped.
    """

    button: str
    kind: str
    title: str
    text: str
    doing: str
    done: str
    reason: bool = False
    write_stop: bool = False


QUESTIONS: Mapping[str, Question] = {
    actions.PAUSE: Question(
        "Pause",
        "",
        "Pause {}?",
        "Chunks that are being written end, and no other begins. Once it is paused no stock moves, "
        "what was moved stays, and only a resume lifts it.",
        "Pausing",
        "is paused",
        reason=True,
    ),
    actions.RESUME: Question(
        "Resume",
        "main",
        "Go on with {}?",
        "A process of its own goes on from where it stands, on the machine of this dashboard. It "
        "does not end with this page, nor with the dashboard.",
        "Starting",
        "is being taken up; its state follows in some seconds",
        write_stop=True,
    ),
    actions.ABORT: Question(
        "Abort",
        "harm",
        "End {} for good?",
        "What it has moved stays where it is, and its triggers go. It can not be resumed: only a "
        "rollback takes back what it moved, and only an explicit run begins another.",
        "Aborting",
        "is aborted",
        reason=True,
    ),
    actions.ROLL_BACK: Question(
        "Roll back",
        "harm",
        "Take {} back?",
        "Every column that it wrote gets back what it held before, and locations that it created "
        "and nobody uses go. What the application has changed since is kept, and listed.",
        "Starting",
        "is being rolled back; its state follows in some seconds",
    ),
}
"""What is asked before each action, in the order of the buttons."""


class Controls:
    """One viewer's buttons for a migration."""

    def __init__(self, app: Context, migration_id: int) -> None:
        """Build the buttons, none of which is shown yet, and the dialog.

        Args:
            app: The dashboard.
            migration_id: What they are for.
        """
        self._app, self._migration_id = app, migration_id
        # Asked while the page is built: later there is no request that says who looks.
        self._viewer = app.viewer()
        self._mapping = ""
        self._offers: Mapping[str, Offer] = {}
        self._asked: str | None = None
        self._busy, self._force, self._told = False, False, ""
        self._did, self._did_at = "", 0.0
        self._buttons = {name: self._button(name, asked) for name, asked in QUESTIONS.items()}
        self._build_dialog()

    def _button(self, name: str, asked: Question) -> Tag:
        button = Tag(
            "button", asked.button, f"button {asked.kind}", type="button",
            data_testid=f"act-{name.replace('_', '')}",
        )  # fmt: skip
        button.on("click", lambda: self._ask(name), args=[])
        button.set_visibility(False)
        return button

    def _build_dialog(self) -> None:
        self._dialog = Tag(
            "dialog", classes="ask", data_testid="ask", aria_labelledby="ask-title",
            aria_describedby="ask-text",
        )  # fmt: skip
        with self._dialog, Tag("form", novalidate=True) as self._form:
            self._form.on("submit", self._confirm, js_handler=_FIELDS)
            self._title = Tag("h2", id="ask-title")
            self._text = Tag("p", id="ask-text")
            self._reason = self._field("reason", "Why, for the trail (may be left out)")
            self._stop = self._check("write_stop", "The application's writes are stopped now")
            self._forced = self._check("force", "Cancel what is under way, at the server")
            self._name = self._field("name", "")
            self._said = Live("said")
            self._said.props.update({"role": "alert"})
            with Tag("div", classes="acts"):
                cancel = Tag(
                    "button", "Leave it as it is", "button", type="button",
                    data_testid="ask-cancel",
                )  # fmt: skip
                cancel.on("click", js_handler=_CLOSE)
                self._go = Tag("button", "", "button", type="submit", data_testid="ask-confirm")

    def _field(self, name: str, label: str) -> tuple[Tag, Tag]:
        with Tag("label", classes="field") as whole:
            words = Tag("span", label)
            Tag(
                "input", "", "input", type="text", name=name, autocomplete="off", maxlength=500,
                spellcheck="false", data_testid=f"ask-{name}",
            )  # fmt: skip
        return whole, words

    def _check(self, name: str, label: str) -> Tag:
        with Tag("label", classes="check") as whole:
            Tag("input", type="checkbox", name=name, data_testid=f"ask-{name.replace('_', '-')}")
            Tag("span", label)
        return whole

    def tick(self, picture: Picture) -> None:
        """Show the buttons that this viewer has now, and how far what they asked for is."""
        self._mapping = printable(picture["mapping"])
        offers = self._app.actions.offered(self._viewer, picture)
        self._offers = {offer.action: offer for offer in offers}
        for name, button in self._buttons.items():
            button.set_visibility(name in self._offers)
        if self._busy and self._asked:
            told = f": {self._told}" if self._told else ""
            self._said.show(html.text(f"{QUESTIONS[self._asked].doing}{told}"))

    def news(self, picture: Picture) -> Markup:
        """What came of what this viewer did, and of the process that was started last."""
        if self._did and time.monotonic() - self._did_at < _DID_SECONDS:
            return marks.notice("did", "good", self._did, "It is in the audit trail.")
        started = self._app.actions.started(self._migration_id)
        if started is None:
            return Markup("")
        what = {actions.RESUME: "The resume", actions.ROLL_BACK: "The rollback"}
        name = f"{what.get(started.action, 'What')} that {started.by} asked for"
        if started.is_running:
            # Behind its end it still writes the report.
            if picture["working"]["driver"] or picture["state"] == _REACHES[started.action]:
                return Markup("")
            return marks.notice("started", "plain", f"{name} is starting", "It is at work soon.")
        if started.sentence is None or picture["state"] in ("verified", "rolled_back"):
            return Markup("")
        return marks.notice("started", "bad", f"{name} has stopped", started.sentence)

    def _ask(self, name: str) -> None:
        if self._busy:
            # What was asked for last is not over yet.
            self._dialog.run_method("showModal")
            return
        asked = QUESTIONS[name]
        self._asked, self._force = name, False
        self._form.run_method("reset")
        self._title.text = asked.title.format(f"migration {self._migration_id} of {self._mapping}")
        self._text.text = asked.text
        self._reason[0].set_visibility(asked.reason)
        self._stop.set_visibility(asked.write_stop)
        self._forced.set_visibility(False)
        self._name[1].text = f"Type {self._mapping}, the name of its mapping, to confirm it"
        self._name[0].set_visibility(name in self._offers and self._offers[name].asks_name)
        self._said.show(Markup(""))
        self._go.text = asked.button
        self._go.classes(replace=f"button {asked.kind or 'main'}")
        self._go.attribute("disabled", None)
        self._dialog.run_method("showModal")

    async def _confirm(self, event: Any) -> None:
        if self._busy or self._asked is None:
            return
        given = event.args if isinstance(event.args, Mapping) else {}
        self._busy, self._told = True, ""
        self._go.attribute("disabled", True)
        self._said.show(html.text(f"{QUESTIONS[self._asked].doing} …"))
        try:
            await run.io_bound(self._act, self._asked, given)
        except (MigrationError, sa.exc.DBAPIError) as error:
            self._refused(error)
        else:
            self._dialog.run_method("close")
            name = f"Migration {self._migration_id} of {self._mapping}"
            self._did = f"{name} {QUESTIONS[self._asked].done}"
            self._did_at = time.monotonic()
            self._app.poller.refresh(self._migration_id)
        finally:
            self._busy = False
            self._go.attribute("disabled", None)

    def _act(self, name: str, given: Mapping[str, Any]) -> None:
        """Do it, in a thread: a pause waits for chunks under way."""
        does, viewer, number = self._app.actions, self._viewer, self._migration_id
        reason, typed = str(given.get("reason", "")), str(given.get("name", ""))
        force = self._force and "force" in given

        def tell(words: str) -> None:
            self._told = words

        if name == actions.PAUSE:
            does.pause(viewer, number, reason=reason, force=force, typed=typed, tell=tell)
        elif name == actions.ABORT:
            does.abort(viewer, number, typed=typed, reason=reason, force=force, tell=tell)
        elif name == actions.RESUME:
            does.resume(viewer, number, write_stop="write_stop" in given)
        else:
            does.roll_back(viewer, number, typed=typed)

    def _refused(self, error: Exception) -> None:
        if isinstance(error, sa.exc.DBAPIError):
            error = explain(error, self._app.target.engine)
        self._said.show(
            Markup(
                '<span data-testid="ask-error"><span aria-hidden="true">✕</span> {}</span>'
            ).format(html.text(_sentence(error)))
        )
        if isinstance(error, StillBusy):
            self._force = True
            self._forced.set_visibility(True)
            self._name[0].set_visibility(True)


def _sentence(error: Exception) -> str:
    said = str(error).rstrip(".")
    return f"{said[:1].upper()}{said[1:]}."

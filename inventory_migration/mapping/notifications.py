"""Who hears of what happens to a migration, and of which events.

None of it is part of what moves, so it can be changed at any time. What a message says and how it
is delivered is in `notifications/`; a command that has to act when a limit is met is a hook, see
`limits.py`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inventory_migration.mapping.parts import Part

News = Literal[
    "started",
    "resumed",
    "phase_done",
    "paused",
    "held",
    "threshold",
    "failed",
    "gate_refused",
    "rolled_back",
    "aborted",
    "finished",
    "monitoring_failed",
]
"""What somebody may want to hear of."""

Format = Literal["json", "slack"]


class Channel(Part):
    """A URL that takes messages by POST.

    It is named by the environment variable that holds it, since whoever knows such a URL may post
    to it, and a mapping is kept in the ledger.

    Attributes:
        url_variable: The environment variable that holds the URL.
        format: Whether it takes our JSON, or what Slack's incoming webhooks take.
        events: What is told; without it, everything.
    """

    url_variable: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    format: Format = "json"
    events: list[News] | None = Field(default=None, min_length=1)

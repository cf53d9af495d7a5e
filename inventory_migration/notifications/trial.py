"""Trying channels out: a message about nothing, posted at once, and whether it arrived."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from inventory_migration.engine.posting import Posting, no_url, url_of
from inventory_migration.mapping import Channel
from inventory_migration.notifications.envelope import enveloped
from inventory_migration.notifications.message import trial


def try_channels(
    channels: Sequence[Channel], *, mapping: str | None, database: str
) -> list[dict[str, Any]]:
    """Post a test message to each channel, to all at the same time, and wait for what comes of it.

    Returns:
        One entry per channel: url_variable, format, events, arrived, failure, elapsed_seconds.
    """
    said, began = trial(mapping, database=database), time.monotonic()
    under_way = []
    for channel in channels:
        url = url_of(channel.url_variable)
        posting = Posting(url, *enveloped(said, channel.format)) if url else None
        under_way.append((channel, posting))
    return [_told(channel, posting, began) for channel, posting in under_way]


def _told(channel: Channel, posting: Posting | None, began: float) -> dict[str, Any]:
    failure = no_url(channel.url_variable) if posting is None else posting.wait().failure
    return {
        "url_variable": channel.url_variable,
        "format": channel.format,
        "events": channel.events,
        "arrived": failure is None,
        "failure": failure,
        "elapsed_seconds": round(time.monotonic() - began, 3),
    }

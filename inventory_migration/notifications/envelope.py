"""A message as it is posted: its body in its receiver's form, and headers that vouch for it."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from typing import Any

from inventory_migration.notifications.slack import slack

SECRET_VARIABLE = "INVENTORY_NOTIFY_SECRET"  # noqa: S105 - the name of a variable
SIGNATURE = "X-Inventory-Migration-Signature"


def enveloped(said: Mapping[str, Any], form: str) -> tuple[bytes, dict[str, str]]:
    """A message's body and its headers.

    Args:
        said: What it says.
        form: `json` or `slack`.
    """
    headers = {"User-Agent": "inventory-migration", "Content-Type": "application/json"}
    if form == "slack":
        return json.dumps(slack(said)).encode(), headers
    body = json.dumps(said).encode()
    headers["X-Inventory-Migration-Event"] = said["event"]
    headers["X-Inventory-Migration-Notification"] = said["notification_id"]
    if secret := os.environ.get(SECRET_VARIABLE):
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers[SIGNATURE] = f"sha256={digest}"
    return body, headers

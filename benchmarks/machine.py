"""What figures were measured on: enough to compare with, and nothing that names the machine."""

from __future__ import annotations

import os
import platform
from typing import Any

import psycopg


def machine(url: str) -> dict[str, Any]:
    """Cores, memory, versions, and the server's settings that differ from PostgreSQL's own.

    Args:
        url: A server that measures.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        version = connection.info.server_version
        settings: dict[str, str] = dict(connection.execute(_SETTINGS).fetchall())
    return {
        "system": f"{platform.system()}, {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "python": platform.python_version(),
        "postgresql": f"{version // 10_000}.{version % 10_000}",
        "settings": settings,
    }


def load() -> float:
    """How busy the machine has been in the last minute: 0 where it was quiet."""
    return round(os.getloadavg()[0], 2)


# Not what says where the server's files are, nor how it speaks and logs: that costs no time.
_SETTINGS = """
    SELECT name, current_setting(name) FROM pg_settings
    WHERE source IN ('configuration file', 'command line') AND setting IS DISTINCT FROM boot_val
      AND category NOT LIKE 'File Locations%' AND category NOT LIKE 'Reporting and Logging%'
      AND category NOT LIKE 'Client Connection Defaults / Locale%'
      AND name NOT LIKE 'unix_socket%' AND name NOT IN ('listen_addresses', 'port')
    ORDER BY name
"""

"""What Dagster loads: `dagster dev`, `dagster job execute -m inventory_migration.definitions`.

Only the call belongs here; nothing is connected to. What there is comes from `defs/build.py`.
"""

from inventory_migration.defs.build import build_definitions

defs = build_definitions()

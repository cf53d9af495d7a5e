"""The verbs as assets, checks, jobs, schedules and sensors: Dagster lives here and not below."""

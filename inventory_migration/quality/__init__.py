"""Great Expectations: the suites in `expectations/`, how they are read, run and judged.

Rows, frames and documents do not belong here, nor does anything of Dagster.
"""

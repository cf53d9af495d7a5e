"""What moves stock: the ledger, the plan, chunks, proof and the way back.

Everything here works with SQLAlchemy and psycopg alone and knows neither Dagster nor pandas nor
Great Expectations.
"""

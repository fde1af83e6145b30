"""The ledger of record in PostgreSQL: its schema, and what writes to it."""

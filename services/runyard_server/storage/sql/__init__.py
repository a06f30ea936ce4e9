"""The SQL adapters: SQLite on a laptop, PostgreSQL in a cluster, one schema and one set of statements."""

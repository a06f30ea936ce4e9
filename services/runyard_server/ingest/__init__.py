"""The write path: batches become blocks in ClickHouse."""

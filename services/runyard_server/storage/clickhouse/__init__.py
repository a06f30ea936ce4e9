"""The ClickHouse adapter: chDB in this process or a server, the same SQL."""

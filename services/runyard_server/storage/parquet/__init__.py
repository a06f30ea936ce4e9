"""Tables in Parquet files: the port TableReader."""

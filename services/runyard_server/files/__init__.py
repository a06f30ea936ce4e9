"""Files of runs, by presigned URL."""

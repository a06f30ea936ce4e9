"""Analytical reads: series, buckets, runs, receipts."""

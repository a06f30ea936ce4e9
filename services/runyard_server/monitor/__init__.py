"""Heartbeats in, verdicts out."""

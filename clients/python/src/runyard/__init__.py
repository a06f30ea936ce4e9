"""Runyard records runs."""

"""Entities, projects, runs and their states."""

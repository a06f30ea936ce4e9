"""The runyard services."""

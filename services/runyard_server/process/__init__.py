"""Makes a process out of services."""

"""Archives of what runs printed: their format, and reading that does not tell them from the store that has lines first."""

"""What a store promises, and who keeps the promise."""

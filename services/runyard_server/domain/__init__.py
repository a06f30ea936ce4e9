"""Words of the trade; pure; imports nothing of ours."""

"""Artifacts in a training process: versioned sets of files, addressed by their content."""

"""A short-lived process beside a training process that finds out where a run came from: git, packages, source, GPUs."""

"""Samples what the machine, its GPUs and the training processes do: the metrics under "system/"."""

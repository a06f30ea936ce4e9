"""`run.watch(model)`: histograms of gradients and parameters of a torch module, taken where the tensors are."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from runyard.errors import InvalidArgument
from runyard.media.histogram import Histogram

WHAT = ("gradients", "parameters", "all")
BIN_COUNT = 64
PIECE_COUNT = 1 << 23
"""So many numbers are counted at once: counts of 32-bit floats are exact up to 2^24."""
COMPILED = "_orig_mod."
"""What torch.compile puts before names."""
LARGE = 1e37
"""Numbers beyond it count as it."""

Log = Callable[[dict[str, Any]], None]
"""Records values at the current step without ending it."""


class ModelWatches:
    """The modules that a run watches."""

    def __init__(self, log: Log, tell: Callable[[str], None]) -> None:
        self._log = log
        self._tell = tell
        self._watches: list[_ModelWatch] = []
        self._watch_count = 0

    def watch(self, models: Any, *, what: str | None, log_freq: Any) -> None:
        """Watches one module or several; raises InvalidArgument for what is none, and for one that is watched."""
        if what is not None and what not in WHAT:
            raise InvalidArgument(
                f"watch(): log is {what!r}; it is one of {', '.join(WHAT)}, or None"
            )
        if isinstance(log_freq, bool) or not isinstance(log_freq, int) or log_freq < 1:
            raise InvalidArgument(
                f"watch(): log_freq is {log_freq!r}; it is a number of passes, at least 1"
            )
        wanted = list(models) if isinstance(models, (list, tuple)) else [models]
        for model in wanted:
            if not hasattr(model, "named_parameters") or not hasattr(
                model, "register_forward_hook"
            ):
                raise InvalidArgument(f"watch(): {type(model).__name__} is no torch module")
            if any(one.model is model for one in self._watches):
                raise InvalidArgument(
                    "watch(): the module is watched already; call unwatch() first"
                )
        if what is None:
            return
        for model in wanted:
            prefix = f"model{self._watch_count}." if self._watch_count else ""
            self._watch_count += 1
            one = _ModelWatch(model, prefix, log_freq, log=self._log, tell=self._tell)
            one.hook(what)
            self._watches.append(one)

    def unwatch(self, models: Any = None) -> None:
        """Stops watching the modules, or all."""
        wanted = list(models) if isinstance(models, (list, tuple)) else [models]
        for one in list(self._watches):
            if models is None or any(one.model is model for model in wanted):
                one.close()
                self._watches.remove(one)


class _ModelWatch:
    """Hooks into one module."""

    def __init__(
        self, model: Any, prefix: str, log_freq: int, *, log: Log, tell: Callable[[str], None]
    ) -> None:
        self.model = model
        self._log = log
        self._tell = tell
        self._prefix = prefix
        self._log_freq = log_freq
        self._hooks: list[Any] = []
        self._backward_counts: dict[str, int] = {}
        self._forward_count = 0

    def hook(self, what: str) -> None:
        """Has gradients counted when they are made, parameters after a pass in training."""
        if what in ("gradients", "all"):
            for name, parameter in _parameters(self.model):
                if parameter.requires_grad:
                    self._hooks.append(parameter.register_hook(self._gradient_hook(name)))
        if what in ("parameters", "all"):
            self._hooks.append(self.model.register_forward_hook(_uncompiled(self._after_forward)))

    def close(self) -> None:
        """Takes the hooks away."""
        for hook in self._hooks:
            hook.remove()

    def _gradient_hook(self, name: str) -> Any:
        def hook(gradient: Any) -> None:
            count = self._backward_counts.get(name, 0)
            self._backward_counts[name] = count + 1
            if count % self._log_freq == 0:
                self._log_tensors([(f"gradients/{self._prefix}{name}", gradient)])

        return _uncompiled(hook)

    def _after_forward(self, module: Any, inputs: Any, output: Any) -> None:
        count, self._forward_count = self._forward_count, self._forward_count + 1
        if module.training and count % self._log_freq == 0:
            self._log_tensors(
                (f"parameters/{self._prefix}{name}", parameter)
                for name, parameter in _parameters(self.model)
            )

    def _log_tensors(self, tensors: Iterable[tuple[str, Any]]) -> None:
        try:
            found = {name: tensor_histogram(tensor) for name, tensor in tensors}
            kept = {name: histogram for name, histogram in found.items() if histogram is not None}
            if kept:
                self._log(kept)
        except (
            Exception
        ) as error:  # the edge of a callback of torch: training goes on without a histogram
            self._tell(f"watch(): {type(error).__name__}: {error}")


def _parameters(model: Any) -> Iterator[tuple[str, Any]]:
    """Yields the parameters by the names that they have in the module before torch.compile."""
    for name, parameter in model.named_parameters():
        yield name.replace(COMPILED, ""), parameter


def _uncompiled(hook: Any) -> Any:
    """Returns the hook, which torch.compile runs as it is."""
    compiler = getattr(sys.modules.get("torch"), "compiler", None)
    disable = getattr(compiler, "disable", None)
    return hook if disable is None else disable(hook)


def tensor_histogram(tensor: Any, bin_count: int = BIN_COUNT) -> Histogram | None:
    """Returns how the numbers of a tensor are spread, counted on its device; None for one without real numbers.

    A few copies of a few numbers to the CPU are waited for: how many are finite, their range, and the counts.
    """
    values = tensor.detach()
    if values.is_sparse:
        values = values.coalesce().values()
    if not values.is_floating_point() or not values.numel():
        return None
    total = values.numel()
    values = values.flatten()
    values = (
        values.double() if values.element_size() == 8 else values.float()
    )  # halves cannot be counted everywhere
    finite = values.isfinite()
    finite_count = int(finite.sum())
    if finite_count < total:
        values = values[finite]
    counts, edges = _counted(values, bin_count) if finite_count else ([0.0], [0.0, 1.0])
    histogram = Histogram(np_histogram=(counts, edges))
    histogram.non_finite_count = total - finite_count
    return histogram


def _counted(values: Any, bin_count: int) -> tuple[list[float], list[float]]:
    """Returns counts and edges of finite numbers."""
    low, high = float(values.min()), float(values.max())
    if max(abs(low), abs(high)) > LARGE:  # the span of the largest floats is beyond them
        values = values.clamp(-LARGE, LARGE)
        low, high = max(low, -LARGE), min(high, LARGE)
    low, high = _widened(low, high)
    counts = [0.0] * bin_count
    for piece in values.split(PIECE_COUNT):
        found = piece.histc(bins=bin_count, min=low, max=high).tolist()
        counts = [count + more for count, more in zip(counts, found)]
    return counts, [low + (high - low) / bin_count * place for place in range(bin_count)] + [high]


def _widened(low: float, high: float) -> tuple[float, float]:
    """Returns a range that floats of 32 bits can tell so many bins of."""
    least = max(abs(low), abs(high), 1e-30) * 1e-5
    if high - low >= least:
        return low, high
    middle = low + (high - low) / 2
    return middle - least, middle + least

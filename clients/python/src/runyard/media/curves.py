"""The figures behind charts of classifiers: ROC, precision and recall, confusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runyard import given
from runyard.errors import InvalidArgument
from runyard.media.libraries import array_of, load

CLASS_COUNT_MAX = 1_000


def roc_points(positive: Any, scores: Any) -> tuple[list[float], list[float]]:
    """Returns (false positive rates, true positive rates), ascending from (0, 0) to (1, 1).

    A point per distinct score; those on the straight line between their neighbours are left out. A rate of nothing is 0.
    """
    np = _numpy()
    hits, misses = _hits_and_misses(np, positive, scores)
    if hits.size > 2:
        bends = np.logical_or(np.diff(hits, 2), np.diff(misses, 2))
        kept = np.concatenate([[True], bends, [True]])
        hits, misses = hits[kept], misses[kept]
    hits = np.concatenate([[0], hits])
    misses = np.concatenate([[0], misses])
    rates = [column / max(1, column[-1]) for column in (misses, hits)]
    return rates[0].tolist(), rates[1].tolist()


def pr_points(positive: Any, scores: Any, size: int) -> tuple[list[float], list[float]]:
    """Returns (recalls, precisions): `size` recalls from 0 to 1, and the best precision at each or beyond, as wandb does."""
    np = _numpy()
    hits, misses = _hits_and_misses(np, positive, scores)
    precisions = hits / (hits + misses)
    recalls = hits / max(1, hits[-1]) if hits[-1] else np.ones(hits.size)
    best = np.maximum.accumulate(precisions[::-1])[::-1]
    wanted = np.linspace(0.0, 1.0, size)
    at = np.searchsorted(np.concatenate([[0.0], recalls]), wanted, side="left")
    values = np.concatenate([[max(1.0, best[0])], best])[np.minimum(at, best.size)]
    return wanted.tolist(), values.tolist()


def one_against_rest(y_true: Any, y_probas: Any, what: str) -> tuple[list[Any], Any, Any]:
    """Returns (classes, truth, chances): the distinct values of y_true in order, and a column of y_probas for each."""
    np = _numpy()
    truth = _labels(y_true, f"{what}: y_true")
    chances = array_of(y_probas, f"{what}: y_probas").astype(np.float64)
    if not truth.size:
        raise InvalidArgument(f"{what}: y_true is empty")
    if np.isnan(chances).any():
        raise InvalidArgument(f"{what}: y_probas holds NaN")
    if chances.ndim == 1:
        chances = np.stack([1 - chances, chances], axis=1)
    if chances.ndim != 2 or chances.shape[0] != truth.shape[0]:
        raise InvalidArgument(
            f"{what}: y_probas of shape {tuple(chances.shape)} for {truth.shape[0]} labels; it is (samples, classes)"
        )
    classes = np.unique(truth).tolist()
    count = chances.shape[1]
    if all(isinstance(one, int) and 0 <= one < count for one in classes):
        classes = list(range(count))  # also those of which there is no sample
    if len(classes) != count or count > CLASS_COUNT_MAX:
        raise InvalidArgument(
            f"{what}: {len(classes)} classes in y_true, {count} columns in y_probas; these are as many, and at most "
            f"{CLASS_COUNT_MAX}"
        )
    return classes, truth, chances


def confusion_counts(
    truth: Any, guesses: Any, class_names: Sequence[Any] | None, what: str
) -> tuple[list[str], list[int], list[int], list[int]]:
    """Returns (classes, actual, predicted, count): positions in classes and how often, for every pair that occurs."""
    np = _numpy()
    actual, predicted = _labels(truth, f"{what}: y_true"), _labels(guesses, f"{what}: preds")
    if actual.shape != predicted.shape:
        raise InvalidArgument(f"{what}: {actual.size} labels and {predicted.size} predictions")
    if class_names is None:
        values = sorted(set(actual.tolist()) | set(predicted.tolist()), key=_order)
        names = [str(value) for value in values]
    else:
        names = [str(name) for name in given.listed(class_names, f"{what}: class_names")]
        are_positions = actual.dtype.kind in "biuf"
        values = list(range(len(names))) if are_positions else names
    if len(names) > CLASS_COUNT_MAX:
        raise InvalidArgument(
            f"{what}: {len(names)} classes, at most {CLASS_COUNT_MAX} are allowed"
        )
    positions = {value: index for index, value in enumerate(values)}
    pairs: list[Any] = []
    for column in (actual, predicted):
        unknown = [value for value in np.unique(column).tolist() if value not in positions]
        if unknown:
            raise InvalidArgument(
                f"{what}: the class {unknown[0]!r:.80} is none of the {len(names)} of class_names"
            )
        distinct, inverse = np.unique(column, return_inverse=True)
        pairs.append(
            np.array([positions[v] for v in distinct.tolist()], dtype=np.int64)[inverse.ravel()]
            if column.size
            else column.astype(np.int64)
        )
    cells, counts = np.unique(pairs[0] * len(names) + pairs[1], return_counts=True)
    return (
        names,
        (cells // max(1, len(names))).tolist(),
        (cells % max(1, len(names))).tolist(),
        counts.tolist(),
    )


def most_likely(probs: Any, what: str) -> Any:
    """Returns for each row of chances the position of the largest."""
    chances = array_of(probs, f"{what}: probs")
    if chances.ndim != 2 or not chances.shape[1]:
        raise InvalidArgument(
            f"{what}: probs of shape {tuple(chances.shape)}; it is (samples, classes)"
        )
    return chances.argmax(axis=1)


def _numpy() -> Any:
    return load("numpy", extra="media", what="runyard.plot")


def _labels(values: Any, what: str) -> Any:
    """Returns labels, numbers or texts, as an array of one axis."""
    np = _numpy()
    if hasattr(values, "detach"):
        values = array_of(values, what)
    try:
        array = np.asarray(values if hasattr(values, "__array__") else list(values))
    except (TypeError, ValueError) as error:
        raise InvalidArgument(f"{what}: no labels: {error}") from None
    if array.dtype == object:
        array = array.astype(str)
    if array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    if array.ndim != 1 or array.dtype.kind not in "biufUS":
        raise InvalidArgument(
            f"{what}: an array of {array.dtype} of shape {tuple(array.shape)}; it is (samples,)"
        )
    return array


def _order(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _hits_and_misses(np: Any, positive: Any, scores: Any) -> tuple[Any, Any]:
    """Returns how many right and wrong ones have at least each distinct score, largest score first."""
    order = np.argsort(-scores, kind="stable")
    ranked, is_right = scores[order], np.asarray(positive, dtype=bool)[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    hits = np.cumsum(is_right)[ends]
    return hits, 1 + ends - hits

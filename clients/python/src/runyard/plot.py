"""Charts to log, made from data: `run.log({"roc": runyard.plot.roc_curve(y_true, y_probas)})`. Arguments are those of wandb.plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from runyard import given
from runyard.errors import InvalidArgument
from runyard.media import curves
from runyard.media.histogram import Histogram
from runyard.media.libraries import array_of, is_of
from runyard.media.plots import Chart, plot_table, table_columns
from runyard.media.table import Table

__all__ = [
    "bar",
    "confusion_matrix",
    "histogram",
    "line",
    "line_series",
    "plot_table",
    "pr_curve",
    "roc_curve",
    "scatter",
]


def line(
    table: Table,
    x: str,
    y: str,
    stroke: str | None = None,
    title: str = "",
    *,
    split_table: bool = False,
) -> Chart:
    """Returns lines of a table's columns, in the order of its rows; a line for each value of the column `stroke`."""
    data = table_columns(table, {"x": x, "y": y, "series": stroke}, "plot.line")
    encoding = {"x": x, "y": y} | ({"series": stroke} if stroke is not None else {})
    return Chart("line", data, encoding, title)


def scatter(table: Table, x: str, y: str, title: str = "", *, split_table: bool = False) -> Chart:
    """Returns points of a table's columns."""
    data = table_columns(table, {"x": x, "y": y}, "plot.scatter")
    return Chart("scatter", data, {"x": x, "y": y}, title)


def bar(
    table: Table, label: str, value: str, title: str = "", *, split_table: bool = False
) -> Chart:
    """Returns a bar for each row of a table."""
    data = table_columns(table, {"label": label, "value": value}, "plot.bar")
    return Chart("bar", data, {"label": label, "value": value}, title)


def histogram(
    table: Table, value: str, title: str | None = "", *, split_table: bool = False
) -> Chart:
    """Returns how the values of a table's column are spread over 64 bins; missing ones are left out."""
    values = table_columns(table, {"value": value}, "plot.histogram")[value]
    counted = Histogram([cell for cell in values if cell is not None])
    data = {"low": counted.bins[:-1], "high": counted.bins[1:], "count": counted.histogram}
    encoding = {name: name for name in data}
    return Chart("histogram", data, encoding, title, x_title=value)


def line_series(
    xs: Sequence[Any],
    ys: Sequence[Any],
    keys: Sequence[Any] | None = None,
    title: str = "",
    xname: str = "x",
    *,
    split_table: bool = False,
) -> Chart:
    """Returns a line for each of `ys`, over `xs`: one list for all, or one for each."""
    what = "plot.line_series"
    lines = [given.listed(y, f"{what}: each of ys") for y in given.listed(ys, f"{what}: ys")]
    starts = given.listed(xs, f"{what}: xs")
    is_shared = not starts or not _is_listed(starts[0])
    over = [starts] * len(lines) if is_shared else [list(x) for x in starts]
    names = [f"line_{i}" for i in range(len(lines))] if keys is None else [str(k) for k in keys]
    if not len(over) == len(lines) == len(names):
        raise InvalidArgument(
            f"{what}: {len(over)} lists of x, {len(lines)} of y and {len(names)} keys; these are as many"
        )
    rows: dict[str, list[Any]] = {"x": [], "y": [], "series": []}
    for name, x, y in zip(names, over, lines):
        if len(x) != len(y):
            raise InvalidArgument(f"{what}: line {name!r:.80} has {len(x)} x and {len(y)} y")
        rows["x"] += x
        rows["y"] += y
        rows["series"] += [name] * len(x)
    return Chart("line_series", rows, {name: name for name in rows}, title, x_title=str(xname))


def roc_curve(
    y_true: Any = None,
    y_probas: Any = None,
    labels: Sequence[Any] | None = None,
    title: str = "ROC curve",
    classes_to_plot: Sequence[Any] | None = None,
    *,
    split_table: bool = False,
) -> Chart:
    """Returns the ROC curve of each class against the rest; `labels` names the classes in order."""
    what = "plot.roc_curve"
    rows = _curves(y_true, y_probas, labels, classes_to_plot, what=what, points=curves.roc_points)
    titles = {"x_title": "False positive rate", "y_title": "True positive rate"}
    return Chart("roc_curve", rows, {name: name for name in rows}, title, **titles)


def pr_curve(
    y_true: Any = None,
    y_probas: Any = None,
    labels: Sequence[Any] | None = None,
    title: str = "Precision-recall curve",
    classes_to_plot: Sequence[Any] | None = None,
    *,
    interp_size: int = 21,
    split_table: bool = False,
) -> Chart:
    """Returns precision over recall of each class against the rest, at `interp_size` recalls."""
    if type(interp_size) is not int or not 2 <= interp_size <= 1000:
        raise InvalidArgument(f"plot.pr_curve: interp_size {interp_size!r:.80} is not 2 to 1000")

    def points(positive: Any, scores: Any) -> tuple[list[float], list[float]]:
        return curves.pr_points(positive, scores, interp_size)

    rows = _curves(y_true, y_probas, labels, classes_to_plot, what="plot.pr_curve", points=points)
    titles = {"x_title": "Recall", "y_title": "Precision"}
    return Chart("pr_curve", rows, {name: name for name in rows}, title, **titles)


def confusion_matrix(
    probs: Any = None,
    y_true: Any = None,
    preds: Any = None,
    class_names: Sequence[Any] | None = None,
    title: str = "Confusion matrix",
    *,
    split_table: bool = False,
) -> Chart:
    """Returns how often each class was taken for which: from `preds`, or from the largest of `probs` per sample.

    Labels are positions in `class_names`, or the names themselves; without names, any values.
    """
    what = "plot.confusion_matrix"
    if (probs is None) == (preds is None):
        raise InvalidArgument(f"{what} takes either probs or preds")
    if y_true is None:
        raise InvalidArgument(f"{what} needs y_true, the labels")
    guesses = curves.most_likely(probs, what) if preds is None else preds
    names, actual, predicted, count = curves.confusion_counts(y_true, guesses, class_names, what)
    data = {"actual": actual, "predicted": predicted, "count": count}
    return Chart("confusion_matrix", data, {name: name for name in data}, title, classes=names)


def _curves(
    y_true: Any,
    y_probas: Any,
    labels: Sequence[Any] | None,
    classes_to_plot: Sequence[Any] | None,
    *,
    what: str,
    points: Any,
) -> dict[str, list[Any]]:
    if y_true is None or y_probas is None:
        raise InvalidArgument(f"{what} needs y_true, the labels, and y_probas, (samples, classes)")
    classes, truth, chances = curves.one_against_rest(y_true, y_probas, what)
    names = [str(one) for one in (classes if labels is None else labels)]
    if len(names) != len(classes):
        raise InvalidArgument(f"{what}: {len(names)} labels for {len(classes)} classes")
    wanted = None if classes_to_plot is None else set(_plain(classes_to_plot))
    rows: dict[str, list[Any]] = {"x": [], "y": [], "series": []}
    for position, one in enumerate(classes):
        if wanted is not None and one not in wanted and names[position] not in wanted:
            continue
        x, y = points(truth == one, chances[:, position])
        rows["x"] += x
        rows["y"] += y
        rows["series"] += [names[position]] * len(x)
    return rows


def _plain(values: Iterable[Any]) -> list[Any]:
    return [value.item() if hasattr(value, "item") else value for value in values]


def _is_listed(value: Any) -> bool:
    if is_of(value, "torch.Tensor"):
        return bool(array_of(value, "plot").ndim)
    return hasattr(value, "__len__") and not isinstance(value, (str, bytes))

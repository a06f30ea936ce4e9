"""Table and the plots: rows come back from the Parquet file as they were; curves are those of scikit-learn."""

from __future__ import annotations

import datetime
import decimal
import enum
import io
import json
import math
import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

import runyard
from runyard import extended_json, plot
from runyard.errors import InvalidArgument, UsageError
from runyard.media.plots import Chart
from runyard.media.value import Content

UTC = datetime.UTC


def stored(content: Content) -> Mapping[str, Any]:
    raw = b"".join(content._parts(stored))
    return {"file": f"f.{content.extension}", "format": content.extension, "size_bytes": len(raw)}


def read(table: runyard.Table) -> tuple[dict[str, str], list[list[Any]]]:
    """Returns (types by column, rows) of the table's Parquet file."""
    raw = b"".join(table.item()["file"]._parts(stored))
    found = pq.read_table(io.BytesIO(raw))
    told = json.loads(found.schema.metadata[b"runyard"])
    assert told["version"] == 1 and [c["name"] for c in told["columns"]] == found.column_names
    assert told["columns"] == table.item()["columns"]
    types = {column["name"]: column["type"] for column in told["columns"]}
    return types, [list(row) for row in zip(*(c.to_pylist() for c in found.columns), strict=True)]


class Colour(enum.Enum):
    RED = "red"


def test_every_type_of_cell() -> None:
    """A column's type is found from its values; what is missing is null."""
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    table = runyard.Table(
        columns=["int", "float", "text", "yes", "time", "list", "dict"],
        data=[
            [1, 0.5, "a", True, moment, [1, float("nan")], {"k": [1]}],
            [None] * 7,
            [np.int32(2), 3, np.str_("é\ud800"), np.bool_(False), np.datetime64("2026-01-02"), np.arange(2), {}],
            [2**62, decimal.Decimal("0.25"), Colour.RED, False, pd.Timestamp("2026-01-02", tz="Asia/Tokyo"), (1,), {}],
            [3, float("nan"), "", True, datetime.date(2026, 1, 2), {5}, object],
            [4, 2**70, float("nan"), True, pd.NaT, [], {}],
        ],
    )  # fmt: skip
    types, rows = read(table)
    assert types == {
        "int": "number", "float": "number", "text": "string", "yes": "boolean", "time": "datetime", "list": "list",
        "dict": "object",
    }  # fmt: skip
    by_column = dict(zip(types, map(list, zip(*rows, strict=True)), strict=True))
    assert by_column["int"] == [1, None, 2, 2**62, 3, 4]
    assert by_column["float"][:4] == [0.5, None, 3.0, 0.25]
    assert math.isnan(by_column["float"][4]) and by_column["float"][5] == 2.0**70
    assert by_column["text"] == ["a", None, "é?", "red", "", None]
    assert by_column["yes"] == [True, None, False, False, True, True]
    day = datetime.datetime(2026, 1, 2, tzinfo=UTC)
    assert by_column["time"] == [moment, None, day, day - datetime.timedelta(hours=9), day, None]
    assert by_column["list"] == ['[1,{"$float":"NaN"}]', None, "[0,1]", "[1]", "[5]", "[]"]
    assert by_column["dict"][:4] == ['{"k":[1]}', None, "{}", "{}"]


CELLS = st.one_of(st.none(), st.floats(), st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(CELLS, st.none() | st.text(), st.none() | st.booleans()), max_size=30))
def test_rows_come_back(rows: list[tuple[Any, ...]]) -> None:
    """Numbers, texts and booleans come back as they were, in order."""
    table = runyard.Table(columns=["n", "s", "b"])
    for row in rows:
        table.add_data(*row)
    _, found = read(table)
    numbers = [row[0] for row in rows if row[0] is not None]
    is_integer = all(type(number) is int for number in numbers)
    for row, (number, text, flag) in zip(rows, found, strict=True):
        assert (text, flag) == (row[1], row[2])
        if row[0] is None or is_integer:
            assert number == row[0]
        else:
            assert repr(number) == repr(float(row[0]))


def test_a_dataframe_is_a_table() -> None:
    """Columns keep their types; missing values of every kind are null."""
    frame = pd.DataFrame(
        {
            "i": [1, 2],
            "f": [0.5, np.nan],
            "s": ["a", None],
            "when": pd.to_datetime(["2026-01-01", None]),
            "c": pd.Categorical(["x", "y"]),
            "n": pd.array([1, None], dtype="Int64"),
            7: [[1], None],
        }
    )
    table = runyard.Table(dataframe=frame)
    types, rows = read(table)
    assert list(types.values()) == ["number", "number", "string", "datetime", "string", "number", "list"]  # fmt: skip
    assert list(types) == ["i", "f", "s", "when", "c", "n", "7"]
    assert rows[0] == [1, 0.5, "a", datetime.datetime(2026, 1, 1, tzinfo=UTC), "x", 1, "[1]"]
    assert math.isnan(rows[1][1]) and rows[1][2:] == [None, None, "y", None, None]
    assert runyard.Table(columns=["s", "i"], data=frame).data == [["a", 1], [None, 2]]
    assert table.get_dataframe()["i"].tolist() == [1, 2]


def test_a_table_grows_and_is_read() -> None:
    """add_data, add_column, add_computed_columns, get_column, iterrows; arrays and lists of rows."""
    table = runyard.Table(columns=["a", "b"], data=np.array([[1, 2], [3, 4]]))
    table.add_row(5, 6)
    table.add_column("c", ["x", "y", None])
    table.add_computed_columns(lambda index, row: {"sum": row["a"] + row["b"] + index})
    assert table.get_column("sum") == [3, 8, 13] and len(table) == 3
    assert table.get_column("a", convert_to="numpy").sum() == 9
    assert list(table.iterrows())[1] == (1, [3, 4, "y", 8])
    assert runyard.Table().columns == ["Input", "Output", "Expected"]
    assert runyard.Table(data=[[1, 2]]).columns == ["column_0", "column_1"]
    assert runyard.Table(columns=["a"], rows=[[1]]).data == [[1]]


def test_a_table_is_logged_as_it_is_at_that_moment() -> None:
    """What is added later is not in what was told before."""
    table = runyard.Table(columns=["a"], data=[[1]])
    item = table.item()
    table.add_data(2)
    raw = b"".join(item["file"]._parts(stored))
    assert pq.read_table(io.BytesIO(raw)).num_rows == item["row_count"] == 1


def test_cells_may_be_media() -> None:
    """A cell is the item, with its kind; the bytes are stored first."""
    pixels = np.zeros((2, 3), np.uint8)
    table = runyard.Table(columns=["id", "what"])
    table.add_data(1, runyard.Image(pixels, caption="c"))
    table.add_data(2, None)
    table.add_data(3, runyard.Histogram([1.0, 2.0], num_bins=2))
    types, rows = read(table)
    assert types["what"] == "media" and rows[1] == [2, None]
    cell = extended_json.loads(rows[0][1])
    assert cell["kind"] == "image" and cell["file"] == "f.png" and cell["caption"] == "c"
    assert (cell["width"], cell["height"], cell["format"]) == (3, 2, "png")
    cell = extended_json.loads(rows[2][1])
    assert cell["kind"] == "histogram" and cell["histogram"]["counts"] == [1.0, 1.0]
    with pytest.raises(InvalidArgument, match="a table cannot be a cell"):
        runyard.Table(columns=["t"], data=[[runyard.Table()]]).item()


def test_types_are_kept() -> None:
    """A value of another type is refused with row and column, and the row is not added."""
    table = runyard.Table(columns=["a", "b"], data=[[1, "x"]])
    with pytest.raises(
        TypeError,
        match=r"column 'b', row 1: 3 is of type number, the column of string; allow_mixed",
    ):
        table.add_data(2, 3)
    with pytest.raises(TypeError, match="column 'c', row 1"):
        runyard.Table(columns=["c"], data=[[1], ["a"]])
    with pytest.raises(TypeError, match="column 'c', row 1"):
        runyard.Table(columns=["a"], data=[[1], [2]]).add_column("c", [1, "a"])
    with pytest.raises(TypeError, match="None in a column that is not optional"):
        runyard.Table(columns=["a"], data=[[None]], optional=False)
    assert table.data == [[1, "x"]]
    assert len(runyard.Table(columns=["a"], data=[[None], [1]]).data) == 2
    mixed = runyard.Table(columns=["m"], data=[[1], ["a"], [None], [[2]]], allow_mixed_types=True)
    assert read(mixed) == ({"m": "object"}, [["1"], ['"a"'], [None], ["[2]"]])


def test_declared_types() -> None:
    """One for all, a list, or a dict by column; of classes and of our own names."""
    for dtype in (float, [float, float], {"a": "number", "b": np.int64}, "number"):
        with pytest.raises(TypeError, match="the column of number"):
            runyard.Table(columns=["a", "b"], data=[[1, "x"]], dtype=dtype)
    table = runyard.Table(columns=["a", "b"], dtype={"b": runyard.Image}, data=[[1, None]])
    assert read(table) == ({"a": "number", "b": "media"}, [[1, None]])
    with pytest.raises(InvalidArgument, match="dtype 'colour' is not one of number"):
        runyard.Table(columns=["a"], dtype="colour")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: runyard.Table(columns=["a", "a"]), "column 'a' stands twice"),
        (lambda: runyard.Table(columns=[""]), "column '' is empty"),
        (lambda: runyard.Table(columns=["a"], data=[[1, 2]]), "2 values for 1 columns"),
        (lambda: runyard.Table(columns=["a"], data="abc"), "type str, not a list of rows"),
        (lambda: runyard.Table(columns=["a"], data=["abc"]), "row 0 is of type str"),
        (lambda: runyard.Table(columns=["a"], data=np.zeros(3)), "has no rows and columns"),
        (lambda: runyard.Table(dataframe=[1]), "type list, not a pandas DataFrame"),
        (lambda: runyard.Table(columns=["z"], dataframe=pd.DataFrame({"a": [1]})), "no column 'z'"),
        (lambda: runyard.Table(columns=["a"], data=[[1]]).add_column("b", [1, 2]), "2 values for 1 rows"),
        (lambda: runyard.Table(columns=["a"]).get_column("b"), "no column 'b'"),
        (lambda: runyard.Table(columns=["a"], data=[["x" * (1 << 20) + "x"]]).item(), "row 0 has 1048577 bytes"),
        (lambda: runyard.Table(columns=[str(i) for i in range(1001)], data=[[0] * 1001]), "1,001 columns"),
        (lambda: runyard.Table(columns=["a"], data=range(1_000_001)), "1,000,001 rows, at most 1,000,000"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be(make: Any, problem: str) -> None:
    """The error says what is wrong, and the limit."""
    with pytest.raises(InvalidArgument, match=problem):
        make()


def test_without_pyarrow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table can be made; logging it needs pyarrow."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    table = runyard.Table(columns=["a"], data=[[1]])
    with pytest.raises(UsageError, match=re.escape('pip install "runyard[tables]"')):
        table.item()


def data_of(chart: Chart) -> dict[str, list[Any]]:
    """Returns a chart's columns, wherever they are kept."""
    item = chart.item()
    assert ("data" in item) != ("file" in item)
    if "data" in item:
        return dict(item["data"])
    return dict(extended_json.loads(b"".join(item["file"]._parts(stored)).decode()))


def test_charts_of_tables() -> None:
    """Line, scatter, bar and histogram carry the columns they draw."""
    table = runyard.Table(columns=["x", "y", "k"], data=[[1, 0.5, "a"], [2, None, "b"]])
    line = plot.line(table, "x", "y", stroke="k", title="t")
    item = line.item()
    assert (item["chart"], item["title"], item["row_count"]) == ("line", "t", 2)
    assert item["encoding"] == {"x": "x", "y": "y", "series": "k"}
    assert data_of(line) == {"x": [1, 2], "y": [0.5, None], "k": ["a", "b"]}
    assert plot.scatter(table, "x", "y").item()["encoding"] == {"x": "x", "y": "y"}
    assert data_of(plot.bar(table, "k", "x")) == {"k": ["a", "b"], "x": [1, 2]}
    counted = data_of(plot.histogram(table, "y"))
    assert sum(counted["count"]) == 1 and len(counted["low"]) == 64
    with pytest.raises(InvalidArgument, match="no column 'z'"):
        plot.line(table, "z", "y")
    with pytest.raises(InvalidArgument, match=r"type list, not runyard\.Table"):
        plot.line([], "x", "y")


def test_lines_over_shared_and_own_x() -> None:
    """line_series takes one x for all, or one for each."""
    shared = plot.line_series([0, 1], [[1, 2], [3, 4]], keys=["a", "b"], xname="step")
    assert data_of(shared) == {"x": [0, 1, 0, 1], "y": [1, 2, 3, 4], "series": ["a", "a", "b", "b"]}
    assert shared.item()["x_title"] == "step"
    own = plot.line_series([[0], [5, 6]], [[1], [3, 4]])
    assert data_of(own)["series"] == ["line_0", "line_1", "line_1"]
    with pytest.raises(InvalidArgument, match="line 'line_0' has 1 x and 2 y"):
        plot.line_series([0], [[1, 2]])


@pytest.mark.parametrize("seed", range(6))
def test_curves_are_those_of_scikit_learn(seed: int) -> None:
    """ROC and precision-recall of each class, with ties, a class of few samples, and names."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, 200)
    chances = random.random((200, 3)).round(2 if seed % 2 else 8)
    roc = data_of(plot.roc_curve(truth, chances, labels=["a", "b", "c"]))
    pr = data_of(plot.pr_curve(truth.tolist(), chances.tolist(), labels=["a", "b", "c"]))
    for index, name in enumerate("abc"):
        rows = [i for i, series in enumerate(roc["series"]) if series == name]
        fpr, tpr, _ = metrics.roc_curve(truth == index, chances[:, index])
        assert [roc["x"][i] for i in rows] == fpr.tolist()
        assert [roc["y"][i] for i in rows] == tpr.tolist()
        precision, recall, _ = metrics.precision_recall_curve(truth == index, chances[:, index])
        precision = np.maximum.accumulate(precision)[::-1]
        wanted = np.linspace(0, 1, 21)
        rows = [i for i, series in enumerate(pr["series"]) if series == name]
        assert [pr["x"][i] for i in rows] == wanted.tolist()
        expected = precision[np.searchsorted(recall[::-1], wanted, side="left")]
        assert [pr["y"][i] for i in rows] == pytest.approx(expected.tolist(), abs=1e-15)


def test_curves_of_few_samples() -> None:
    """One class without a sample, one sample, texts as labels, only some classes."""
    roc = data_of(plot.roc_curve([0, 0], [[0.9, 0.1], [0.8, 0.2]]))
    assert set(roc["series"]) == {"0", "1"} and max(roc["y"]) == 1.0
    pr = data_of(plot.pr_curve(["b", "a"], [[0.1, 0.9], [0.7, 0.3]], classes_to_plot=["b"]))
    assert set(pr["series"]) == {"b"} and set(pr["y"]) == {1.0}
    assert data_of(plot.roc_curve([0, 1], [0.2, 0.9], classes_to_plot=[1]))["y"][-1] == 1.0
    for make in (plot.roc_curve, plot.pr_curve):
        with pytest.raises(InvalidArgument, match="3 classes in y_true, 2 columns"):
            make([0, 1, 2], [[0.5, 0.5]] * 3)
        with pytest.raises(InvalidArgument, match="for 1 labels"):
            make([0], [[0.5, 0.5]] * 3)
        with pytest.raises(InvalidArgument, match="holds NaN"):
            make([0], [[float("nan"), 0.5]])


@pytest.mark.parametrize("names", [None, ["x", "y", "z"]])
def test_a_confusion_matrix_is_that_of_scikit_learn(names: list[str] | None) -> None:
    """Pairs that occur, as positions in the classes; of predictions and of chances."""
    random = np.random.default_rng(0)
    truth, guesses = random.integers(0, 3, 100), random.integers(0, 3, 100)
    chances = np.eye(3)[guesses]
    for arguments in ({"preds": guesses}, {"probs": chances}, {"preds": guesses.tolist()}):
        chart = plot.confusion_matrix(y_true=truth, class_names=names, **arguments)  # type: ignore[arg-type]  # of either
        cells = data_of(chart)
        matrix = np.zeros((3, 3), int)
        for actual, predicted, count in zip(*cells.values(), strict=True):
            matrix[actual, predicted] = count
        assert (matrix == metrics.confusion_matrix(truth, guesses)).all()
        assert chart.item()["classes"] == (names or ["0", "1", "2"])


def test_confusion_by_name() -> None:
    """Labels may be the names; a class that has none is refused; an empty one is drawn."""
    chart = plot.confusion_matrix(
        y_true=["cat", "dog"], preds=["dog", "dog"], class_names=["dog", "cat", "cow"]
    )
    assert data_of(chart) == {"actual": [0, 1], "predicted": [0, 0], "count": [1, 1]}
    assert data_of(plot.confusion_matrix(y_true=[], preds=[], class_names=["a"]))["count"] == []
    with pytest.raises(InvalidArgument, match="class 3 is none of the 2"):
        plot.confusion_matrix(y_true=[0], preds=[3], class_names=["a", "b"])
    with pytest.raises(InvalidArgument, match="either probs or preds"):
        plot.confusion_matrix(y_true=[0])
    with pytest.raises(InvalidArgument, match="2 labels and 1 predictions"):
        plot.confusion_matrix(y_true=[0, 1], preds=[0])


def test_large_charts_are_thinned_and_kept_in_a_file() -> None:
    """Evenly, the ends of each line among the chosen, the same ones each time; the item says so."""
    xs = list(range(30_000))
    chart = plot.line_series(xs, [xs, xs[::-1]], keys=["a", "b"])
    data = data_of(chart)
    item = chart.item()
    assert item["file"].extension == "json" and "data" not in item
    assert item["row_count"] == len(data["x"]) == 10_000 and item["total_count"] == 60_000
    assert item["note"] == "10,000 of 60,000 rows, evenly chosen"
    for name in ("a", "b"):
        x = [x for x, series in zip(data["x"], data["series"], strict=True) if series == name]
        assert (x[0], x[-1], len(x)) == (0, 29_999, 5_000) and x == sorted(set(x))
        assert max(np.diff(x)) <= 7
    assert data == data_of(plot.line_series(xs, [xs, xs[::-1]], keys=["a", "b"]))
    with pytest.raises(InvalidArgument, match="1001 lines, at most 1000"):
        plot.line_series([0], [[1]] * 1001)


def test_plot_table() -> None:
    """Presets of wandb become our charts; other descriptions are kept with their data."""
    table = runyard.Table(columns=["s", "v"], data=[[1, 2]])
    chart = runyard.plot_table("wandb/line/v0", table, {"x": "s", "y": "v"}, {"title": "t"})
    item = chart.item()
    assert (item["chart"], item["title"], item["encoding"]) == ("line", "t", {"x": "s", "y": "v"})
    item = plot.plot_table("me/own", table, {"left": "s"}, {"k": "w"}).item()
    assert (item["chart"], item["spec_name"], item["fields"]) == ("custom", "me/own", {"left": "s"})
    assert item["data"] == {"s": [1]} and item["string_fields"] == {"k": "w"}


def test_figures_of_plotly() -> None:
    """The figure's own JSON; of a dict what JSON can say."""
    from plotly import graph_objects

    figure = graph_objects.Figure(graph_objects.Scatter(x=[1, 2], y=[3, float("nan")]))
    item = runyard.Plotly(figure).item()
    raw = b"".join(item["file"]._parts(stored))
    assert item["chart"] == "plotly" and item["file"].extension == "plotly.json"
    assert json.loads(raw)["data"][0]["type"] == "scatter"
    raw = b"".join(runyard.Plotly({"data": [{"y": [np.nan, 1]}]}).item()["file"]._parts(stored))
    assert json.loads(raw) == {"data": [{"y": [None, 1]}]}
    with pytest.raises(InvalidArgument, match="is no figure of Plotly"):
        runyard.Plotly(3)

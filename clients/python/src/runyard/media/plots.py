"""Charts as data and a description of how to draw them, and figures of Plotly."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from runyard import extended_json
from runyard.errors import InvalidArgument
from runyard.media.libraries import is_array, is_of
from runyard.media.table import Table
from runyard.media.value import Content, Item, Media
from runyard.metric_log import scalar_of

ROW_COUNT_MAX = 10_000
SERIES_COUNT_MAX = 1_000
INLINE_BYTES_MAX = 64 << 10
TEXT_BYTES_MAX = 1 << 10

PRESETS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "wandb/line/v0": ("line", {"x": "x", "y": "y", "stroke": "series"}),
    "wandb/scatter/v0": ("scatter", {"x": "x", "y": "y"}),
    "wandb/bar/v0": ("bar", {"label": "label", "value": "value"}),
    "wandb/lineseries/v0": ("line_series", {"step": "x", "lineVal": "y", "lineKey": "series"}),
    "wandb/area-under-curve/v0": ("line", {"x": "x", "y": "y", "class": "series"}),
}
"""Charts of wandb that are drawn here too: which chart, and what of its encoding each field is."""


class Chart(Media):
    """A chart to log, as runyard.plot makes them; docs/media.md describes what is kept."""

    kind = "plot"
    is_single = True

    def __init__(
        self,
        chart: str,
        data: Mapping[str, Sequence[Any]],
        encoding: Mapping[str, str],
        title: str | None = None,
        **more: Any,
    ) -> None:
        self.chart = chart
        columns = {_name(name): _column(values) for name, values in data.items()}
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            shown = ", ".join(f"{name}: {len(values)}" for name, values in columns.items())
            raise InvalidArgument(f"plot: columns of different lengths: {shown:.200}")
        total_count = lengths.pop() if lengths else 0
        chosen = _chosen_rows(total_count, columns.get(encoding.get("series", "")))
        if len(chosen) < total_count:
            columns = {name: [values[i] for i in chosen] for name, values in columns.items()}
            more["total_count"] = total_count
            more["note"] = f"{len(chosen):,} of {total_count:,} rows, evenly chosen"
        self._item: Item = {"chart": chart, "title": _name(title or ""), **more}
        if encoding:
            self._item["encoding"] = dict(encoding)
        self._item["row_count"] = len(chosen)
        text = extended_json.dumps(columns)
        if len(text.encode()) > INLINE_BYTES_MAX:
            self._item["file"] = Content("json", text.encode())
        else:
            self._item["data"] = columns

    def item(self) -> Item:
        """Returns the chart's data and how they are drawn."""
        return self._item


class Plotly(Media):
    """A figure of Plotly to log: the figure itself, or its parts {"data", "layout", "frames"} as a dict."""

    kind = "plot"
    is_single = True

    def __init__(self, val: Any) -> None:
        if is_plotly(val):
            text = str(val.to_json())
        elif isinstance(val, Mapping) and "data" in val:
            text = json.dumps(_without_nan(extended_json.plain(val)), ensure_ascii=False)
        else:
            raise InvalidArgument(
                f"Plotly: a value of type {type(val).__module__}.{type(val).__name__} is no figure of Plotly; log those of "
                f"matplotlib as they are"
            )
        self._content = Content("plotly.json", text.encode())

    def item(self) -> Item:
        """Returns what is told of the figure."""
        return {"chart": "plotly", "title": "", "file": self._content}


def is_plotly(value: object) -> bool:
    """Returns whether the value is a figure of Plotly."""
    return is_of(value, "plotly.BaseFigure")


def plot_table(
    vega_spec_name: str,
    data_table: Table,
    fields: Mapping[str, str],
    string_fields: Mapping[str, str] | None = None,
    split_table: bool = False,
) -> Chart:
    """Returns a chart of a table's columns: `fields` says which column is what. Presets of wandb are drawn, others shown as a table."""
    _checked_table(data_table, "plot_table")
    strings = {str(key): _name(value) for key, value in (string_fields or {}).items()}
    columns = dict.fromkeys(map(str, fields.values()))
    data = {name: data_table.get_column(name) for name in columns}
    chart, parts = PRESETS.get(str(vega_spec_name), ("custom", {}))
    encoding = {parts[key]: str(name) for key, name in fields.items() if key in parts}
    title = strings.get("title", "")
    if chart == "custom" or len(encoding) < len([p for p in parts.values() if p != "series"]):
        return Chart(
            "custom",
            data,
            {},
            title,
            spec_name=_name(vega_spec_name),
            fields={str(key): str(name) for key, name in fields.items()},
            string_fields=strings,
        )
    return Chart(chart, data, encoding, title)


def table_columns(table: Any, names: Mapping[str, str | None], what: str) -> dict[str, list[Any]]:
    """Returns the columns that a chart draws, by name; raises InvalidArgument for a table that has them not."""
    _checked_table(table, what)
    return {name: table.get_column(name) for name in names.values() if name is not None}


def _checked_table(table: Any, what: str) -> None:
    if not isinstance(table, Table):
        raise InvalidArgument(f"{what}: table is of type {type(table).__name__}, not runyard.Table")


def _name(text: Any) -> str:
    cleaned = str(extended_json.plain(str(text)))
    if len(cleaned.encode()) > TEXT_BYTES_MAX:
        raise InvalidArgument(
            f"plot: the text {cleaned[:80]!r}… has {len(cleaned.encode())} bytes, at most {TEXT_BYTES_MAX} are allowed",
            reason="FIELD_TOO_LARGE",
        )
    return cleaned


def _column(values: Any) -> list[Any]:
    """Returns numbers, texts and None."""
    if is_of(values, "torch.Tensor"):
        values = values.detach().cpu()
    if is_array(values) and hasattr(values, "tolist"):
        values = values.tolist()
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    kind = type(value)
    if kind is float or kind is str or value is None:
        return value if kind is not str else _name(value)
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    number = scalar_of(value)
    if number is None:
        return _name(value)
    is_large = isinstance(number, int) and not -(2**63) <= number < 2**63
    return float(number) if is_large else number


def _chosen_rows(count: int, series: Sequence[Any] | None) -> Sequence[int]:
    """Returns the rows that are kept, ascending: all, or of each line evenly many, its first and last among them."""
    if series is not None and len(set(series)) > SERIES_COUNT_MAX:
        raise InvalidArgument(
            f"plot: {len(set(series))} lines, at most {SERIES_COUNT_MAX} are allowed",
            reason="FIELD_TOO_LARGE",
        )
    if count <= ROW_COUNT_MAX:
        return range(count)
    lines: dict[Any, list[int]] = {}
    for row in range(count):
        lines.setdefault(None if series is None else series[row], []).append(row)
    chosen: list[int] = []
    for rows in lines.values():
        wanted = max(2, math.floor(ROW_COUNT_MAX * len(rows) / count))
        if wanted >= len(rows):
            chosen.extend(rows)
        else:
            last = len(rows) - 1
            chosen.extend(rows[i * last // (wanted - 1)] for i in range(wanted))
    return sorted(chosen)


def _without_nan(value: Any) -> Any:
    """Returns the value with null for what JSON cannot say, as Plotly writes its figures."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return value

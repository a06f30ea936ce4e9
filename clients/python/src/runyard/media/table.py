"""Table: rows of typed columns, whose cells may be media; stored as Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from runyard import extended_json, given
from runyard.errors import InvalidArgument
from runyard.media import cells
from runyard.media.libraries import array_of, is_array, load, numpy
from runyard.media.value import Content, Item, Media, Store, resolved
from runyard.naming import metric_name_problem

WHAT = "Table"
ROW_COUNT_MAX = 1_000_000
COLUMN_COUNT_MAX = 1_000
CELL_COUNT_MAX = 10_000_000
MEDIA_CELL_COUNT_MAX = 10_000
ROW_GROUP_ROWS = 10_000
"""Rows that a reader of one page has to decode at least."""
COLUMNS_DEFAULT = ("Input", "Output", "Expected")
"""As in wandb."""


class Table(Media):
    """Rows to log. Arguments are named and meant as in wandb.

    `data` is a list of rows, a two-dimensional array or a DataFrame; `rows` another name for it. A column takes values of one
    type, that of its first value or the one that `dtype` declares (one for all, a list, or a dict by column), unless
    `allow_mixed_types`; and None, unless not `optional`. Logged as it is at that moment; needs pyarrow then.
    """

    kind = "table"
    is_single = True
    MAX_ROWS = ROW_COUNT_MAX

    def __init__(
        self,
        columns: Sequence[Any] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        dtype: Any = None,
        *,
        optional: bool | Sequence[bool] = True,
        allow_mixed_types: bool = False,
    ) -> None:
        names, given = _names_and_rows(columns, data if data is not None else rows, dataframe)
        self.columns = _checked_names(names)
        """Names of the columns."""
        self.data: list[list[Any]] = []
        """The rows."""
        self._is_mixed = allow_mixed_types
        self._types = _declared(dtype, self.columns)
        self._optional = _per_column(optional, self.columns, "optional")
        for row in given:
            self.add_data(*row)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        return f"<runyard.Table of {len(self.data)} rows, columns {', '.join(self.columns)}>"

    def add_data(self, *data: Any) -> None:
        """Adds a row, a value per column; raises InvalidArgument or TypeError and adds nothing for one that does not fit."""
        if len(data) != len(self.columns):
            raise InvalidArgument(
                f"{WHAT}.add_data(): {len(data)} values for {len(self.columns)} columns: {', '.join(self.columns)[:200]}"
            )
        self._check_room(len(self.data) + 1, len(self.columns))
        types = [
            self._joined_type(position, value, len(self.data))
            for position, value in enumerate(data)
        ]
        self._types = types
        self.data.append(list(data))

    def add_row(self, *row: Any) -> None:
        """Adds a row; as `add_data`."""
        self.add_data(*row)

    def add_column(self, name: Any, data: Any, optional: bool = True) -> None:
        """Adds a column, a value per row; raises InvalidArgument or TypeError and adds nothing for one that does not fit."""
        values = list(data)
        if self.data and len(values) != len(self.data):
            raise InvalidArgument(
                f"{WHAT}.add_column({name!r:.80}): {len(values)} values for {len(self.data)} rows"
            )
        if self.columns and not self.data and values:
            raise InvalidArgument(
                f"{WHAT}.add_column({name!r:.80}): {len(values)} values, but the table has {len(self.columns)} columns and no row"
            )
        names = _checked_names([*self.columns, name])
        self._check_room(len(values), len(names))
        position = len(self.columns)
        before = self.columns, self._types, self._optional
        self.columns, self._types = names, [*self._types, ""]
        self._optional = [*self._optional, optional]
        try:
            for index, value in enumerate(values):
                self._types[position] = self._joined_type(position, value, index)
        except Exception:  # whatever a cell's own code raises: the table is as it was
            self.columns, self._types, self._optional = before
            raise
        if not self.data:
            self.data = [[] for _ in values]
        for row, value in zip(self.data, values):
            row.append(value)

    def add_computed_columns(self, fn: Any) -> None:
        """Adds the columns that `fn(index, row as a dict)` returns for each row, as a dict."""
        made = [
            dict(fn(index, dict(zip(self.columns, row)))) for index, row in enumerate(self.data)
        ]
        for name in made[0] if made else ():
            self.add_column(name, [row[name] for row in made])

    def get_column(self, name: str, convert_to: str | None = None) -> Any:
        """Returns the values of a column; with convert_to="numpy" as an array."""
        if name not in self.columns:
            raise InvalidArgument(f"{WHAT} has no column {name!r:.80}: {', '.join(self.columns)}")
        position = self.columns.index(name)
        values = [row[position] for row in self.data]
        if convert_to is None:
            return values
        if convert_to != "numpy":
            raise InvalidArgument(f'{WHAT}.get_column(): convert_to {convert_to!r} is not "numpy"')
        return numpy(WHAT).array(values)

    def get_dataframe(self) -> Any:
        """Returns a pandas DataFrame of the rows."""
        pandas = load("pandas", extra="tables", what=f"{WHAT}.get_dataframe()")
        return pandas.DataFrame.from_records(self.data, columns=self.columns)

    def iterrows(self) -> Iterator[tuple[int, list[Any]]]:
        """Returns (index, row) of each row."""
        return enumerate(self.data)

    def item(self) -> Item:
        """Returns what is told of the table as it is now; raises UsageError without pyarrow."""
        types = [kind or cells.STRING for kind in self._types]
        content = TableContent(self.columns, types, self.data)
        described = [{"name": n, "type": t} for n, t in zip(self.columns, types)]
        return {"file": content, "row_count": len(self.data), "columns": described}

    def _joined_type(self, position: int, value: Any, row: int) -> str:
        """Returns the type of a column once it holds the value too."""
        known = self._types[position]
        kind = cells.type_of(value)
        if kind and kind == known:
            return known
        if not kind and self._optional[position]:
            return known
        where = f"{WHAT}: column {self.columns[position]!r}, row {row}"
        if not kind:
            raise TypeError(f"{where}: None in a column that is not optional")
        if not known:
            return kind
        # pandas and CSV readers have NaN where a text or a list is missing.
        is_nan = kind == cells.NUMBER and value != value
        if is_nan and known != cells.NUMBER and self._optional[position]:
            return known
        if self._is_mixed and cells.MEDIA not in (kind, known):
            return cells.OBJECT
        advice = "" if self._is_mixed else "; allow_mixed_types=True takes both"
        raise TypeError(f"{where}: {value!r:.80} is of type {kind}, the column of {known}{advice}")

    def _check_room(self, rows: int, columns: int) -> None:
        for what, count, most in (
            ("rows", rows, ROW_COUNT_MAX),
            ("columns", columns, COLUMN_COUNT_MAX),
            ("cells", rows * columns, CELL_COUNT_MAX),
        ):
            if count > most:
                raise InvalidArgument(
                    f"{WHAT} would have {count:,} {what}, at most {most:,} are allowed; keep larger ones in a file of the run",
                    reason="FIELD_TOO_LARGE",
                )


class TableContent(Content):
    """The Parquet file of a table: rows as they were, media cells stored when it is written."""

    def __init__(
        self, names: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        super().__init__("parquet", b"")
        self._arrow = load("pyarrow", extra="tables", what=WHAT)
        self._parquet = load("pyarrow.parquet", extra="tables", what=WHAT)
        self._names, self._types = list(names), list(types)
        self._columns: list[Any] = []
        self._items: dict[int, list[Item | None]] = {}
        for position, (name, kind) in enumerate(zip(names, types)):
            values = [row[position] for row in rows]
            if kind == cells.MEDIA:
                self._items[position] = [_media_cell(value) for value in values]
                self._columns.append(None)
            else:
                self._columns.append(_arrow_column(self._arrow, values, kind, name))
        count = sum(cell is not None for items in self._items.values() for cell in items)
        if count > MEDIA_CELL_COUNT_MAX:
            raise InvalidArgument(
                f"{WHAT} has {count:,} media cells, at most {MEDIA_CELL_COUNT_MAX:,} are allowed",
                reason="FIELD_TOO_LARGE",
            )

    def _parts(self, store: Store) -> Iterator[bytes]:
        arrow = self._arrow
        columns = list(self._columns)
        for position, items in self._items.items():
            texts = [None if i is None else extended_json.dumps(resolved(i, store)) for i in items]
            columns[position] = arrow.array(texts, type=arrow.string())
        described = [{"name": n, "type": t} for n, t in zip(self._names, self._types)]
        told = json.dumps({"version": 1, "columns": described}, ensure_ascii=False)
        fields = [arrow.field(n, c.type) for n, c in zip(self._names, columns)]
        schema = arrow.schema(fields, metadata={"runyard": told})
        buffer = io.BytesIO()
        self._parquet.write_table(
            arrow.Table.from_arrays(columns, schema=schema),
            buffer,
            compression="zstd",
            row_group_size=ROW_GROUP_ROWS,
        )
        yield buffer.getvalue()


def _media_cell(value: Any) -> Item | None:
    return cells.as_item(value) if cells.type_of(value) == cells.MEDIA else None


def _arrow_column(arrow: Any, values: Sequence[Any], kind: str, name: str) -> Any:
    """Returns the cells of a column as docs/media.md says; what is missing is null."""
    where = f"{WHAT}: column {name!r}, row"
    if kind == cells.NUMBER:
        numbers = [
            v if type(v) is float else cells.as_number(v) if cells.type_of(v) else None
            for v in values
        ]
        if all(n is None or (type(n) is int and -(2**63) <= n < 2**63) for n in numbers):
            return arrow.array(numbers, type=arrow.int64())
        return arrow.array([None if n is None else _as_float(n) for n in numbers], arrow.float64())
    if kind == cells.OBJECT:
        texts = [
            cells.as_json(v, f"{where} {i}") if cells.type_of(v) else None
            for i, v in enumerate(values)
        ]
        return arrow.array(texts, type=arrow.string())
    present = [v if cells.type_of(v) == kind else None for v in values]  # what is left is missing
    if kind == cells.BOOLEAN:
        return arrow.array([None if v is None else bool(v) for v in present], arrow.bool_())
    if kind == cells.DATETIME:
        times = [None if v is None else cells.as_time(v) for v in present]
        return arrow.array(times, type=arrow.timestamp("us", tz="UTC"))
    write = cells.as_json if kind == cells.LIST else cells.as_text
    texts = [None if v is None else write(v, f"{where} {i}") for i, v in enumerate(present)]
    return arrow.array(texts, type=arrow.string())


def _as_float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _names_and_rows(
    columns: Sequence[Any] | None, data: Any, dataframe: Any
) -> tuple[list[Any], Iterable[Sequence[Any]]]:
    if cells.is_frame(data):
        data, dataframe = None, data
    if dataframe is not None:
        if data is not None:
            raise InvalidArgument(f"{WHAT} takes data or dataframe, not both")
        if not cells.is_frame(dataframe):
            raise InvalidArgument(
                f"{WHAT}: dataframe is of type {type(dataframe).__name__}, not a pandas DataFrame"
            )
        _check_given(len(dataframe))
        names, rows = cells.rows_of_frame(dataframe)
        wanted = [str(name) for name in columns or names]
        missing = [name for name in wanted if name not in names]
        if missing:
            raise InvalidArgument(f"{WHAT}: the DataFrame has no column {missing[0]!r:.80}")
        order = [names.index(name) for name in wanted]
        return list(wanted), ([row[i] for i in order] for row in rows)
    if data is None:
        return given.listed(
            columns if columns is not None else COLUMNS_DEFAULT, f"{WHAT}: columns"
        ), []
    if is_array(data):
        array = data if str(getattr(data, "dtype", "")) == "object" else array_of(data, WHAT)
        if len(array.shape) != 2:
            raise InvalidArgument(
                f"{WHAT}: data of shape {tuple(array.shape)} has no rows and columns"
            )
        data = array.tolist()
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, Iterable):
        raise InvalidArgument(f"{WHAT}: data is of type {type(data).__name__}, not a list of rows")
    rows = list(data)
    _check_given(len(rows))
    for index, row in enumerate(rows):
        if isinstance(row, (str, bytes, Mapping)) or not hasattr(row, "__iter__"):
            raise InvalidArgument(
                f"{WHAT}: row {index} is of type {type(row).__name__}, not a list of values"
            )
    if columns is None:
        width = len(list(rows[0])) if rows else len(COLUMNS_DEFAULT)
        is_usual = width == len(COLUMNS_DEFAULT)
        columns = COLUMNS_DEFAULT if is_usual else [f"column_{i}" for i in range(width)]
    return list(columns), rows


def _check_given(count: int) -> None:
    if count > ROW_COUNT_MAX:
        raise InvalidArgument(
            f"{WHAT}: {count:,} rows, at most {ROW_COUNT_MAX:,} are allowed; keep larger ones in a file of the run",
            reason="FIELD_TOO_LARGE",
        )


def _checked_names(names: Sequence[Any]) -> list[str]:
    checked: list[str] = []
    for one in names:
        name = one if isinstance(one, str) else str(one)
        problem = metric_name_problem(name)
        if not problem and name in checked:
            problem = "stands twice"
        if problem:
            raise InvalidArgument(f"{WHAT}: the column {name!r:.200} {problem}")
        checked.append(name)
    return checked


def _declared(dtype: Any, columns: Sequence[str]) -> list[str]:
    if dtype is None:
        return [""] * len(columns)
    return [
        "" if declared is None else cells.declared_type(declared)
        for declared in _per_column(dtype, columns, "dtype")
    ]


def _per_column(given: Any, columns: Sequence[str], what: str) -> list[Any]:
    """Returns an entry per column, of a dict by column, a list, or one for all."""
    if isinstance(given, Mapping):
        unknown = [key for key in given if key not in columns]
        if unknown:
            raise InvalidArgument(f"{WHAT}: {what} names {unknown[0]!r:.80}, which is no column")
        return [given.get(name, what == "optional" or None) for name in columns]
    if isinstance(given, (list, tuple)):
        if len(given) != len(columns):
            raise InvalidArgument(
                f"{WHAT}: {what} has {len(given)} entries for {len(columns)} columns"
            )
        return list(given)
    return [given] * len(columns)

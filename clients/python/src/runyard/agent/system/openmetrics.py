"""Samples an endpoint of the user's that tells metrics in the text format of OpenMetrics or Prometheus."""

from __future__ import annotations

import dataclasses
import logging
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Union

TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 1 << 20
SERIES_COUNT_MAX = 1000
NAME_BYTES_MAX = 512
"""As long as the name of a metric may be (journal_format)."""
CHUNK_BYTES = 64 * 1024

Filters = Union[Mapping[str, Mapping[str, str]], Sequence[str]]
"""Patterns of "ENDPOINT.METRIC", each with patterns that its labels must fit: found anywhere, as W&B's are."""

# Sample lines: OpenMetrics 1.0, section "ABNF"; the timestamp is not read. Every repetition has one way to match.
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*')
_REST = re.compile(
    r"[ \t]+([+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|[iI][nN][fF]|[nN][aA][nN]))"
    r"(?:[ \t]+[+-]?\d[\d.eE+-]*)?(?:[ \t]+#[ \t].*|[ \t]*)\Z"
)
_ESCAPE = re.compile(r"\\(.)")
_LABEL_COUNT_MAX = 64

_log = logging.getLogger("runyard.agent")


@dataclasses.dataclass(frozen=True)
class Series:
    """One sample line: a metric's name, its labels in the order of their names, and the value."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    value: float

    def name_at(self, endpoint: str) -> str:
        """Returns the metric's name in the run; the same at each sample, whatever else the endpoint tells."""
        name = f"system/openmetrics.{endpoint}.{self.metric}"
        if not self.labels:
            return f"{name}.0"
        return name + "{" + ",".join(f'{key}="{_escaped(text)}"' for key, text in self.labels) + "}"


def parse(text: str) -> tuple[list[Series], int]:
    """Returns the samples in their order, and how many lines are none. Never raises."""
    series, bad_count = [], 0
    for line in text.split("\n"):
        line = line.strip(" \t\r")
        if line and not line.startswith("#"):
            found = _parse_line(line)
            if found is None:
                bad_count += 1
            else:
                series.append(found)
    return series, bad_count


class OpenMetricsSampler:
    """Samples one endpoint; `sample` is called by one thread at a time.

    `TIMEOUT_S` is the limit of each wait for the endpoint and of the whole answer behind its headers.
    Raises ValueError if the address is not of http or https, or a filter is no regular expression.
    """

    def __init__(
        self,
        endpoint: str,
        url: str,
        *,
        filters: Filters | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(
                f"endpoint {endpoint!r}: {url!r} is no address of http:// or https://; give one"
            )
        self._endpoint = endpoint
        self._url = url
        self._headers = dict(headers or {})
        self._filters = _compiled(filters)
        # Neither files nor redirects nor proxies: what is asked is what the user wrote.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.HTTPHandler,
            urllib.request.HTTPSHandler,
            urllib.request.HTTPErrorProcessor,
            urllib.request.HTTPDefaultErrorHandler,
        ):
            self._opener.add_handler(handler())
        self.bad_line_count = 0
        """Lines that are no samples, of all answers together."""
        self.left_out_count = 0
        """Samples that were left out, of all answers together: too many, or with too long or unprintable names."""
        self.failure_count = 0
        """Times that the endpoint did not answer, or not in time."""

    def sample(self) -> dict[str, float]:
        """Returns what the endpoint tells now; {} if it does not answer. NaN and infinities are kept. Never raises."""
        try:
            text = self._fetch()
        except Exception as error:  # whatever there is to go wrong between here and there
            self.failure_count += 1
            _log.debug("endpoint_not_sampled %s %s", self._endpoint, type(error).__name__)
            return {}
        series, bad_count = parse(text)
        self.bad_line_count += bad_count
        metrics: dict[str, float] = {}
        for one in series:
            if not self._is_wanted(one):
                continue
            name = one.name_at(self._endpoint)
            is_new = name not in metrics
            if not _is_name(name) or (is_new and len(metrics) >= SERIES_COUNT_MAX):
                self.left_out_count += 1
            else:
                metrics[name] = one.value
        return metrics

    def _fetch(self) -> str:
        deadline_s = time.monotonic() + TIMEOUT_S
        request = urllib.request.Request(
            self._url, headers={"accept": "text/plain;version=0.0.4", **self._headers}
        )
        answer = self._opener.open(request, timeout=TIMEOUT_S)
        with answer:
            body = bytearray()
            while len(body) <= ANSWER_BYTES_MAX:
                chunk = answer.read1(CHUNK_BYTES)
                if not chunk:
                    return body.decode("utf-8", "replace")
                body += chunk
                if time.monotonic() > deadline_s:
                    raise TimeoutError(f"no whole answer within {TIMEOUT_S} s")
        # The last line is cut, and so would its number be.
        del body[body.rfind(b"\n", 0, ANSWER_BYTES_MAX) + 1 :]
        self.left_out_count += 1
        return body.decode("utf-8", "replace")

    def _is_wanted(self, series: Series) -> bool:
        if self._filters is None:
            return True
        labels = dict(series.labels)
        name = f"{self._endpoint}.{series.metric}"
        return any(
            pattern.search(name)
            and all(label in labels and fit.search(labels[label]) for label, fit in wanted.items())
            for pattern, wanted in self._filters
        )


def _parse_line(line: str) -> Series | None:
    name = _NAME.match(line)
    if name is None:
        return None
    position = name.end()
    labels: dict[str, str] = {}
    if line.startswith("{", position):
        found, position = _parse_labels(line, position + 1)
        if found is None:
            return None
        labels = found
    rest = _REST.match(line, position)
    if rest is None:
        return None
    return Series(name[0], tuple(sorted(labels.items())), float(rest[1]))


def _parse_labels(line: str, position: int) -> tuple[dict[str, str] | None, int]:
    """Returns the labels and where the text behind "}" begins; None if they are none. A comma may end them."""
    labels: dict[str, str] = {}
    while not line.startswith("}", position):
        label = _LABEL.match(line, position)
        if label is None or label[1] in labels or len(labels) >= _LABEL_COUNT_MAX:
            return None, position
        labels[label[1]] = _ESCAPE.sub(_unescaped, label[2])
        position = label.end()
        if line.startswith(",", position):
            position += 1
        elif not line.startswith("}", position):
            return None, position
    return labels, position + 1


def _unescaped(escape: re.Match[str]) -> str:
    return {"n": "\n", "\\": "\\", '"': '"'}.get(escape[1], escape[0])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _is_name(name: str) -> bool:
    """Returns whether the text may name a metric."""
    return len(name.encode("utf-8", "replace")) <= NAME_BYTES_MAX and name.isprintable()


def _compiled(
    filters: Filters | None,
) -> list[tuple[re.Pattern[str], dict[str, re.Pattern[str]]]] | None:
    if filters is None:
        return None
    rows: Mapping[str, Mapping[str, str]]
    rows = filters if isinstance(filters, Mapping) else {pattern: {} for pattern in filters}
    return [
        (
            _compile(pattern),
            {label: _compile(fit) for label, fit in (labels or {}).items()},
        )
        for pattern, labels in rows.items()
    ]


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"filter {pattern!r} is no regular expression: {error}") from None

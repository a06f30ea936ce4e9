"""Metrics of an endpoint: the text format, filters, and a real server that answers well and badly."""

from __future__ import annotations

import http.server
import math
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runyard.agent.system import openmetrics
from runyard.agent.system.openmetrics import OpenMetricsSampler, Series, parse

ANSWER = """\
# HELP power Power draw
# TYPE power gauge
power{gpu="1",pod="train-0"} 300.5
power{pod="other",gpu="0"} 50 1700000000000
# TYPE seconds histogram
seconds_bucket{le="+Inf"} 7 # {trace_id="a b"} 0.5 1.7
seconds_sum 1.5e1
up 1
this is no sample
# EOF
"""


class Endpoint(http.server.BaseHTTPRequestHandler):
    """Answers with what the server holds as `body`, or sends elsewhere."""

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.headers_seen.append(dict(self.headers))
        self.send_response(server.status)
        if server.status == 302:
            self.send_header("location", "/elsewhere")
            server.status = 200
        self.send_header("content-length", str(len(server.body)))
        self.end_headers()
        try:
            self.wfile.write(server.body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the sampler has enough

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Endpoint)
        self.body, self.status = ANSWER.encode(), 200
        self.headers_seen: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/metrics"


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_each_sample_is_a_metric(server: Server) -> None:
    """Gauges, counters and the parts of histograms are told under stable names; a line that is none is counted."""
    sampler = OpenMetricsSampler("node", server.url, headers={"Authorization": "Bearer t"})
    assert sampler.sample() == {
        'system/openmetrics.node.power{gpu="1",pod="train-0"}': 300.5,
        'system/openmetrics.node.power{gpu="0",pod="other"}': 50.0,
        'system/openmetrics.node.seconds_bucket{le="+Inf"}': 7.0,
        "system/openmetrics.node.seconds_sum.0": 15.0,
        "system/openmetrics.node.up.0": 1.0,
    }
    assert (sampler.bad_line_count, sampler.left_out_count, sampler.failure_count) == (1, 0, 0)
    assert server.headers_seen[0]["Authorization"] == "Bearer t"


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        (None, 5),
        ((), 0),
        ((".*",), 5),
        (("power", "up$"), 3),
        (("^other\\.",), 0),
        ({"node.power": {}}, 2),
        ({"power": {"pod": "train-.*"}}, 1),
        ({"power": {"pod": "train", "gpu": "0"}}, 0),
        ({"seconds": {"pod": ".*"}}, 0),
        ({"power": {"pod": "none"}, ".*": {"le": "Inf"}}, 1),
    ],
)
def test_filters_choose(server: Server, filters: openmetrics.Filters | None, count: int) -> None:
    """A sample is wanted if a pattern is found in ENDPOINT.METRIC and all of its patterns in the labels."""
    assert len(OpenMetricsSampler("node", server.url, filters=filters).sample()) == count


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("a 1", 1.0),
        ("a\t+2.5e-3\t17", 0.0025),
        ("a .5", 0.5),
        ("a 5.", 5.0),
        ("a -Inf", -math.inf),
        ('a{x="1",} +Inf', math.inf),
        ('a{} 3 1.7 # {t="u"} 1', 3.0),
        ("  a 1  \r", 1.0),
        ('a{x="}, ,=\\"\\\\"} 4', 4.0),
    ],
)
def test_lines_that_are_samples(line: str, value: float) -> None:
    """The forms that the two formats allow."""
    series, bad_count = parse(line)
    assert ([one.value for one in series], bad_count) == ([value], 0)


@pytest.mark.parametrize(
    "line",
    [
        "a", "1 1", "a one", "a 1_000", "a 0x10", "a 1 2 3", "a{ 1", "a{x} 1", 'a{x="1} 1', 'a{x="1" y="2"} 1',
        'a{x="1",x="2"} 1', 'a{,} 1', 'a{1x="1"} 1', "a.5", 'a{x="1"}', '{"a.b"} 1', "a infinite", "a 1 #", "é 1",
    ],
)  # fmt: skip
def test_lines_that_are_none(line: str) -> None:
    """What is no sample is skipped and counted, and its neighbours are told."""
    series, bad_count = parse(f"up 1\n{line}\ndown 0")
    assert ([one.metric for one in series], bad_count) == (["up", "down"], 1)


def test_nan_is_kept() -> None:
    """NaN is a value."""
    ((one,), bad_count) = parse("a NaN")
    assert math.isnan(one.value) and bad_count == 0


def test_labels_are_told_as_they_were(server: Server) -> None:
    """Escapes are undone for filters and made again for the name, which so has no line end."""
    server.body = b'a{x="q\\"b\\\\n\\nc"} 1\n'
    wanted = {"a": {"x": '^q"b\\\\n\nc$'}}
    assert OpenMetricsSampler("e", server.url, filters=wanted).sample() == {
        'system/openmetrics.e.a{x="q\\"b\\\\n\\nc"}': 1.0
    }


def test_series_are_limited(server: Server) -> None:
    """Of an endpoint that tells too much the first 1,000 are kept and the others counted, as are names too long."""
    long_label = "x" * 600
    lines = [
        f'a{{x="{long_label}"}} 1',
        'a{x="\x07"} 1',
        *(f'a{{n="{n}"}} {n}' for n in range(1200)),
    ]
    server.body = "\n".join(lines).encode()
    sampler = OpenMetricsSampler("e", server.url)
    assert len(sampler.sample()) == 1000
    assert sampler.left_out_count == 200 + 2


def test_an_answer_is_read_up_to_a_limit(server: Server) -> None:
    """Behind 1 MiB nothing is read, and the line that is cut there is not taken for a shorter number."""
    size = 1 << 20
    server.body = b"a 1\n" + b"# " + b"x" * (size - 4 - 2 - 1 - 3) + b"\n" + b"b 123456\n"
    sampler = OpenMetricsSampler("e", server.url)
    assert sampler.sample() == {"system/openmetrics.e.a.0": 1.0}
    assert (sampler.left_out_count, sampler.bad_line_count) == (1, 0)
    server.body = server.body[:size]
    assert len(sampler.sample()) == 2


@pytest.mark.parametrize("status", [302, 404, 500])
def test_another_answer_is_none(server: Server, status: int) -> None:
    """A refusal is no metric, and a redirect is not followed."""
    server.status = status
    sampler = OpenMetricsSampler("e", server.url)
    assert sampler.sample() == {}
    assert (sampler.failure_count, len(server.headers_seen)) == (1, 1)


def test_nobody_listens() -> None:
    """An endpoint that is not there is counted, not raised."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        sampler = OpenMetricsSampler("e", f"http://127.0.0.1:{taken.getsockname()[1]}/")
        assert sampler.sample() == {}
    assert sampler.failure_count == 1


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint that says nothing is left after the limit."""
    monkeypatch.setattr(openmetrics, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sampler = OpenMetricsSampler("e", f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert sampler.sample() == {}
    assert sampler.failure_count == 1


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "host:9400/metrics", "", "data:,a 1"]
)
def test_only_the_web_is_asked(url: str) -> None:
    """No other address is an endpoint; the message says what is."""
    with pytest.raises(ValueError, match=r"http:// or https://"):
        OpenMetricsSampler("e", url)


@pytest.mark.parametrize("filters", [["("], {"a": {"pod": "["}}])
def test_a_filter_that_is_no_pattern(filters: openmetrics.Filters) -> None:
    """A wrong pattern is told when the endpoint is named, not at each sample."""
    with pytest.raises(ValueError, match="no regular expression"):
        OpenMetricsSampler("e", "http://h/", filters=filters)


@given(st.one_of(st.text(), st.text(alphabet='aZ_:{}=",\\ \t\n\r#0123.+-eEInfNa\u2028')))
def test_any_text_is_parsed(text: str) -> None:
    """Nothing makes the parser raise; each line is a sample, a bad one, or neither for it is empty or a comment."""
    series, bad_count = parse(text)
    assert len(series) + bad_count <= len(text.split("\n"))
    for one in series:
        if one.labels:
            name = one.name_at("e")[len("system/openmetrics.e.") :]
            assert parse(f"{name} 1") == ([Series(one.metric, one.labels, 1.0)], 0)

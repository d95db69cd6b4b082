"""Server-sent events: the same events come out, whatever the bytes are cut into."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from agentflow.models._sse import EventParser, ServerSentEvent

TEXT = 'data: {"text": "a\u2028b\u0085c\x0bd é 🐈"}\n\nevent: ping\ndata: 1\ndata: 2\n\n: comment\n\nid: 7\ndata:x\n\n'
EVENTS = [
    ServerSentEvent('{"text": "a\u2028b\u0085c\x0bd é 🐈"}'),
    ServerSentEvent("1\n2", "ping"),
    ServerSentEvent("x"),
]


def events_of(*chunks):
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_bytes_may_be_cut_anywhere(end):
    """Cut in two at every offset, and into single bytes, a stream gives the same events."""
    data = TEXT.replace("\n", end).encode()

    whole = events_of(data)
    halves = [events_of(data[:cut], data[cut:]) for cut in range(len(data) + 1)]
    single = events_of(*(data[at : at + 1] for at in range(len(data))))

    assert whole == EVENTS
    assert single == EVENTS
    assert all(half == EVENTS for half in halves)


@given(
    payloads=st.lists(st.text(), max_size=4),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    cuts=st.lists(st.integers(0, 400), max_size=12),
)
def test_any_json_survives_any_cut(payloads, end, cuts):
    """Whatever stands in a JSON text comes back, whatever line end the server uses and wherever chunks end."""
    texts = [json.dumps(payload, ensure_ascii=False) for payload in payloads]
    data = b"".join(b"data: " + text.encode() + end * 2 for text in texts)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]

    events = events_of(*(data[start:stop] for start, stop in pairwise(places)))

    assert [event.data for event in events] == texts


def test_an_event_comes_out_at_its_blank_line():
    """A blank line that ends in CR is enough: the next byte may be a long time coming."""
    parser = EventParser()

    assert parser.feed(b"data: 1\r") == []
    assert parser.feed(b"\r") == [ServerSentEvent("1")]
    assert parser.feed(b"\ndata: 2\r\n\r\n") == [ServerSentEvent("2")]


def test_an_incomplete_event_never_comes_out():
    """Without its blank line an event may be a part of one."""
    assert events_of(b"data: 1\n\ndata: 2\n") == [ServerSentEvent("1")]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xef\xbb\xbfdata: 1\n\n", [ServerSentEvent("1")]),
        (b"data\n\n", [ServerSentEvent("")]),
        (b"data:  two\n\n", [ServerSentEvent(" two")]),
        (b"event: ping\n\ndata: 1\n\n", [ServerSentEvent("1")]),
        (b"retry: 10\nunknown: x\ndata: 1\n\n", [ServerSentEvent("1")]),
        (b"data: \xff\n\n", [ServerSentEvent("\ufffd")]),
        (b"\n\n\n", []),
    ],
    ids=["byte order mark", "name only", "one space", "event without data", "other fields", "not UTF-8", "blank"],
)
def test_the_standard_is_followed(data, expected):
    """The corners of the standard."""
    assert events_of(data) == expected

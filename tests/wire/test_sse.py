"""Server-sent events survive any cut of the stream."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych.wire import sse

TEXT = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=40)


@settings(max_examples=200, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=5), st.data())
def test_any_cut_of_the_stream_gives_the_same_events(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(sse.encode(text, event="delta", id=str(i)) for i, text in enumerate(texts))
    parser, events, rest = sse.Parser(), [], stream
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        events += parser.feed(rest[:cut])
        rest = rest[cut:]
    assert [e.data for e in events] == texts
    assert [e.id for e in events] == [str(i) for i in range(len(texts))]
    assert not parser.pending


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_line_end_is_understood_even_when_cut_in_the_middle(end: str) -> None:
    stream = f"data: a{end}data:b{end}{end}: note{end}event: x{end}data: c{end}{end}".encode()
    parser = sse.Parser()
    events = [event for i in range(len(stream)) for event in parser.feed(stream[i : i + 1])]
    assert events == [sse.Event("a\nb"), sse.Event("c", "x")]


def test_a_byte_order_mark_is_skipped() -> None:
    parser = sse.Parser()
    assert parser.feed(b"\xef") == parser.feed(b"\xbb") == []
    assert parser.feed(b"\xbfdata: a\n\n") == [sse.Event("a")]


def test_a_truncated_stream_is_told_from_a_complete_one() -> None:
    parser = sse.Parser()
    assert parser.feed(b"data: one\n\ndata: tw") == [sse.Event("one")]
    assert parser.pending


def test_an_event_without_end_is_refused() -> None:
    parser = sse.Parser(max_event_bytes=100)
    with pytest.raises(ValueError, match="larger than 100 bytes"):
        for _ in range(10):
            parser.feed(b"data: " + b"x" * 30 + b"\n")


def test_a_name_over_two_lines_cannot_inject_an_event() -> None:
    with pytest.raises(ValueError, match="one line"):
        sse.encode("x", event="a\ndata: evil")

"""Text that is shown: whole characters, no part of a stop string, nothing lost."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Core
from tokenizers import decoders, models, pre_tokenizers

from triptych.lm.generate.detokenize import Detokenizer, TextStream
from triptych.lm.model.tokenizer import Tokenizer


def cut(data: bytes, seed: int) -> list[bytes]:
    places = sorted(random.Random(seed).sample(range(len(data) + 1), min(len(data), 5)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


def run(pieces: list[bytes], stops: tuple[str, ...]) -> tuple[list[str], bool]:
    stream = TextStream(stops)
    shown = []
    for piece in pieces:
        shown.append(stream.push(piece))
        if stream.stopped:
            return shown, True
    return [*shown, stream.flush()], False


@given(st.text(), st.integers())
def test_any_cut_of_the_bytes_gives_the_text_back(text: str, seed: int) -> None:
    shown, _ = run(cut(text.encode(), seed), ())
    assert "".join(shown) == text
    assert "\ufffd" not in "".join(shown) or "\ufffd" in text


@given(
    st.text(alphabet="abn\n ü🙂", max_size=30),
    st.lists(st.text(alphabet="abn\n ü🙂", min_size=1, max_size=4), max_size=3),
    st.integers(),
)
def test_the_text_ends_before_the_first_stop_string(text: str, stops: list[str], seed: int) -> None:
    shown, stopped = run(cut(text.encode(), seed), tuple(stops))
    answer = "".join(shown)
    assert stopped == any(stop in text for stop in stops)
    assert text.startswith(answer)
    assert not any(stop in answer for stop in stops)
    if not stopped:
        assert answer == text


def test_a_stop_string_is_never_shown_in_part() -> None:
    stream = TextStream(("\n\n", "END"))
    assert [stream.push(piece) for piece in (b"a\n", b"b", b" E", b"N", b"x", b"EN", b"D")] == [
        "a",
        "\nb",
        " ",
        "",
        "ENx",
        "",
        "",
    ]
    assert stream.stopped


def test_a_character_that_is_never_finished_is_not_shown() -> None:
    stream = TextStream()
    assert stream.push("é🙂".encode()[:-1]) == "é"
    assert stream.flush() == ""


def test_bytes_that_are_no_text_show_as_a_mark() -> None:
    assert TextStream().push(b"a\xffb") == "a\ufffdb"


def test_every_token_spells_the_bytes_it_was_made_of(tokenizer: Tokenizer) -> None:
    detokenizer = Detokenizer(tokenizer)
    text = "Ein Fünftel 数字 🙂🙃\n\tdef add(a, b)  <|im_end|> \x00\x7f"
    ids = tokenizer.encode(text)
    assert b"".join(detokenizer.bytes_of(token_id) for token_id in ids).decode() == text
    assert detokenizer.bytes_of(2) == b"<|im_end|>"
    assert detokenizer.text_bytes_of(2) == b""
    assert detokenizer.bytes_of(10_000) == b""


def test_sentencepiece_tokens_are_spelled_with_spaces_and_bytes() -> None:
    core = Core(models.BPE({"<0xF0>": 0, "\u2581fox": 1, "a": 2}, [], byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback()])
    detokenizer = Detokenizer(Tokenizer(core, {}))
    assert [detokenizer.bytes_of(token_id) for token_id in range(3)] == [b"\xf0", b" fox", b"a"]

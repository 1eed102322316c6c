"""From tokens to text that can be shown: bytes per token, whole characters, stop strings."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

from tokenizers import decoders

from triptych.lm.model.tokenizer import Tokenizer


class Detokenizer:
    """The bytes each token of a vocabulary stands for; special tokens spell nothing in a text."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._special = frozenset(tokenizer.special_ids.values())
        byte_level = isinstance(tokenizer.core.decoder, decoders.ByteLevel)
        added = tokenizer.core.get_added_tokens_decoder()
        spell = _from_byte_level if byte_level else _from_pieces
        vocabulary = tokenizer.core.get_vocab(with_added_tokens=True)
        self._bytes = [b""] * (max(vocabulary.values()) + 1)
        for token, token_id in vocabulary.items():
            self._bytes[token_id] = token.encode() if token_id in added else spell(token)

    def bytes_of(self, token_id: int) -> bytes:
        """Return a token's bytes, a special token's name included; unused ids spell nothing."""
        return self._bytes[token_id] if token_id < len(self._bytes) else b""

    def text_bytes_of(self, token_id: int) -> bytes:
        """Return what a token adds to a text."""
        return b"" if token_id in self._special else self.bytes_of(token_id)


class TextStream:
    """Turn bytes into text that is safe to show at once.

    A part of a character waits for its rest and is dropped if that never comes; text that may
    be the beginning of a stop string waits until it is known not to be.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def push(self, piece: bytes) -> str:
        """Add a token's bytes and return the text that can be shown now."""
        self._held += self._decoder.decode(piece)
        found = [place for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            text, self._held = self._held[: min(found)], ""
            return text
        hold = self._beginning_of_a_stop()
        text = self._held[: len(self._held) - hold]
        self._held = self._held[len(self._held) - hold :]
        return text

    def flush(self) -> str:
        """Return what waited, when nothing more comes."""
        text, self._held = self._held, ""
        return text

    def _beginning_of_a_stop(self) -> int:
        """Measure the longest end of the held text with which a stop string begins."""
        return max(
            (
                length
                for stop in self._stops
                for length in range(1, min(len(stop), len(self._held) + 1))
                if self._held.endswith(stop[:length])
            ),
            default=0,
        )


def _byte_of_character() -> dict[str, int]:
    """Map the printable stand-ins of byte-level BPE to bytes.

    Source: the GPT-2 tokenizer.
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    table.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return table


_BYTES = _byte_of_character()


def _from_byte_level(token: str) -> bytes:
    return bytes(_BYTES[character] for character in token if character in _BYTES)


def _from_pieces(token: str) -> bytes:
    """Spell a SentencePiece token: a low line for a space, `<0xE2>` for a single byte."""
    if re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", token):
        return bytes([int(token[3:5], 16)])
    return token.replace("\u2581", " ").encode()

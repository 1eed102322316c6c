"""What earlier answers have read, for prompts that begin alike: these read it once."""

from __future__ import annotations

from collections.abc import Sequence

from triptych.lm.generate.packed.decoder import AnswerCache

#: Fewer tokens than this are read as fast as found.
MIN_SHARED = 64


class PromptCache:
    """The attention caches of answers, those still being written included.

    Nothing is copied to keep one: what an answer has read never changes while it goes on. A prompt
    that begins alike, with the same adapter, copies the rows it shares, which costs less than to
    read them.
    Units: `max_bytes` bounds what is kept beyond the answers under way.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: list[tuple[list[int], AnswerCache]] = []

    def begin(self, ids: Sequence[int], cache: AnswerCache) -> int:
        """Copy what an earlier answer has read of this prompt into an empty cache.

        Returns: how many tokens need not be read; at least the last one always is.
        """
        best, source = MIN_SHARED - 1, None
        for tokens, kept in self._kept:
            if kept.adapter == cache.adapter:
                shared = _shared(tokens[: kept.length], ids[:-1])
                if shared > best:
                    best, source = shared, kept
        if source is None:
            return 0
        cache.reserve(best)
        cache.data[:, :, :, :best] = source.data[:, :, :, :best]
        cache.length = best
        return best

    def keep(self, tokens: list[int], cache: AnswerCache) -> None:
        """Keep an answer's cache; `tokens` grows with what the answer writes."""
        if cache.length >= MIN_SHARED:
            self._kept.append((tokens, cache))
        while sum(kept.data.nbytes for _, kept in self._kept) > self._max_bytes:
            self._kept.pop(0)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens with which both begin."""
    count = min(len(one), len(other))
    if list(one[:count]) == list(other[:count]):
        return count
    return next(place for place in range(count) if one[place] != other[place])

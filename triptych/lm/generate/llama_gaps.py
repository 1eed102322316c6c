"""Which tokens wrote a character that llama.cpp reported as one: found by their bytes.

llama.cpp reports no token that ends inside a character. How many there were and what they spell is
known; where several splits of the bytes exist, the most probable first token decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from triptych.lm.generate.detokenize import Detokenizer
from triptych.lm.generate.engine import Token
from triptych.lm.generate.llama_messages import Gap, token_of

Distribution = Callable[[Sequence[int]], list[Mapping[str, Any]]]
"""All tokens after some ids, the likeliest first, with their log-probabilities."""


def filled(
    late: Sequence[Mapping[str, Any] | Gap],
    ids: list[int],
    after: Distribution,
    detokenizer: Detokenizer,
    alternatives: int,
) -> list[Token]:
    """Return the tokens of a late part, those of its gaps included.

    `ids` are all before it.
    """
    ids, found = list(ids), []
    for number, item in enumerate(late):
        if not isinstance(item, Gap):
            own = detokenizer.bytes_of(item["id"])
            found.append(token_of({**item, "bytes": own}, alternatives))
            ids.append(item["id"])
            continue
        follower = late[number + 1] if number + 1 < len(late) else None
        last = b"" if not isinstance(follower, Mapping) else detokenizer.bytes_of(follower["id"])
        left = item.spelled.removesuffix(last)
        for missing in range(item.tokens, 0, -1):
            listed = after(ids)
            entry = next(
                (e for e in listed if _begins(detokenizer, e["id"], left, missing)), listed[0]
            )
            own = detokenizer.bytes_of(entry["id"])
            left = left[len(own) :]
            ids.append(entry["id"])
            found.append(token_of({**entry, "bytes": own, "top_logprobs": listed}, alternatives))
    return found


def _begins(detokenizer: Detokenizer, token: int, left: bytes, missing: int) -> bool:
    """Return whether a token may be the first of so many that spell these bytes."""
    own = detokenizer.bytes_of(token)
    if not left:
        return True  # cut off at the end: unknown, so the likeliest
    if not own or not left.startswith(own):
        return False
    rest = len(left) - len(own)
    return rest == 0 if missing == 1 else rest >= missing - 1

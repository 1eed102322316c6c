"""General text beside the rows: what forgetting is measured on, and what is replayed against it.

The beginning of the text is measured, the rest is replayed, so no token is both. Which piece a step
replays is a pure function of the seed and the step. Left out: the loss of a step (`step`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from triptych.errors import ConfigError, DataError
from triptych.lm.data.conversations.dataset import Tokens
from triptych.lm.data.hashing import sequence
from triptych.lm.model.tokenizer import Tokenizer
from triptych.lm.train.posttrain.general_text import TEXT

#: Tokens of general text that are read at each evaluation.
MEASURED_TOKENS = 2048
#: Tokens of one replayed piece.
PIECE_TOKENS = 256


class General:
    """The tokens of a general text: its beginning to measure on, its rest to replay."""

    def __init__(self, file: Path | None, tokenizer: Tokenizer) -> None:
        """Read the file, or the page that is built in.

        Raises: DataError where there is no such file, or no text in it.
        """
        text = TEXT
        if file is not None:
            try:
                text = file.read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                raise DataError(
                    f"posttrain.general_data: {file} cannot be read: {error}"
                ) from error
        ids = np.array(tokenizer.encode(text), dtype=np.int64)
        if not len(ids):
            raise DataError(f"posttrain.general_data: {file} is empty")
        first = np.array([tokenizer.boundary_id], dtype=np.int64)
        self.measured = np.concatenate((first, ids[:MEASURED_TOKENS]))
        self._rest = ids[MEASURED_TOKENS:]
        self._pieces = 0 if file is None else len(self._rest) // PIECE_TOKENS
        self.sha256 = hashlib.sha256(ids.tobytes()).hexdigest()

    def check(self, replay_frac: float) -> None:
        """Refuse a replay for which there is no text.

        Raises: ConfigError.
        """
        if replay_frac and not self._pieces:
            raise ConfigError(
                f"posttrain.replay_frac = {replay_frac:g} needs a text of at least "
                f"{MEASURED_TOKENS + PIECE_TOKENS:,} tokens to replay",
                hint="set posttrain.general_data=FILE.txt, text of the kind that must not be "
                "forgotten",
            )

    def pieces(self, step: int, tokens: int, seed: int) -> list[Tokens]:
        """Return pieces of about so many tokens for one step, every token of them trained."""
        count = max(1, round(tokens / PIECE_TOKENS))
        drawn = sequence(count, f"replay {seed} {step}") % np.uint64(self._pieces)
        starts = [int(number) * PIECE_TOKENS for number in drawn]
        mask = np.ones(PIECE_TOKENS, dtype=bool)
        return [Tokens(self._rest[start : start + PIECE_TOKENS], mask) for start in starts]

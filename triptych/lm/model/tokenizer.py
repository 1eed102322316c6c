"""The byte-level BPE tokenizer: training, loading, chat rendering, byte lengths.

The split pattern is exactly Qwen2's, the one for a freshly trained byte-level BPE that
llama.cpp and Ollama know by name (`pre = "qwen2"`). There is no normaliser: tokens are the
bytes of the text, nothing else, so decoding returns the text and bits per byte are exact.
Left out: where training text comes from (lm/data).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, trainers

from triptych.durable import write_atomic
from triptych.errors import DataError
from triptych.lm.model.chat_template import CUT, begun_answer, disarm, rearm, render, until_cut
from triptych.lm.model.tool_chat import in_words, knows_tools
from triptych.wire.lenient_json import well_formed

if TYPE_CHECKING:
    import numpy as np

# Text is cut here before BPE, so no token ever spans two of these pieces. In order of trial:
#   (?i:'s|'t|...)                English contractions, one piece each;
#   [^\r\n\p{L}\p{N}]?\p{L}+       a run of letters, with one space or sign before it (" word");
#   \p{N}                         every digit alone, so that numbers are spelled digit by digit;
#    ?[^\s\p{L}\p{N}]+[\r\n]*     punctuation, with one space before it and line ends after it;
#   \s*[\r\n]+                    white space up to and with its last line end;
#   \s+(?!\S)                     white space but its last character, which goes to the next word;
#   \s+                           what is left of it.
# One character changed here, and llama.cpp (`pre = "qwen2"`) reads other tokens than it was
# trained on, without an error: that pattern is compiled into it and chosen by name.
QWEN2_SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END_OF_TEXT = "<|endoftext|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
SPECIAL_TOKENS = (END_OF_TEXT, IM_START, IM_END)

# ChatML. vLLM and others send content as a list of parts, so both shapes are accepted.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['content'] is string -%}"
    "{{- message['content'] -}}"
    "{%- elif message['content'] is not none -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'text' -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}"
    "{%- endif -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)

# Qwen2's pattern always cuts between a newline and a letter.
_LINE_START = re.compile(r"(?<=\n)[A-Za-z]")
_PIECE_CHARS = 16_384
_MIN_VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)


class Tokenizer:
    """Turn text into token ids and back, and chats into prompts.

    Ordinary text is never read for special tokens: `<|im_end|>` typed by a user is ten
    characters, not a control token. Only `encode_chat` and `boundary_id` produce those.
    """

    def __init__(self, core: tokenizers.Tokenizer, settings: dict[str, Any]) -> None:
        self.core = core
        self.settings = settings
        core.no_truncation()
        core.no_padding()
        core.encode_special_tokens = True

    @classmethod
    def train(
        cls, texts: Iterator[str], *, vocab_size: int, show_progress: bool = False
    ) -> Tokenizer:
        """Train a byte-level BPE on the texts.

        Raises: DataError when the vocabulary cannot hold the bytes and the special tokens.
        """
        if vocab_size < _MIN_VOCAB_SIZE:
            raise DataError(
                f"a vocabulary of {vocab_size} cannot hold 256 bytes and "
                f"{len(SPECIAL_TOKENS)} special tokens",
                hint=f"set data.vocab_size to {_MIN_VOCAB_SIZE} or more",
            )
        core = tokenizers.Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN2_SPLIT_PATTERN), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        core.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size,
            show_progress=show_progress,
            special_tokens=[AddedToken(token, special=True) for token in SPECIAL_TOKENS],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        )
        core.train_from_iterator(texts, trainer=trainer)
        settings = {
            # The generic class: naming Qwen2's would add its NFC normaliser on load.
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": END_OF_TEXT,
            "eos_token": IM_END,
            "pad_token": END_OF_TEXT,
            "add_bos_token": False,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        }
        return cls(core, settings)

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Load a Hugging Face tokenizer folder (tokenizer.json and its settings).

        Raises: DataError when the folder has no readable tokenizer.
        """
        folder = Path(folder)
        file = folder / "tokenizer.json"
        if not file.is_file():
            raise DataError(
                f"no tokenizer.json in {folder}",
                hint="give a folder that holds a Hugging Face tokenizer",
            )
        try:
            core = tokenizers.Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises nothing finer
            raise DataError(
                f"{file} is not a tokenizer: {error}",
                hint="give a folder that holds a Hugging Face tokenizer",
            ) from error
        return cls(core, _read_settings(folder))

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and `tokenizer_config.json` with the chat template."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "tokenizer.json", self.core.to_str(pretty=True) + "\n")
        settings = json.dumps(self.settings, indent=2, ensure_ascii=False, sort_keys=True)
        write_atomic(folder / "tokenizer_config.json", settings + "\n")

    @cached_property
    def vocab_size(self) -> int:
        """Count the ids up to the last one in use, special tokens included."""
        return max(self.core.get_vocab(with_added_tokens=True).values()) + 1

    @cached_property
    def boundary_id(self) -> int:
        """Name the token that starts every document.

        `<|endoftext|>` where there is one: instruct models name a chat's opening as `bos_token`,
        but were pretrained with this between documents.
        """
        for token in (END_OF_TEXT, self._named("bos_token"), self._named("eos_token")):
            token_id = None if token is None else self.core.token_to_id(token)
            if token_id is not None:
                return int(token_id)
        raise DataError(
            "the tokenizer has no token for a document boundary",
            hint="its tokenizer_config.json must name a bos_token or an eos_token",
        )

    @cached_property
    def eos_id(self) -> int:
        """Name the token that ends an answer."""
        token = self._named("eos_token")
        token_id = None if token is None else self.core.token_to_id(token)
        return self.boundary_id if token_id is None else int(token_id)

    @property
    def chat_template(self) -> str | None:
        """Return the Jinja template, or None for a tokenizer without one."""
        return self.settings.get("chat_template")

    @cached_property
    def special_ids(self) -> dict[str, int]:
        """Map each special token to its id."""
        added = self.core.get_added_tokens_decoder()
        return {token.content: token_id for token_id, token in added.items() if token.special}

    def encode(self, text: str) -> list[int]:
        """Encode ordinary text; special tokens in it stay plain characters.

        Half a surrogate pair, which is no character, is read as U+FFFD.
        """
        try:
            ids: list[int] = self.core.encode(text, add_special_tokens=False).ids
        except TypeError:
            ids = self.core.encode(well_formed(text), add_special_tokens=False).ids
        return ids

    def encode_documents(self, texts: Sequence[str], dtype: np.dtype[Any]) -> np.ndarray:
        """Encode documents on all cores into one array, each behind the boundary token.

        Shape: [tokens] of `dtype`.
        """
        import numpy as np

        pieces: list[str] = []
        firsts = set()
        for text in texts:
            firsts.add(len(pieces))
            pieces.extend(_pieces(text) if self._splits_at_lines else [text])
        encodings = self.core.encode_batch_fast(pieces, add_special_tokens=False)
        boundary = [self.boundary_id]
        runs = (
            run
            for number, encoding in enumerate(encodings)
            for run in (boundary if number in firsts else [], encoding.ids)
        )
        return np.fromiter(chain.from_iterable(runs), dtype=dtype)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """Turn ids back into text."""
        text: str = self.core.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def render_chat(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Render a chat to the text a model was taught, with the folder's own template.

        Raises: DataError when there is no template, or it rejects the messages.
        """
        if self.chat_template is None:
            raise DataError(
                "the tokenizer has no chat template",
                hint="add `chat_template` to its tokenizer_config.json",
            )
        return render(
            self.chat_template,
            messages=list(messages),
            **({"tools": list(tools)} if tools else {}),
            add_generation_prompt=add_generation_prompt,
            bos_token=self._named("bos_token") or "",
            eos_token=self._named("eos_token") or "",
        )

    def encode_chat(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
        continue_answer: bool = False,
    ) -> list[int]:
        """Encode a chat; only the template's own special tokens count as special.

        Equal to encoding the rendered text, except that a message cannot forge a turn by
        spelling a special token. With `continue_answer`, a last message that is text of the
        assistant stays open, for an answer that continues it.
        """
        literals: list[str] = []
        begun = continue_answer and begun_answer(messages)
        if not knows_tools(self.chat_template or ""):
            messages, tools = in_words(messages, tools), ()
        disarmed = [disarm(message, self._special_pattern, literals) for message in messages]
        if begun:
            disarmed[-1]["content"] += CUT
        rendered = self.render_chat(
            disarmed,
            add_generation_prompt=add_generation_prompt and not begun,
            tools=disarm(list(tools), self._special_pattern, literals),
        )
        if begun:
            rendered = until_cut(rendered)
        ids: list[int] = []
        for piece in self._special_pattern.split(rendered):
            if piece in self.special_ids:
                ids.append(self.special_ids[piece])
            elif piece:
                ids.extend(self.encode(rearm(piece, literals)))
        return ids

    def token_byte_lengths(self) -> np.ndarray:
        """Count the raw bytes each token stands for; special tokens count nothing.

        Counted on the token itself: decoding a token alone would turn half a character into
        a replacement mark of another length.

        Shape: [V] int32.
        """
        import numpy as np

        lengths = np.zeros(self.vocab_size, dtype=np.int32)
        byte_level = '"ByteLevel"' in self.core.to_str()
        added = self.core.get_added_tokens_decoder()
        for token, token_id in self.core.get_vocab(with_added_tokens=True).items():
            if token_id in added:
                special = added[token_id].special
                lengths[token_id] = 0 if special else len(token.encode())
            elif byte_level:
                lengths[token_id] = len(token)
            elif re.fullmatch(r"<0x[0-9A-F]{2}>", token):
                lengths[token_id] = 1
            else:
                lengths[token_id] = len(token.replace("\u2581", " ").encode())
        return lengths

    @cached_property
    def _splits_at_lines(self) -> bool:
        """Return whether no token ever spans a newline and a following letter."""
        spelled = json.loads(self.core.to_str())
        steps = (spelled.get("pre_tokenizer") or {}).get("pretokenizers") or [{}]
        return spelled.get("normalizer") is None and steps[0].get("pattern") == {
            "Regex": QWEN2_SPLIT_PATTERN
        }

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.special_ids, key=len, reverse=True)
        return re.compile("(" + ("|".join(map(re.escape, longest_first)) or "(?!)") + ")")

    def _named(self, role: str) -> str | None:
        token = self.settings.get(role)
        return token.get("content") if isinstance(token, dict) else token


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text where the split pattern cuts anyway, so that all cores share it."""
    start = 0
    while len(text) - start > _PIECE_CHARS:
        line = _LINE_START.search(text, start + _PIECE_CHARS)
        if line is None:
            break
        yield text[start : line.start()]
        start = line.start()
    yield text[start:]


def _read_settings(folder: Path) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    file = folder / "tokenizer_config.json"
    if file.is_file():
        try:
            settings = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(f"{file} is not valid JSON: {error}") from error
    template = folder / "chat_template.jinja"
    if template.is_file() and "chat_template" not in settings:
        settings["chat_template"] = template.read_text(encoding="utf-8")
    return settings

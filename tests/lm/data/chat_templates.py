"""Ten short chat templates in the shapes that models are trained with, written for these tests.

Each marks the assistant's words and the end of its turn with `{% generation %}`, which transformers
turns into a mask of its own: the other opinion that ours is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A template, its special tokens, and the text of what is learned of two answers."""

    template: str
    specials: tuple[str, ...]
    learned: tuple[str, str]
    bos: str = ""
    eos: str = ""


def _turns(body: str, prompt: str, first: str = "") -> str:
    """Return a template that renders every message by `body`, then the header of an answer."""
    return (
        f"{first}{{% for m in messages %}}{body}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{prompt}{{% endif %}}"
    )


def _marked(end: str) -> str:
    return "{% generation %}{{ m.content }}" + end + "{% endgeneration %}"


CHATML = _turns(
    "<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}" + _marked("<|im_end|>")
    + "{% else %}{{ m.content }}<|im_end|>{% endif %}\n",
    "<|im_start|>assistant\n",
)  # fmt: skip
SYSTEM_FIRST = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}"
)
LLAMA3 = _turns(
    "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{% if m.role == 'assistant' %}"
    + _marked("<|eot_id|>") + "{% else %}{{ m.content }}<|eot_id|>{% endif %}",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    first="{{ bos_token }}",
)  # fmt: skip
GEMMA = _turns(
    "{% if m.role == 'assistant' %}<start_of_turn>model\n" + _marked("<end_of_turn>")
    + "{% else %}<start_of_turn>user\n{{ m.content }}<end_of_turn>{% endif %}\n",
    "<start_of_turn>model\n",
    first="{{ bos_token }}",
)  # fmt: skip
PHI = _turns(
    "<|{{ m.role }}|>\n{% if m.role == 'assistant' %}" + _marked("<|end|>")
    + "{% else %}{{ m.content }}<|end|>{% endif %}\n",
    "<|assistant|>\n",
)  # fmt: skip
# Ends a whole conversation with one more token, as Phi-3 does, which no turn owns.
PHI_CLOSED = PHI.replace("{% endif %}", "{% endif %}", 1).removesuffix("{% endif %}") + (
    "{% else %}{{ eos_token }}{% endif %}"
)
# The space before an answer is no part of the prompt, so the model has to write it.
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% generation %}{{ ' ' + m.content }}</s>{% endgeneration %}"
    "{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)
ZEPHYR = _turns(
    "<|{{ m.role }}|>\n{% if m.role == 'assistant' %}" + _marked("{{ eos_token }}")
    + "{% else %}{{ m.content }}{{ eos_token }}{% endif %}\n",
    "<|assistant|>\n",
)  # fmt: skip
TINYLLAMA = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|>\n' }}"
    + _marked("{{ eos_token }}")
    + "{% else %}{{ '<|' + m.role + '|>\n' + m.content + eos_token }}{% endif %}{{ '\n' }}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}"
)
DEEPSEEK = _turns(
    "{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}<|User|>{{ m.content }}"
    "{% else %}<|Assistant|>" + _marked("<|end_of_sentence|>") + "{% endif %}",
    "<|Assistant|>",
    first="{{ bos_token }}",
)  # fmt: skip

ANSWERS = ("two", "it is three,\nnot four")


def _shape(
    template: str, end: str, *more: str, bos: str = "", eos: str = "", begin: str = ""
) -> Shape:
    specials = tuple(dict.fromkeys((*more, end, bos, eos)))
    learned = (begin + ANSWERS[0] + end, begin + ANSWERS[1] + end)
    return Shape(template, tuple(s for s in specials if s), learned, bos, eos or end)


SHAPES = {
    "chatml": _shape(CHATML, "<|im_end|>", "<|im_start|>"),
    "llama3": _shape(
        LLAMA3, "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>",
        bos="<|begin_of_text|>", eos="<|end_of_text|>",
    ),
    "qwen": _shape(
        SYSTEM_FIRST + CHATML, "<|im_end|>", "<|im_start|>", "<|endoftext|>", eos="<|endoftext|>"
    ),
    "gemma": _shape(GEMMA, "<end_of_turn>", "<start_of_turn>", bos="<bos>", eos="<eos>"),
    "phi": _shape(
        PHI_CLOSED, "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", eos="<|endoftext|>"
    ),
    "mistral": _shape(MISTRAL, "</s>", "[INST]", "[/INST]", bos="<s>", begin=" "),
    "zephyr": _shape(ZEPHYR, "</s>", bos="<s>"),
    "smollm": _shape(SYSTEM_FIRST + CHATML, "<|im_end|>", "<|im_start|>", bos="<|im_start|>"),
    "tinyllama": _shape(TINYLLAMA, "</s>", bos="<s>"),
    "deepseek": _shape(
        DEEPSEEK, "<|end_of_sentence|>", "<|User|>", "<|Assistant|>", bos="<|begin_of_sentence|>"
    ),
}  # fmt: skip

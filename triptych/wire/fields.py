"""The fields of OpenAI's requests, and those that model servers understand beyond them.

OpenAI's are those of the installed SDK's own types: a test compares them, so that a new version
of the SDK which adds one shows.
"""

from __future__ import annotations

_BOTH = frozenset(
    (
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "max_tokens",
        "model",
        "n",
        "presence_penalty",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "user",
    )
)

OPENAI_CHAT = _BOTH | {
    "audio",
    "function_call",
    "functions",
    "max_completion_tokens",
    "messages",
    "metadata",
    "modalities",
    "moderation",
    "parallel_tool_calls",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "response_format",
    "safety_identifier",
    "service_tier",
    "store",
    "tool_choice",
    "tools",
    "top_logprobs",
    "verbosity",
    "web_search_options",
}
"""`POST /v1/chat/completions`."""

OPENAI_TEXT = _BOTH | {"best_of", "echo", "prompt", "suffix"}
"""`POST /v1/completions`."""

OPENAI_EMBEDDINGS = frozenset(("dimensions", "encoding_format", "input", "model", "user"))
"""`POST /v1/embeddings`."""

OPENAI_RESPONSES = frozenset(
    (
        "access_programs",
        "background",
        "context_management",
        "conversation",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "metadata",
        "model",
        "moderation",
        "parallel_tool_calls",
        "previous_response_id",
        "prompt",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning",
        "safety_identifier",
        "service_tier",
        "store",
        "stream",
        "stream_options",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
        "user",
    )
)
"""`POST /v1/responses`."""

EXTENSIONS = frozenset(
    (
        "adapter",
        "add_generation_prompt",
        "cache_prompt",
        "chat_template_kwargs",
        "continue_final_message",
        "grammar",
        "guided_choice",
        "guided_grammar",
        "guided_json",
        "guided_regex",
        "ignore_eos",
        "include_reasoning",
        "length_penalty",
        "metadata",
        "min_p",
        "min_tokens",
        "num_ctx",
        "prompt_cache_key",
        "reasoning",
        "repeat_penalty",
        "repetition_penalty",
        "response_format",
        "safety_identifier",
        "service_tier",
        "skip_special_tokens",
        "stop_token_ids",
        "store",
        "structured_outputs",
        "thinking",
        "top_k",
        "typical_p",
    )
)
"""Names that vLLM, SGLang, llama.cpp, Ollama, OpenRouter and our own model server know."""

CHAT = OPENAI_CHAT | EXTENSIONS
TEXT = OPENAI_TEXT | EXTENSIONS

"""Continue a prompt in the terminal: the answer goes to standard output, facts to standard error.

Examples:
  triptych generate RUN "Once upon a time"
  triptych generate OWNER/NAME "What is a fox?" --chat --temperature 0
  echo "def main(" | triptych generate checkpoints/step-00000100 --top-p 0.9 --seed 7
CHECKPOINT is a folder, a run (its best checkpoint), or OWNER/NAME on the hub; an adapter is put
on its base.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.config.generate import GenerateConfig
    from triptych.lm.generate.engine import Completion, Engine, GenerateRequest

# option -> what it says in --help; every one is a field of the section `generate`
OPTIONS = {
    "max_new_tokens": "tokens after which the answer ends",
    "temperature": "0 always takes the most probable token; higher is more surprising",
    "top_k": "keep only the k most probable tokens; 0 keeps all",
    "top_p": "keep the most probable tokens up to this summed probability; 1 keeps all",
    "min_p": "keep tokens at least this many times as probable as the best; 0 keeps all",
    "repetition_penalty": "above 1, tokens already seen become less probable",
    "seed": "the same seed gives the same answer",
    "logprobs": "with --json, report this many alternatives per token",
    "engine": "auto, torch, llama_cpp, openai or transformers",
    "dtype": "auto, float32, bfloat16, float16, q8_0, q6_k, q5_k_m or q4_k_m",
    "device": "auto, cpu or cuda",
    "threads": "CPU threads; 0 takes one per core",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych generate`."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT")
    parser.add_argument("prompt", nargs="?", help="text to continue; without it, standard input")
    parser.add_argument("settings", nargs="*", help="generate.field=value")
    parser.add_argument("--chat", action="store_true", help="ask as a user, in the chat template")
    parser.add_argument("--system", metavar="TEXT", help="with --chat, the system message")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="end before this text")
    for option, meaning in OPTIONS.items():
        flag = "--" + option.replace("_", "-")
        parser.add_argument(flag, dest=option, metavar="VALUE", help=meaning)
    parser.add_argument(
        "--json", action="store_true", help="the whole answer and its facts as JSON"
    )


def run(args: argparse.Namespace) -> int:
    """Generate and print."""
    from dataclasses import replace

    from triptych.cli.resolve import resolve
    from triptych.config import load_config
    from triptych.lm.generate.select_engine import open_engine
    from triptych.lm.model.adapter_record import find_source

    config = load_config(None, _overrides(args)).generate
    request = _request(args, config)
    source = find_source(args.checkpoint, resolve)
    adapters = {"adapter": source.adapter} if source.adapter else {}
    if adapters:
        request = replace(request, adapter="adapter")
    engine = open_engine(source.folder, config, adapters=adapters)
    try:
        return _answer(engine, request, as_json=args.json)
    finally:
        engine.close()


def _overrides(args: argparse.Namespace) -> list[str]:
    """Turn the options into settings, so that one place checks them."""
    chosen = [
        f"generate.{option}={value}"
        for option in OPTIONS
        if (value := getattr(args, option)) is not None
    ]
    if args.stop:
        chosen.append(f"generate.stop={json.dumps(args.stop)}")
    return [*args.settings, *chosen]


def _request(args: argparse.Namespace, config: GenerateConfig) -> GenerateRequest:
    from triptych.errors import UsageError
    from triptych.lm.generate.engine import GenerateRequest

    if args.system and not args.chat:
        raise UsageError("--system is a part of a chat", hint="add --chat")
    prompt = args.prompt
    if prompt is None:
        if sys.stdin.isatty():
            raise UsageError(
                "there is no prompt", hint='type one: triptych generate CHECKPOINT "Once upon"'
            )
        prompt = sys.stdin.read()
    if not args.chat:
        return GenerateRequest(prompt=prompt, sampling=config)
    system = [{"role": "system", "content": args.system}] if args.system else []
    messages = [*system, {"role": "user", "content": prompt}]
    return GenerateRequest(messages=messages, sampling=config)


def _answer(engine: Engine, request: GenerateRequest, *, as_json: bool) -> int:
    """Print the answer while it comes, then what it took."""

    def show(text: str) -> None:
        if not as_json:
            print(text, end="", flush=True)

    completion = engine.generate(request, on_text=show)
    if as_json:
        print(json.dumps(_facts(engine, completion), indent=2, ensure_ascii=False))
        return 0
    print(flush=True)
    info = engine.info
    writing_s = max(completion.latency_s - completion.ttft_s, 1e-9)
    rate = max(completion.output_tokens - 1, 0) / writing_s
    print(
        f"{completion.input_tokens} tokens read, {completion.output_tokens} written "
        f"({completion.finish_reason}); first after {completion.ttft_s * 1e3:.0f} ms, "
        f"then {rate:,.0f} tokens/s; {info.engine}, {info.dtype} on {info.device}",
        file=sys.stderr,
    )
    return 0


def _facts(engine: Engine, completion: Completion) -> dict[str, object]:
    facts: dict[str, object] = {
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "input_tokens": completion.input_tokens,
        "output_tokens": completion.output_tokens,
        "ttft_s": completion.ttft_s,
        "latency_s": completion.latency_s,
        "engine": engine.info.engine,
        "dtype": engine.info.dtype,
        "model": engine.info.model,
    }
    if any(token.logprob == token.logprob for token in completion.tokens):
        facts["tokens"] = [
            {
                "text": token.text,
                "token_id": token.token_id,
                "logprob": token.logprob,
                "alternatives": [
                    {"text": other.text, "token_id": other.token_id, "logprob": other.logprob}
                    for other in token.alternatives
                ],
            }
            for token in completion.tokens
        ]
    return facts

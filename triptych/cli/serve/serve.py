"""Answer the OpenAI API with your models.

  triptych serve runs/RUN_ID
  triptych serve ./checkpoint owner/name@revision --port 8000
  triptych serve ./checkpoint --adapter acme=./acme-lora --engine llama_cpp --dtype q8_0

A model is a checkpoint folder, a run, or a hub repository; an adapter brings its base. The first
one loads at once, others when first asked for. TRIPTYCH_SERVE_TOKEN, when set, is asked of every
client as bearer token.
"""

from __future__ import annotations

import argparse

from triptych.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych serve`."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folder, run or owner/name")
    parser.add_argument("--name", action="append", default=[], help="name of the next model")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="port to listen on (7890, or the next free one)")
    parser.add_argument("--engine", help="auto, llama_cpp, torch or transformers")
    parser.add_argument(
        "--dtype", help="auto, float32, float16, bfloat16, q8_0, q6_k, q5_k_m or q4_k_m"
    )
    parser.add_argument("--max-batch", type=int, help="answers decoded at the same time")
    parser.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME=REF",
        help="a LoRA adapter (run, folder or owner/name) of the first model, under its own name",
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with [serve] and [generate]")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.FIELD=VALUE", help="any setting"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    import sys
    from pathlib import Path

    from triptych.cli.resolve import resolve
    from triptych.config import environment, load_config
    from triptych.lm.serve.app import create_app, run_app
    from triptych.lm.serve.models import build_service, describe_model
    from triptych.processes.ports import bind

    given = {
        "serve.host": args.host,
        "serve.port": args.port,
        "generate.engine": args.engine,
        "generate.dtype": args.dtype,
        "generate.max_batch": args.max_batch,
    }
    overrides = [f"{name}={value}" for name, value in given.items() if value is not None]
    config = load_config(Path(args.config) if args.config else None, [*overrides, *args.set])
    adapters = dict(_adapter(text) for text in args.adapter)
    models = [
        describe_model(
            reference,
            resolve,
            name=args.name[index] if index < len(args.name) else "",
            adapters={name: resolve(folder) for name, folder in adapters.items()}
            if index == 0
            else {},
        )
        for index, reference in enumerate(args.models)
    ]
    service = build_service(models, config)
    app = create_app(service, token=environment.secret("TRIPTYCH_SERVE_TOKEN"))
    listener = bind(config.serve.host, config.serve.port, move=args.port is None)
    host, port = listener.getsockname()[:2]
    for model in models:
        print(f"{model.name} ({model.revision}) from {model.folder}", file=sys.stderr)
    print(f"http://{host}:{port}/v1", flush=True)
    run_app(app, listener, drain_s=config.serve.drain_s)
    return 0


def _adapter(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise UsageError(f"--adapter {text!r} is not NAME=REF", hint="--adapter acme=./acme-lora")
    return name, folder

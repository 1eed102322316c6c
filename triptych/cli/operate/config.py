"""Show every setting with its value, where defaults < file < environment < arguments apply.

Example: triptych config show configs/tiny.toml train.seed=7
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych config`."""
    parser.add_argument("verb", choices=["show"], help="print the resolved configuration")
    parser.add_argument("settings", nargs="*", help="a TOML file and section.field=value overrides")
    parser.add_argument("--json", action="store_true", help="as JSON instead of TOML-like lines")


def run(args: argparse.Namespace) -> int:
    """Print the resolved configuration."""
    import json
    from pathlib import Path

    from triptych.config import load_config
    from triptych.config.loader import to_dict

    files = [Path(text) for text in args.settings if "=" not in text]
    overrides = [text for text in args.settings if "=" in text]
    values = to_dict(load_config(files[0] if files else None, overrides))
    if args.json:
        print(json.dumps(values, indent=2))
        return 0
    for section, fields in values.items():
        print(f"[{section}]")
        for name, value in fields.items():
            print(f"{name} = {json.dumps(value)}")
        print()
    return 0

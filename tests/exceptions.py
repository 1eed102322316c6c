"""What breaks a counted rule today and may only shrink: `exceptions.json`, read and shrunk here.

`python tests/exceptions.py` takes out what is no longer needed; it never adds an entry and never
raises a figure.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import house_rules as rules
import word_rules

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_name("exceptions.json")
COUNTED = {
    "modules in circles": rules.modules_in_circles,
    "files over 400 lines": rules.long_files,
    "functions over 60 lines": rules.long_functions,
    "folders over 20 files": rules.full_folders,
    "tensors without Shape": rules.missing_shapes,
    "lists of the tier names": rules.tier_name_lists,
}


def load() -> dict[str, dict[str, int]]:
    """Return the allowed figure of each key, by rule."""
    allowed: dict[str, dict[str, int]] = json.loads(FILE.read_text("utf-8"))
    return allowed


@cache
def found(root: Path = ROOT) -> dict[str, dict[str, int]]:
    """Return the figure of each key as the tree is now, by rule."""
    tree = rules.Tree(root)
    counted = {name: dict(rule(tree)) for name, rule in COUNTED.items()}
    return counted | {"banned words": word_rules.counts(root)}


def over(found: dict[str, int], allowed: dict[str, int]) -> list[str]:
    """Return what is more than allowed."""
    return [
        f"{key}: {count} (allowed: {allowed.get(key, 0)})"
        for key, count in found.items()
        if count > allowed.get(key, 0)
    ]


def stale(found: dict[str, int], allowed: dict[str, int]) -> list[str]:
    """Return the entries that allow more than is there."""
    return [
        f"{key}: {found.get(key, 0)} (allowed: {count})"
        for key, count in allowed.items()
        if found.get(key, 0) < count
    ]


def shrink() -> None:
    """Write the lists anew, each figure the smaller of allowed and found, zeros left out."""
    now = found()
    kept = {
        name: {
            key: least
            for key, count in sorted(entries.items())
            if (least := min(count, now.get(name, {}).get(key, 0)))
        }
        for name, entries in load().items()
    }
    FILE.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    shrink()

"""The one machine everything runs on, described in the hub's words.

A requested flavour is remembered and shown; it does not change what the machine has.
"""

from __future__ import annotations

import os
from typing import Any

import psutil

from triptych.errors import HubRefused

DEFAULT = "cpu-basic"
# The flavours huggingface.co rents, so that a Space moves between the two unchanged.
_PREFIXES = (
    "cpu-",
    "t4-",
    "l4x",
    "l40sx",
    "a10g-",
    "a100",
    "h100",
    "h200",
    "rtx-",
    "zero-",
    "inf2",
)


def require_flavor(flavor: object) -> str:
    """Return a flavour's name, or refuse it."""
    if not isinstance(flavor, str) or not flavor.startswith(_PREFIXES) or len(flavor) > 40:
        raise HubRefused(400, f"{flavor!r} is not a hardware flavour", hint="try cpu-basic")
    return flavor


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe() -> dict[str, Any]:
    """Describe this machine as one flavour of hardware."""
    ram_gb = psutil.virtual_memory().total / 2**30
    return {
        "name": DEFAULT,
        "prettyName": "This machine",
        "cpu": f"{cores()} vCPU",
        "ram": f"{ram_gb:.0f} GB",
        "ephemeralStorage": "shared",
        "accelerator": None,
        "unitCostMicroUSD": 0,
        "unitCostUSD": 0.0,
        "unitLabel": "minute",
    }

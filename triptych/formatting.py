"""How durations, numbers and sizes are written for people, the same on every page and line."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Write a duration as `0:07`, `12:30` or `3:04:05`."""
    minutes, second = divmod(int(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}" if hour else f"{minute}:{second:02d}"


def format_count(value: float) -> str:
    """Write a number in few characters: 1200 is 1.2k."""
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.4g}"


def format_bytes(count_bytes: float) -> str:
    """Write a size in bytes: 1500000 is `1.5 MB`."""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count_bytes >= limit:
            return f"{count_bytes / limit:.1f} {unit}"
    return f"{count_bytes:.0f} bytes"

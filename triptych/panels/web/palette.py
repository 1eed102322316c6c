"""The colours of every page, light and dark: the stylesheet's tokens and the theme of Gradio.

Contrast on `paper`: text at least 4.5 to 1, lines and borders of controls at least 3 to 1.
"""

from __future__ import annotations

LIGHT = {
    "ink": "#2d2a24",
    "paper": "#fdfcf9",
    "raised": "#f5f1e8",
    "line": "#cfc8b8",
    "control": "#8a8271",
    "mark": "#a94a22",
    "on-mark": "#ffffff",
    "soft": "#655f52",
    "good": "#2a6b2d",
    "warn": "#8a5a00",
    "bad": "#b3261e",
    "bad-paper": "#fbeae8",
}
DARK = {
    "ink": "#ece8df",
    "paper": "#1d1b17",
    "raised": "#27241f",
    "line": "#4a463c",
    "control": "#8f8979",
    "mark": "#dd8a63",
    "on-mark": "#1d1b17",
    "soft": "#b3ad9f",
    "good": "#7cc47f",
    "warn": "#e0b450",
    "bad": "#f2938c",
    "bad-paper": "#3a2321",
}

# Curves differ by hue and by dash, so that they can be read without colour.
CURVES_LIGHT = (
    "#b4532a", "#2a6f97", "#4d7a30", "#8a4fa3", "#8a7015", "#2c7d74", "#a33f5c", "#5c5c6e",
)  # fmt: skip
CURVES_DARK = (
    "#dd8a63", "#6fb1dc", "#9acb78", "#c79be0", "#d9bb4f", "#6cc5ba", "#e07f9b", "#b3b3c6",
)  # fmt: skip
DASHES = ("", "6 3", "2 3", "8 3 2 3", "", "6 3", "2 3", "8 3 2 3")


def tokens_css(dark_class: str = "") -> str:
    """Return the custom properties of both themes.

    The system's setting chooses; with `dark_class`, as Gradio sets it, that class does.
    """
    light = _properties(LIGHT, CURVES_LIGHT)
    dark = _properties(DARK, CURVES_DARK)
    if dark_class:
        return f":root{{{light}}}.{dark_class}{{{dark}}}"
    return (
        f":root{{color-scheme:light dark;{light}}}"
        f"@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )


def _properties(colours: dict[str, str], curves: tuple[str, ...]) -> str:
    numbered = {f"curve-{number}": colour for number, colour in enumerate(curves)}
    return "".join(f"--{name}:{value};" for name, value in (colours | numbered).items())

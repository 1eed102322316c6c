"""One look for all pages: system fonts, restrained colours, dark and light, no foreign request."""

from __future__ import annotations

from typing import Any

import gradio as gr

from triptych.panels.idle_queue import use_idle_queue
from triptych.panels.web.palette import DARK, LIGHT, tokens_css

FONTS = ["system-ui", "sans-serif"]
MONO = ["ui-monospace", "monospace"]

TERRACOTTA = gr.themes.Color(
    c50="#fbf3ee",
    c100="#f5e2d7",
    c200="#ebc6b1",
    c300="#dda383",
    c400="#cc7c55",
    c500="#b4532a",
    c600="#9d4520",
    c700="#82381a",
    c800="#692f19",
    c900="#572918",
    c950="#2f130a",
    name="terracotta",
)

CSS = (
    tokens_css("dark")
    + """
.gradio-container { width: 100% !important; max-width: 1180px !important;
                    margin: 0 auto !important; }
nav.pages { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: .3rem 0; }
nav.pages a { color: var(--body-text-color); text-decoration: none; padding: .4rem 0; }
nav.pages a.home { font-weight: 700; color: var(--mark); }
nav.pages a:hover, nav.pages a:focus { text-decoration: underline; }
nav.pages a[aria-current] { font-weight: 600; border-bottom: 2px solid var(--mark); }
.quiet { color: var(--body-text-color-subdued); }
.figures { display: flex; flex-wrap: wrap; gap: .5rem 1.6rem; margin: .3rem 0; }
.figures div { display: flex; flex-direction: column; }
.figures b { font-size: 1.15rem; font-variant-numeric: tabular-nums; }
.figures span { font-size: .8rem; color: var(--body-text-color-subdued); }
.state { display: inline-block; padding: .1rem .6rem; border-radius: 1rem; font-size: .85rem;
         border: 1px solid currentColor; }
.state.running, .state.starting { color: #2f7d32; }
.state.failed, .state.interrupted { color: #b3261e; }
.state.paused, .state.stopping, .state.queued { color: #9a6700; }
.dark .state.running, .dark .state.starting { color: #7cc47f; }
.dark .state.failed, .dark .state.interrupted { color: #f2938c; }
.dark .state.paused, .dark .state.stopping, .dark .state.queued { color: #e0b450; }
.dark button[role=tab][aria-selected=true] { color: #dd8a63 !important; }
.charts { display: grid; gap: 1rem 1.4rem;
          grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.charts figure { min-width: 0; }
.chart { width: 100%; max-width: 44rem; height: auto; color: var(--body-text-color); }
.chart text { font-size: 11px; fill: currentColor; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1rem; font-size: .75rem; }
.legend span { display: inline-flex; align-items: center; gap: .35rem; }
.acts { align-items: flex-end; }
.dark button:disabled { background: var(--neutral-800) !important; }
.label-wrap > span:first-child { text-align: left; }
.chart .grid { stroke: currentColor; opacity: .13; }
.bar { height: .5rem; border-radius: .25rem; background: var(--border-color-primary); }
.bar i { display: block; height: 100%; border-radius: .25rem; background: #b4532a; }
.sample { border-left: 3px solid var(--border-color-primary); padding: .2rem .8rem; margin: .5rem 0;
          white-space: pre-wrap; overflow-wrap: anywhere; }
.sample b { font-weight: 600; }
pre.log { max-height: 22rem; overflow: auto; font-size: .8rem; white-space: pre-wrap; }
table.plain { width: 100%; border-collapse: collapse; border: 0 !important;
          font-variant-numeric: tabular-nums; }
table.plain th, table.plain td { text-align: left; padding: .25rem .6rem; border: 0 !important;
          border-bottom: 1px solid var(--border-color-primary) !important; }
/* Shadows at the edges of a table that goes on sideways. */
.table { overflow-x: auto; background:
          linear-gradient(90deg, var(--paper) 40%, transparent) 0 / 2rem 100% no-repeat local,
          linear-gradient(270deg, var(--paper) 40%, transparent) 100% / 2rem 100% no-repeat local,
          linear-gradient(90deg, var(--control), transparent) 0 / .6rem 100% no-repeat scroll,
          linear-gradient(270deg, var(--control), transparent) 100% / .6rem 100% no-repeat scroll; }
.status { margin: .4rem 0; padding: .5rem .9rem; border-left: 4px solid var(--good);
          background: var(--raised); color: var(--ink); }
.status.warn { border-color: var(--warn); }
.status.bad { border-color: var(--bad); background: var(--bad-paper); }
.term { position: relative; border-bottom: 1px dotted currentColor; cursor: help; }
.term > [role=tooltip] { display: none; position: absolute; z-index: 9; left: 0; top: 1.6em;
          width: max-content; max-width: min(20rem, 80vw); padding: .5rem .8rem; font-size: .85rem;
          font-weight: 400; line-height: 1.45; white-space: normal; color: var(--ink);
          background: var(--raised); border: 1px solid var(--line); border-radius: .35rem; }
.term:hover > [role=tooltip], .term:focus > [role=tooltip] { display: block; }
.term:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
label:has(> input[type=radio]:focus-visible), label:has(> input[type=checkbox]:focus-visible) {
          outline: 2px solid var(--mark) !important; outline-offset: 2px; }
/* A list's value ends before its arrow. */
.gradio-container input[role=combobox] { padding-right: 2rem; text-overflow: ellipsis; }
ul.advice { margin: .4rem 0; padding: .4rem .8rem .4rem 1.6rem; border-left: 3px solid #b4532a; }
@media (max-width: 480px) {
  .gradio-container { padding: .4rem !important; }
  .gradio-container main { padding: .6rem !important; }
  /* The picture is half as wide as on a desk; its words must stay readable. */
  .chart text { font-size: 19px; }
  .term > [role=tooltip] { position: fixed; left: .8rem; right: .8rem; top: auto; bottom: .8rem;
          width: auto; max-width: none; }
}
"""
)


def theme() -> gr.Theme:
    """Return the theme of every page."""
    base = gr.themes.Soft(
        primary_hue=TERRACOTTA,
        neutral_hue="stone",
        font=FONTS,
        font_mono=MONO,
        radius_size="sm",
    )
    plain = dict.fromkeys(("block_title_background_fill", "block_label_background_fill"), "none")
    ink = dict.fromkeys(("block_title_text_color", "block_label_text_color"), "*body_text_color")
    dark = {f"{name}_dark": value for name, value in (plain | ink).items()}
    return base.set(**plain, **ink, **dark, **_lines(), **_links())


def _lines() -> dict[str, str]:
    """Draw a line around whatever takes a hand, so that it can be found on white paper."""
    return {
        "body_background_fill": LIGHT["paper"],
        "body_background_fill_dark": DARK["paper"],
        "body_text_color": LIGHT["ink"],
        "body_text_color_dark": DARK["ink"],
        "body_text_color_subdued": "*neutral_600",
        "body_text_color_subdued_dark": "*neutral_300",
        "input_border_width": "1px",
        "input_border_color": "*neutral_300",
        "input_border_color_dark": "*neutral_600",
        "button_border_width": "1px",
        "button_secondary_border_color": "*neutral_300",
        "button_secondary_border_color_dark": "*neutral_600",
        "input_placeholder_color": "*neutral_500",
        "input_placeholder_color_dark": "*neutral_400",
        "button_primary_background_fill": "*primary_500",
        "button_primary_background_fill_dark": "*primary_500",
        "button_primary_background_fill_hover": "*primary_600",
        "button_primary_background_fill_hover_dark": "*primary_600",
    }


def _links() -> dict[str, str]:
    light = dict.fromkeys(("", "_active", "_hover", "_visited"), "*primary_600")
    names = {f"link_text_color{kind}": value for kind, value in light.items()}
    return names | {f"{name}_dark": "*primary_300" for name in names}


# A list that the Tab key leaves would open again: its script answers the key after the focus went.
KEYBOARD = """() => document.addEventListener('keydown', event => {
  const list = event.target.matches?.("input[role=combobox], input[role=listbox]");
  if (list && event.key === 'Tab') event.stopImmediatePropagation();
}, true)"""


def in_address(name: str, instead_of: str = "", then: str = "") -> str:
    """Return the script that keeps a value in the page's address, without loading the page again.

    An empty value leaves no trace there; the parameter `instead_of` goes. `then` is what the
    script does afterwards with `value`.
    """
    gone = f"url.searchParams.delete('{instead_of}');" if instead_of else ""
    return f"""(value) => {{
  const url = new URL(window.location);
  {gone}
  if (value) url.searchParams.set('{name}', value); else url.searchParams.delete('{name}');
  url.search = url.searchParams.toString().replaceAll('+', '%20');
  window.history.replaceState({{}}, '', url);
  {then}
}}"""


def at_home(page: gr.Blocks) -> gr.Blocks:
    """Keep a page that runs as a Space from fetching a header and fonts; let it rest when idle."""
    page.space_id = None
    return use_idle_queue(page)


def options() -> dict[str, Any]:
    """Return what every page hands to `mount_gradio_app`."""
    return {
        "theme": theme(),
        "css": CSS,
        "js": KEYBOARD,
        "run_history": False,
        "footer_links": [],
        "show_error": True,
    }

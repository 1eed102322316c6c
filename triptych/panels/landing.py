"""The first page: what the three panels are, in one picture, and where everything else listens."""

from __future__ import annotations

from html import escape

PANELS = {
    "Studio": ("/studio", "Train", "Give it text, start a run, watch the model learn to write."),
    "Playground": ("/playground", "Compare", "One prompt, several models, side by side."),
    "Console": ("/console", "Serve", "Steer the service that applications talk to."),
}

# Three panels of one picture.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="#b4532a">'
    '<path d="M1 3h3v10H1zM6 1h4v14H6zM12 3h3v10h-3z"/></svg>'
)

_STYLE = """
:root { color-scheme: light dark; --ink: #2d2a24; --paper: #fdfcf9; --line: #cfc8b8;
        --mark: #b4532a; --soft: #6b6557 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #ece8df; --paper: #1d1b17; --line: #4a463c; --mark: #dd8a63; --soft: #a8a295 } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.2rem;
       font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper) }
h1 { margin: 0; font-size: 2rem } p { margin: .4rem 0 }
.soft { color: var(--soft) }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(15rem, 1fr));
       margin: 2rem 0 }
a.panel { border: 1px solid var(--line); border-top: .35rem solid var(--mark); border-radius: .4rem;
          padding: 1rem 1.2rem 1.4rem; text-decoration: none; color: inherit; display: block }
a.panel:hover, a.panel:focus { border-color: var(--mark); outline: none }
a.panel b { display: block; font-size: 1.3rem }
a.panel span { color: var(--mark); font-size: .85rem }
table { border-collapse: collapse; width: 100% } td { padding: .35rem .6rem .35rem 0;
        border-bottom: 1px solid var(--line) } code { font: .95em ui-monospace, monospace }
"""


def landing(addresses: dict[str, str]) -> str:
    """Draw the first page; `addresses` names the other parts and where they listen."""
    panels = "".join(
        f'<a class="panel" href="{path}/"><span>{number}. {verb}</span><b>{name}</b>'
        f"<p>{words}</p></a>"
        for number, (name, (path, verb, words)) in enumerate(PANELS.items(), 1)
    )
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td><code>{escape(address)}</code></td></tr>"
        for name, address in addresses.items()
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Triptych</title>'
        '<link rel="icon" href="/favicon.ico" type="image/svg+xml">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><header><h1>Triptych</h1>"
        '<p class="soft">Grow your own language models, in three tiers, on infrastructure you own.'
        f"</p></header><main>{panels}</main>"
        f"<section><h2>Also on this machine</h2><table>{rows}</table></section></body></html>"
    )


def navigation(here: str) -> str:
    """Draw the common navigation, with the page one is on marked."""
    links = "".join(
        f'<a href="{path}/"' + (' aria-current="page"' if name == here else "") + f">{name}</a>"
        for name, (path, _, _) in PANELS.items()
    )
    return f'<nav class="rooms" aria-label="Panels"><a href="/">Triptych</a>{links}</nav>'

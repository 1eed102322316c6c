"""The first page: what the three panels are, in one picture, and where everything else listens."""

from __future__ import annotations

from html import escape

PANELS = {
    "Studio": ("/studio", "Train", "Give it text, start a run, watch the model learn to write."),
    "Playground": ("/playground", "Compare", "One prompt, several models, side by side."),
    "Console": ("/console", "Serve", "Steer the service that applications talk to."),
}

# How the three panels hang together: text becomes a model, a model becomes a service, and what
# people say about its answers becomes text again.
_PICTURE = """
<svg class="picture" viewBox="0 34 960 160" role="img" aria-label="Your text goes into the Studio,
 which trains a model; the Playground compares models; the Console puts one into service, where
 applications ask it; what people say about its answers comes back as new text.">
<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
 orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" class="tip"/></marker></defs>
<g class="way"><path d="M92 88h94"/><path d="M354 88h62"/><path d="M584 88h62"/>
<path d="M814 88h60"/><path d="M890 116v44q0 24-24 24H90q-24 0-24-24v-40"/></g>
<g class="box"><rect x="190" y="44" width="160" height="88" rx="6"/>
<rect x="420" y="44" width="160" height="88" rx="6"/>
<rect x="650" y="44" width="160" height="88" rx="6"/></g>
<g class="name"><text x="270" y="84">Studio</text><text x="500" y="84">Playground</text>
<text x="730" y="84">Console</text></g>
<g class="word"><text x="50" y="84">your</text><text x="50" y="103">text</text>
<text x="270" y="108">a model learns</text><text x="500" y="108">which writes best?</text>
<text x="730" y="108">who answers?</text>
<text x="918" y="84">your</text><text x="918" y="103">apps</text>
<text x="480" y="172">what people say about its answers</text></g></svg>
"""

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
.picture { width: 100%; height: auto; margin-top: 1.4rem }
.picture .way path { fill: none; stroke: var(--soft); stroke-width: 1.6; marker-end: url(#tip) }
.picture .tip { fill: var(--soft) }
.picture rect { fill: none; stroke: var(--mark); stroke-width: 2 }
.picture text { text-anchor: middle; fill: var(--soft); font-size: 14px }
.picture .name text { fill: var(--ink); font-size: 19px; font-weight: 600 }
@media (max-width: 40rem) { .picture { display: none } }
table a { color: var(--mark) }
table { border-collapse: collapse; width: 100% } td { padding: .35rem .6rem .35rem 0;
        border-bottom: 1px solid var(--line) } code { font: .95em ui-monospace, monospace }
main.sign-in { display: block; max-width: 24rem; margin: 12vh auto }
main.sign-in input, main.sign-in button { display: block; width: 100%; padding: .5rem;
  margin: .4rem 0;  font: inherit; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: .3rem }
main.sign-in button { border-color: var(--mark); cursor: pointer }
main.sign-in a { color: var(--mark) }
"""


def landing(api: str, addresses: dict[str, str]) -> str:
    """Draw the first page: the panels, the address applications use, and other places to visit."""
    panels = "".join(
        f'<a class="panel" href="{path}/"><span>{number}. {verb}</span><b>{name}</b>'
        f"<p>{words}</p></a>"
        for number, (name, (path, verb, words)) in enumerate(PANELS.items(), 1)
    )
    rows = f"<tr><td>OpenAI API</td><td><code>{escape(api)}</code></td></tr>" + "".join(
        f'<tr><td>{escape(name)}</td><td><a href="{escape(address)}"><code>{escape(address)}</code>'
        "</a></td></tr>"
        for name, address in addresses.items()
    )
    return page(
        "Triptych",
        '<header><h1>Triptych</h1><p class="soft">Grow your own language models, in three tiers,'
        f" on infrastructure you own.</p></header>{_PICTURE}<main>{panels}</main>"
        f"<section><h2>Also on this machine</h2><table>{rows}</table></section>",
    )


def page(title: str, body: str) -> str:
    """Draw a page without scripts around some HTML."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<link rel="icon" href="/favicon.ico" type="image/svg+xml">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )

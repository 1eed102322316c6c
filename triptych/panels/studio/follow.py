"""How an open page follows a run or a lesson: it asks for what it shows, and gets what is new.

The page framework copies the state of every component at each of its events, which costs more
than the drawing itself twice a second; so a small script asks a plain route and puts the answer
in place. It requests nothing while the page is hidden. Left out: drawing (`drawing`, `pace`).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from triptych.config import Config
from triptych.errors import RunError
from triptych.lm.runs.store import RunStore
from triptych.panels import theme
from triptych.panels.studio.pace import PLACES, Drawings
from triptych.panels.visitor import identify


def _now(kind: str) -> str:
    return f"(window.followed ??= {{}}).{kind} = value; window.followNow?.();"


# Say which run or lesson is followed; the first two put it into the address as well.
SHOW_RUN = theme.in_address("run", then=_now("runs"))
SHOW_LESSON = theme.in_address("lesson", instead_of="run", then=_now("lessons"))
FOLLOW_LESSON = f"(value) => {{ {_now('lessons')} }}"
# The last answer for a run that is gone or another user's is a refusal; polling stops then.
_FOLLOW = """() => {
  if (window.followNow) return;
  const shown = {};
  let state = '', asking = false, again = false;
  const put = (place, html) => {
    const made = document.createElement('template');
    made.innerHTML = html;
    const terms = () => [...place.querySelectorAll('.term')];
    const explained = terms().indexOf(document.activeElement);
    const old = place.children, fresh = made.content.children;
    // What is of one kind stays where it is, and so do its focus and its scrolling.
    if (old.length === 1 && fresh.length === 1 && old[0].tagName === fresh[0].tagName)
      old[0].replaceChildren(...fresh[0].childNodes);
    else place.replaceChildren(made.content);
    // A term that is being read stays open.
    terms()[explained]?.focus({preventScroll: true});
  };
  const seen = (element) => element?.checkVisibility({visibilityProperty: true});
  // What the buttons allow follows the state alone, so that no older answer overtakes a newer.
  const allow = (now) => {
    if (now === state) return;
    const steered = new Event('steer', {bubbles: true, cancelable: true});
    const heard = !document.getElementById('steer').dispatchEvent(steered);
    if (heard) state = now;
  };
  const ask = async (kind) => {
    const one = window.followed?.[kind] || '', runs = kind === 'runs';
    const all = [...document.querySelectorAll(`[data-of=${kind}]`)];
    if (one !== shown[kind]) {
      shown[kind] = one;
      for (const place of all) { place.dataset.tag = ''; place.replaceChildren(); }
    }
    if (runs) document.getElementById('no-run')?.toggleAttribute('hidden', Boolean(one));
    const places = all.filter(seen), asked = new URLSearchParams();
    if (document.hidden || (runs && !seen(document.getElementById('steer')))) return;
    if (runs && !one) return allow('');
    if (!one || !places.length) return;
    for (const {dataset} of places) asked.append('have', dataset.place + ':' + (dataset.tag || ''));
    const answer = await fetch(`/api/${kind}/${encodeURIComponent(one)}/places?${asked}`);
    if (answer.status >= 400 && answer.status < 500) window.followed[kind] = '';
    if (!answer.ok || one !== window.followed[kind]) return;
    const found = await answer.json();
    for (const place of places) {
      const part = found.places[place.dataset.place];
      if (!part) continue;
      put(place, part.html);
      place.dataset.tag = part.tag;
    }
    if (runs) allow(one + found.state);
  };
  const look = async () => {
    again = asking;
    if (asking) return;
    asking = true;
    try {
      for (const kind of ['runs', 'lessons']) await ask(kind);
    } catch { /* the service is away for a moment */ }
    asking = false;
    if (again) look();
  };
  window.followNow = look;
  setInterval(look, EVERY_MS);
  document.addEventListener('visibilitychange', look);
}"""
LOOK = "() => { window.followNow?.(); }"
STEERED = """element.addEventListener('steer', (event) => {
  event.preventDefault();
  trigger('submit');
})"""


def script(config: Config) -> str:
    """Return the script that the page runs once when it is loaded."""
    return _FOLLOW.replace("EVERY_MS", str(round(config.panels.refresh_s * 1000)))


def place(name: str, of: str = "runs") -> str:
    """Draw the place where the script puts one part of a run, or of a lesson."""
    return f'<div data-of="{of}" data-place="{name}"></div>'


def routes(store: RunStore, config: Config, playground: str = "") -> APIRouter:
    """Make the route that the script asks; `playground` is where that panel is, if anywhere."""
    api = APIRouter()
    drawings = Drawings(config, playground)

    @api.get("/runs/{run_id}/places", include_in_schema=False)
    def show(
        run_id: str,
        have: Annotated[Sequence[str], Query()] = (),
        user: str = Depends(identify),
    ) -> dict[str, Any]:
        run = store.get(run_id)
        if run.user != user:
            raise RunError(f"no run {run_id}", hint="see the list of runs", code="run_not_found")
        asked = [one.partition(":")[0] for one in have]
        drawn = drawings.of(run, [name for name in PLACES if name in asked])
        return {"state": run.state, "places": fresh(drawn, have)}

    return api


def fresh(drawn: Mapping[str, str], have: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the places whose drawing is another than the page has; it says `place:tag` of each."""
    tags = dict(one.partition(":")[::2] for one in have)
    tagged = {name: {"tag": _tag(html), "html": html} for name, html in drawn.items()}
    return {name: one for name, one in tagged.items() if one["tag"] != tags.get(name)}


def _tag(html: str) -> str:
    return f"{zlib.crc32(html.encode()):08x}"

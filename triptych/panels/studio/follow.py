"""How an open page follows a run: it asks for what it shows, and gets what is new of it.

The page framework copies the state of every component at each of its events, which costs more
than the drawing itself twice a second; so a small script asks a plain route and puts the answer
in place. It asks nothing while nobody can see the page. Left out: drawing (`drawing`, `pace`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from triptych.config import Config
from triptych.errors import RunError
from triptych.lm.runs.store import RunStore
from triptych.panels.studio.pace import PLACES, Drawings
from triptych.panels.studio.visitor import identify

# Says which run is followed, and puts it into the address without loading the page again.
SHOW_RUN = """(run) => {
  const url = new URL(window.location);
  if (run) { url.searchParams.set('run', run); } else { url.searchParams.delete('run'); }
  window.history.replaceState({}, '', url);
  window.followedRun = run;
  window.followNow?.();
}"""
# The last answer of a run that is gone or somebody else's is a refusal; then nothing is asked.
_FOLLOW = """() => {
  if (window.followNow) return;
  let followed = null, state = '', asking = false, again = false;
  const put = (place, html) => {
    const made = document.createElement('template');
    made.innerHTML = html;
    const old = place.children, fresh = made.content.children;
    // What is of one kind stays where it is, and so do its focus and its scrolling.
    if (old.length === 1 && fresh.length === 1 && old[0].tagName === fresh[0].tagName)
      old[0].replaceChildren(...fresh[0].childNodes);
    else place.replaceChildren(made.content);
  };
  const all = () => [...document.querySelectorAll('[data-place]')];
  const seen = (element) => element?.checkVisibility({visibilityProperty: true});
  const ask = async () => {
    const run = window.followedRun || '';
    if (run !== followed) {
      followed = run;
      for (const place of all()) { place.dataset.tag = ''; place.replaceChildren(); }
    }
    document.getElementById('no-run')?.toggleAttribute('hidden', Boolean(run));
    const steer = document.getElementById('steer');
    // What the buttons allow follows the state alone, so that no older answer overtakes a newer.
    const allow = (now) => {
      if (now === state) return;
      const steered = new Event('steer', {bubbles: true, cancelable: true});
      if (!steer.dispatchEvent(steered)) state = now;  // somebody heard it
    };
    if (!seen(steer) || document.hidden) return;
    if (!run) return allow('');
    const places = all().filter(seen), asked = new URLSearchParams();
    for (const {dataset} of places) asked.append('have', dataset.place + ':' + (dataset.tag || ''));
    const answer = await fetch('/api/runs/' + encodeURIComponent(run) + '/places?' + asked);
    if (answer.status >= 400 && answer.status < 500) window.followedRun = '';
    if (!answer.ok || run !== window.followedRun) return;
    const found = await answer.json();
    for (const place of places) {
      const part = found.places[place.dataset.place];
      if (!part) continue;
      put(place, part.html);
      place.dataset.tag = part.tag;
    }
    allow(run + found.state);
  };
  const look = async () => {
    again = asking;
    if (asking) return;
    asking = true;
    try { await ask(); } catch { /* the service is away for a moment */ }
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
    """Give what the page runs once when it is loaded."""
    return _FOLLOW.replace("EVERY_MS", str(round(config.panels.refresh_s * 1000)))


def place(name: str) -> str:
    """Draw the place where the script puts one part of a run."""
    return f'<div data-place="{name}"></div>'


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
        tags = dict(one.partition(":")[::2] for one in have)
        drawn = drawings.of(run, [name for name in PLACES if name in tags])
        fresh = {name: {"tag": _tag(html), "html": html} for name, html in drawn.items()}
        return {
            "state": run.state,
            "places": {name: one for name, one in fresh.items() if one["tag"] != tags[name]},
        }

    return api


def _tag(html: str) -> str:
    return f"{zlib.crc32(html.encode()):08x}"

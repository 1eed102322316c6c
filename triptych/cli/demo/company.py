"""The company tier in the demo: a small handbook, one question answered from it, one refused."""

from __future__ import annotations

import json
import shutil
import urllib.request
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.cli.demo.tour import Tour

ANSWERED = "How many days of paid leave does an employee have?"
REFUSED = "Which football club won the cup in 1998?"


def show_company(tour: Tour, base: str, key: str) -> None:
    """Add a handbook to acme, and ask its tier at the gateway."""
    tour.say("\nA company's tier answers from the company's own documents, or says that it cannot:")
    folder = tour.home / "demo-handbook"
    folder.mkdir(parents=True, exist_ok=True)
    for page in resources.files("triptych.cli.demo").joinpath("handbook").iterdir():
        with resources.as_file(page) as path:
            shutil.copy(path, folder / Path(page.name).name)
    tour.triptych("company", "add", "acme", folder)
    for question in (ANSWERED, REFUSED):
        answer = _ask(base, key, question)
        choice = answer["choices"][0]
        tour.say(f"  {question}\n    {choice['message']['content']}")
        for citation in choice.get("citations") or []:
            place = f"{citation['document']}, characters {citation['start']} to {citation['end']}"
            tour.say(f"    [{citation['mark']}] {place}: {citation['quote']!r}"[:160])


def _ask(base: str, key: str, question: str) -> Any:
    body = {"model": "company", "messages": [{"role": "user", "content": question}]}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(  # noqa: S310  # an address of ours
        f"{base}/v1/chat/completions", data=json.dumps(body).encode(), headers=headers
    )
    with urllib.request.urlopen(request, timeout=120) as answer:  # noqa: S310
        return json.load(answer)

"""The wordings that a first-time user found quaint or hard stay replaced, in pages and guides.

Each row is a page, what it said, and what it says; the Console's rows hold the old phrase only,
since its pages are written anew.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("triptych/panels", "triptych/hub/server/http/pages", "triptych/lm/runs", "docs/guides")
SUFFIXES = {".py", ".html", ".js", ".md"}

WORDINGS = (
    ("Studio", "has learned all it was asked to", "Finished"),
    ("Studio", "as the recipe says", "automatic"),
    ("Studio", "the largest gradient that is believed", "limit on gradient size"),
    ("Studio", "learns; this page may be closed", "Training. You can close this page"),
    ("Studio", "Stop (saves)", "Pause"),
    ("Studio", "End for good", "Cancel run"),
    ("Studio", "Look at the text", "Check text"),
    ("Studio", "words in the vocabulary", "tokens in the vocabulary"),
    ("Studio", "The nine parameters", "Main settings"),
    ("Studio", "Several runs as one start", "Sweep (several runs)"),
    ("Studio", '"of the machine"', "of peak speed"),
    ("Studio", "0 of ?", "preparing"),
    ("Studio", "Repeat it elsewhere", "Reproduce"),
    ("Studio", "Go on as a new run", "Train further"),
    ("Learn", "Python, which is on every machine", "Python documentation (built in)"),
    ("Learn", "guessing every token alike", "every token is equally likely"),
    ("Playground", 'Button("Write"', "Generate"),
    ("Playground", "the models go on from here", "a text to continue"),
    ("Playground", "Kept: voted", "Vote saved"),
    ("Playground", "The gateway has it too", "Also stored as feedback."),
    ("Playground", "cut at its limit", "length limit reached"),
    ("Playground", "tokens read + written", " in, "),
    ("Playground", "one throw of the dice", "one sample proves little; try another seed"),
    ("Console", "The tiered service at", ""),
    ("Console", "says where the first one lies", ""),
    ("Console", "Who is fallen back to", ""),
    ("Console", "Who is asked first", ""),
    ("Console", "Answer repeated questions from memory", ""),
    ("Console", '"Read again"', ""),
    ("Console", '"Look again"', ""),
    ("Console", "Ask every provider now", ""),
    ("Console", "ours of it", ""),
    ("Console", "Nobody was asked", ""),
    ("Console", "Nobody answers yet", ""),
    ("Console", "Let into the company", ""),
    ("Console", "Enter user", ""),
    ("Console", "Entered: ", ""),
    ("Console", "How long what is kept", ""),
    ("Console", "Requests over personal data", ""),
    ("Console", "Ask for somebody", ""),
    ("Console", "Close its breaker", ""),
    ("Console", "decided because", ""),
    ("Console", "grown from", ""),
    ("Console", "For some only", ""),
    ("Console", "counts as modified", ""),
    ("Hub", "What changed last", "Recent"),
    ("Hub", "What you may do here is what the token may do", "The token sets your rights"),
)
SAID_IN = {
    "Studio": ("triptych/panels/studio",),
    "Learn": ("triptych/panels/studio", "triptych/lm/runs"),
    "Playground": ("triptych/panels/playground",),
    "Hub": ("triptych/hub/server/http/pages",),
}


@cache
def text_of(folder: str) -> str:
    files = sorted(f for f in (ROOT / folder).rglob("*") if f.suffix in SUFFIXES)
    assert files
    return "\n".join(file.read_text("utf-8") for file in files)


@pytest.mark.parametrize(("page", "was", "now"), WORDINGS)
def test_an_old_wording_is_gone_and_the_plain_one_is_there(page: str, was: str, now: str) -> None:
    for folder in PAGES:
        assert was not in text_of(folder), f"{page}: write {now!r}"
    if now:
        assert any(now in text_of(folder) for folder in SAID_IN[page])

"""Build a release from the documents of the companies that agree, in one call.

Left out: the build itself (`build`), and folders that are no store of knowledge (the command).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from triptych.durable import FolderLock
from triptych.learning.abstraction import vocabulary as vocabularies
from triptych.learning.abstraction.audit import run_audit
from triptych.learning.abstraction.build import LOCK, Audit, Home, Outcome
from triptych.learning.abstraction.consents import Consents
from triptych.learning.abstraction.counting import Rules
from triptych.learning.abstraction.releases import Releases
from triptych.learning.company.library import Library

# Called with what is done now, in words.
Step = Callable[[str], None]


def open_home(folder: Path) -> Home:
    """Return the abstraction tier of a folder, with the rules of its last release."""
    rules = Releases(folder).last_rules()
    return Home(folder, vocabularies.load(), Rules(k=int(rules.get("k", Rules().k))))


def renew(
    folder: Path, library: Library, consents: Consents, *, say: Step, audit: Audit = run_audit
) -> Outcome:
    """Read what changed of every company that agrees, count, audit, and publish.

    Raises: LearningError where the consents cannot be read; StorageError while another one builds.
    """
    Path(folder).mkdir(parents=True, exist_ok=True, mode=0o700)
    with FolderLock(Path(folder) / LOCK):
        home = open_home(folder)
        names = library.companies()
        granted = consents.granted(names)
        for number, name in enumerate(granted, start=1):
            say(f"reading company {number} of {len(granted)}")
            home.register.agree(name, granted[name])
            with library.store(name) as store:
                home.read_store(name, store)
        home.register.save()
        say("counting, then the audit, which takes about half a minute")
        return home.build(audit, consents)

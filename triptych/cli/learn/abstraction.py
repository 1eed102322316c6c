"""Patterns across companies: what similar companies do, from those that agreed.

  triptych abstraction build --documents handbooks --all-agree      each folder is a company
  triptych abstraction ask "how do others handle on-call?" --company acme
  triptych abstraction preview acme --strike expenses,sick_leave    what leaves; what may not
  triptych abstraction withdraw acme                                gone from the next release

A figure stands on at least k companies (5; the floor is 3). Companies enter k at a time, and the
rest of a cohort waits when one of it withdraws. Every build is audited; an audit that fails stops
the release. With --gateway, the consent `abstraction` of each company is read there, with the key
in TRIPTYCH_ADMIN_KEY.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.learning.abstraction.build import Home, Outcome
    from triptych.learning.abstraction.companies import Reading

KEY = "TRIPTYCH_ADMIN_KEY"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych abstraction`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    made = {
        "vocabulary": verbs.add_parser("vocabulary", help="the practices, by topic"),
        "agree": verbs.add_parser("agree", help="write down that a company agreed"),
        "build": verbs.add_parser("build", help="read documents, count, audit, release"),
        "preview": verbs.add_parser("preview", help="what a company gives, and strike some out"),
        "cards": verbs.add_parser("cards", help="the cards of the release that is served"),
        "ask": verbs.add_parser("ask", help="answer a question from the cards"),
        "withdraw": verbs.add_parser("withdraw", help="take a company out and build again"),
        "audit": verbs.add_parser("audit", help="run the audit, or show a release's report"),
        "access": verbs.add_parser("access", help="who is answered: contributors, or all"),
        "releases": verbs.add_parser("releases", help="every release, and what happened to it"),
    }
    for parsed in made.values():
        parsed.add_argument("--home", type=Path, help="folder; default TRIPTYCH_HOME/abstraction")
        parsed.add_argument("--vocabulary", type=Path, metavar="FILE", help="a vocabulary of yours")
        parsed.add_argument(
            "--k", type=int, help="companies behind a figure; default 5, at least 3"
        )
        parsed.add_argument("--json", action="store_true", help="print JSON")
    for name in ("agree", "preview", "withdraw"):
        made[name].add_argument("company")
    made["agree"].add_argument("--industry", default="", help="one of the vocabulary's industries")
    made["agree"].add_argument("--size", default="", help="one of the vocabulary's sizes")
    made["agree"].add_argument("--names", default="", help="its own names, never shown: a,b,c")
    build = made["build"]
    build.add_argument("--documents", type=Path, help="a folder with one folder for each company")
    build.add_argument(
        "--library", action="store_true", help="the companies of `triptych company` that agreed"
    )
    build.add_argument("--all-agree", action="store_true", help="all of them agreed: yours to know")
    build.add_argument("--profiles", type=Path, help="JSON: company -> industry, size, names")
    for name in ("build", "withdraw"):
        made[name].add_argument("--gateway", metavar="URL", help="read the consents of the gateway")
    made["preview"].add_argument("--strike", help="practices that may not leave: a,b; '' for none")
    made["cards"].add_argument("--topic", help="only this topic")
    made["ask"].add_argument("question")
    made["ask"].add_argument("--company", help="the company that asks, for its own position")
    made["ask"].add_argument("--segment", default="", help="prefer an industry or a size")
    made["access"].add_argument("who", nargs="?", choices=["contributors", "all"])
    made["audit"].add_argument("--release", type=int, help="show this release's report")


def run(args: argparse.Namespace) -> int:
    """Run one verb; those that change something hold the folder for themselves."""
    from triptych.durable import FolderLock
    from triptych.learning.abstraction.build import LOCK

    verb = {
        "vocabulary": _vocabulary, "agree": _agree, "build": _build, "preview": _preview,
        "cards": _cards, "ask": _ask, "withdraw": _withdraw, "audit": _audit,
        "access": _access, "releases": _releases,
    }[args.verb]  # fmt: skip
    changes = args.verb in ("agree", "build", "withdraw") or (
        getattr(args, "strike", None) is not None
    )
    if not changes:
        return verb(args, _home(args))
    with FolderLock(_folder(args) / LOCK):
        return verb(args, _home(args))


def _folder(args: argparse.Namespace) -> Path:
    from triptych.config import environment

    folder: Path = args.home or environment.home() / "abstraction"
    return folder


def _home(args: argparse.Namespace) -> Home:
    from triptych.learning.abstraction import vocabulary
    from triptych.learning.abstraction.build import Home
    from triptych.learning.abstraction.counting import Rules
    from triptych.learning.abstraction.releases import Releases

    folder = _folder(args)
    k = args.k
    if k is None:
        released = Releases(folder).last_rules()
        k = int(released.get("k", Rules().k))
    return Home(folder, vocabulary.load(args.vocabulary or vocabulary.FILE), Rules(k=k))


def _vocabulary(args: argparse.Namespace, home: Home) -> int:
    listed = home.vocabulary.practices
    if args.json:
        rows = [{"id": one.id, "topic": one.topic, "kind": one.kind, "values": one.values,
                 "text": one.text} for one in listed]  # fmt: skip
        print(json.dumps({"version": home.vocabulary.version, "practices": rows}, indent=1))
        return 0
    topic = ""
    for one in listed:
        if one.topic != topic:
            topic = one.topic
            print(f"\n{topic}")
        values = "" if one.kind == "yes_no" else f"  [{' | '.join(one.values)}]"
        print(f"  {one.id:24} {one.text}{values}")
    return 0


def _agree(args: argparse.Namespace, home: Home) -> int:
    _add(home, args.company, {"industry": args.industry, "size": args.size,
                              "names": [one for one in args.names.split(",") if one]})  # fmt: skip
    home.register.save()
    print(f"{args.company} agreed; it is counted once {home.rules.k} new companies are there")
    return 0


def _add(home: Home, company: str, facts: dict[str, Any], consent: str = "") -> None:
    from triptych.errors import UsageError

    for field, known in (("industry", home.vocabulary.industries), ("size", home.vocabulary.sizes)):
        if facts.get(field) and facts[field] not in known:
            raise UsageError(
                f"{field} of {company} is {facts[field]!r}", hint=f"one of: {', '.join(known)}"
            )
    member = home.register.members.get(company)
    home.register.agree(
        company,
        consent or (member.consent if member else "administrator"),
        industry=facts.get("industry", ""),
        size=facts.get("size", ""), names=tuple(facts.get("names", ())),
    )  # fmt: skip


def _build(args: argparse.Namespace, home: Home) -> int:
    from triptych.documents.folders import read_folder
    from triptych.errors import UsageError
    from triptych.learning.abstraction.companies import digest_of

    if args.documents is not None and not args.documents.is_dir():
        raise UsageError(f"{args.documents} is not a folder", hint="one folder for each company")
    if args.documents is not None:
        folders = {one.name: one for one in sorted(args.documents.iterdir()) if one.is_dir()}
        for name in _agreed(args, home, list(folders)):
            folder = folders[name]
            reading = home.read_company(name, read_folder(folder), digest_of(folder))
            print(f"{name}: {_said(reading)}", file=sys.stderr, flush=True)
    if args.library:
        _read_library(args, home)
    return _publish(args, home)


def _read_library(args: argparse.Namespace, home: Home) -> None:
    from triptych.config import environment
    from triptych.learning.company.library import Library

    with Library(environment.home() / "companies") as library:
        for name in _agreed(args, home, library.companies()):
            with library.store(name) as store:
                reading = home.read_store(name, store)
            print(f"{name}: {_said(reading)}", file=sys.stderr, flush=True)


def _agreed(args: argparse.Namespace, home: Home, companies: list[str]) -> list[str]:
    """Return those that agreed, as members; the others are named and passed over."""
    profiles = json.loads(args.profiles.read_text("utf-8")) if args.profiles else {}
    granted = _consents(args).granted(companies) if args.gateway else {}
    agreed = []
    for name in companies:
        is_member = name in home.register.members and not args.gateway
        if not (is_member or args.all_agree or name in granted):
            print(f"{name}: no consent, not read", file=sys.stderr)
            continue
        _add(home, name, profiles.get(name, {}), granted.get(name, ""))
        agreed.append(name)
    home.register.save()
    return agreed


def _said(reading: Reading | None) -> str:
    if reading is None:
        return "unchanged"
    return (
        f"{reading.documents} documents, {reading.passages} passages, "
        f"{len(reading.votes)} practices"
    )


def _consents(args: argparse.Namespace) -> Any:
    from triptych.config import environment
    from triptych.errors import UsageError
    from triptych.learning.abstraction.consents import GatewayConsents

    key = environment.secret(KEY)
    if key is None:
        raise UsageError(f"{KEY} is not set", hint=f"export {KEY}=... with an administrator's key")
    return GatewayConsents(args.gateway, key.reveal())


def _publish(args: argparse.Namespace, home: Home) -> int:
    from triptych.learning.abstraction.audit import run_audit

    outcome = home.build(run_audit, _consents(args) if args.gateway else None)
    if args.json:
        print(json.dumps(_outcome(outcome), indent=1))
    elif outcome.release is None:
        print(f"nothing was released: {outcome.reason}")
    else:
        manifest = outcome.release.manifest
        print(f"release {outcome.release.number}: {manifest['cards']} cards of "
              f"{manifest['companies']} companies; {outcome.waiting} wait for others, "
              f"{outcome.held_changes} have changes that are held back")  # fmt: skip
        print(f"audit: {outcome.report['summary']}")
    return 0 if outcome.release is not None else 1


def _outcome(outcome: Outcome) -> dict[str, Any]:
    release = outcome.release
    return {
        "release": release.number if release else None,
        "reason": outcome.reason,
        "companies": outcome.admitted,
        "waiting": outcome.waiting,
        "held_changes": outcome.held_changes,
        "cards": len(release.cards) if release else 0,
        "gated": dict(outcome.gated),
    }


def _preview(args: argparse.Namespace, home: Home) -> int:
    from triptych.errors import LearningError
    from triptych.learning.abstraction.cards import value_text

    member = home.register[args.company]
    if args.strike is not None:
        struck = tuple(one.strip() for one in args.strike.split(",") if one.strip())
        for one in struck:
            home.vocabulary[one]
        home.register.strike(args.company, struck)
        home.register.save()
        member = home.register[args.company]
    reading = home.companies.load(member.id)
    if reading is None:
        raise LearningError(f"{args.company}'s documents were not read yet",
                            hint="triptych abstraction build --documents FOLDER")  # fmt: skip
    print(f"What leaves for {args.company}: these values, counted, and nothing else. "
          "The sentences below stay here.")  # fmt: skip
    for name, vote in reading.votes.items():
        mark = "struck " if name in member.struck else "counted"
        print(f"  {mark} {value_text(home.vocabulary[name], vote.value)}")
        for passage in vote.passages[:2]:
            print(f"            {reading.sentences[f'{name}/{passage}'][:110]!r} ({passage})")
    return 0


def _cards(args: argparse.Namespace, home: Home) -> int:
    release = _served(home)
    cards = [one for one in release.cards if not args.topic or one.topic == args.topic]
    for card in cards:
        print(json.dumps(card.as_json()) if args.json else f"{card.topic:16} {card.text}")
    return 0


def _served(home: Home) -> Any:
    from triptych.errors import LearningError

    release = home.releases.current()
    if release is None:
        raise LearningError("there is no release", hint="make one: triptych abstraction build")
    return release


def _ask(args: argparse.Namespace, home: Home) -> int:
    from triptych.learning.abstraction.answering import Index, answer

    own = home.own_votes(args.company) if args.company else None
    said = answer(args.question, home.releases.current(), Index(home.vocabulary), own, args.segment)
    if args.json:
        print(json.dumps({"text": said.text, "refused": said.refused, "own": dict(said.own),
                          "cards": [one.as_json() for one in said.cards]}, indent=1))  # fmt: skip
    else:
        print(said.text)
    return 0


def _withdraw(args: argparse.Namespace, home: Home) -> int:
    removed = home.withdraw(args.company)
    print(f"{args.company} is gone; removed releases: {', '.join(map(str, removed)) or 'none'}")
    _publish(args, home)
    return 0


def _audit(args: argparse.Namespace, home: Home) -> int:
    from triptych.learning.abstraction.audit import run_audit

    if args.release is not None:
        report = home.releases.report(args.release)
    else:
        report = run_audit(home.vocabulary, home.rules)
    print(json.dumps(report, indent=1) if args.json else report["summary"])
    return 0 if report["passed"] else 1


def _access(args: argparse.Namespace, home: Home) -> int:
    from triptych.learning.abstraction.serving import is_open, set_open

    if args.who:
        set_open(home.folder, args.who == "all")
    print("all companies" if is_open(home.folder) else "contributing companies only")
    return 0


def _releases(args: argparse.Namespace, home: Home) -> int:
    import datetime

    served = home.releases.current()
    for entry in home.releases.entries():
        if args.json:
            print(json.dumps(entry))
            continue
        at = datetime.datetime.fromtimestamp(entry["at"]).astimezone().strftime("%Y-%m-%d %H:%M")
        mark = (
            " (served)" if served and served.number == entry["number"] and "cards" in entry else ""
        )
        size = (
            f" {entry['cards']} cards, {entry['companies']} companies" if "cards" in entry else ""
        )
        print(f"{entry['number']:4} {at} {entry['what']}{size}{mark}")
    return 0

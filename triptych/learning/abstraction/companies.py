"""What stays with each company: its votes with the passages as evidence, and its text's profile.

One owner-only folder a company, removed as a whole when the company withdraws. `current` is what
its documents say now, `admitted` what the releases count. Left out: who agreed (`register`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from triptych.documents import Document
from triptych.documents.folders import FolderReading, files_below
from triptych.durable import sha256_file, write_atomic
from triptych.errors import LearningError
from triptych.learning.abstraction.extraction import Finding, Text, Vote, findings, texts, votes
from triptych.learning.abstraction.gates import TextProfile, profile
from triptych.learning.abstraction.vocabulary import Vocabulary
from triptych.learning.company.store import Store
from triptych.learning.company.tables import Stored

FORMAT = 1
Version = Literal["current", "admitted"]


@dataclass(frozen=True)
class Reading:
    """What a company's documents say: its votes, their evidence, and the profile of its text."""

    vocabulary: str
    documents: int
    passages: int
    votes: dict[str, Vote]
    sentences: dict[str, str]
    profile: TextProfile
    digest: str = ""


def digest_of(folder: Path) -> str:
    """Return a hash of the names and the bytes of every file that would be read in a folder."""
    hashed = hashlib.sha256()
    for path, name in files_below(folder, FolderReading()):
        hashed.update(f"{name}\0{sha256_file(path)}\0".encode())
    return hashed.hexdigest()


def read(
    company: str,
    documents: Iterable[Document],
    vocabulary: Vocabulary,
    names: Iterable[str] = (),
    digest: str = "",
) -> Reading:
    """Return the reading of a company's documents; the same document twice counts once.

    `digest` tells a later build whether the documents changed.
    """
    unique = {one.sha256: one for one in documents if one.is_read}
    written = ((one.text, texts([one])) for one in unique.values())
    return _read(company, written, vocabulary, names, digest)


def read_store(
    company: str, store: Store, vocabulary: Vocabulary, names: Iterable[str] = ()
) -> Reading:
    """Return the reading of a company's store of knowledge, as its current documents stand."""
    unique = {one.sha256: one for one in store.documents()}
    written = ((store.text(one.id) or "", _stored(store, one)) for one in unique.values())
    return _read(company, written, vocabulary, names, store_digest(store))


def store_digest(store: Store) -> str:
    """Return a hash of the current documents of a store."""
    listed = sorted(f"{one.source}/{one.name}\0{one.sha256}" for one in store.documents())
    return hashlib.sha256("\0".join(listed).encode()).hexdigest()


def _stored(store: Store, document: Stored) -> Iterator[Text]:
    whole = store.text(document.id) or ""
    rows = store.connection().execute(
        "select headings, first, last from passages where document = ? order by first, id",
        (document.id,),
    )
    for headings, first, last in rows.fetchall():
        name = f"{document.name}#{first}-{last}"
        above = (document.title, *json.loads(headings))
        yield Text(name, document.name, above, whole[first:last])


def _read(
    company: str,
    documents: Iterable[tuple[str, Iterable[Text]]],
    vocabulary: Vocabulary,
    names: Iterable[str],
    digest: str,
) -> Reading:
    found: list[Finding] = []
    written: list[str] = []
    passages = 0
    for text, parts in documents:
        written.append(text)
        for passage in parts:
            passages += 1
            found += findings(vocabulary, passage)
    sentences = {f"{one.practice}/{one.passage}": one.sentence for one in found}
    return Reading(
        vocabulary.sha256, len(written), passages, votes(vocabulary, found), sentences,
        profile(company, written, names), digest,
    )  # fmt: skip


class Companies:
    """The readings of all companies below a folder, by opaque id."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def save(self, company: str, reading: Reading) -> None:
        """Keep a reading as the company's current one."""
        folder = self._folder(company, "current")
        values = {
            "format": FORMAT,
            "vocabulary": reading.vocabulary,
            "digest": reading.digest,
            "documents": reading.documents,
            "passages": reading.passages,
            "votes": {name: asdict(vote) for name, vote in sorted(reading.votes.items())},
            "sentences": {
                f"{name}/{passage}": reading.sentences[f"{name}/{passage}"]
                for name, vote in sorted(reading.votes.items())
                for passage in vote.passages
            },
            "names": sorted(reading.profile.names),
        }
        grams = array("Q", reading.profile.grams)
        words = "\n".join(sorted(reading.profile.words))
        write_atomic(folder / "grams.bin", grams.tobytes(), private=True)
        write_atomic(folder / "words.txt", words, private=True)
        write_atomic(folder / "reading.json", json.dumps(values), private=True)

    def load(
        self, company: str, version: Version = "current", *, with_text: bool = False
    ) -> Reading | None:
        """Return a reading; None where there is none.

        The words and 8-grams of its profile are large, and loaded `with_text` only.

        Raises: LearningError where the file is of another format.
        """
        folder = self.folder / company / version
        if not (folder / "reading.json").is_file():
            return None
        values = json.loads((folder / "reading.json").read_text("utf-8"))
        if values.get("format") != FORMAT:
            raise LearningError(
                f"{folder / 'reading.json'} is of format {values.get('format')}",
                hint="read the documents again: triptych abstraction build --documents FOLDER",
            )
        names = frozenset(values["names"])
        profile = TextProfile(company, frozenset(), (), names)
        if with_text:
            grams = array("Q")
            grams.frombytes((folder / "grams.bin").read_bytes())
            words = frozenset((folder / "words.txt").read_text("utf-8").split("\n"))
            profile = TextProfile(company, words, grams, names)
        return Reading(
            values["vocabulary"], values["documents"], values["passages"],
            {name: Vote(one["value"], tuple(one["passages"]))
             for name, one in values["votes"].items()},
            values["sentences"], profile, values["digest"],
        )  # fmt: skip

    def has(self, company: str) -> bool:
        """Return whether a company's documents were read."""
        return (self.folder / company / "current" / "reading.json").is_file()

    def changed_at(self, company: str) -> int:
        """Return when a company's current reading was written, in nanoseconds; 0 for none."""
        try:
            return (self.folder / company / "current" / "reading.json").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def admit(self, company: str) -> None:
        """Let the releases count the current reading from now on."""
        for name in ("grams.bin", "words.txt", "reading.json"):
            data = (self._folder(company, "current") / name).read_bytes()
            write_atomic(self._folder(company, "admitted") / name, data, private=True)

    def votes(self, company: str, version: Version) -> dict[str, Any]:
        """Return the values a version counts, without evidence; empty where there is none."""
        reading = self.load(company, version)
        return {} if reading is None else {name: one.value for name, one in reading.votes.items()}

    def remove(self, company: str) -> None:
        """Remove everything of a company."""
        shutil.rmtree(self.folder / company, ignore_errors=True)

    def _folder(self, company: str, version: Version) -> Path:
        folder = self.folder / company / version
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return folder

"""The tables of a company's knowledge, and its rows as values. Left out: reading and writing."""

from __future__ import annotations

from dataclasses import dataclass

from triptych.wire.evidence import Passage

FORMAT = 1
FILE = "knowledge.db"
# Matches in a title or a heading count more than in the text; chosen by hand.
WEIGHTS = (2.0, 3.0, 1.0)
TABLES = """
create table if not exists state (name text primary key, value text not null) without rowid;
create table if not exists sources (
  name text primary key, location text not null, groups text not null) without rowid;
create table if not exists readers (name text primary key, groups text not null) without rowid;
create table if not exists documents (
  id integer primary key autoincrement,
  source text not null, name text not null, title text not null, kind text not null,
  sha256 text not null, text text not null, unread text not null, version integer not null,
  groups text, replaced integer);
create index if not exists documents_current on documents (source, name) where replaced is null;
create table if not exists passages (
  id integer primary key autoincrement,
  document integer not null references documents (id),
  headings text not null, page integer, first integer not null, last integer not null);
create index if not exists passages_document on passages (document);
create virtual table if not exists words using fts5(
  title, headings, body, tokenize = 'porter unicode61 remove_diacritics 2');
"""

# What `Store` reads of a passage `p` of a document `d`.
PASSAGE = (
    "p.id, d.id, d.name, d.version, d.title, p.headings, p.page, p.first, p.last, "
    "substr(d.text, p.first + 1, p.last - p.first)"
)
# Whether a document `d` of a source `s` may be read: by all rights, or by one of these groups.
READABLE = (
    "(? or exists (select 1 from json_each(coalesce(d.groups, s.groups)) "
    "where value in (select value from json_each(?))))"
)


@dataclass(frozen=True)
class Stored:
    """A current document as the store holds it, without its text."""

    id: int
    source: str
    name: str
    title: str
    sha256: str
    unread: tuple[dict[str, str], ...]
    version: int
    groups: tuple[str, ...] | None


@dataclass(frozen=True)
class Found:
    """A passage with its rank score of FTS5 (higher is better) and its row id."""

    passage: Passage
    bm25: float
    row: int = 0

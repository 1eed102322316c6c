"""Conversations of this machine's users: in memory, and on disk only with the user's consent.

A user's conversations are in a folder that is named by a hash of the owner, readable by this
machine's user only. Without consent they are gone when the process ends; withdrawing it deletes
the files.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from triptych.durable import write_atomic
from triptych.errors import NotFound

State = Literal["writing", "done", "stopped", "failed"]
FORMAT_VERSION = 1
TITLE_CHARS = 60


@dataclass
class Answer:
    """One answer: its text so far, how it came about, and what its reader said about it."""

    text: str = ""
    state: State = "writing"
    error: str = ""
    request_id: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    citations: list[dict[str, Any]] = field(default_factory=list)
    verdict: str = ""
    feedback_ids: dict[str, str] = field(default_factory=dict)


@dataclass
class Turn:
    """A question and its answer."""

    question: str
    answer: Answer = field(default_factory=Answer)


@dataclass
class Conversation:
    """A conversation of one user with one tier."""

    id: str
    owner: str
    tier: str
    company: str = ""
    started_at: float = 0.0
    turns: list[Turn] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Return the beginning of the first question."""
        text = " ".join(self.turns[0].question.split()) if self.turns else "New conversation"
        return text if len(text) <= TITLE_CHARS else f"{text[:TITLE_CHARS]}…"

    @property
    def messages(self) -> list[dict[str, str]]:
        """Return what a model is sent: everything up to the last question."""
        sent = []
        for turn in self.turns[:-1]:
            sent.append({"role": "user", "content": turn.question})
            if turn.answer.text:
                sent.append({"role": "assistant", "content": turn.answer.text})
        return [*sent, {"role": "user", "content": self.turns[-1].question}]


class History:
    """Every user's conversations, below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._loaded: dict[str, dict[str, Conversation]] = {}

    def keeps(self, owner: str) -> bool:
        """Return whether the user agreed that conversations are kept on disk."""
        return (self.folder / owner / "consent.json").exists()

    def keep(self, owner: str, agreed: bool) -> None:
        """Write a user's conversations to disk from now on, or delete them there."""
        if not agreed:
            shutil.rmtree(self.folder / owner, ignore_errors=True)
            return
        record = {"format_version": FORMAT_VERSION, "agreed_at": time.time()}
        write_atomic(self.folder / owner / "consent.json", json.dumps(record), private=True)
        for conversation in self.of(owner):
            self.save(conversation)

    def start(self, owner: str, tier: str, company: str) -> Conversation:
        """Return a new conversation."""
        begun = Conversation(secrets.token_hex(8), owner, tier, company, time.time())
        self._of(owner)[begun.id] = begun
        return begun

    def of(self, owner: str) -> list[Conversation]:
        """Return a user's conversations, newest first."""
        return sorted(self._of(owner).values(), key=lambda each: -each.started_at)

    def get(self, owner: str, id: str) -> Conversation:
        """Return one conversation of a user.

        Raises: NotFound, also for another user's.
        """
        found = self._of(owner).get(id)
        if found is None:
            raise NotFound("there is no such conversation", hint="begin a new one: /ask")
        return found

    def save(self, conversation: Conversation) -> None:
        """Write a conversation to disk where its user agreed to that."""
        if self.keeps(conversation.owner):
            record = {"format_version": FORMAT_VERSION, **asdict(conversation)}
            write_atomic(self._file(conversation), json.dumps(record), private=True)

    def delete(self, conversation: Conversation) -> None:
        """Delete a conversation from memory and from disk."""
        self._of(conversation.owner).pop(conversation.id, None)
        self._file(conversation).unlink(missing_ok=True)

    def _file(self, conversation: Conversation) -> Path:
        return self.folder / conversation.owner / f"c-{conversation.id}.json"

    def _of(self, owner: str) -> dict[str, Conversation]:
        if owner not in self._loaded:
            files = sorted((self.folder / owner).glob("c-*.json"))
            kept = [_read(json.loads(file.read_text("utf-8"))) for file in files]
            self._loaded[owner] = {each.id: each for each in kept}
        return self._loaded[owner]


def owner_of(name: str, role: str, key: str) -> str:
    """Return the name of a user's folder: of the user, or of the key where no user has it."""
    whose = f"user {name}" if name != role.replace("_", " ") else f"key {key}"
    return hashlib.sha256(whose.encode()).hexdigest()[:32]


def _read(record: Mapping[str, Any]) -> Conversation:
    turns = [
        Turn(each["question"], Answer(**{**each["answer"], "state": _ended(each["answer"])}))
        for each in record["turns"]
    ]
    names = ("id", "owner", "tier", "company", "started_at")
    return Conversation(**{name: record[name] for name in names}, turns=turns)


def _ended(answer: Mapping[str, Any]) -> str:
    """Return the state of a kept answer; one that was being written has been cut off."""
    return "stopped" if answer["state"] == "writing" else str(answer["state"])

"""Letters: .eml files and .mbox folders of letters; attachments are named as unread.

Left out: what an attachment holds. Save it beside the letter to have it read.
"""

from __future__ import annotations

import email
import email.policy
import mailbox
import re
from email.message import EmailMessage
from pathlib import Path

from triptych.documents.blocks import Builder
from triptych.documents.html import add_html

_QUOTED = re.compile(r"^>.*$\n?", re.M)


def read_mail(path: Path, builder: Builder) -> None:
    """Read one letter."""
    add_letter(email.message_from_bytes(path.read_bytes(), policy=email.policy.default), builder)


def read_mailbox(path: Path, builder: Builder) -> None:
    """Read every letter of an mbox file, each under its subject."""
    box = mailbox.mbox(path, create=False)
    try:
        for number, key in enumerate(box.keys(), start=1):
            builder.page = number
            add_letter(
                email.message_from_bytes(box.get_bytes(key), policy=email.policy.default), builder
            )
    finally:
        box.close()


def add_letter(letter: EmailMessage, builder: Builder) -> None:
    """Add the subject as a heading, then sender and date, then the text."""
    subject = _header(letter, "subject") or "(no subject)"
    builder.end_headings()
    builder.heading(subject, 1)
    known = [
        f"{name}: {text}" for name in ("From", "To", "Date") if (text := _header(letter, name))
    ]
    builder.add("note", "\n".join(known))
    body = letter.get_body(preferencelist=("plain", "html"))
    if body is not None:
        try:
            content = body.get_content()
        except (LookupError, ValueError):
            payload = body.get_payload(decode=True)
            content = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
        if body.get_content_subtype() == "html":
            add_html(content, builder, keep_title=True)
        else:
            # What is quoted stands in the letter it was quoted from.
            for paragraph in re.split(r"\n\s*\n", _QUOTED.sub("", content.replace("\r\n", "\n"))):
                builder.add("message", paragraph)
    for attachment in letter.iter_attachments():
        name = attachment.get_filename() or attachment.get_content_type()
        builder.miss(str(name), "attachment", "attachments of letters are not read")


def _header(letter: EmailMessage, name: str) -> str:
    try:
        value = letter.get(name)
    except (ValueError, IndexError, AttributeError):
        return ""
    return " ".join(str(value).split()) if value else ""

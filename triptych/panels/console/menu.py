"""The pages of the Console, in the order of its menu."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """One page of the menu; only a visitor with its role sees it."""

    name: str
    path: str
    role: str = "company_admin"


MENU = (
    Entry("Overview", "/console/"),
    Entry("Switches", "/console/switches", "admin"),
    Entry("Providers", "/console/providers", "admin"),
    Entry("Spaces", "/console/spaces", "admin"),
    Entry("Models", "/console/models"),
    Entry("Requests", "/console/requests"),
    Entry("Feedback", "/console/feedback"),
    Entry("Knowledge", "/console/knowledge"),
    Entry("Patterns", "/console/patterns"),
    Entry("Learn", "/console/learn", "admin"),
    Entry("People", "/console/people"),
    Entry("Privacy", "/console/privacy"),
    Entry("History", "/console/history", "admin"),
)  # fmt: skip

"""The history: whole before and after, filters by pick list, a chain that is verified."""

from __future__ import annotations

from typing import Any

PAGE = "/console/history"


def test_a_change_is_listed_with_who_did_it_and_its_whole_before_and_after(
    gateway: Any, admin: Any
) -> None:
    name = "Acme " + "<b>" * 20 + "end"
    gateway.call("POST", "/api/keys", {"name": name})  # names of companies are kept as hashes
    gateway.call("PUT", "/admin/flags/cache", {"value": False})
    text = admin.text(PAGE)
    assert "Cache answers: on → off" in text
    assert "&lt;b&gt;end" in text, "the end of a long value is not cut off"
    assert "<b>end" not in text
    assert "key_" not in text.partition("<table")[2].partition("</table>")[0].split("Before")[0]


def test_entries_are_filtered_by_what_they_are_about(gateway: Any, admin: Any) -> None:
    gateway.call("POST", "/admin/users", {"user_id": "ann", "role": "user"})
    gateway.call("PUT", "/admin/flags/cache", {"value": True})
    text = admin.text(f"{PAGE}?about=users")
    assert "users/ann" in text and "Cache answers" not in text
    assert "Nothing was changed about this yet" in admin.text(f"{PAGE}?about=legal_holds")


def test_the_chain_is_verified_and_no_button_reverts_here(gateway: Any, admin: Any) -> None:
    assert "every one sound" in admin.post(f"{PAGE}/verify", by_htmx=True).text
    assert ">Revert" not in admin.text(PAGE)

"""Who may act for whom: the one rule behind each key, header and body that names a person.

- A key of a user acts for that user. A service's key acts for the members of its company, an
  admin's for every entered user. Any other name is an application's own label of its end user: it
  stays under the key, and no consent, budget, flag or row of a user is reached through it.
- A key that is bound to a company acts inside that company. What concerns a person everywhere
  (consent, export, erasure, memberships) needs a key without a company: made by the person's own
  sign-in or by an admin.

That a user is a member is proven in the transaction that makes the key, and again by each worker
when it reads its keys. Left out: whose rows an admin sees (`admin.routing.RouteCall.scope`).
"""

from __future__ import annotations

import hashlib

from triptych.errors import Forbidden
from triptych.tiers.rules.accounts import Principal

_LONGEST = 64
_SEPARATOR = "/"


def acting_user(principal: Principal, named: str | None) -> str | None:
    """Return the user that a request is for, or the key's own label of its end user.

    Raises: Forbidden for a user's key that names another user.
    """
    if not named or named == principal.user_id:
        return principal.user_id
    if principal.kind != "service":
        raise Forbidden("this key may not speak for another user", code="user_mismatch")
    if named in principal.people:
        return named
    return end_user(principal.key_id, named)


def end_user(key_id: str, label: str) -> str:
    """Return an end user's label under its key; no user's id has its separator."""
    whole = f"{key_id}{_SEPARATOR}{label}"
    if len(whole) <= _LONGEST:
        return whole
    rest = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{key_id}{_SEPARATOR}{rest}"[:_LONGEST]


def is_entered(user_id: str | None) -> bool:
    """Return whether an id is a user's and not a label under a key."""
    return user_id is not None and _SEPARATOR not in user_id


def whole_person(principal: Principal) -> str:
    """Return the user whose records of all companies this key may act on.

    Raises: Forbidden.
    """
    if principal.user_id is None:
        raise Forbidden("this key belongs to no user", hint="send company_id")
    if principal.bound_to is not None and principal.role != "admin":
        raise Forbidden(
            f"this key acts inside {principal.bound_to} only, not for the whole person",
            hint="use the key of your own sign-in, or name the company in company_id",
            code="key_of_a_company",
        )
    return principal.user_id

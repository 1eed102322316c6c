"""The content security policy of the toolkit's pages, and their CSRF tokens.

A token belongs to a cookie that no script can read: another site's page can make a browser send
the cookie, but cannot know the token that goes with it.

Source: OWASP Cross-Site Request Forgery Prevention, signed double-submit cookie.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping

COOKIE, FIELD = "triptych_csrf", "csrf"
HEADERS = {
    "content-security-policy": "; ".join((
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )),
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}  # fmt: skip


class Csrf:
    """Issues the tokens of one installation and verifies them."""

    def __init__(self, key: bytes) -> None:
        self._key = hashlib.sha256(b"csrf:" + key).digest()

    def visit(self, cookies: Mapping[str, str]) -> str:
        """Return what the visitor's cookie contains, or a new value for it."""
        kept = cookies.get(COOKIE, "")
        return kept if len(kept) == 43 else secrets.token_urlsafe(32)

    def token(self, cookie: str) -> str:
        """Return the token that goes with a cookie."""
        return hmac.new(self._key, cookie.encode(), hashlib.sha256).hexdigest()

    def verify(self, cookies: Mapping[str, str], token: str) -> bool:
        """Return whether a form's token goes with the visitor's cookie."""
        cookie = cookies.get(COOKIE, "")
        return bool(cookie) and hmac.compare_digest(self.token(cookie).encode(), token.encode())

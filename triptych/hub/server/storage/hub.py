"""The hub itself: its folder, its database, its vault, handed to every request."""

from __future__ import annotations

import secrets
from functools import cached_property

from triptych.config.hub import HubConfig
from triptych.durable import FolderLock
from triptych.hub.server.database import Database
from triptych.hub.server.events import Events
from triptych.hub.server.layout import Layout
from triptych.hub.server.storage.content.multipart import Uploads
from triptych.hub.server.storage.content.store import ObjectStore
from triptych.hub.server.storage.identity.accounts import Account, create_account, find_account
from triptych.hub.server.storage.identity.tokens import create_token
from triptych.hub.server.workloads.isolation import Isolation, choose
from triptych.secrets import FirstAdmin, Vault

ADMIN = "admin"
KEY_VARIABLE = "TRIPTYCH_HUB_KEY"
TOKEN_VARIABLE = "TRIPTYCH_HUB_ADMIN_TOKEN"  # noqa: S105 - the name, not the token


class Hub:
    """Hold the hub's folder, database, vault, objects and events."""

    def __init__(self, config: HubConfig) -> None:
        self.config = config
        self.layout = Layout(config.folder())
        self.layout.prepare()
        self.database = Database(self.layout.database)
        self.vault = Vault(self.layout.key, KEY_VARIABLE).load()
        self.objects = ObjectStore(self.layout, self.database)
        self.uploads = Uploads(self.objects, config.ticket_s)
        self.events = Events()
        self.address = config.public_url.rstrip("/") or f"http://{config.host}:{config.port}"
        self._lock = FolderLock(self.layout.lock)
        self._taken = False

    @cached_property
    def isolation(self) -> Isolation:
        """Return what keeps Spaces and jobs apart here; chosen once, when it is first needed.

        Raises: ConfigError when the setting names a mode that does not work on this machine.
        """
        return choose(self.config)

    @property
    def local_address(self) -> str:
        """Return the hub's address as a process on this machine reaches it."""
        config = self.config
        host = "127.0.0.1" if config.host in ("0.0.0.0", "::", "") else config.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{config.port}"

    def open_for_serving(self) -> None:
        """Take the folder for this process, clean up, make the first administrator.

        Doing it again changes nothing, so that a mistake can be reported before the server starts.

        Raises: StorageError when another live server has the folder.
        """
        if self._taken:
            return
        assert self.isolation  # a setting that does not work here must stop it now
        self._lock.acquire()
        self._taken = True
        self.layout.sweep()
        ensure_admin(self)

    def close(self) -> None:
        """Let go of the folder and the database."""
        self.database.close()
        self._lock.release()


def ensure_admin(hub: Hub) -> Account:
    """Return the administrator; on the first start create it and write its token to a file.

    Raises: UsageError when the operator chose a token that could be guessed.
    """
    first = FirstAdmin("token", TOKEN_VARIABLE, hub.layout.admin_token, _new_token)
    account = find_account(hub.database, ADMIN)
    # Only ever on the first start: a chosen token that was revoked must not come back.
    chosen = first.chosen() if account is None else ""
    if account is None:
        account = create_account(hub.database, ADMIN, fullname="Administrator", is_admin=True)
    has_token = hub.database.one("SELECT 1 FROM tokens WHERE user_id = ?", account.id)
    if has_token is None:
        create_token(hub.database, account, "first", "write", value=first.write(chosen))
    return account


def _new_token() -> str:
    return "hf_" + secrets.token_hex(20)

"""Settings of the hub, both sides."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from triptych.config import environment


@dataclass(frozen=True)
class HubConfig:
    """Settings of the hub, both sides."""

    host: str = "127.0.0.1"
    """Address the embedded hub listens on; loopback unless told otherwise."""
    port: int = Field(default=7880, ge=0, le=65535)
    """Port the embedded hub listens on; 0 takes a free one."""
    root: str = ""
    """Folder of the embedded hub; empty means `hub` in TRIPTYCH_HOME."""
    public_url: str = ""
    """Address under which clients reach the hub; empty means the address they asked for."""
    max_file_bytes: int = Field(default=64 * 2**30, gt=0)
    """Largest file that may be uploaded."""
    max_regular_file_bytes: int = Field(default=10 * 2**20, gt=0)
    """Files larger than this are stored as large files, outside git."""
    multipart_bytes: int = Field(default=512 * 2**20, gt=0)
    """Large files above this size are uploaded in parts of this size."""
    max_commit_operations: int = Field(default=100_000, gt=0)
    """Operations one commit may have."""
    gc_grace_s: int = Field(default=24 * 3600, ge=0)
    """Age below which an unreferenced upload is kept: a commit for it may be under way."""
    session_s: int = Field(default=14 * 24 * 3600, gt=0)
    """How long a person stays signed in on the hub's pages."""
    oauth_token_s: int = Field(default=8 * 3600, gt=0)
    """Lifetime of a token that an application received by signing a user in."""
    ticket_s: int = Field(default=3600, gt=0)
    """How long an upload or download address stays valid."""
    space_port: int = Field(default=7930, ge=0, le=65535)
    """First port of the addresses of Spaces, one each; 0 takes free ones."""
    space_domain: str = ""
    """Domain whose subdomains lead here, for Spaces on host names instead of ports; may end with
    a colon and a port."""
    space_memory_bytes: int = Field(default=8 * 2**30, ge=2**26)
    """Memory a Space's processes may use together."""
    space_processes: int = Field(default=256, ge=8)
    """Processes a Space may have at once."""
    space_sleep_s: int = Field(default=48 * 3600, ge=0)
    """Idle time after which a Space sleeps unless it says otherwise; 0 for never."""
    space_parked_s: int = Field(default=3600, ge=0)
    """How long the version a new one replaced is kept, frozen, for a way back; 0: not at all."""
    space_parked_bytes: int = Field(default=2 * 2**30, ge=0)
    """Memory such earlier versions may hold together; the one kept longest goes first."""
    space_wake_s: float = Field(default=60.0, gt=0)
    """How long a program's request waits for a Space that starts or wakes."""
    space_build_s: float = Field(default=1800.0, gt=0)
    """How long installing a Space's requirements may take."""
    isolation: Literal["auto", "bubblewrap", "landlock", "approved-only"] = "auto"
    """What keeps Spaces and jobs apart: the best that works on this machine, or one by name."""
    workload_folder: str = ""
    """Folder of the files of Spaces and jobs where a hub of root starts them as other users;
    empty means one in /var/lib/triptych."""
    require_approval: bool = False
    """Run only commits of Spaces that an administrator pushed or approved, also where they are
    isolated; where they are not, this always holds."""
    job_slots: int = Field(default=2, ge=1)
    """Jobs that run at the same time; others wait."""

    def folder(self) -> Path:
        """Return the hub's folder."""
        return Path(self.root).expanduser() if self.root else environment.home() / "hub"

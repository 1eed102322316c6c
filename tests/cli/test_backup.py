"""A house is copied while it is down and comes up again elsewhere, with everything in it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from living import SPACE, living, running

from triptych.hub.client import Hub
from triptych.hub.repository import Repo

pytestmark = pytest.mark.timeout(400)


def test_i3_a_restored_house_has_every_setting_key_record_and_model(tmp_path: Path) -> None:
    """Acceptance check I3, first half: settings outlive a restart, and another machine."""
    with living(tmp_path / "home") as house:
        house.use_spaces()
        house.call("PUT", "/admin/flags/cache", {"value": False})
        house.call("POST", "/admin/companies", {"company_id": "acme", "name": "Acme"})
        key = house.call("POST", "/api/keys", {"name": "app", "company_id": "acme"})["key"]
        time.sleep(1)
        before = house.chat(key, company="acme")
        assert before["system_fingerprint"] == house.revisions[0]
        request_id = house.requests(company_id="acme")[0]["request_id"]
        space_name = SPACE
        revision = house.revisions[0]

    backup = tmp_path / "backup.tar"
    subprocess.run(["tar", "-C", str(tmp_path / "home"), "-cf", str(backup), "."], check=True)
    other = tmp_path / "elsewhere" / "home"
    other.mkdir(parents=True)
    subprocess.run(["tar", "-C", str(other), "-xf", str(backup)], check=True)
    (tmp_path / "home").rename(tmp_path / "gone")

    with running(other) as house:
        flags = {row["key"]: row for row in house.call("GET", "/admin/flags")["flags"]}
        assert flags["cache"]["definition"]["defaultVariant"] == "off"
        assert flags["provider.hf_spaces"]["definition"]["defaultVariant"] == "on"
        assert house.call("GET", f"/api/requests/{request_id}")["company_id"] == "acme"
        assert house.call("POST", "/admin/audit/verify")["broken_at"] is None
        hub = Hub(house.hub, house.token)
        assert len(hub.tree(Repo("admin/base"), revision)) >= 2
        pinned = hub.variables(Repo(space_name, "space"))["MODEL_VERSION"][0]
        assert pinned == revision
        # The Space starts again by itself, and answers whoever had a key before.
        assert house.chat(key)["system_fingerprint"] == revision

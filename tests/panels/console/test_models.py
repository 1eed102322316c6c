"""The registry of models: lineage side by side, adding with the hub away, what a company sees."""

from __future__ import annotations

import time
from typing import Any

PAGE = "/console/models"


def register(gateway: Any, name: str, **more: Any) -> str:
    body = {"name": name, "tier": "base", "hf_model_id": name, "revision": "a" * 40, **more}
    return str(gateway.call("POST", "/admin/models", body)["model_id"])


def test_models_stand_side_by_side_with_their_lineage(gateway: Any, admin: Any) -> None:
    first = register(gateway, "acme/one", run_id="r-1", evaluation={"val_bpb": 1.23456789})
    second = register(gateway, "acme/two", parent_model_id=first)
    text = admin.text(f"{PAGE}?with={first}&with={second}")
    assert "<h2>acme/one</h2>" in text and "<h2>acme/two</h2>" in text
    assert "Parent model" in text and "val_bpb 1.235" in text, "no figure has sixteen digits"
    assert text.count("checked") == 2


def test_a_model_that_the_hub_does_not_have_is_refused_beside_the_form(admin: Any) -> None:
    answer = admin.post(f"{PAGE}/preview", model="acme/none", revision="main", tier="base")
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text and "acme/none" in answer.text
    assert "Add model" not in answer.text


def test_a_companys_admin_sees_its_models_and_no_form(gateway: Any, sign_in: Any) -> None:
    for name in ("own", "other"):
        gateway.call("POST", "/admin/companies", {"company_id": name, "name": name})
        register(gateway, f"made/for-{name}", tier="company", company_id=name)
    body = {"name": "own", "role": "company_admin", "company_id": "own"}
    reader = sign_in(gateway.call("POST", "/api/keys", body)["key"])
    text = reader.text(PAGE)
    assert "made/for-own" in text and "made/for-other" not in text
    assert "Add a published model" not in text
    assert reader.post(f"{PAGE}/add", exact="a/b@c", tier="base").status_code == 403


def test_a_revoked_admin_reads_nothing_of_the_hub_and_signs_in_again(
    gateway: Any, sign_in: Any
) -> None:
    made = gateway.call("POST", "/api/keys", {"name": "leaving", "role": "admin"})
    reader = sign_in(made["key"])
    (key_id,) = (
        row["key_id"]
        for row in gateway.call("GET", "/api/keys")["keys"]
        if row["name"] == "leaving"
    )
    gateway.call("DELETE", f"/api/keys/{key_id}")
    for path in (f"{PAGE}/offered", "/console/spaces", "/console/spaces/a/b",
                 "/console/spaces/a/b/logs"):  # fmt: skip
        for _ in range(100):  # a revoked key is refused within a second
            answer = reader.get(path)
            if answer.status_code == 303:
                break
            time.sleep(0.05)
        assert answer.headers["location"].startswith("/sign-in"), path

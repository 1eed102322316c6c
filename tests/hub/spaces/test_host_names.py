"""Spaces on host names of a wildcard domain instead of ports."""

from __future__ import annotations

import time

import httpx


def test_a_host_name_leads_to_its_space_and_all_others_to_the_hub(start_hub, app) -> None:
    running = start_hub(space_domain="spaces.example:8443")
    space = running.space(None)
    name = space.repo_id.replace("/", "-")
    assert space.host == f"http://{name}.spaces.example:8443"
    space.push(app=app, readme="---\nsdk: gradio\n---\n")
    space.until("RUNNING")

    def ask(host: str, path: str = "/", **more: object) -> httpx.Response:
        headers = {"host": host}
        return httpx.get(running.url + path, headers=headers, timeout=60, trust_env=False, **more)

    assert ask(f"{name}.spaces.example:8443").text == "hello"
    assert ask(f"{name.upper()}.spaces.example").text == "hello"
    seen = ask(f"{name}.spaces.example", "/seen/a%2Fb").json()
    assert seen["path"] == "/seen/a%2Fb"
    assert seen["environment"]["SPACE_HOST"] == f"{name}.spaces.example:8443"
    assert ask("hub.example", "/api/whoami-v2").status_code == 401
    assert "hello" not in ask("nobody.spaces.example").text[:5]
    target = space.repo_id + "-moved"
    space.api.move_repo(space.repo_id, target, repo_type="space")
    moved = target.replace("/", "-") + ".spaces.example"
    deadline = time.monotonic() + 120
    while ask(moved).text != "hello":
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ask(f"{name}.spaces.example").text != "hello"

"""What passes through a Space's address, and what does not."""

from __future__ import annotations

import asyncio
import itertools
import time

import aiohttp
import httpx
import pytest

from triptych.hub.server.repositories import catalog
from triptych.hub.server.spaces import admission, cookies


def test_methods_bodies_and_raw_paths_pass_unchanged(probe) -> None:
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        body = bytes(range(256)) * 40
        answer = httpx.request(
            method, probe.host + "/echo", content=body, trust_env=False, timeout=60
        )
        assert answer.content == body
        assert answer.headers["x-method"] == method
    seen = probe.get("/seen/a%2Fb%20c//d?x=%26&y=1&y=2").json()
    assert seen["path"] == "/seen/a%2Fb%20c//d"
    assert seen["query"] == "x=%26&y=1&y=2"


def test_a_large_body_streams_both_ways(probe) -> None:
    body = b"0123456789abcdef" * (2**20 // 2)

    def pieces():
        for start in range(0, len(body), 2**18):
            yield body[start : start + 2**18]

    answer = httpx.post(probe.host + "/echo", content=pieces(), timeout=60, trust_env=False)
    assert answer.content == body


def test_the_app_learns_how_it_was_reached(probe) -> None:
    headers = probe.seen()["headers"]
    assert headers["host"] == headers["x-forwarded-host"] == probe.host.removeprefix("http://")
    assert headers["x-forwarded-proto"] == "http"
    assert headers["x-forwarded-for"] == "127.0.0.1"


def test_forged_forwarding_headers_are_replaced(probe) -> None:
    forged = {"x-forwarded-for": "6.6.6.6", "x-forwarded-host": "evil", "forwarded": "for=6"}
    headers = probe.get("/seen", headers=forged).json()["headers"]
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert headers["x-forwarded-host"] != "evil"
    assert "forwarded" not in headers


def test_events_arrive_as_they_are_sent(probe) -> None:
    # The first few are here long before the last of a hundred seconds is sent.
    for asked, read in ((500, 3), (3, 3)):
        address = f"{probe.host}/stream?count={asked}"
        with httpx.stream("GET", address, timeout=60, trust_env=False) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = (line for line in answer.iter_lines() if line)
            found = list(itertools.islice(events, read))
            assert asked > read or list(events) == []
        assert found == [f"data: {number}" for number in range(read)]


def test_the_app_hears_when_a_client_leaves_a_stream(probe) -> None:
    before = len(probe.seen()["gone"])
    with httpx.stream(
        "GET", probe.host + "/stream?count=500", trust_env=False, timeout=60
    ) as answer:
        next(answer.iter_lines())
    deadline = time.monotonic() + 90
    while len(probe.seen()["gone"]) == before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_websockets_carry_text_bytes_protocols_and_close_codes(probe) -> None:
    host = await asyncio.to_thread(lambda: probe.host)
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(host + "/ws", protocols=("chat",)) as connection:
            assert connection.protocol == "chat"
            await connection.send_str("grüße")
            assert await connection.receive_str() == "echo grüße"
            big = bytes(range(256)) * 8192
            await connection.send_bytes(big)
            assert await connection.receive_bytes() == big[::-1]
            await connection.send_str("bye")
            closing = await connection.receive()
            assert closing.type is aiohttp.WSMsgType.CLOSE and closing.data == 4001
        async with session.ws_connect(host + "/ws") as connection:
            await connection.send_str("x")
            await connection.receive_str()
            await connection.close(code=4002)
        deadline = time.monotonic() + 90
        while "socket 4002" not in (await asyncio.to_thread(probe.seen))["gone"]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)


def test_a_space_sees_its_own_cookies_only(probe) -> None:
    hub_cookie = {"cookie": "triptych_hub_session=stolen; space_other_x=1; plain=2"}
    assert probe.get("/cookies", headers=hub_cookie).json() == {}
    with httpx.Client(trust_env=False, timeout=60) as browser:
        first = browser.get(probe.host + "/cookies")
        assert "domain" not in first.headers["set-cookie"].lower()
        name = first.headers["set-cookie"].partition("=")[0]
        assert name.startswith("space_") and name.endswith("_mine")
        assert browser.get(probe.host + "/cookies").json() == {"mine": "1"}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1; Path=/; HttpOnly", "p_a=1; Path=/; HttpOnly"),
        ("a=1; Domain=example.org; Secure", "p_a=1; Secure"),
        ("a=x=y", "p_a=x=y"),
        ("=nameless", None),
        ("no equals sign", None),
        ("bad name=1", None),
    ],
)
def test_cookies_are_renamed_and_never_widened(header: str, expected: str | None) -> None:
    assert cookies.outward(header, "p_") == expected


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(running) -> None:
    space = running.space()
    with pytest.raises(httpx.RemoteProtocolError):
        space.get("/cut")
    space.until("RUNNING")


def test_a_private_space_is_hidden_from_strangers(running) -> None:
    space = running.space(private=True)
    _, stranger = running.user()
    nothing = running.api(False)
    for headers in (
        {},
        {"x-hf-authorization": f"Bearer {stranger}"},
        {"authorization": "Bearer x"},
    ):
        assert space.get("/", headers=headers).status_code == 404
    for name in ("authorization", "x-hf-authorization"):
        assert space.get("/", headers={name: f"Bearer {running.token}"}).text == "hello"
    assert nothing.whoami is not None


def test_a_hub_token_stops_at_the_gate(probe, running) -> None:
    bearer = f"Bearer {running.token}"
    headers = probe.get(
        "/seen", headers={"authorization": bearer, "x-hf-authorization": bearer}
    ).json()["headers"]
    assert "authorization" not in headers
    assert "x-hf-authorization" not in headers


def test_an_apps_own_authorization_passes(probe) -> None:
    own = {"authorization": "Bearer the-apps-own-key"}
    assert (
        probe.get("/seen", headers=own).json()["headers"]["authorization"] == own["authorization"]
    )


def test_a_ticket_from_the_hubs_page_opens_a_private_space_in_a_browser(running) -> None:
    space = running.space(private=True)
    other = running.space(private=True)
    namespace, name = space.repo_id.split("/")
    repository = catalog.find(running.hub.database, "space", namespace, name)
    query = admission.sign(running.hub, repository, 1)
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as browser:
        assert browser.get(space.host + "/?a=1&" + query).text == "hello"
        assert "__sign" not in browser.get(space.host + "/seen?" + query).json()["query"]
        assert browser.get(space.host + "/").text == "hello"
        assert browser.get(other.host + "/").status_code == 404
        assert browser.get(other.host + "/?" + query).status_code == 404


def test_another_page_cannot_use_the_cookie_of_a_private_space(running) -> None:
    space = running.space(private=True)
    namespace, name = space.repo_id.split("/")
    repository = catalog.find(running.hub.database, "space", namespace, name)
    with httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as browser:
        browser.get(space.host + "/?" + admission.sign(running.hub, repository, 1))
        for headers, status in (
            ({"origin": space.host}, 200),
            ({"sec-fetch-site": "same-origin"}, 200),
            ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
            ({"origin": "http://127.0.0.1:1"}, 404),
            ({"origin": "null"}, 404),
            ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, 404),
        ):
            assert browser.get(space.host + "/", headers=headers).status_code == status, headers


def test_a_ticket_cannot_redirect_elsewhere(running, probe) -> None:
    namespace, name = probe.repo_id.split("/")
    repository = catalog.find(running.hub.database, "space", namespace, name)
    query = admission.sign(running.hub, repository, 1)
    answer = probe.get("//evil.example/?" + query, follow_redirects=False)
    assert answer.headers["location"] == "/evil.example/"

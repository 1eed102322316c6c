"""No address an admin, a Space or a name server gives leads inside, and no key follows (C1, C6)."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from aiohttp import web
from people import People
from yarl import URL

from triptych.config.gateway import UpstreamConfig
from triptych.tiers.rules.egress import AddressRefused, check_address, is_private

KEY = "sk-CANARY-9fK2vLq8sYw3ZpD7xR1mB6"
INSIDE = (
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "10.1.2.3", "172.16.0.1",
    "192.168.0.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255",
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]", "[fe80::1]", "[fc00::1]",
    "[ff02::1]", "localhost", "LOCALHOST.", "x.localhost", "metadata.google.internal",
    "printer.local",
)  # fmt: skip
ASK = {"model": "base", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("host", INSIDE)
def test_c1_no_way_to_write_an_inner_address_passes(host) -> None:
    assert is_private(host)
    with pytest.raises(AddressRefused):
        check_address(URL(f"https://{host}/v1"), private_allowed=False)


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]", "a.example", "a-b.hf.space"])
def test_c1_public_addresses_pass(host) -> None:
    check_address(URL(f"https://{host}/v1"), private_allowed=False)


async def test_c1_no_inner_address_is_entered_by_an_admin_for_any_provider(people: People) -> None:
    hosts = ("169.254.169.254", "2130706433", "[::ffff:127.0.0.1]", "localhost", "u:p@example.com")
    taken = []
    for provider in ("openai", "hf_spaces", "local"):
        for host in hosts:
            for scheme in ("http", "https", "ftp", "file"):
                body = {"provider": provider, "address": f"{scheme}://{host}/v1"}
                status, _ = await people.call("admin", "PUT", "/admin/upstreams/evil", body)
                if status != 422:
                    taken.append((provider, scheme, host, status))
    assert not taken


async def entered(workshop: Any, address: str) -> Any:
    """Start a gateway that trusts this upstream no more than one an admin entered."""
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("openai", address, {"base": "m"}, key_name="CANARY_KEY")}
    )
    provider = gateway.runtime.dispatcher.providers["u"]
    object.__setattr__(provider.upstream, "private_allowed", False)
    return gateway


@pytest.mark.parametrize("later", ["127.0.0.1", "::ffff:127.0.0.1", "10.0.0.7"])
async def test_c1_a_name_that_changes_its_mind_reaches_nothing_inside(
    workshop, monkeypatch, later
) -> None:
    inside = await workshop.upstream()
    port = URL(inside.url).port
    monkeypatch.setenv("CANARY_KEY", KEY)
    gateway = await entered(workshop, f"https://rebound.example:{port}/v1")
    real, asked = socket.getaddrinfo, []

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebound.example":
            return real(host, *args, **kwargs)
        asked.append(host)
        family = socket.AF_INET6 if ":" in later else socket.AF_INET
        where = (later, port, 0, 0) if ":" in later else (later, port)
        return [(family, socket.SOCK_STREAM, 6, "", where)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    status, answer, _ = await gateway.post("/v1/chat/completions", ASK)
    assert asked, "the name is looked up at the moment of connecting"
    assert (status, answer["error"]["code"]) == (502, "upstream_unreachable")
    assert inside.requests == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("stream", [False, True])
async def test_c6_a_redirect_is_never_followed_and_carries_no_key(
    workshop, monkeypatch, status, stream
) -> None:
    other, first = await workshop.upstream(), await workshop.upstream()

    async def away(request: web.Request, body: Any) -> web.StreamResponse:
        where = f"{other.url}/v1/chat/completions?key={request.headers['authorization']}"
        return web.Response(status=status, headers={"location": where})

    first.behaviour = away
    monkeypatch.setenv("CANARY_KEY", KEY)
    gateway = await workshop.gateway(
        {"u": UpstreamConfig("openai", f"{first.url}/v1", {"base": "m"}, key_name="CANARY_KEY")}
    )
    shown, answer, headers = await gateway.post("/v1/chat/completions", {**ASK, "stream": stream})
    assert shown == 502
    assert KEY not in f"{answer}{headers}"
    assert first.headers[0]["authorization"] == f"Bearer {KEY}"
    assert other.requests == []

"""How soon the gateway acts on what happened: a client that left, a key that was revoked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import aiohttp
from contestants import Bench, Gateway
from loadgen import connect, content_length, ms_at


async def leaving(bench: Bench, rounds: int) -> dict[str, Any]:
    """Leave in the middle of an answer, and see when the upstream hears of it."""
    asked: asyncio.Queue[None] = asyncio.Queue()
    heard: asyncio.Queue[float] = asyncio.Queue()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(content_length(head[:-2]))
        if b'"stream":true' in body:
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
                b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
            )
        asked.put_nowait(None)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        heard.put_nowait(time.perf_counter())
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    aside = Bench(bench.folder)
    aside.upstream = server.sockets[0].getsockname()[1]
    took: dict[str, list[float]] = {"whole": [], "stream": []}
    with aside.gateway("leaving") as gateway:
        for way in [*took] * rounds:
            connection = await connect(gateway.port)
            answer = connection.send(gateway.message(stream=way == "stream"))
            await asked.get()
            while way == "stream" and not connection.arrivals:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)
            start = time.perf_counter()
            connection.transport.close()
            took[way].append(await heard.get() - start)
            await asyncio.wait([answer])
            answer.exception()
    server.close()
    return {"rounds": rounds} | {
        f"{way}_{name}_ms": ms_at(values, q)
        for way, values in took.items()
        for name, q in (("p50", 0.5), ("max", 1.0))
    }


async def revoking(gateway: Gateway, keys: int) -> dict[str, Any]:
    """Revoke keys, and see until when any worker still lets them in."""
    address = f"http://127.0.0.1:{gateway.port}/api"
    admin = {"authorization": f"Bearer {gateway.key}"}
    took = []
    # a connection for each question, so that every worker is asked
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        for number in range(keys):
            wanted = {"name": f"leaver-{number}", "role": "user"}
            async with session.post(f"{address}/keys", json=wanted, headers=admin) as answer:
                own = {"authorization": f"Bearer {(await answer.json())['key']}"}
            async with session.get(f"{address}/keys", headers=admin) as answer:
                listed = (await answer.json())["keys"]
            key_id = next(row["key_id"] for row in listed if row["name"] == wanted["name"])
            # until every worker knows it
            await _until_always(session, f"{address}/me", own, 200)
            async with session.delete(f"{address}/keys/{key_id}", headers=admin):
                revoked = time.perf_counter()
            took.append(max(0.0, await _until_always(session, f"{address}/me", own, 401) - revoked))
    return {
        "keys": keys,
        "last_let_in_p50_ms": ms_at(took, 0.5),
        "last_let_in_max_ms": ms_at(took, 1),
    }


async def _until_always(session: Any, url: str, headers: dict[str, str], wanted: int) -> float:
    """Ask until twenty answers in a row are as wanted; give the time of the last other one."""
    other, alike = 0.0, 0
    while alike < 20:
        async with session.get(url, headers=headers) as answer:
            alike += 1
            if answer.status != wanted:
                other, alike = time.perf_counter(), 0
    return other

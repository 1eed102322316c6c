"""Clone and push over HTTP: git's own `upload-pack` and `receive-pack`, fed from the request.

What a push brings is looked at before any ref moves (`admission`). Left out: dumb HTTP.
"""

from __future__ import annotations

import asyncio
import re
import sys
import zlib
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.responses import Response, StreamingResponse

from triptych.config import environment
from triptych.errors import HubRefused
from triptych.hub.server import limits
from triptych.hub.server.events import Committed
from triptych.hub.server.http.call import Access, Call
from triptych.hub.server.http.routing import Router
from triptych.hub.server.repositories.heads import changed_refs, record
from triptych.hub.server.storage.git.reading import MAIN, open_repository
from triptych.hub.server.storage.git.refs import all_targets
from triptych.hub.server.storage.identity.access import Level
from triptych.hub.server.threads import in_thread

routes = Router(git=True)
_SERVICES = ("git-upload-pack", "git-receive-pack")
_NO_CACHE = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}
_BLOCK_BYTES = 256 * 1024
_PUSH_BYTES = 4 * 2**30
_NEGOTIATION_BYTES = 64 * 2**20

# Set for every git we start, so that neither the user's nor the system's settings matter.
_SETTINGS = {
    "safe.directory": "*",
    "receive.fsckObjects": "true",
    "receive.unpackLimit": "1",
    "receive.maxInputSize": str(_PUSH_BYTES),
    "receive.advertisePushOptions": "false",
    "core.fsync": "objects,derived-metadata,reference",
    "uploadpack.allowFilter": "true",
    "gc.auto": "0",
    # What git maps and keeps, well below its limit of memory; large files are not held whole.
    "core.packedGitWindowSize": "32m",
    "core.packedGitLimit": "256m",
    "core.bigFileThreshold": "16m",
    "pack.windowMemory": "64m",
    "pack.threads": "2",
}


@routes.get("{repo}/info/refs", Access.READ)
async def advertise(call: Call) -> Response:
    """List the refs for a clone or a push."""
    service = call.query("service")
    if service not in _SERVICES:
        raise HubRefused(403, "This hub speaks git's smart protocol only")
    if service == "git-receive-pack":
        call.require(Level.WRITE)
    process = await _start(call, service, "--http-backend-info-refs")
    refs, _ = await process.communicate()
    preamble = f"# service={service}\n".encode()
    body = f"{len(preamble) + 4:04x}".encode() + preamble + b"0000" + refs
    if "version=2" in call.request.headers.get("git-protocol", "") and refs[4:].startswith(
        b"version 2"
    ):
        body = refs
    media_type = f"application/x-{service}-advertisement"
    return Response(body, media_type=media_type, headers=_NO_CACHE)


@routes.post("{repo}/git-upload-pack", Access.READ)
async def send_pack(call: Call) -> Response:
    """Send what a clone or fetch asks for."""
    # Whole, before the answer starts: while it is sent, nothing else may read the request.
    wanted = [block async for block in _body(call, _NEGOTIATION_BYTES)]
    process = await _start(call, "git-upload-pack", "")
    feeding = asyncio.ensure_future(_feed(process, _drawn(wanted)))

    async def blocks() -> AsyncIterator[bytes]:
        assert process.stdout is not None
        try:
            while block := await process.stdout.read(_BLOCK_BYTES):
                yield block
            await feeding
            await process.wait()
        finally:
            await _stop(process, feeding)

    media_type = "application/x-git-upload-pack-result"
    return StreamingResponse(blocks(), media_type=media_type, headers=_NO_CACHE)


@routes.post("{repo}/git-receive-pack", Access.WRITE)
async def take_pack(call: Call) -> Response:
    """Take what a push brings, then tell who needs to know."""
    path = call.hub.layout.repository(call.repository.uid)
    before = await in_thread(lambda: all_targets(open_repository(path)))
    process = await _start(call, "git-receive-pack", "")
    feeding = asyncio.ensure_future(_feed(process, _body(call, _PUSH_BYTES)))
    assert process.stdout is not None
    try:
        report = await process.stdout.read()
        await feeding
        await process.wait()
    finally:
        await _stop(process, feeding)

    def after() -> dict[str, str]:
        git = open_repository(path)
        targets = all_targets(git)
        if before.get(f"refs/heads/{MAIN}") != targets.get(f"refs/heads/{MAIN}"):
            record(call.hub, call.repository, git)
        return targets

    changes = changed_refs(before, await in_thread(after))
    if changes:
        call.hub.events.publish(
            Committed(call.repository, changes, call.who.name, call.who.administers)
        )
    media_type = "application/x-git-receive-pack-result"
    return Response(report, media_type=media_type, headers=_NO_CACHE)


async def _start(call: Call, service: str, option: str) -> Process:
    hooks = await in_thread(_hooks_folder, call.hub.layout.root)
    settings = {**_SETTINGS, "core.hooksPath": str(hooks)}
    variables = {
        "PATH": environment.get("PATH") or "/usr/bin:/bin",
        "LC_ALL": "C",
        "HOME": str(call.hub.layout.incoming),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_COUNT": str(len(settings)),
        "TRIPTYCH_HUB__ROOT": str(call.hub.layout.root),
        "TRIPTYCH_HUB__MAX_REGULAR_FILE_BYTES": str(call.hub.config.max_regular_file_bytes),
        "TRIPTYCH_PUSH_REPOSITORY": str(call.repository.id),
    }
    for number, (key, value) in enumerate(settings.items()):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    protocol = call.request.headers.get("git-protocol", "")
    if re.fullmatch(r"version=[012](:[a-z0-9=-]{1,80})*", protocol):
        variables["GIT_PROTOCOL"] = protocol
    arguments = [service.removeprefix("git-"), "--stateless-rpc", option]
    path = call.hub.layout.repository(call.repository.uid)
    # Pushed objects are read whole by git itself, before the hook can refuse them.
    limited = f'ulimit -v {limits.GIT_MEMORY_BYTES // 1024}; exec git "$@"'
    return await asyncio.create_subprocess_exec(
        "sh", "-c", limited, "git", *filter(None, arguments), str(path),
        stdin=PIPE, stdout=PIPE, stderr=asyncio.subprocess.DEVNULL, env=variables,
    )  # fmt: skip


async def _body(call: Call, limit_bytes: int) -> AsyncIterator[bytes]:
    """Yield the request's body, unpacked where the client packed it, in bounded pieces."""
    packed = call.request.headers.get("content-encoding", "") in ("gzip", "x-gzip")
    unpacker = zlib.decompressobj(wbits=31) if packed else None
    passed = 0
    async for block in call.request.stream():
        while block:
            try:
                plain = unpacker.decompress(block, _BLOCK_BYTES) if unpacker else block
            except zlib.error as error:
                raise HubRefused(400, "The body is not valid gzip") from error
            block = unpacker.unconsumed_tail if unpacker else b""
            passed += len(plain)
            if passed > limit_bytes:
                raise HubRefused(413, f"The request is larger than {limit_bytes} bytes")
            yield plain


async def _drawn(blocks: list[bytes]) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


async def _feed(process: Process, blocks: AsyncIterator[bytes]) -> None:
    assert process.stdin is not None
    try:
        async for block in blocks:
            process.stdin.write(block)
            await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):
        return  # git has read what it wanted; its answer says why
    finally:
        process.stdin.close()


async def _stop(process: Process, feeding: asyncio.Future[None]) -> None:
    feeding.cancel()
    if process.returncode is None:
        process.kill()
        await process.wait()


def _hooks_folder(root: Path) -> Path:
    """Return the folder with the one hook: it looks at a push before any ref moves."""
    hook = root / "hooks" / "pre-receive"
    content = (
        f"#!/bin/sh\nexec '{sys.executable}' -I -m triptych.hub.server.repositories.push_checks\n"
    )
    if not hook.exists() or hook.read_text(encoding="utf-8") != content:
        hook.parent.mkdir(exist_ok=True)
        fresh = hook.with_suffix(".new")
        fresh.write_text(content, encoding="utf-8")
        fresh.chmod(0o700)
        fresh.replace(hook)
    return hook.parent

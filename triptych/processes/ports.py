"""Choosing a port: the wanted one, the next free one, or a clear refusal."""

from __future__ import annotations

import errno
import socket

from triptych.errors import ProcessError

NEXT_PORTS = 100


def bind(host: str, port: int, *, move: bool = False) -> socket.socket:
    """Take a port and keep it: the socket listens already and is handed to the server.

    With `move`, a taken port gives way to the next free one. Port 0 takes any.

    Raises: ProcessError when the port is taken, or no port after it is free.
    """
    last = port + NEXT_PORTS if move and port else port
    for candidate in range(port, min(last, 65535) + 1):
        try:
            return _listen(host, candidate)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise ProcessError(
                    f"cannot listen on {host}: {error.strerror}",
                    hint="choose an address of this machine, such as 127.0.0.1",
                    code="bad_address",
                ) from error
    raise ProcessError(
        f"port {port} on {host} is taken",
        hint=f"stop what listens there, or choose another: --port {min(port + 1, 65535)}",
        code="port_taken",
    )


def free_port(host: str = "127.0.0.1", port: int = 0) -> int:
    """Find a port for a child that opens it itself: the wanted one or the next free one."""
    with bind(host, port, move=True) as taken:
        return int(taken.getsockname()[1])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener

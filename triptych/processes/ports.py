"""Binding a listening socket: the wanted port, the next free one, or an error with a hint."""

from __future__ import annotations

import errno
import socket

from triptych.errors import ProcessError

NEXT_PORTS = 100
BACKLOG = 2048


def bind(host: str, port: int, *, move: bool = False, option: str = "--port ") -> socket.socket:
    """Bind a port and return the listening socket, to be handed to a server or to its workers.

    With `move`, a taken port gives way to the next free one. Port 0 takes any free port. `option`
    is what a user types before another port number; it ends the hint of the error.

    Raises: ProcessError with the code `port_taken`, `port_denied` or `bad_address`.
    """
    last = port + NEXT_PORTS if move and port else port
    refused: OSError | None = None
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
            refused = error
    if refused is not None and refused.errno == errno.EACCES:
        raise ProcessError(
            f"this user may not listen on port {port} of {host}",
            hint=f"choose a port from 1024 on: {option}{max(port + 1024, 1024)}",
            code="port_denied",
        ) from refused
    raise ProcessError(
        f"port {port} on {host} is taken",
        hint=f"stop the program that listens there, or choose another:"
        f" {option}{min(port + 1, 65535)}",
        code="port_taken",
    ) from refused


def free_port(host: str = "127.0.0.1", port: int = 0) -> int:
    """Return a port for a child that binds it itself: the wanted one or the next free one."""
    with bind(host, port, move=True) as taken:
        return int(taken.getsockname()[1])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener

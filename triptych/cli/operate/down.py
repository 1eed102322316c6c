"""Stop everything that `triptych up` started. Training runs go on; they belong to themselves."""

from __future__ import annotations

import argparse
import signal
import time

STOP_S = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments of `triptych down`."""


def run(args: argparse.Namespace) -> int:
    """Ask `up` to stop, and wait until it has."""
    from triptych.cli.operate.services import read_record
    from triptych.errors import ProcessError

    found = read_record()
    if found is None:
        print("nothing is up")
        return 0
    identity, _ = found
    identity.signal(signal.SIGTERM)
    deadline = time.monotonic() + STOP_S
    while identity.alive():
        if time.monotonic() > deadline:
            raise ProcessError(
                f"process {identity.pid} does not stop", hint=f"end it: kill -9 {identity.pid}"
            )
        time.sleep(0.1)
    print("down")
    return 0

"""Call a webhook when a part of Triptych fails; the address comes from TRIPTYCH_ALERT_URL.

The body is `{"text": ...}`, which Slack, Mattermost and most others understand. The address is a
secret: it is shown nowhere. An alert that cannot be sent is said on stderr and lost.
"""

from __future__ import annotations

import json
import sys
import threading
import urllib.request

from triptych.config import environment

TIMEOUT_S = 5.0
VARIABLE = "TRIPTYCH_ALERT_URL"


def alert(text: str) -> threading.Thread | None:
    """Send a line in the background; None where no address is configured."""
    address = environment.secret(VARIABLE)
    if address is None:
        return None
    thread = threading.Thread(target=_send, args=(address, text), daemon=True)
    thread.start()
    return thread


def _send(address: environment.Secret, text: str) -> None:
    request = urllib.request.Request(  # noqa: S310  # the operator's own address
        address.reveal(), json.dumps({"text": text}).encode(), {"content-type": "application/json"}
    )
    try:
        urllib.request.urlopen(request, timeout=TIMEOUT_S).close()  # noqa: S310
    except (OSError, ValueError) as error:
        print(f"the alert was not sent: {type(error).__name__}", file=sys.stderr, flush=True)

"""Parts of OpenAI's API that exist neither at the gateway nor at the model server, each with why.

A client that asks for one gets 501 with the reason, which no SDK takes for a wrong address.
"""

from __future__ import annotations

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    "assistants": "assistants keep their state at OpenAI, which has ended them: use /v1/responses",
    "audio": "speech is neither read nor written here",
    "batches": "send the requests themselves: nothing here is cheaper in a batch",
    "chat/completions": "completions are not stored; /v1/responses stores answers where it is on",
    "containers": "code is run by the client here",
    "conversations": "continue an answer by previous_response_id, or send the conversation",
    "evals": "`triptych eval` measures models",
    "files": "send files inside the request, as parts of a message",
    "fine_tuning": "`triptych train` trains models",
    "images": "pictures are not made here",
    "moderations": "no model here judges texts; gateway.blocked_patterns withholds answers",
    "realtime": "speech is neither read nor written here",
    "threads": "threads keep their state at OpenAI, which has ended them: use /v1/responses",
    "uploads": "send files inside the request, as parts of a message",
    "vector_stores": "`triptych company` searches documents",
    "videos": "videos are not made here",
}
"""First part of the path below `/v1/` -> why it is not here, and what is instead."""


def reason(path: str) -> str | None:
    """Return why a path of OpenAI's API that no route answers is not here; None for any other."""
    _, version, rest = path.partition("/v1/")
    if not version:
        return None
    first = rest.partition("/")[0]
    return REASONS.get("chat/completions" if first == "chat" else first)

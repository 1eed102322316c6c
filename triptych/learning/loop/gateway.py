"""The gateway over its admin API: judgements, records, copies, and answers to the gate's questions.

Left out: moving traffic and counting what each model did (`traffic`).
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from triptych.errors import LearningError, LearningUnavailable

TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 120.0
_PAGE = 500
_MOST_COPIES = 5000
_RECORD_TRIES, _RECORD_PAUSE_S = 20, 0.25
# The code of an answer that the output filter withheld.
BLOCKED = "content_filter"


@dataclass(frozen=True)
class Reply:
    """What a model answered through the gateway. `blocked`: the output filter withheld it."""

    request_id: str
    text: str
    refused: bool
    blocked: bool
    latency_s: float


class Gateway:
    """Call the admin API of one gateway with an administrator's key."""

    def __init__(self, address: str, key: str) -> None:
        self.address = address.rstrip("/")
        self._key = key

    def call(
        self, method: str, path: str, body: Any = None, *, timeout_s: float = TIMEOUT_S,
        **query: str | float | None,
    ) -> Any:  # fmt: skip
        """Call a route and return its JSON.

        Raises: LearningError where the gateway refuses, in its own words; LearningUnavailable where
        it does not answer.
        """
        return json.loads(self._read(method, path, body, timeout_s, query))

    def judgements(self, company: str | None = None) -> list[dict[str, Any]]:
        """Return the judgements whose content may be used for training, as the gateway exports."""
        query = {"company_id": company}
        text = self._read("GET", "/api/feedback/export", None, ANSWER_TIMEOUT_S, query)
        # Not splitlines: a text may hold U+2028 and other line ends that JSON does not escape.
        return [json.loads(line) for line in text.split("\n") if line.strip()]

    def requests(self, since: float, company: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the record of requests since a moment in Unix seconds, newest first."""
        after = None
        while True:
            page = self.call(
                "GET", "/api/requests", since=since, company_id=company, after=after, limit=_PAGE
            )
            yield from page["requests"]
            after = page["next"]
            if after is None:
                return

    def shadows(self, tier: str, since: float) -> list[dict[str, Any]]:
        """Return the copies that a tier's challengers were sent since a moment, newest first."""
        found = self.call("GET", "/admin/shadows", tier=tier, since=since, limit=_MOST_COPIES)
        return list(found["shadows"])

    def feedback(self, since: float, company: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the latest version of each judgement since a moment, newest first."""
        before, seen = None, set[str]()
        while True:
            rows = self.call(
                "GET", "/api/feedback", before=before, company_id=company, limit=_PAGE
            )["feedback"]
            new = [row for row in rows if row["feedback_id"] not in seen]
            seen.update(row["feedback_id"] for row in new)
            yield from (row for row in new if row["created_at"] >= since)
            if not new or new[-1]["created_at"] < since:
                return
            # A little later than the last row: others may have been written in the same moment.
            before = float(new[-1]["created_at"]) + 1e-6

    def ask(
        self, model: str, messages: Sequence[dict[str, Any]], *, company: str | None = None,
        max_tokens: int = 256,
    ) -> Reply:  # fmt: skip
        """Return a model's answer to a conversation at temperature 0.

        Raises: LearningError where there is neither an answer nor a withheld one.
        """
        body = {"model": model, "messages": list(messages), "temperature": 0,
                "max_tokens": max_tokens}  # fmt: skip
        headers = {} if company is None else {"x-triptych-company": company}
        started_s = time.monotonic()
        try:
            with self._opened(
                "POST", "/v1/chat/completions", body, ANSWER_TIMEOUT_S, {}, headers
            ) as answer:
                said, seen = json.loads(answer.read()), answer.headers
        except urllib.error.HTTPError as error:
            problem = _problem(error)
            if problem.get("code") == BLOCKED:
                latency_s = time.monotonic() - started_s
                return Reply(str(error.headers["x-request-id"]), "", False, True, latency_s)
            raise self._refused("POST", "/v1/chat/completions", problem) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._away(error) from error
        text = str(said["choices"][0]["message"].get("content") or "")
        refused = bool(seen.get("x-triptych-refused"))
        return Reply(
            str(seen.get("x-request-id")), text, refused, False, time.monotonic() - started_s
        )

    def costs(self, request_ids: Sequence[str], since: float) -> list[float]:
        """Return what requests since a moment cost in US dollars, of those whose price is known.

        The last records arrive a moment after their answers; they are waited for.
        """
        wanted, rows = set(request_ids), dict[str, Any]()
        for _ in range(_RECORD_TRIES):
            found = {row["request_id"]: row["cost_microusd"] for row in self.requests(since)}
            rows = {one: found[one] for one in wanted & found.keys()}
            if len(rows) == len(wanted):
                break
            time.sleep(_RECORD_PAUSE_S)
        return [cost / 1e6 for cost in rows.values() if cost is not None]

    def _read(
        self, method: str, path: str, body: Any, timeout_s: float, query: dict[str, Any]
    ) -> str:
        try:
            with self._opened(method, path, body, timeout_s, query, {}) as answer:
                text: str = answer.read().decode("utf-8")
                return text
        except urllib.error.HTTPError as error:
            raise self._refused(method, path, _problem(error)) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._away(error) from error

    def _opened(
        self, method: str, path: str, body: Any, timeout_s: float, query: dict[str, Any],
        headers: dict[str, str],
    ) -> Any:  # fmt: skip
        given = urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
        request = urllib.request.Request(  # noqa: S310  # the operator's own address
            f"{self.address}{path}" + (f"?{given}" if given else ""),
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "authorization": f"Bearer {self._key}", "content-type": "application/json",
                **headers,
            },
            method=method,
        )  # fmt: skip
        return urllib.request.urlopen(request, timeout=timeout_s)  # noqa: S310

    def _refused(self, method: str, path: str, problem: dict[str, Any]) -> LearningError:
        return LearningError(
            f"the gateway refused {method} {path}: {problem['message'][:300]}",
            hint="the administrator's key is in TRIPTYCH_ADMIN_KEY"
            if problem["status"] in (401, 403)
            else "the reason is the gateway's; triptych gateway log shows the request",
        )

    def _away(self, error: Exception) -> LearningUnavailable:
        return LearningUnavailable(
            f"the gateway at {self.address} did not answer: {type(error).__name__}",
            hint="start it: triptych gateway serve; or name it with --gateway URL",
        )


def _problem(error: urllib.error.HTTPError) -> dict[str, Any]:
    """Return the message and the code of a refusal."""
    try:
        found = json.load(error)["error"]
        message, code = str(found["message"]), str(found.get("code") or "")
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        message, code = f"status {error.code}", ""
    return {"message": message, "code": code, "status": error.code}

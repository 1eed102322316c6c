"""A gateway process with a champion and a challenger, people with keys, and `triptych learn`."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from gateway_process import Process

from triptych.cli.main import main

CONFIG = """
[gateway]
port = 0
limit_service = 100000000
limit_user = 100000000
flush_interval_s = 0.05
poll_interval_s = 0.05
{settings}
[gateway.upstreams.served]
provider = "scripted"
models = {{ base = "{served}" }}
[gateway.upstreams.candidate]
provider = "scripted"
models = {{ "base.challenger" = "{candidate}" }}
"""
#: Twenty questions suffice for a stage; the latency of a busy machine is no claim of these tests.
QUICK = [
    f"--limit={limit}"
    for limit in (
        "shadow_requests=10", "stage_requests=5", "minimum_rated=20", "latency_ratio=1000",
    )
]  # fmt: skip


class Loop:
    """One gateway with users `u0`, `u1`, ... of the company acme, all of which agreed."""

    def __init__(
        self, home: Path, served: str = "say-no-idea", candidate: str = "echo", *,
        settings: str = "", people: int = 12, config: str = "",
    ) -> None:  # fmt: skip
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.gateway = Process(home)
        text = CONFIG.format(served=served, candidate=candidate, settings=settings)
        (home / "gateway.toml").write_text(config or text)
        self.gateway.start()
        for flag, value in (("provider.scripted", True), ("real_ai_only", False)):
            self.call("PUT", f"/admin/flags/{flag}", {"value": value})
        self.call("POST", "/admin/companies", {"company_id": "acme", "name": "Acme"})
        consent = {"purpose": "improve", "granted": True, "company_id": "acme"}
        self.call("PUT", "/api/consent", consent)
        self.keys = [self._user(f"u{number}") for number in range(people)]

    def _user(self, name: str) -> str:
        self.call("POST", "/admin/users", {"user_id": name, "companies": ["acme"]})
        made = self.call("POST", "/api/keys", {"name": name, "kind": "user", "user_id": name})
        return str(made["key"])

    def call(self, method: str, path: str, body: Any = None, key: str = "") -> Any:
        return self.send(method, path, body, key)[1]

    def send(self, method: str, path: str, body: Any, key: str = "") -> tuple[str, Any]:
        """Return the id of the request and the answer's JSON."""
        request = urllib.request.Request(
            self.gateway.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "authorization": f"Bearer {key or self.gateway.key}",
                "content-type": "application/json",
            },
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.headers["x-request-id"]), json.loads(answer.read())

    def ask(self, question: str, key: str = "", model: str = "base") -> tuple[str, str]:
        """Return the request's id and the answer."""
        body = {"model": model, "messages": [{"role": "user", "content": question}]}
        request_id, answer = self.send("POST", "/v1/chat/completions", body, key)
        return request_id, str(answer["choices"][0]["message"]["content"])

    def give(self, request_id: str, kind: str, value: Any, key: str = "") -> None:
        body = {"kind": kind, "value": value, "request_id": request_id}
        self.call("POST", "/api/feedback", body, key)

    def traffic(self, amount: int, start: int = 0) -> int:
        """Let users ask questions in turn; a user likes an answer that repeats the question.

        Returns: how many the challenger answered.
        """
        asked = [(f"traffic question {at}", self.keys[at % len(self.keys)])
                 for at in range(start, start + amount)]  # fmt: skip
        answered = [self.ask(*one) for one in asked]
        time.sleep(0.1)  # until the last record is written: feedback would wait for each
        for (question, key), (request_id, answer) in zip(asked, answered, strict=True):
            self.give(request_id, "thumb", answer == question, key)
        return sum(answer == one[0] for one, (_, answer) in zip(asked, answered, strict=True))

    def corrections(self, questions: list[str], answers: list[str]) -> None:
        """Let users ask, and a reviewer correct each answer."""
        keys = self.keys
        asked = [self.ask(one, keys[at % len(keys)])[0] for at, one in enumerate(questions)]
        time.sleep(0.1)
        for request_id, answer in zip(asked, answers, strict=True):
            self.give(request_id, "correction", answer)

    def learn(self, *words: str, code: int = 0) -> Any:
        """Run `triptych learn` and return what it printed as JSON."""
        printed, errors = io.StringIO(), io.StringIO()
        with redirect_stdout(printed), redirect_stderr(errors):
            try:
                ended = main(self.arguments(*words))
            except SystemExit as end:  # argparse
                ended = int(end.code or 0)
        assert ended == code, (words, ended, printed.getvalue(), errors.getvalue())
        return json.loads(printed.getvalue()) if printed.getvalue().strip() else errors.getvalue()

    def arguments(self, *words: str) -> list[str]:
        address = [] if words[0] in ("plan", "gate") else ["--gateway", self.gateway.url]
        return ["learn", *words, "--json", *address]

"""Whatever a client sends, the server answers in its own words and lives."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROUTES = ("/v1/completions", "/v1/chat/completions", "/api/generate", "/tokenize")
FIELDS = (
    "prompt", "messages", "inputs", "params", "parameters", "max_tokens", "temperature", "top_p",
    "top_k", "stop", "seed", "n", "logprobs", "top_logprobs", "stream", "response_format", "model",
    "adapter", "echo", "stream_options", "context", "max_length",
)  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from(["tiny", "user", "json_object", "text"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=8)), inner, max_size=3),
    ),
    max_leaves=6,
)
MESSAGES = st.just([{"role": "user", "content": "hi"}])
BODIES = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(FIELDS, VALUES)
    | {"prompt": st.text(max_size=20), "messages": MESSAGES, "max_tokens": st.integers(-1, 6)},
)


def post(url: str, raw: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(url, raw, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(route=st.sampled_from(ROUTES), body=BODIES)
def test_no_body_is_a_server_error(server: Any, route: str, body: dict[str, Any]) -> None:
    status, answer = post(server.url + route, json.dumps(body).encode())
    assert status < 500, answer
    if status != 200:
        assert json.loads(answer)["error"]["message"]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(route=st.sampled_from(ROUTES), raw=st.binary(max_size=200))
def test_no_bytes_are_a_server_error(server: Any, route: str, raw: bytes) -> None:
    status, answer = post(server.url + route, raw)
    assert status < 500, answer


def test_a_part_that_is_not_text_is_refused_in_words(server: Any) -> None:
    messages = [{"role": "user", "content": [{"type": "image_url"}]}]
    for route in ("/tokenize", "/v1/chat/completions", "/api/generate"):
        body: dict[str, Any] = {"messages": messages}
        if route == "/api/generate":
            body = {"prompt": "x", "params": {"conversation_history": messages}}
        status, answer = post(server.url + route, json.dumps(body).encode())
        assert status == 400 and b"must be text" in answer, answer


@pytest.mark.prove
@pytest.mark.timeout(1600)
def test_what_the_description_allows_and_forbids_is_never_a_server_error(
    server: Any, tmp_path: Path
) -> None:
    """Let schemathesis draw requests, right and wrong ones, from the server's own OpenAPI."""
    done = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json",
            "--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing",
            "--max-examples", "60", "--seed", "1", "--generation-database", "none",
            "--request-timeout", "60", "--exclude-path", "/health",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert post(server.url + "/v1/completions", b'{"prompt": "x", "max_tokens": 2}')[0] == 200

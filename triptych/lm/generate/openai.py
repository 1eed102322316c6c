"""Any OpenAI-compatible server as an engine: vLLM on a GPU, another Triptych, a hosted model.

  vllm serve ./checkpoint --served-model-name base --enable-lora --lora-modules acme=./acme-lora
  triptych serve ./checkpoint --engine openai --set generate.base_url=http://127.0.0.1:8000/v1

An adapter is asked for by its name as the model, which is how vLLM serves them. One thread per
running answer reads the stream; cancelling closes its connection, which every such server takes
as the end of the request. Left out: retries, which belong to the caller.
"""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from triptych.config.environment import Secret
from triptych.errors import GenerationError
from triptych.lm.generate.engine import (
    Alternative,
    Chunk,
    Emit,
    Engine,
    EngineInfo,
    FinishReason,
    GenerateRequest,
    Message,
    Score,
    Token,
)
from triptych.lm.generate.openai_question import question
from triptych.wire import openai as shapes
from triptych.wire import sse

READ_BYTES = 65536


class OpenAIEngine(Engine):
    """Answer through another server.

    Units: `timeout_s` bounds each wait for bytes, not the whole answer.
    """

    def __init__(
        self,
        base_url: str,
        model: str = "",
        *,
        api_key: Secret | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        place = urlsplit(base_url)
        if place.scheme not in ("http", "https") or not place.hostname:
            raise GenerationError(
                f"{base_url!r} is no address", hint="write http://HOST:PORT/v1", code="address"
            )
        self._https = place.scheme == "https"
        self._host, self._port = place.hostname, place.port
        self._path = place.path.rstrip("/")
        self._api_key = api_key
        self._timeout_s = timeout_s
        self._running: dict[str, _Call] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._info = self._describe(model)

    @property
    def info(self) -> EngineInfo:
        """Return what runs, as far as the server says."""
        return self._info

    def start(self, request: GenerateRequest, emit: Emit) -> None:
        """Begin an answer and return at once; `emit` receives every chunk."""
        path, body = question(request, self._info.model, self._path)
        call = _Call(request, emit)
        with self._lock:
            self._check_open()
            self._running[request.request_id] = call
        thread = threading.Thread(
            target=self._run, args=(call, path, body), name="openai-engine", daemon=True
        )
        thread.start()

    def cancel(self, request_id: str) -> bool:
        """End a running answer by closing its connection; False where none has that id."""
        with self._lock:
            call = self._running.get(request_id)
        if call is None:
            return False
        call.cancel()
        return True

    def close(self) -> None:
        """Cancel what runs; further calls raise."""
        with self._lock:
            self._closed = True
            calls = list(self._running.values())
        for call in calls:
            call.cancel()

    def encode(
        self, prompt: str | Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Return the token ids, from servers that have vLLM's `/tokenize`.

        Raises: GenerationError with code `unsupported` from others.
        """
        question: dict[str, Any] = {"model": self._info.model}
        if isinstance(prompt, str):
            question["prompt"] = prompt
        else:
            question["messages"] = [dict(message) for message in prompt]
        try:
            answer = self._ask("POST", self._path.removesuffix("/v1") + "/tokenize", question)
        except GenerationError as fault:
            if fault.code not in ("http_404", "http_405"):
                raise
            raise GenerationError(
                "this server does not return tokens", code="unsupported"
            ) from fault
        return [int(token) for token in answer["tokens"]]

    def score(
        self, text: str | Sequence[int], *, alternatives: int = 0, adapter: str | None = None
    ) -> Score:
        """Return the log-probability of each token of a text, as the server echoes it.

        An echo has no token ids, so they are -1.
        """
        self._check_open()
        prompt = text if isinstance(text, str) else [int(token) for token in text]
        question = {
            "model": adapter or self._info.model,
            "prompt": prompt,
            "echo": True,
            "max_tokens": 1,
            "temperature": 0,
            "logprobs": max(alternatives, 1),
        }
        answer = self._ask("POST", f"{self._path}/completions", question)
        logprobs = answer["choices"][0].get("logprobs")
        count = answer["usage"]["prompt_tokens"]
        if not logprobs or len(logprobs["tokens"]) < count:
            raise GenerationError("this server does not echo log-probabilities", code="unsupported")
        tokens = tuple(_echoed(logprobs, index, alternatives) for index in range(count))
        spelled = sum(len(token.bytes) for token in tokens[1:])
        return Score(
            tokens=tokens,
            nats=-sum(token.logprob for token in tokens[1:]),
            scored_tokens=count - 1,
            text_bytes=spelled,
        )

    def _describe(self, wanted: str) -> EngineInfo:
        cards = self._ask("GET", f"{self._path}/models").get("data") or [{}]
        card = next((card for card in cards if card.get("id") == wanted), None)
        if wanted and card is None:
            names = ", ".join(str(card.get("id")) for card in cards[:5])
            raise GenerationError(
                f"no model {wanted!r} at {self._host}", hint=f"it serves {names}", code="model"
            )
        card = card or cards[0]
        return EngineInfo(
            engine="openai",
            model=str(card.get("id") or wanted),
            revision=str(card.get("revision") or ""),
            dtype="remote",
            device=f"{self._host}:{self._port}" if self._port else self._host,
            context_length=int(card.get("max_model_len") or card.get("context_length") or 0),
            vocab_size=0,
            parameters=0,
            size_bytes=0,
            has_chat_template=True,
            note="runs elsewhere",
        )

    def _run(self, call: _Call, path: str, body: dict[str, Any]) -> None:
        try:
            self._read(call, path, body)
        except GenerationError as fault:
            call.finish("error", fault)
        except (OSError, http.client.HTTPException, ValueError) as fault:
            call.finish(
                "error",
                GenerationError(
                    f"{self._host} broke off its answer: {fault}", code="upstream", retryable=True
                ),
            )
        finally:
            with self._lock:
                self._running.pop(call.request.request_id, None)

    def _read(self, call: _Call, path: str, body: dict[str, Any]) -> None:
        connection = self._connect()
        call.connection = connection
        try:
            response = self._send(connection, "POST", path, body)
            parser = sse.Parser()
            while not call.finished and (piece := response.read1(READ_BYTES)):
                for event in parser.feed(piece):
                    call.take(event.data)
            if not call.finished:
                raise GenerationError(f"{self._host} ended its stream early", code="upstream")
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        connection = self._connect()
        try:
            return json.loads(self._send(connection, method, path, body).read())
        except (OSError, http.client.HTTPException, ValueError) as fault:
            raise self._unreachable(fault) from fault
        finally:
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout_s)

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
    ) -> http.client.HTTPResponse:
        headers = {"content-type": "application/json"}
        if self._api_key:
            headers["authorization"] = f"Bearer {self._api_key.reveal()}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as fault:
            raise self._unreachable(fault) from fault
        if response.status != 200:
            raise _refusal(self._host, response)
        return response

    def _unreachable(self, fault: Exception) -> GenerationError:
        return GenerationError(
            f"no answer from {self._host}: {fault}",
            hint="is the server running there?",
            code="unreachable",
            retryable=True,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise GenerationError("the engine is closed", code="closed")


class _Call:
    """One answer while its stream is read."""

    def __init__(self, request: GenerateRequest, emit: Emit) -> None:
        self.request = request
        self.connection: http.client.HTTPConnection | None = None
        self.finished = False
        self._emit = emit
        self._cancelled = False
        self._reason: FinishReason | None = None
        self._usage: Mapping[str, Any] = {}
        self._output_tokens = 0

    def cancel(self) -> None:
        """Break the connection off, which wakes the thread that reads it."""
        self._cancelled = True
        connection = self.connection
        if connection is not None and connection.sock is not None:
            # Closing alone would not wake a read that is under way.
            connection.sock.shutdown(socket.SHUT_RDWR)

    def take(self, data: str) -> None:
        """Read one event."""
        if data == sse.DONE_DATA:
            self.finish(self._reason or "stop")
            return
        shape = json.loads(data)
        if "error" in shape:
            raise GenerationError(shapes.error_message(shape) or "unknown", code="upstream")
        self._usage = shape.get("usage") or self._usage
        for choice in shape.get("choices") or ():
            if choice.get("finish_reason"):
                self._reason = "length" if choice["finish_reason"] == "length" else "stop"
            text = shapes.delta_text(shape)
            tokens = _tokens(choice.get("logprobs"), self.request.sampling.logprobs)
            if text or tokens:
                self._output_tokens += 1
                self._emit(Chunk(text=text, tokens=tokens, output_tokens=self._output_tokens))

    def finish(self, reason: FinishReason, fault: GenerationError | None = None) -> None:
        """Emit the last chunk, once."""
        if self.finished:
            return
        self.finished = True
        if self._cancelled:
            reason, fault = "cancelled", None
        details = self._usage.get("prompt_tokens_details") or {}
        self._emit(
            Chunk(
                finish_reason=reason,
                error=fault,
                input_tokens=self._usage.get("prompt_tokens", 0),
                output_tokens=self._usage.get("completion_tokens", self._output_tokens),
                cached_tokens=details.get("cached_tokens") or 0,
            )
        )


def _refusal(host: str, response: http.client.HTTPResponse) -> GenerationError:
    raw = response.read(READ_BYTES)
    try:
        body = json.loads(raw)
    except ValueError:
        body = {}
    words = shapes.error_message(body) or f"HTTP {response.status}"
    inner = body.get("error") if isinstance(body, dict) else None
    reported = inner.get("code") if isinstance(inner, dict) else None
    code = "context_length" if reported == "context_length_exceeded" else f"http_{response.status}"
    return GenerationError(
        f"{host} refused: {words}", code=code, retryable=response.status in (429, 502, 503, 504)
    )


def _tokens(logprobs: Mapping[str, Any] | None, alternatives: int | None) -> tuple[Token, ...]:
    if not logprobs or alternatives is None:
        return ()
    if "content" in logprobs:
        return tuple(
            Token(
                -1,
                _bytes(entry),
                entry["logprob"],
                tuple(
                    Alternative(-1, _bytes(other), other["logprob"])
                    for other in entry.get("top_logprobs", ())[:alternatives]
                ),
            )
            for entry in logprobs["content"] or ()
        )
    return tuple(_echoed(logprobs, index, alternatives) for index in range(len(logprobs["tokens"])))


def _bytes(entry: Mapping[str, Any]) -> bytes:
    given = entry.get("bytes")
    return bytes(given) if given is not None else str(entry["token"]).encode()


def _echoed(logprobs: Mapping[str, Any], index: int, alternatives: int) -> Token:
    logprob = logprobs["token_logprobs"][index]
    listed = (logprobs.get("top_logprobs") or [None] * (index + 1))[index] or {}
    return Token(
        -1,
        str(logprobs["tokens"][index]).encode(),
        math.nan if logprob is None else logprob,
        tuple(
            Alternative(-1, text.encode(), value)
            for text, value in list(listed.items())[:alternatives]
        ),
    )

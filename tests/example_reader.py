"""An upstream that answers from the examples in its system prompt, as a model would at best."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_EXAMPLE = re.compile(r"Question: (.+)\nAnswer: (.+)")
NO_IDEA = "I do not know."


class ExampleReader:
    """Serve OpenAI's chat on a free port until closed."""

    def __init__(self) -> None:
        reader = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self._send(reader.answer(body["messages"]))

            def do_GET(self) -> None:
                self._send("")

            def _send(self, text: str) -> None:
                message = {"role": "assistant", "content": text}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                found = {"id": "c", "object": "chat.completion", "created": 1, "model": "m",
                         "choices": [choice], "data": [{"id": "m"}]}  # fmt: skip
                raw = json.dumps(found).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: Any) -> None:
                """Write no log."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answer(self, messages: list[dict[str, Any]]) -> str:
        """Return the answer of the example whose question shares most words with the last one."""
        system = str(messages[0]["content"]) if messages[0]["role"] == "system" else ""
        asked = set(str(messages[-1]["content"]).lower().split())
        best, share = NO_IDEA, 0.6
        for question, answer in _EXAMPLE.findall(system):
            words = set(question.lower().split())
            if len(words & asked) / len(words) > share:
                best, share = answer, len(words & asked) / len(words)
        return best

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

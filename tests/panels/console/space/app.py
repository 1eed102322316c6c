"""A Space that answers OpenAI's API slowly, says what it was pinned to, and writes markup."""

import json
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL, REVISION = os.environ.get("MODEL_ID", ""), os.environ.get("MODEL_VERSION", "")
WORDS = ["From", " the", " Space:", " <script>document.title='owned'</script>", " and", " done."]


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/v1/models":
            self.tell({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            self.tell({"status": "ok", "model": MODEL, "revision": REVISION})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        whole = {"id": "c", "created": 1, "model": MODEL, "system_fingerprint": REVISION}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "".join(WORDS)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3, "completion_tokens": 6, "total_tokens": 9}
            self.tell(whole | {"object": "chat.completion", "choices": [choice], "usage": usage})
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for word in [*WORDS, ""]:
            delta = {"content": word} if word else {}
            choice = {"index": 0, "delta": delta, "finish_reason": None if word else "stop"}
            self.event(whole | {"object": "chat.completion.chunk", "choices": [choice]})
            time.sleep(0.1)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def event(self, value):
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
        self.wfile.flush()

    def tell(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        return


ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answers).serve_forever()

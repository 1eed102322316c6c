"""The smallest Space that can be deployed and verified: a page, and what it runs at /health."""

import os
from wsgiref.simple_server import make_server

health = '{"status":"ok","model":"%s","revision":"%s"}'


def app(environ, start_response):
    page = health % (os.environ.get("MODEL_ID", ""), os.environ.get("MODEL_VERSION", ""))
    start_response("200 OK", [("Content-Type", "application/json")])
    return [page.encode() if environ["PATH_INFO"] == "/health" else b'{"hello":"world"}']


make_server("", int(os.environ.get("PORT", "7860")), app).serve_forever()

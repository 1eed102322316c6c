"""Serve only once the weights named by MODEL_ID and MODEL_VERSION are loaded."""

import json
import os
from wsgiref.simple_server import make_server

from safetensors.numpy import load_file

from triptych.hub.pull import pull

model, revision = os.environ["MODEL_ID"], os.environ["MODEL_VERSION"]
weights = load_file(pull(f"{model}@{revision}") / "model.safetensors")
health = {"status": "ok", "model": model, "revision": revision, "tensors": len(weights)}


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(health).encode()]


print(f"loaded {model}@{revision}", flush=True)
make_server("", int(os.environ["PORT"]), app).serve_forever()

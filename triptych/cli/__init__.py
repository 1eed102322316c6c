"""The command line: one thin file per noun, in a folder per group.

torch and gradio load only when a verb needs them.

`COMMANDS` is the table of contents. `triptych --help` is printed from it without importing any
command, so that asking for help stays instant.
"""

from __future__ import annotations

from typing import NamedTuple


class Command(NamedTuple):
    """Name a command, the module that implements it, and what it does in one line."""

    group: str
    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "demo": Command("start", "demo", "the whole life cycle on this machine, in a few minutes"),
    "data": Command("train", "train.data", "build a corpus from text and look at it"),
    "train": Command("train", "train.train", "train a model from scratch or from a checkpoint"),
    "runs": Command("train", "train.runs", "list, watch, stop, resume, branch and compare runs"),
    "eval": Command("train", "train.eval", "loss and bits per byte of a checkpoint"),
    "compare": Command(
        "train", "train.compare", "several checkpoints on one text, as a table and a chart"
    ),
    "generate": Command("train", "train.generate", "continue a prompt in the terminal"),
    "merge": Command("train", "train.merge", "add a LoRA adapter to the weights of its base"),
    "export": Command("train", "train.export", "write GGUF or ONNX, verified by running it"),
    "serve": Command("serve", "serve.serve", "answer the OpenAI API with your models"),
    "gateway": Command("serve", "serve.gateway", "the tiered gateway: base, company, abstraction"),
    "tiers": Command("serve", "serve.tiers", "set up the three tier Spaces"),
    "company": Command(
        "learn", "learn.company", "answer a company's questions from its own documents"
    ),
    "abstraction": Command(
        "learn", "learn.abstraction", "what similar companies do, from those that agreed"
    ),
    "learn": Command("learn", "learn.loop", "judgements, data sets, the gate, and the rollout"),
    "hub": Command("hub", "hub.hub", "run the embedded hub on this machine"),
    "publish": Command("hub", "hub.publish", "publish a checkpoint with its model card"),
    "publish-data": Command("hub", "hub.publish_data", "publish a corpus as a dataset"),
    "pull": Command("hub", "hub.pull", "bring a model from the hub to this machine"),
    "spaces": Command("hub", "hub.spaces", "create, deploy, watch and roll back Spaces"),
    "sync": Command("hub", "hub.sync", "keep hub repositories in step with this one"),
    "playground": Command("panels", "panels.playground", "compare models side by side"),
    "studio": Command("panels", "panels.studio", "start and watch training runs in the browser"),
    "console": Command("panels", "panels.console", "steer the tiered service in the browser"),
    "up": Command("operate", "operate.up", "bring everything up at one address"),
    "web": Command("operate", "operate.web", "the three panels at one address"),
    "down": Command("operate", "operate.down", "stop everything that `up` started"),
    "sign-in": Command("operate", "operate.sign_in", "a link that signs you in to the pages, once"),
    "status": Command("operate", "operate.status", "what runs, where, and how it is"),
    "doctor": Command("operate", "operate.doctor", "check this machine; each finding has a remedy"),
    "config": Command("operate", "operate.config", "every setting, its default and meaning"),
}
GROUPS = {
    "start": "Start here",
    "train": "Train and evaluate",
    "serve": "Serve",
    "learn": "Learn from companies",
    "hub": "Publish and deploy",
    "panels": "In the browser",
    "operate": "Operate",
}

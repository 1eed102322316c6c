"""Terms that explain themselves on hover, on focus and on touch: `parts.term("perplexity")`."""

from __future__ import annotations

TERMS = {
    "abstraction tier": "Answers with patterns that hold across several companies, without any "
    "company's own facts.",
    "base tier": "Answers with the model alone: no company's documents are read.",
    "bits per byte": "How well a model predicts text, independent of its vocabulary. Lower is "
    "better; 8 is no prediction at all.",
    "budget": "The tokens or dollars that a key, a user or a company may use in a period.",
    "checkpoint": "A saved state of a model during training, which can be resumed or served.",
    "company tier": "Answers with the company's own documents, and cites them.",
    "consent": "A user's or company's permission to keep the text of requests.",
    "context": "The text that a model reads before it answers, counted in tokens.",
    "fallback": "The next provider that receives a request when the first one fails.",
    "feedback": "Right, wrong, or a corrected answer; with consent it becomes training data.",
    "fine-tuning": "Training an existing model further on examples of a task.",
    "gateway": "The one API address of all tiers; it chooses the provider and records requests.",
    "held-out text": "Text that is kept back from training, to measure what the model learned.",
    "instruct model": "A model that was trained to answer questions, not only to continue text.",
    "key": "A secret that identifies a user or a program at the gateway.",
    "learning rate": "How far one training step changes the parameters.",
    "LoRA": "Training a small addition to a model instead of all of its parameters.",
    "loss": "How surprised a model is by the next token. Lower is better.",
    "memorising": "Training loss falls while validation loss rises: the model repeats its "
    "training text.",
    "perplexity": "The number of tokens a model hesitates between, on average. Lower is better.",
    "provider": "What answers a request: a Space, a model server on this machine, or OpenAI.",
    "revision": "The commit of a repository from which a model is served.",
    "run": "One training, from its settings to its last checkpoint.",
    "seed": "The number that fixes the random choices of training or generation.",
    "Space": "An application on a hub; here, the server of one tier.",
    "step": "One update of a model's parameters.",
    "temperature": "How random an answer is: 0 always takes the most likely token.",
    "tier": "One of three ways to answer: base, company and abstraction.",
    "token": "A piece of a word: the unit that models read, write and are paid by.",
    "validation loss": "The loss on held-out text: what the model learned beyond its examples.",
}

"""The vote under the answers: which is better, what to say about it, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from triptych.errors import TriptychError
from triptych.panels.playground import drawing
from triptych.panels.playground.comparison import Comparison
from triptych.panels.playground.context import Context, Visit
from triptych.panels.playground.controls import MOST_MODELS, QUIET
from triptych.panels.playground.forwarding import forward, sayings
from triptych.panels.playground.visitor import Visitor, visitor_of
from triptych.panels.playground.votes import Verdict, record_of

EVERY_ANSWER = "all of them"


@dataclass(frozen=True)
class VotingForm:
    """The components of the vote."""

    box: gr.Column
    question: gr.HTML
    better: tuple[gr.Button, ...]
    all_good: gr.Button
    none_good: gr.Button
    about: gr.Radio
    comment: gr.Textbox
    correction: gr.Textbox
    send: gr.Button
    said: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """List what an update may touch."""
        return [
            self.box, self.question, *self.better, self.all_good, self.none_good, self.about,
            self.comment, self.correction, self.said,
        ]  # fmt: skip

    def offer(self, comparison: Comparison) -> dict[Any, Any]:
        """Show the vote for a comparison; nothing where there is nothing to vote on."""
        answered = comparison.answered()
        several = len(answered) > 1
        names = [
            "Names are hidden until you vote." if comparison.hidden else "",
            "Which answer is better?" if several else "How is the answer?",
        ]
        letters = [drawing.LETTERS[index] for index in answered]
        return {
            self.box: gr.update(visible=bool(answered)),
            self.question: f"<h3>{names[1]} <span class='quiet'>{names[0]}</span></h3>",
            self.all_good: gr.update(value="All are good" if several else "Good"),
            self.none_good: gr.update(value="None is good" if several else "Not good"),
            self.about: gr.update(choices=[*letters, EVERY_ANSWER], value=EVERY_ANSWER),
            self.comment: "",
            self.correction: "",
            self.said: "",
        } | {
            button: gr.update(visible=several and index in answered)
            for index, button in enumerate(self.better)
        }

    def hide(self) -> dict[Any, Any]:
        """Take the vote away while answers are written."""
        return {self.box: gr.update(visible=False)}


def draw_voting() -> VotingForm:
    """Draw the vote, hidden until there is something to vote on."""
    with gr.Column(visible=False, elem_classes="voting") as box:
        question = gr.HTML(elem_classes="maybe")
        with gr.Row():
            better = tuple(
                gr.Button(f"{drawing.LETTERS[index]} is better", min_width=96, size="md")
                for index in range(MOST_MODELS)
            )
            all_good = gr.Button("All are good", min_width=110, size="md")
            none_good = gr.Button("None is good", min_width=110, size="md")
        said = gr.HTML(elem_classes="maybe")
        with gr.Accordion("Say more about it", open=False):
            about = gr.Radio([EVERY_ANSWER], value=EVERY_ANSWER, label="About answer")
            comment = gr.Textbox(label="Comment", max_length=20_000)
            correction = gr.Textbox(
                label="A better answer", lines=3, max_length=20_000,
                info="as the one you chose above should have read",
            )  # fmt: skip
            send = gr.Button("Send")
    return VotingForm(
        box, question, better, all_good, none_good, about, comment, correction, send, said
    )


def wire_voting(
    voting: VotingForm,
    context: Context,
    visit: gr.State,
    answers: gr.HTML,
    *,
    after: Callable[[Any], Any],
) -> None:
    """Connect the buttons of the vote; `after` is called with each event, to redraw the counts."""
    inputs = [visit, voting.about, voting.comment, voting.correction]
    outputs = [visit, answers, voting.question, voting.said]

    async def cast(
        verdict: Verdict | None,
        visitor: Visitor,
        kept: Visit,
        about: str,
        comment: str,
        correction: str,
    ) -> dict[Any, Any]:
        comparison = kept.current
        if comparison is None or not comparison.done:
            return {voting.said: drawing.notice("There is no answer to vote on yet.")}
        if verdict is None and not (comment.strip() or correction.strip()):
            return {voting.said: drawing.notice("Write a comment or a better answer first.")}
        which = drawing.LETTERS.find(about) if len(about or "") == 1 else -1
        if correction.strip() and which < 0:
            return {voting.said: drawing.notice("Say above which answer it corrects.")}
        verdict = kept.verdicts.get(comparison.comparison_id) if verdict is None else verdict
        if isinstance(verdict, int) and verdict not in comparison.answered():
            return {voting.said: drawing.notice("There is no such answer.")}
        record = record_of(comparison, verdict, comment=comment, correction=correction, about=which)
        try:
            await asyncio.to_thread(context.votes.add, record)
        except TriptychError as error:
            return {voting.said: drawing.complaint(error)}
        kept.vote(comparison, verdict)
        told = list(sayings(comparison, verdict, comment, correction, which))
        words = (
            f"{_thanks(comparison, verdict)} {await forward(context.gateway, told, visitor.key)}"
        )
        return {
            visit: kept,
            answers: drawing.answers(comparison, verdict),
            voting.question: "<h3>Which answer is better?</h3>",
            voting.said: drawing.notice(words.strip()),
        }

    verdicts: list[tuple[gr.Button, Verdict | None]] = [
        *((button, index) for index, button in enumerate(voting.better)),
        (voting.all_good, "all"),
        (voting.none_good, "none"),
        (voting.send, None),
    ]
    for button, verdict in verdicts:
        after(button.click(_acting(cast, verdict), inputs, outputs, **QUIET))


def _acting(cast: Callable[..., Awaitable[dict[Any, Any]]], verdict: Verdict | None) -> Any:
    async def act(request: gr.Request, *said: Any) -> dict[Any, Any]:
        return await cast(verdict, visitor_of(request), *said)

    return act


def _thanks(comparison: Comparison, verdict: Verdict | None) -> str:
    if verdict is None:
        return "Kept."
    words = drawing.verdict_words(comparison, verdict)
    return f"Vote saved: {words}. You can still change your mind."

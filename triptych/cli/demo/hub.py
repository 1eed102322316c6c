"""Second stage: a hub of its own, the model published, fetched by name, and served by a Space."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from triptych.cli.demo.tour import Tour


def stage(tour: Tour) -> None:
    """Publish the trained model to the embedded hub, load it by name, deploy a Space."""
    from triptych.cli.demo.chat_model import add_chat_model
    from triptych.hub.client import Hub

    tour.title("5. A hub of its own")
    tour.say("The embedded hub speaks the protocol of huggingface.co; its clients work unchanged.")
    address = _hub(tour)
    tour.set("HF_ENDPOINT", address)
    owner = Hub(address).whoami()

    tour.title("6. The model is published")
    tour.say("First a fresh process must reproduce the loss that the run recorded.")
    tour.triptych("publish", tour.run_dir, f"{owner}/demo", "--language", "en")

    tour.title("7. Another process loads it by its name")
    tour.triptych(
        "generate", f"{owner}/demo", "import ", "--max-new-tokens", "40", "--seed", "1",
        "--temperature", "0.7",
    )  # fmt: skip
    tour.next_steps.append(("triptych hub serve", f"see {owner}/demo and its card at {address}"))

    add_chat_model(tour, owner)
    tour.title("9. A Space is pinned to your model")
    tour.say("It is live only when the Space itself answers with the commit that was published.")
    tour.triptych("spaces", "deploy", f"{owner}/demo", f"{owner}/demo-space", "--app", "minimal")
    tour.triptych("spaces", "status", f"{owner}/demo-space")


def resume(tour: Tour) -> None:
    """Start the hub again for what comes after this stage."""
    tour.set("HF_ENDPOINT", _hub(tour))


def _hub(tour: Tour) -> str:
    """Return the address of the hub over this home, started for the tour if none runs."""
    from triptych.config import load_config
    from triptych.errors import TriptychError
    from triptych.hub.client import Hub
    from triptych.processes import free_port

    wanted = load_config().hub.port
    running = f"http://127.0.0.1:{wanted}"
    try:
        Hub(running).whoami()
        tour.say(f"one runs already at {running}")
        return running
    except TriptychError:
        pass
    port = free_port(port=wanted)
    address = f"http://127.0.0.1:{port}"
    tour.show("hub", "serve", "--port", str(port))
    tour.serve("hub", address, "hub", "serve", "--port", str(port))
    return address

"""Knowledge: a company's documents, a question to try, its test questions, and who may read what.

Documents lie on this machine, below `TRIPTYCH_HOME/companies`; an admin of a company reaches that
company's only.
"""

from starlette.routing import Route

from triptych.panels.console.knowledge import deletion, documents, questions, rights, trying
from triptych.panels.console.knowledge.place import Place
from triptych.panels.web.site import Site


def routes(site: Site) -> list[Route]:
    """Return the routes of knowledge."""
    place = Place()
    return [
        *documents.routes(site, place),
        *trying.routes(site, place),
        *questions.routes(site, place),
        *rights.routes(site, place),
        *deletion.routes(site, place),
    ]

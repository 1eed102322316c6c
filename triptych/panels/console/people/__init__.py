"""People: companies with their facts and members, users, keys, and budgets."""

from starlette.routing import Route

from triptych.panels.console.people import budgets, companies, keys, users
from triptych.panels.web.site import Site


def routes(site: Site) -> list[Route]:
    """Return the routes of companies, users, keys and budgets."""
    return [
        *companies.routes(site),
        *users.routes(site),
        *keys.routes(site),
        *budgets.routes(site),
    ]

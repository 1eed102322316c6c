"""Privacy: data requests, consents of companies, retention and legal holds."""

from starlette.routing import Route

from triptych.panels.console.privacy import consents, data_requests, retention
from triptych.panels.web.site import Site


def routes(site: Site) -> list[Route]:
    """Return the routes of privacy."""
    return [*data_requests.routes(site), *consents.routes(site), *retention.routes(site)]

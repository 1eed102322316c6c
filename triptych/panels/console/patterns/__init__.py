"""Patterns: releases and their audit for admins; for a company what it gives and what it gets."""

from starlette.routing import Route

from triptych.panels.console.patterns import company, releases
from triptych.panels.console.patterns.home import Patterns
from triptych.panels.web.site import Site


def routes(site: Site) -> list[Route]:
    """Return the routes of patterns."""
    patterns = Patterns()
    return [*releases.routes(site, patterns), *company.routes(site, patterns)]

"""A real PostgreSQL for the containers."""

from __future__ import annotations

from real_servers import postgres  # noqa: F401  fixture

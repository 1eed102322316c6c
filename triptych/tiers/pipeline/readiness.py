"""What `/ready` answers: whether new requests may be sent here, and what is not well."""

from __future__ import annotations

from typing import Any

from triptych.tiers.pipeline.runtime import Runtime

#: A record that waits longer than this has not only the next batch before it.
_LATE_S = 60.0


def readiness(runtime: Runtime) -> tuple[int, dict[str, Any]]:
    """Return the status for balancers, 200 or 503, and the state for people.

    The route needs no key, so numbers stand here where names and exceptions are in the log.
    """
    recorder = runtime.recorder
    failing = {task.name: task.failing for task in runtime.tasks if task.failing}
    unwell = failing or recorder.oldest_s > _LATE_S or runtime.unopened or runtime.node.newer_schema
    open_to_new = runtime.ready and not runtime.draining
    status = "degraded" if unwell else "ready"
    if not open_to_new:
        status = "draining" if runtime.draining else "starting"
    state = {
        "status": status,
        "node": runtime.node.name,
        "settings": "stale" if runtime.flags.stale else "fresh",
        "flags_version": runtime.flags.version,
        "schema": runtime.node.newer_schema and "newer than this program",
        "spool_bytes": recorder.spool.backlog_bytes,
        "records_lost": recorder.spool.lost,
        "oldest_unwritten_s": round(recorder.oldest_s, 1),
        "failing_tasks": sorted(failing),
        "secrets_unopened": len(runtime.unopened),
        "row_level_security": "bypassed" if runtime.node.bypasses_security else "kept",
        "upstreams_out_of_service": len(runtime.out_of_service),
    }
    return (200 if open_to_new else 503), state

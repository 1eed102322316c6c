"""What this hub does not do, said plainly: 501 and a reason, instead of a puzzling 404."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from triptych.errors import HubRefused
from triptych.hub.server.http.call import Access, Call, Handler
from triptych.hub.server.http.routing import Router

routes = Router()
_DISCUSSIONS = "This hub has no discussions and no pull requests; commit to a branch instead"
_FOLLOWERS = "On this hub people do not follow each other"
_SCHEDULED = "This hub has no scheduled jobs"
_LIKES = "This hub counts no likes"
_REQUESTS = "This hub takes no access requests; add people to an organisation instead"
_REWRITE = "Large files go when no commit needs them any more; then run: triptych hub gc"

# method, path, who may ask, reason
_DECLINED = [
    ("POST", "{api}/discussions", Access.SEE, _DISCUSSIONS),
    ("GET", "{api}/discussions/{rest:path}", Access.SEE, _DISCUSSIONS),
    ("POST", "{api}/discussions/{rest:path}", Access.SEE, _DISCUSSIONS),
    ("POST", "{api}/like", Access.SEE, _LIKES),
    ("DELETE", "{api}/like", Access.SEE, _LIKES),
    ("GET", "{api}/user-access-request/{rest:path}", Access.SEE, _REQUESTS),
    ("POST", "{api}/user-access-request/{rest:path}", Access.SEE, _REQUESTS),
    ("POST", "{api}/lfs-files/batch", Access.MANAGE, _REWRITE),
    ("GET", "{api}/likers", Access.SEE, _LIKES),
    ("GET", "{api}/leaderboard", Access.SEE, "This hub has no leaderboards"),
    ("GET", "/api/users/{name}/likes", Access.PUBLIC, _LIKES),
    ("GET", "/api/users/{name}/followers", Access.PUBLIC, _FOLLOWERS),
    ("GET", "/api/users/{name}/following", Access.PUBLIC, _FOLLOWERS),
    ("GET", "/api/organizations/{name}/followers", Access.PUBLIC, _FOLLOWERS),
    ("GET", "/api/spaces/semantic-search", Access.PUBLIC, "This hub searches by name only"),
    ("GET", "/api/spaces/zero-gpu/quota", Access.PUBLIC, "This hub has no ZeroGPU"),
    ("GET", "/api/spaces/templates", Access.PUBLIC, "This hub has no Space templates"),
    ("GET", "/api/daily_papers", Access.PUBLIC, "This hub has no papers"),
    ("GET", "/papers/{rest:path}", Access.PUBLIC, "This hub has no papers"),
    *(
        (method, "/api/scheduled-jobs/{namespace}/{rest:path}", Access.SIGNED_IN, _SCHEDULED)
        for method in ("GET", "POST", "DELETE")
    ),
    *(
        (method, "/buckets/{rest:path}", Access.PUBLIC, "This hub has no buckets")
        for method in ("GET", "POST", "PUT", "DELETE")
    ),
    *(
        (method, f"/api/{name}{rest}", Access.PUBLIC, f"This hub has no {what}")
        for name, what in {
            "buckets": "buckets",
            "collections": "collections",
            "settings/webhooks": "webhooks",
            "papers": "papers",
            "kernels": "kernels",
        }.items()
        for rest in ("", "/{rest:path}")
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
    ),
]


@routes.get("{api}/discussions", Access.SEE)
async def no_discussions(call: Call) -> Response:
    """List discussions: there are none."""
    return JSONResponse({"discussions": [], "count": 0, "start": 0, "numClosedDiscussions": 0})


def _decline(reason: str) -> Handler:
    async def declined(call: Call) -> Response:
        raise HubRefused(501, reason)

    return declined


for _method, _path, _access, _reason in _DECLINED:
    routes.route(_method, _path, _access)(_decline(_reason))

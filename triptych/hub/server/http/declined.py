"""What this hub does not do, said plainly: 501 and a reason, instead of a puzzling 404."""

from __future__ import annotations

from starlette.responses import JSONResponse, Response

from triptych.errors import HubRefused
from triptych.hub.server.http.call import Access, Call, Handler
from triptych.hub.server.http.routing import Router

routes = Router()
_DISCUSSIONS = "This hub has no discussions and no pull requests; commit to a branch instead"
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
    *(
        (method, f"/api/{name}{rest}", Access.PUBLIC, f"This hub has no {what}")
        for name, what in {
            "buckets": "buckets",
            "collections": "collections",
            "settings/webhooks": "webhooks",
            "papers": "papers",
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

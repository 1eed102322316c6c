"""Pages for people: everything can be looked at, nothing uploaded can act."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub

CARD = """---
license: mit
tags: [tiny, <b>bold</b>]
pipeline_tag: text-generation
---
# A model

<script>alert(1)</script><img src=x onerror=alert(1)><iframe src="/api/models"></iframe>
<style>body{display:none}</style><form action="https://evil.example"><input name=a></form>

[bad](javascript:alert(1)) [good](https://example.org/) [file](notes/a.txt) [up](../../../settings)

![inside](plots/loss.png) ![outside](https://evil.example/pixel.png)
![data](data:image/png;base64,AA)

| a | b |
|---|---|
| 1 | 2 |
"""


@pytest.fixture(scope="module")
def shown(hub: RunningHub) -> str:
    """A repository with something of everything."""
    api = hub.api()
    repo_id = "admin/shown"
    api.create_repo(repo_id)
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    tensors = len(header).to_bytes(8, "little") + header + bytes(24)
    api.create_commit(
        repo_id,
        [
            CommitOperationAdd("README.md", CARD.encode()),
            CommitOperationAdd("notes/a.txt", b"first line\n<b>not bold</b>\n"),
            CommitOperationAdd("plots/loss.png", b"\x89PNG\r\n\x1a\n" + bytes(100)),
            CommitOperationAdd("model.safetensors", tensors),
            CommitOperationAdd('odd "name" <i>.txt', b"odd"),
        ],
        commit_message="<i>everything</i>",
        commit_description="and why",
    )
    api.create_commit(
        repo_id,
        [
            CommitOperationAdd("notes/a.txt", b"first line\nchanged <u>line</u>\n"),
            CommitOperationAdd("model.safetensors", tensors + b"\0"),
            CommitOperationDelete("plots/loss.png"),
        ],
        commit_message="second",
    )
    api.create_branch(repo_id, branch="dev/x")
    return repo_id


def get(hub: RunningHub, path: str, status: int = 200) -> str:
    answer = httpx.get(hub.url + path, timeout=60)
    assert answer.status_code == status, answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    outside = re.findall(r"""(?:src|<link[^>]*href|action)=["'](?:https?:)?//[^"']+""", answer.text)
    assert outside == []
    return answer.text


def test_the_card_is_rendered_and_cannot_act(hub: RunningHub, shown: str) -> None:
    page = get(hub, f"/{shown}")
    assert "<h1>A model</h1>" in page
    assert "<td>1</td>" in page
    for bad in (
        "<script>alert",
        "onerror",
        "<iframe",
        "<style>",
        "<form action",
        'href="javascript:',
    ):
        assert bad not in page
    assert "evil.example" not in page
    assert f'src="/{shown}/resolve/main/plots/loss.png"' in page
    assert f'href="/{shown}/blob/main/notes/a.txt"' in page
    assert 'href="https://example.org/"' in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page


def test_lists_show_find_and_page(hub: RunningHub, shown: str) -> None:
    assert shown in get(hub, "/")
    assert shown in get(hub, "/models?search=shown")
    assert shown not in get(hub, "/models?search=absent")
    assert shown in get(hub, "/models?tag=tiny")
    assert shown in get(hub, "/admin")
    get(hub, "/datasets")
    get(hub, "/spaces")
    get(hub, "/nobody-here", 404)


def test_files_can_be_looked_at(hub: RunningHub, shown: str) -> None:
    tree = get(hub, f"/{shown}/tree/main")
    assert "notes/" in tree and "model.safetensors" in tree and "second" in tree
    assert "<i>.txt" not in tree
    assert "a.txt" in get(hub, f"/{shown}/tree/main/notes")
    assert "a.txt" in get(hub, f"/{shown}/tree/dev%2Fx/notes")
    assert "changed &lt;u&gt;line" in get(hub, f"/{shown}/blob/main/notes/a.txt")
    assert "odd" in get(hub, f"/{shown}/blob/main/odd%20%22name%22%20%3Ci%3E.txt")
    assert "2 × 3" in get(hub, f"/{shown}/blob/main/model.safetensors")
    get(hub, f"/{shown}/blob/main/absent.txt", 404)
    get(hub, f"/{shown}/tree/nowhere", 404)


def test_history_and_changes_can_be_looked_at(hub: RunningHub, shown: str) -> None:
    history = get(hub, f"/{shown}/commits/main")
    assert "&lt;i&gt;everything&lt;/i&gt;" in history
    sha = hub.api().model_info(shown).sha
    change = get(hub, f"/{shown}/commit/{sha}")
    assert "changed &lt;u&gt;line&lt;/u&gt;" in change
    assert "deleted" in change and "large file" in change
    first = hub.api().list_repo_commits(shown)[-1].commit_id
    assert ".gitattributes" in get(hub, f"/{shown}/commit/{first}")


def test_a_space_shows_how_it_is(hub: RunningHub) -> None:
    hub.api().create_repo("admin/panel", repo_type="space", space_sdk="static")
    page = get(hub, "/spaces/admin/panel")
    assert 'class="mark"' in page
    get(hub, "/spaces/admin/panel/logs", 401)
    answer = httpx.get(
        f"{hub.url}/spaces/admin/panel/logs",
        headers={"Authorization": f"Bearer {hub.admin_token}"},
        timeout=60,
    )
    assert "data-follow" in answer.text


def test_uploaded_pages_never_run_on_this_origin(hub: RunningHub) -> None:
    api = hub.api()
    api.create_repo("admin/evil")
    api.upload_file(path_or_fileobj=b"<script>alert(1)</script>", path_in_repo="x.html",
                    repo_id="admin/evil")  # fmt: skip
    api.upload_file(path_or_fileobj=b"<svg/>", path_in_repo="x.svg", repo_id="admin/evil")
    for name in ("x.html", "x.svg"):
        answer = httpx.get(f"{hub.url}/admin/evil/resolve/main/{name}", timeout=60)
        assert "sandbox" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"].startswith(("text/plain", "image/svg"))


def test_a_page_that_is_not_there_is_a_page(hub: RunningHub) -> None:
    assert "<h1>401</h1>" in get(hub, "/admin/absent", 401)
    assert "Nothing" not in get(hub, "/login")

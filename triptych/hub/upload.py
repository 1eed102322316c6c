"""Make a repository hold certain files, with one commit, or none where it holds them already.

Left out: which files, and what the commit says; publishing, deploying and creating bring that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from triptych.errors import PublishRefused, RepositoryNotFound
from triptych.hub.changes import compare
from triptych.hub.client import Hub
from triptych.hub.repository import Content, Repo


def put_files(
    hub: Hub,
    repo: Repo,
    wanted: Mapping[str, Content],
    message: str,
    *,
    description: str = "",
    stale: Callable[[str], bool] = lambda path: False,
    private: bool = False,
) -> tuple[str, bool]:
    """Create the repository if need be and commit what differs; delete present `stale` paths.

    Returns: the head, and whether it is a new commit.
    Raises: CommitConflict when another commit comes in between; PublishRefused when it should
    be private and is public.
    """
    try:
        head = hub.head(repo)
        if private:
            check_privacy(hub, repo)
    except RepositoryNotFound:
        hub.create(repo, private=private, sdk="gradio")
        head = hub.head(repo)
    present = hub.tree(repo, head)
    changes = compare(wanted, present, [path for path in present if stale(path)])
    if not changes:
        return head, False
    operations = changes.operations(wanted)
    return hub.commit(repo, operations, message, description=description, parent=head), True


def check_privacy(hub: Hub, repo: Repo) -> None:
    """Refuse to put what should be private where everybody sees it.

    Raises: PublishRefused.
    """
    if not hub.is_private(repo):
        raise PublishRefused(
            f"{repo} exists already and is public",
            hint="make it private in its settings, choose another name, or leave out --private",
        )

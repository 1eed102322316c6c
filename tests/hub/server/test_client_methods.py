"""Every filter of the client narrows or is refused; what the hub lacks it says with a reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

if TYPE_CHECKING:
    from tests.hub.server.conftest import RunningHub


@pytest.fixture(scope="module")
def api(start_hub: Callable[..., RunningHub]) -> HfApi:
    client = start_hub().api()
    for name, tag in (("one", "text-generation"), ("two", "fill-mask")):
        client.create_repo(f"admin/{name}")
        card = f"---\npipeline_tag: {tag}\nlicense: mit\n---\n# {name}\n"
        client.upload_file(
            path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=f"admin/{name}"
        )
    client.create_repo("admin/texts", repo_type="dataset")
    client.create_repo("admin/page", repo_type="space", space_sdk="static")
    client.update_repo_settings("admin/two", gated="auto")
    return client


def names(found: Any) -> set[str]:
    return {one.id for one in found}


def test_found_f11_what_the_client_filters_by_is_filtered(api: HfApi) -> None:
    assert names(api.list_models(pipeline_tag="fill-mask")) == {"admin/two"}
    assert names(api.list_models(pipeline_tag="none")) == set()
    assert names(api.list_models(gated=True)) == {"admin/two"}
    assert names(api.list_models(gated=False)) == {"admin/one"}
    assert names(api.list_datasets(gated=True)) == set()
    assert names(api.list_datasets(dataset_name="tex", search="nowhere")) == set()
    assert names(api.list_models(search="on", author="admin")) == {"admin/one"}
    assert names(api.list_models(filter=["license:mit", "fill-mask"])) == {"admin/two"}


@pytest.mark.parametrize(
    ("method", "by"),
    [
        ("list_models", {"num_parameters": "min:1B"}),
        ("list_models", {"apps": "ollama"}),
        ("list_models", {"inference": "warm"}),
        ("list_models", {"inference_provider": "all"}),
        ("list_models", {"fetch_config": True}),
        ("list_spaces", {"models": "admin/one"}),
        ("list_spaces", {"datasets": "admin/texts"}),
        ("list_spaces", {"linked": True}),
    ],
)
def test_found_f11_a_filter_that_is_not_known_is_refused(
    api: HfApi, method: str, by: dict[str, Any]
) -> None:
    with pytest.raises(HfHubHTTPError, match="cannot list by") as refused:
        list(getattr(api, method)(**by))
    assert refused.value.response.status_code == 501


def test_found_f11_own_repositories_and_tags_are_listed(api: HfApi) -> None:
    listed = {(one.id, one.type, one.visibility) for one in api.list_user_repos()}
    assert ("admin/one", "model", "public") in listed
    assert ("admin/page", "space", "public") in listed
    tags = api.get_model_tags()
    assert [one["id"] for one in tags["license"]] == ["license:mit"]
    assert isinstance(api.get_dataset_tags(), dict)


def test_found_f11_scheduled_jobs_are_none_and_refused(api: HfApi) -> None:
    assert api.list_scheduled_jobs() == []
    with pytest.raises(HfHubHTTPError, match="no scheduled jobs"):
        api.inspect_scheduled_job(scheduled_job_id="j")


LACKING: list[tuple[str, tuple[Any, ...]]] = [
    ("list_repo_likers", ("admin/one",)),
    ("get_dataset_leaderboard", ("admin/texts",)),
    ("search_spaces", ("a page",)),
    ("get_zero_gpu_quota", ()),
    ("list_liked_repos", ("admin",)),
    ("list_user_followers", ("admin",)),
    ("list_user_following", ("admin",)),
    ("list_organization_followers", ("acme",)),
    ("kernel_info", ("admin/k",)),
    ("list_daily_papers", ()),
    ("read_paper", ("2401.00001",)),
    ("list_space_templates", ()),
]


@pytest.mark.parametrize(("method", "arguments"), LACKING, ids=[name for name, _ in LACKING])
def test_found_f11_what_the_hub_lacks_is_501_with_a_reason(
    api: HfApi, method: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(HfHubHTTPError, match=r"(This|On this) hub") as refused:
        found = getattr(api, method)(*arguments)
        list(found)
    assert refused.value.response.status_code == 501

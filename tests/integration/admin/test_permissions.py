"""Permissions of users on pages and actions."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from pytest_django import Settings

from django_jobbatch.admin import JobBatchAdmin
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus, Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.integration.admin.pages import address, logged_in, text

pytestmark = pytest.mark.django_db

VERBS = ("cancel", "retry")
S = LinkStatus


class OfOneBatch(BaseBackend):
    """Backend that grants everything on batches with the name of the user, as django-guardian may."""

    def has_perm(self, user_obj: object, perm: str, obj: Model | None = None) -> bool:
        return isinstance(obj, JobBatch) and obj.name == str(user_obj)


@pytest.fixture
def batch() -> JobBatch:
    """A batch that can be cancelled and retried."""
    return JobBatchFactory.create(name="shared", running=True, jobs=[S.FAILED, S.PENDING])


@pytest.fixture
def owner(settings: Settings) -> Client:
    """Client of a user with permissions on one batch only."""
    settings.AUTHENTICATION_BACKENDS = [
        f"{ModelBackend.__module__}.ModelBackend",
        f"{__name__}.OfOneBatch",
    ]
    client = Client()
    client.force_login(
        User.objects.create_user("owner", is_staff=True),
        backend=f"{ModelBackend.__module__}.ModelBackend",
    )
    return client


def offered(client: Client, batch: JobBatch) -> list[str]:
    page = client.get(address(batch)).content.decode()
    return [verb for verb in VERBS if address(batch, verb) in page]


def codes(client: Client, batch: JobBatch) -> list[int]:
    """Return the status codes of GET and POST on both pages."""
    places = [address(batch, verb) for verb in VERBS]
    return [
        *(client.get(place).status_code for place in places),
        *(client.post(place, {"running": "finish"}).status_code for place in places),
    ]


def test_messages_and_tracebacks_require_the_permission_for_failures() -> None:
    failing = JobBatchFactory.create(jobs=[S.FAILED], roles=[Role.THEN], failed=True)
    job = failing.jobs.get()
    callback = BatchedJobFactory.create(
        batch=failing, role=Role.THEN, run=1, lane=0, status=S.FAILED
    )
    for link in (job, callback):
        FailedJobFactory.create(job=link, batch=failing, message="secret", traceback="secret too")

    clients = [
        logged_in("view_jobbatch", "view_batchedjob"),
        logged_in("view_jobbatch", "view_batchedjob", "view_failedjob"),
    ]
    pages = [[text(client.get(address(place))) for place in (failing, job)] for client in clients]

    assert [[page.count("secret") for page in shown] for shown in pages] == [[0, 0], [3, 2]]
    assert all("tests.jobs.JobFailed" in page for shown in pages for page in shown)


def test_users_with_view_permissions_change_nothing(viewer: Client, batch: JobBatch) -> None:
    assert offered(viewer, batch) == []
    assert codes(viewer, batch) == [403, 403, 403, 403]
    assert (
        viewer.post(
            address(JobBatch), {"action": "cancel_selected", "_selected_action": batch.pk}
        ).status_code
        == 200
    )
    assert LogEntry.objects.count() == 0


@pytest.mark.parametrize(
    ("verb", "found"), [("cancel", [200, 403, 200, 403]), ("retry", [403, 200, 403, 200])]
)
def test_each_permission_allows_one_thing(batch: JobBatch, verb: str, found: list[int]) -> None:
    client = logged_in("view_jobbatch", f"{verb}_jobbatch")

    assert offered(client, batch) == [verb]
    assert [
        action
        for action, _ in client.get(address(JobBatch))
        .context["action_form"]
        .fields["action"]
        .choices
        if action
    ] == [f"{verb}_selected"]
    assert codes(client, batch) == found


def test_an_action_requires_the_view_permission(batch: JobBatch) -> None:
    client = logged_in("cancel_jobbatch", "retry_jobbatch")

    assert codes(client, batch) == [403, 403, 403, 403]
    assert client.get(address(batch)).status_code == 403


@pytest.mark.parametrize("model", [JobBatch, BatchedJob, FailedJob])
def test_users_without_permission_see_nothing(model: type[Model]) -> None:
    FailedJobFactory.create()
    client = logged_in()

    found = [
        client.get(address(model)).status_code,
        client.get(address(model._default_manager.get())).status_code,
    ]

    assert found == [403, 403]
    assert "Job batches" not in text(client.get("/admin/"))


def test_anonymous_users_are_redirected_to_the_login(batch: JobBatch) -> None:
    answers = [Client().get(address(batch, verb)) for verb in ("change", *VERBS)]

    assert [answer.status_code for answer in answers] == [302, 302, 302]
    assert all("/admin/login/" in answer["Location"] for answer in answers)


def test_permissions_on_one_batch_apply_to_that_batch(owner: Client, batch: JobBatch) -> None:
    own = JobBatchFactory.create(name="owner", running=True, jobs=[S.FAILED, S.PENDING])
    both = address(JobBatch, "cancel", ids=f"{own.pk},{batch.pk}")

    assert owner.get(address(own)).status_code == 200
    assert offered(owner, own) == ["cancel", "retry"]
    assert codes(owner, own)[:2] == [200, 200]
    assert owner.get(address(batch)).status_code == 403
    assert codes(owner, batch) == [403, 403, 403, 403]
    assert owner.post(both, {"running": "finish"}).status_code == 403
    assert owner.get(address(JobBatch)).status_code == 403


def test_arguments_and_results_require_their_own_permission(viewer: Client) -> None:
    failure = FailedJobFactory.create()
    failure.job.result = '"secret"'
    failure.job.save()
    reader = logged_in("view_batchedjob", "view_failedjob", "view_payload")

    hidden = [text(viewer.get(address(each))) for each in (failure, failure.job)]
    shown = [text(reader.get(address(each))) for each in (failure, failure.job)]

    assert ["The arguments are hidden" in page for page in hidden] == [True, True]
    assert ["Argument Value" in page for page in hidden] == [False, False]
    assert ["Argument Value" in page for page in shown] == [True, True]
    assert ["secret" in page for page in (hidden[1], shown[1])] == [False, True]


def test_batches_outside_the_queryset_can_be_neither_viewed_nor_changed(
    admin_client: Client, batch: JobBatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        JobBatchAdmin, "get_queryset", lambda self, request: JobBatch.objects.exclude(pk=batch.pk)
    )

    assert admin_client.get(address(batch)).status_code == 302
    assert codes(admin_client, batch) == [404, 404, 404, 404]

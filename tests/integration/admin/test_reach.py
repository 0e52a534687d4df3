"""A cancel or retry changes ancestors too: the user needs the permission, and sees their names."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import User
from django.db.models import Model
from django.http import HttpRequest
from django.test import Client
from pytest_django import Settings

from django_jobbatch import bus
from django_jobbatch.admin import JobBatchAdmin
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations import reach
from tests import jobs
from tests.integration.admin.pages import Answer, address, confirm, messages, text
from tests.jobs import ADD
from tests.ledger.helpers import (
    claim,
    fail,
    read,
    report_end,
    start_child,
    sweep,
)

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


class ByName(BaseBackend):
    """Backend that grants everything on the batches that the user's first name lists."""

    def has_perm(self, user_obj: Any, perm: str, obj: Model | None = None) -> bool:
        batch = getattr(obj, "batch", obj)
        return isinstance(batch, JobBatch) and batch.name in user_obj.first_name.split(",")


def permitted(settings: Settings, *names: str) -> Client:
    """Return the client of a user with permissions on the batches of these names only."""
    backend = f"{ModelBackend.__module__}.ModelBackend"
    settings.AUTHENTICATION_BACKENDS = [backend, f"{__name__}.ByName"]
    user = User.objects.create_user(",".join(names), is_staff=True, first_name=",".join(names))
    client = Client()
    client.force_login(user, backend=backend)
    return client


def strict_tree() -> JobBatch:
    """Return "part" in "middle" in "whole", all of them strict; "part" has started."""
    part = bus.batch([ADD, ADD]).named("part")
    beside = bus.batch([ADD]).named("beside")
    middle = bus.batch([part, ADD, beside]).named("middle")
    root = bus.batch([middle, ADD]).named("whole").dispatch()
    return start_child(start_child(root))


def allowing_tree() -> JobBatch:
    """Return "part" in the allowing "whole", where two links follow it."""
    part = bus.batch([ADD, ADD]).named("part")
    follower = bus.batch([ADD]).named("follower")
    root = bus.batch([[part, ADD, follower], ADD]).allow_failures().named("whole").dispatch()
    return start_child(root)


def failed_tree() -> JobBatch:
    """Return the failed "part" in the strict "middle" in the allowing "whole"."""
    part = bus.batch([bus.job(jobs.fail)]).named("part")
    middle = bus.chain(part, bus.batch([ADD, ADD]).named("beside"), ADD).named("middle")
    bus.batch([middle, ADD]).allow_failures().named("whole").on_queue("sync").dispatch()
    return named("part")


def named(name: str) -> JobBatch:
    return JobBatch.objects.get(name=name)


def states() -> dict[str, tuple[str, int]]:
    return {
        batch.name: (batch.outcome or batch.status, batch.run) for batch in JobBatch.objects.all()
    }


def finish(batch: JobBatch) -> None:
    sweep(batch)
    report_end(batch)


def is_forbidden(client: Client, batch: JobBatch, verb: str, **query: Any) -> bool:
    """Return whether GET and POST are forbidden and change nothing."""
    before = states()
    place = address(batch, verb, **query)
    codes = [client.get(place).status_code, client.post(place, {"running": "stop"}).status_code]
    assert states() == before
    assert set(codes) in ({200, 302}, {200}, {403})
    return codes == [403, 403]


# Permissions


@pytest.mark.parametrize(
    ("names", "forbidden"),
    [
        (("part",), True),
        (("part", "middle"), True),
        (("part", "whole"), True),
        (("part", "middle", "whole"), False),
    ],
)
def test_a_cancel_needs_the_permission_on_each_strict_ancestor(
    settings: Settings, names: tuple[str, ...], *, forbidden: bool
) -> None:
    part = strict_tree()
    client = permitted(settings, *names)

    offered = address(part, "cancel") in client.get(address(part)).content.decode()

    assert is_forbidden(client, part, "cancel") == forbidden
    assert offered != forbidden


def test_a_cancel_needs_no_permission_on_an_ancestor_that_continues_unchanged(
    settings: Settings,
) -> None:
    part = bus.batch([ADD]).named("part")
    middle = bus.batch([part, ADD]).allow_failures().named("middle")
    start_child(start_child(bus.batch([middle, ADD]).named("whole").dispatch()))
    client = permitted(settings, "part")

    answer = confirm(client, address(named("part"), "cancel"))
    finish(named("part"))

    assert messages(answer) == ["success: “part” was cancelled."]
    assert states() == {
        "part": ("cancelled", 1),
        "middle": ("pending", 1),
        "whole": ("pending", 1),
    }


def test_a_cancel_needs_the_permission_on_an_ancestor_that_skips_links(settings: Settings) -> None:
    part = allowing_tree()

    assert is_forbidden(permitted(settings, "part"), part, "cancel")
    assert not is_forbidden(permitted(settings, "part", "whole"), part, "cancel")


def test_the_page_of_a_child_batch_shows_only_a_parent_that_the_user_may_view(
    settings: Settings,
) -> None:
    part = strict_tree()

    pages = [
        text(permitted(settings, *names).get(address(part)))
        for names in (("part",), ("part", "middle"))
    ]

    assert ["middle" in page for page in pages] == [False, True]


def test_a_cancel_of_the_root_needs_the_permission_on_the_root_only(settings: Settings) -> None:
    strict_tree()

    assert not is_forbidden(permitted(settings, "whole"), named("whole"), "cancel")


@pytest.mark.parametrize(
    ("names", "forbidden"),
    [(("part",), True), (("part", "middle"), True), (("part", "middle", "whole"), False)],
)
@pytest.mark.parametrize("of", ["batch", "job", "failure"])
def test_a_retry_needs_the_permission_on_each_reopened_ancestor(
    settings: Settings, names: tuple[str, ...], of: str, *, forbidden: bool
) -> None:
    part = failed_tree()
    client = permitted(settings, *names)
    query = {} if of == "batch" else {"jobs": part.jobs.get().pk}
    page: Model = {"batch": part, "job": part.jobs.get(), "failure": part.failures[0]}[of]
    link = address(part, "retry", **query)

    offered = link in client.get(address(page)).content.decode()

    assert is_forbidden(client, part, "retry", **query) == forbidden
    assert offered != forbidden


def test_a_retry_needs_no_permission_on_an_ancestor_that_waits_for_the_batch(
    settings: Settings,
) -> None:
    part = bus.batch([ADD, ADD]).allow_failures().named("part")
    start_child(bus.batch([part, ADD]).named("whole").dispatch())
    fail(named("part"), claim(named("part"), 1))

    assert not is_forbidden(permitted(settings, "part"), named("part"), "retry")


def test_a_retry_of_a_callback_reaches_no_ancestor(settings: Settings) -> None:
    part = bus.batch([ADD]).finally_(jobs.fail).named("part")
    bus.batch([part, ADD]).named("whole").on_queue("sync").dispatch()
    link = named("part").jobs.callbacks().get()
    client = permitted(settings, "part")

    assert (
        address(named("part"), "retry", jobs=link.pk)
        in client.get(address(named("part"))).content.decode()
    )
    assert not is_forbidden(client, named("part"), "retry", jobs=link.pk)


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_several_batches_are_forbidden_if_one_reaches_a_forbidden_ancestor(
    settings: Settings, verb: str
) -> None:
    child = strict_tree() if verb == "cancel" else failed_tree()
    own = bus.batch([ADD]).named("own").dispatch()
    if verb == "retry":
        fail(own, claim(own))
    client = permitted(settings, "part", "own")

    both = address(JobBatch, verb, ids=f"{child.pk},{own.pk}")
    alone = address(JobBatch, verb, ids=own.pk)

    assert [client.get(place).status_code for place in (both, alone)] == [403, 200]
    assert client.post(both, {"running": "finish"}).status_code == 403
    assert read(child).run == 1


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_an_ancestor_outside_the_queryset_is_not_reached(
    admin_client: Client, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = strict_tree() if verb == "cancel" else failed_tree()

    def get_queryset(self: JobBatchAdmin, request: HttpRequest) -> Any:
        return JobBatch.objects.exclude(name="whole")

    monkeypatch.setattr(JobBatchAdmin, "get_queryset", get_queryset)

    assert is_forbidden(admin_client, part, verb)
    assert address(part, verb) not in admin_client.get(address(part)).content.decode()


def test_an_ancestor_that_a_change_adds_after_the_page_is_asked_about(
    admin_client: Client,
) -> None:
    part = failed_tree()
    stand_in = BatchedJob.objects.get(child=named("middle"))
    stand_in.status = "running"
    stand_in.save()
    shown = admin_client.get(address(part, "retry"))
    version = shown.context["form"]["version"].value()
    stand_in.status = "failed"
    stand_in.save()

    again = admin_client.post(address(part, "retry"), {"version": version})

    assert "“whole” is reopened too" not in text(shown)
    assert "“whole” is reopened too" in text(again)
    assert (read(part).run, named("whole").run) == (1, 1)


# The question


def question(client: Client, batch: JobBatch, verb: str) -> Answer:
    return client.get(address(batch, verb))


def test_the_question_of_a_cancel_names_all_that_it_stops(admin_client: Client) -> None:
    part = strict_tree()

    shown = question(admin_client, part, "cancel")
    of_root = question(admin_client, named("whole"), "cancel")
    confirm(admin_client, address(part, "cancel"))
    for name in ("part", "middle", "whole"):
        finish(named(name))

    assert (
        "Cancel “part” with 2 unfinished jobs?"
        " “middle” is cancelled too, because it contains “part” and does not allow failures."
        " Further affected: 2 jobs, 1 descendant"
        " “whole” is cancelled too, because it contains “middle” and does not allow failures."
        " Further affected: 1 job"
    ) in text(shown)
    assert "Cancel “whole” with 5 unfinished jobs? 3 unfinished descendants are cancelled too." in (
        text(of_root)
    )
    assert states() == dict.fromkeys(("part", "beside", "middle", "whole"), ("cancelled", 1))


def test_the_question_of_a_cancel_names_what_is_skipped(admin_client: Client) -> None:
    part = allowing_tree()

    shown = question(admin_client, part, "cancel")
    confirm(admin_client, address(part, "cancel"))
    finish(named("part"))

    assert "“whole” skips what follows “part”. Further affected: 1 job, 1 descendant" in text(shown)
    assert (read(named("whole")).skipped_jobs, read(named("whole")).status) == (2, "pending")


def test_the_question_of_a_retry_names_all_that_it_reopens(admin_client: Client) -> None:
    part = failed_tree()

    shown = question(admin_client, part, "retry")
    of_root = question(admin_client, named("whole"), "retry")
    confirm(admin_client, address(part, "retry"))

    assert (
        "Run 1 job of “part” again?"
        " “middle” is reopened too, because it contains “part”."
        " Further affected: 3 jobs, 1 descendant"
        " “whole” is reopened too, because it contains “middle”."
    ) in text(shown).replace(" These are the jobs that failed, were cancelled or were skipped.", "")
    assert "Run 4 jobs of “whole” again?" in text(of_root)
    assert "3 descendants are reopened too." in text(of_root)
    assert {name: run for name, (_, run) in states().items()} == {
        "part": 2,
        "middle": 2,
        "whole": 2,
        "beside": 1,  # its turn comes after "part", which fails again
    }


def test_the_tick_for_many_jobs_counts_those_of_ancestors(
    admin_client: Client, tuning: Any
) -> None:
    part = strict_tree()
    tuning(CONFIRM_ABOVE=4)
    above = admin_client.get(address(part, "cancel")).context["form"].fields
    tuning(CONFIRM_ABOVE=5)
    not_above = admin_client.get(address(part, "cancel")).context["form"].fields

    assert "understood" in above
    assert "understood" not in not_above


def test_siblings_from_a_list_name_their_parent_once(admin_client: Client) -> None:
    strict_tree()
    both = address(JobBatch, "cancel", ids=f"{named('part').pk},{named('beside').pk}")
    with_parent = f"{both},{named('middle').pk}"

    shown, of_three = (text(admin_client.get(place)) for place in (both, with_parent))

    assert shown.count("“middle” is cancelled too") == 1
    assert shown.count("“whole” is cancelled too") == 1
    assert of_three.count("“middle” is cancelled too") == 0
    assert of_three.count("“whole” is cancelled too") == 1


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_the_history_of_each_reached_ancestor_says_why(admin_client: Client, verb: str) -> None:
    part = strict_tree() if verb == "cancel" else failed_tree()

    confirm(admin_client, address(part, verb), reason="enough")

    word = {"cancel": "Cancelled", "retry": "Reopened"}[verb]
    entries = LogEntry.objects.order_by("pk")
    assert [(each.object_repr, each.get_change_message()) for each in entries][1:] == [
        ("middle", f"{word} with its child batch “part”. Reason: enough"),
        ("whole", f"{word} with its child batch “middle”. Reason: enough"),
    ]


def test_an_action_that_changes_nothing_leaves_no_entry_for_ancestors(
    admin_client: Client,
) -> None:
    part = failed_tree()
    JobBatch.objects.filter(name="whole").update(cancelled_at=part.created_at)

    answer = confirm(admin_client, address(part, "retry"))

    whole = JobBatch.objects.get(name="whole")
    assert messages(answer)[0].startswith(
        f"error: “part”: Batch {whole.pk} (whole), which contains batch {part.pk}, was cancelled;"
    )
    assert LogEntry.objects.count() == 0


def test_a_circle_of_parents_ends_the_walk(admin_client: Client) -> None:
    part = strict_tree()
    JobBatch.objects.filter(name="whole").update(parent=part.jobs.all()[0])

    assert [question(admin_client, part, verb).status_code for verb in ("change", "cancel")] == [
        200,
        200,
    ]


def test_the_reach_of_a_root_takes_no_query(django_assert_num_queries: Any) -> None:
    flat = bus.batch([ADD]).dispatch()
    with django_assert_num_queries(0):
        assert reach.ancestors_of_cancel(flat) == reach.ancestors_of_retry(flat) == []

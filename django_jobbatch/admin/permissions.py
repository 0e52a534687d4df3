"""Permissions of users, for all objects and for single ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.models import Model
from django.http import HttpRequest

from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations import previews
from django_jobbatch.operations.reach import (
    ReachedAncestor,
    UnreadableAncestor,
    ancestors_of_retry,
)

APP = "django_jobbatch"


def has_perm(request: HttpRequest, codename: str, obj: Model | None = None) -> bool:
    """Return whether the user has this permission, for all objects or for this one.

    Django's own backend knows only permissions for all objects; with an object it returns False.
    Backends such as django-guardian know permissions for one object. So both are checked.
    """
    permission = f"{APP}.{codename}"
    user = request.user
    return user.has_perm(permission) or (obj is not None and user.has_perm(permission, obj))


def may_reach(
    batch_admin: Any, request: HttpRequest, verb: str, reached: Sequence[ReachedAncestor]
) -> bool:
    """Return whether the user may view these ancestors of a batch, and cancel or retry them.

    A batch that the queryset of `batch_admin` leaves out may not be changed.
    """
    batches = {ancestor.batch.pk: ancestor.batch for ancestor in reached}
    if not batches:
        return True
    is_permitted = getattr(batch_admin, f"has_{verb}_permission")
    for batch in batches.values():
        if not (batch_admin.has_view_permission(request, batch) and is_permitted(request, batch)):
            return False
    visible = batch_admin.get_queryset(request).for_write().filter(pk__in=list(batches))
    return set(visible.order_by().values_list("pk", flat=True)) == set(batches)


def may_retry_job(model_admin: Any, request: HttpRequest, batch: JobBatch, job: BatchedJob) -> bool:
    """Return whether the user may retry this job now. No ancestor may be unreadable."""
    if not previews.can_retry_job(batch, job):
        return False
    if not model_admin.has_retry_permission(request, batch):
        return False
    try:
        reached = ancestors_of_retry(batch, [job])
    except UnreadableAncestor:
        return False
    return may_reach(model_admin.batch_admin, request, "retry", reached)

"""Actions of the lists: each redirects to the confirmation page of the chosen rows."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_jobbatch import tuning
from django_jobbatch.models import BatchedJobQuerySet, JobBatch, JobBatchQuerySet

if TYPE_CHECKING:
    from django_jobbatch.admin.base import ReadOnlyAdmin


def redirect_to_confirmation(
    model_admin: ReadOnlyAdmin, request: HttpRequest, verb: str, batches: JobBatchQuerySet
) -> HttpResponse | None:
    """Return a redirect to the confirmation page that cancels or retries these batches.

    Return None, and add a message, if there are too many.
    """
    ids = batches.for_write().order_by().values_list("pk", flat=True)
    chosen = list(ids[: tuning.MAX_CHOSEN + 1])
    if _rejects_too_many(model_admin, request, chosen):
        return None
    address = model_admin.url(JobBatch, verb, ids=join_ids(chosen))
    return HttpResponseRedirect(model_admin.filtered(request, address))


def redirect_to_retry(
    model_admin: ReadOnlyAdmin, request: HttpRequest, jobs: BatchedJobQuerySet
) -> HttpResponse | None:
    """Return a redirect to the confirmation page that retries these jobs.

    Return None, and add a message, if there are too many or if they are not of one batch.
    """
    ids = jobs.for_write().order_by().values_list("pk", "batch_id")
    chosen = list(ids[: tuning.MAX_CHOSEN + 1])
    if _rejects_too_many(model_admin, request, chosen):
        return None
    batches = {batch_id for _pk, batch_id in chosen}
    if len(batches) != 1:
        text = _("Choose jobs of one batch only. Deleted jobs cannot be retried.")
        model_admin.message_user(request, text, messages.WARNING)
        return None
    pks = join_ids(pk for pk, _batch_id in chosen)
    return HttpResponseRedirect(model_admin.url(JobBatch, "retry", batches.pop(), jobs=pks))


def join_ids(ids: Iterable[object]) -> str:
    """Return the ids as text, for the address of a confirmation page."""
    return ",".join(map(str, ids))


def _rejects_too_many(model_admin: ReadOnlyAdmin, request: HttpRequest, chosen: Sized) -> bool:
    if len(chosen) <= tuning.MAX_CHOSEN:
        return False
    text = ngettext(
        "Choose at most %(maximum)d row.", "Choose at most %(maximum)d rows.", tuning.MAX_CHOSEN
    )
    model_admin.message_user(request, text % {"maximum": tuning.MAX_CHOSEN}, messages.WARNING)
    return True

"""From rows that were ticked in a list to the page that asks what is to be done with them."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from typing import TYPE_CHECKING

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_jobbatch import tuning
from django_jobbatch.models import BatchedJob, JobBatch

if TYPE_CHECKING:
    from django_jobbatch.admin.base import ReadOnlyAdmin


def redirect_to_confirmation(
    model_admin: ReadOnlyAdmin, request: HttpRequest, verb: str, batches: QuerySet[JobBatch]
) -> HttpResponse | None:
    """Go to the page that asks whether these batches shall be cancelled or retried."""
    chosen = list(batches.order_by().values_list("pk", flat=True)[: tuning.MAX_CHOSEN + 1])
    if _too_many(model_admin, request, chosen):
        return None
    address = model_admin.url(JobBatch, verb, ids=join_ids(chosen))
    return HttpResponseRedirect(model_admin.filtered(request, address))


def redirect_to_retry(
    model_admin: ReadOnlyAdmin, request: HttpRequest, jobs: QuerySet[BatchedJob]
) -> HttpResponse | None:
    """Go to the page that asks whether these jobs, all of one batch, shall be retried."""
    chosen = list(jobs.order_by().values_list("pk", "batch_id")[: tuning.MAX_CHOSEN + 1])
    if _too_many(model_admin, request, chosen):
        return None
    batches = {batch_id for _pk, batch_id in chosen}
    if len(batches) != 1:
        text = _("Choose jobs of one batch that are still there.")
        model_admin.message_user(request, text, messages.WARNING)
        return None
    pks = join_ids(pk for pk, _batch_id in chosen)
    return HttpResponseRedirect(model_admin.url(JobBatch, "retry", batches.pop(), jobs=pks))


def join_ids(ids: Iterable[object]) -> str:
    """Ids for the address of a page that asks."""
    return ",".join(map(str, ids))


def _too_many(model_admin: ReadOnlyAdmin, request: HttpRequest, chosen: Sized) -> bool:
    if len(chosen) <= tuning.MAX_CHOSEN:
        return False
    text = ngettext(
        "Choose at most %(most)d row.", "Choose at most %(most)d rows.", tuning.MAX_CHOSEN
    )
    model_admin.message_user(request, text % {"most": tuning.MAX_CHOSEN}, messages.WARNING)
    return True

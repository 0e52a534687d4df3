"""What is at rest need not be looked at; a retry that broke off knows how it was meant."""

from __future__ import annotations

from typing import Any

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Exists, OuterRef

UNSETTLED = ["waiting", "pending", "running"]
#: How the retry of a batch was meant is not known here: it leaves what somebody cancelled.
FLAGS = {"include_cancelled": False, "partial_too": True, "at": "1970-01-01T00:00:00+00:00"}


def keep_retries(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Retries that stand between two pages can be gone on with."""
    batches = _all(apps, "JobBatch", schema_editor)
    for pk, lane in batches.exclude(reopened_to=None).values_list("pk", "reopened_to"):
        batches.filter(pk=pk).update(reopening={"to": lane, **FLAGS})


def put_to_rest(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Finished batches with nothing left to do are at rest; reconcile looks at all others."""
    links = _all(apps, "BatchedJob", schema_editor).filter(status__in=UNSETTLED)
    callbacks = links.filter(batch=OuterRef("pk"), run__gte=1)
    waiting_for_it = links.filter(pk=OuterRef("parent"))
    finished = _all(apps, "JobBatch", schema_editor).filter(status="finished")
    finished.filter(~Exists(callbacks), ~Exists(waiting_for_it)).update(at_rest=True)


def _all(apps: Apps, model: str, schema_editor: BaseDatabaseSchemaEditor) -> Any:
    manager = apps.get_model("django_jobbatch", model)._default_manager
    return manager.using(schema_editor.connection.alias).order_by()


class Migration(migrations.Migration):
    dependencies = [
        ("django_jobbatch", "0003_trees"),
    ]

    operations = [
        migrations.AddField(
            model_name="jobbatch",
            name="at_rest",
            field=models.BooleanField(default=False, editable=False, verbose_name="at rest"),
        ),
        migrations.AddField(
            model_name="jobbatch",
            name="late_outcomes",
            field=models.PositiveIntegerField(
                default=0, editable=False, verbose_name="late outcomes"
            ),
        ),
        migrations.AddField(
            model_name="jobbatch",
            name="reopening",
            field=models.JSONField(blank=True, editable=False, null=True, verbose_name="reopening"),
        ),
        migrations.RunPython(keep_retries, migrations.RunPython.noop, elidable=True),
        migrations.RunPython(put_to_rest, migrations.RunPython.noop, elidable=True),
        migrations.RemoveField(
            model_name="jobbatch",
            name="reopened_to",
        ),
        migrations.AddIndex(
            model_name="jobbatch",
            index=models.Index(fields=["at_rest", "id"], name="jobbatch_at_rest"),
        ),
        migrations.AddConstraint(
            model_name="jobbatch",
            constraint=models.CheckConstraint(
                condition=models.Q(("at_rest", False), ("status", "finished"), _connector="OR"),
                name="jobbatch_rests_when_finished",
            ),
        ),
    ]

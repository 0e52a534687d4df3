from __future__ import annotations

from typing import Any

from django.db import migrations
from django.db.migrations.state import ProjectState

TABLE = "django_jobbatch_failedjob"


class RunOnPostgreSQL(migrations.RunSQL):
    """A statement that only PostgreSQL knows."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_backwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    dependencies = [
        ("django_jobbatch", "0004_defaults"),
    ]

    operations = [
        # A retry writes `retried_at` of each failure once. With space in its page, a row is written there,
        # and its five indexes stay as they are. Without, the table grows by the same space at the retry.
        RunOnPostgreSQL(
            f"ALTER TABLE {TABLE} SET (fillfactor = 50)",
            f"ALTER TABLE {TABLE} RESET (fillfactor)",
        ),
    ]

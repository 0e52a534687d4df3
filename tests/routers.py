"""Database routers of a project, as DATABASE_ROUTERS names them."""

from __future__ import annotations

from typing import Any


class ReplicaRouter:
    """Batches are read from a replica, wherever the row that a query starts from was read."""

    replica = "replica"

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.replica if model._meta.app_label == "django_jobbatch" else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "default" if model._meta.app_label == "django_jobbatch" else None

    def allow_relation(self, *objects: Any, **hints: Any) -> bool:
        return True


class OtherIsReplica(ReplicaRouter):
    replica = "other"


class OtherIsAll(OtherIsReplica):
    """Batches are read from the other database and written there."""

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return self.db_for_read(model, **hints)


class DefaultAlone:
    """Batches are in the default database, and nowhere else."""

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return db == "default" if app_label == "django_jobbatch" else None

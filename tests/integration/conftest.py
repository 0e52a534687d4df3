from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.test import override_settings

from django_jobbatch import tuning
from tests.servers import RedisServer


@pytest.fixture
def idle_workers(redis_server: RedisServer) -> None:
    """As many workers listen as a batch may have tickets."""
    for queue in ("default", "other", "slow"):
        redis_server.listen(tuning.MAX_TICKETS, queue)


@pytest.fixture
def referencing_app(transactional_db: None) -> Iterator[None]:
    """The app whose models point at ours is installed, with its tables."""
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "tests.referencing_app"]):
        apps.clear_cache()  # our models know from now on who points at them
        tables = list(apps.get_app_config("referencing_app").get_models())
        with connection.schema_editor() as editor:
            for table in tables:
                editor.create_model(table)
        yield
        with connection.schema_editor() as editor:
            for table in reversed(tables):
                editor.delete_model(table)
    apps.clear_cache()

"""Settings of the tests, and of the worker processes that the tests start.

DATABASE_URL and REDIS_URL choose the servers. Without them: a SQLite file, which worker
processes can share with the test, and a Valkey that `conftest.py` starts at this address.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import django
import environ

env = environ.Env()

ROOT = Path(__file__).resolve().parent.parent
# The sandbox's own app and servers are used by the tests too, and what does not matter to them is set as there.
if str(ROOT / "sandbox") not in sys.path:
    sys.path.append(str(ROOT / "sandbox"))

from sandbox.settings import (  # noqa: E402, F401 - it is found only now, and Django reads the rest
    DEFAULT_AUTO_FIELD,
    INSTALLED_APPS,
    MIDDLEWARE,
    ROOT_URLCONF,
    RQ,
    SQLITE_OPTIONS,
    STATIC_URL,
    TEMPLATES,
    USE_TZ,
)

INSTALLED_APPS = [*INSTALLED_APPS, "tests.flushing"]

#: Databases, sockets and logs of this test process; `conftest.py` makes and deletes it.
RUN_DIR = Path(tempfile.gettempdir()) / f"jobbatch-tests-{os.getpid()}"

SECRET_KEY = "only for the tests"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

DATABASES = {"default": env.db("DATABASE_URL", default=f"sqlite:///{RUN_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A process that is killed loses nothing of what it has committed; only a machine could.
    connects = f"{SQLITE_OPTIONS['init_command']} PRAGMA synchronous=OFF;"
    DATABASES["default"]["OPTIONS"] = {**SQLITE_OPTIONS, "init_command": connects}
    DATABASES["default"]["TEST"] = {"NAME": str(RUN_DIR / "test.sqlite3")}

REDIS_URL = env.str("REDIS_URL", default=f"unix://{RUN_DIR / 'valkey.sock'}")
if "REDIS_URL" in os.environ and os.environ.get("PYTEST_XDIST_WORKER"):
    # Test processes that run side by side take one database each, counted from the one named.
    number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    address = urlsplit(REDIS_URL)
    database = int(address.path.strip("/") or 0) + number
    REDIS_URL = address._replace(path=f"/{database}").geturl()

RQ_QUEUES = {
    "default": {"URL": REDIS_URL},
    "slow": {"URL": REDIS_URL},
    "other": {"URL": REDIS_URL},
    "json": {"URL": REDIS_URL, "SERIALIZER": "rq.serializers.JSONSerializer"},
    "sync": {"URL": REDIS_URL, "ASYNC": False},
}

# Declares Django tasks on our queues; `[]` allows a task any of them. The batch runs them itself.
TASKS_MODULE = "django.tasks" if django.VERSION >= (6, 0) else "django_tasks"
TASKS = {"default": {"BACKEND": f"{TASKS_MODULE}.backends.dummy.DummyBackend", "QUEUES": []}}

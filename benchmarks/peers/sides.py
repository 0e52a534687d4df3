"""All sides of the comparison, and the reasons why some are not measured."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from benchmarks.peers.side import Side


class Entry(NamedTuple):
    """Name of a side, the package that it needs, and its module and class here."""

    title: str
    package: str
    module: str
    class_name: str

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.package.replace("-", "_")) is not None

    def load(self) -> type[Side]:
        """Return the class, whose module needs the package."""
        module = importlib.import_module(f"benchmarks.peers.{self.module}")
        side: type[Side] = getattr(module, self.class_name)
        return side


#: The side that the ratios compare with all other sides.
OURS: Final = "batches"
SIDES: Final = {
    OURS: Entry("this package, BatchWorker", "django-jobbatch", "batches", "Batches"),
    "batches_prepared": Entry(
        "this package, prepared statements", "django-jobbatch", "batches", "PreparedBatches"
    ),
    "rq_worker": Entry("RQ, Worker", "rq", "with_rq", "ForkingWorker"),
    "rq_simple_worker": Entry("RQ, SimpleWorker", "rq", "with_rq", "SimpleWorker"),
    "celery": Entry("Celery, prefork", "celery", "with_celery", "CeleryWorker"),
    "django_ox": Entry("django-ox", "django-ox", "with_ox", "OxWorker"),
    "huey": Entry("Huey, process", "huey", "with_huey", "HueyWorker"),
    "dramatiq": Entry("Dramatiq", "dramatiq", "with_dramatiq", "DramatiqWorker"),
}


def missing(name: str) -> str:
    """Return the reason why the package of a side is not there; an empty text if it is."""
    entry = SIDES[name]
    if entry.is_installed:
        return ""
    errors: dict[str, str] = json.loads(os.environ.get("BENCHMARK_MISSING", "{}"))
    return errors.get(entry.package, f"{entry.package} is not installed in this environment")

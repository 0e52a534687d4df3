"""The cost and the requirements of an import of the package, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.settings import ROOT

PROGRAM = """
import sys
import {module}
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(sorted(loaded & {{"rq", "django_rq", "redis"}}))
print([name for name in sys.modules if name.startswith("django_jobbatch.models")])
from django.conf import settings
print(settings.configured)
"""


@pytest.mark.parametrize(
    "module", ["django_jobbatch", "django_jobbatch.bus", "django_jobbatch.runner"]
)
def test_an_import_loads_neither_models_nor_the_transport_nor_settings(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(module=module)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("[]\n[]\nFalse\n", "")


def test_a_process_with_django_has_at_hand_what_a_work_horse_runs() -> None:
    # Else each work-horse would import it anew, for longer than many a job runs.
    program = """
import sys, django
django.setup()
before = set(sys.modules)
import django_jobbatch.runner.session
print(sorted(set(sys.modules) - before))
"""

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("[]\n", "")

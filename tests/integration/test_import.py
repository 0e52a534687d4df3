"""What an import of the package costs, and what it needs: shown in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

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

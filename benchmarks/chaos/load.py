"""Competing processes beside the rounds, as on a busy machine."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

#: A busy loop, which ends with its parent process.
BUSY_LOOP: Final = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
#: Processes for each processor.
PER_PROCESSOR: Final = 2


@contextlib.contextmanager
def competing_processes(*, is_loaded: bool) -> Iterator[None]:
    """Run busy loops during the block, if `is_loaded`."""
    count = PER_PROCESSOR * (os.cpu_count() or 1) if is_loaded else 0
    processes = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()

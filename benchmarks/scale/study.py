"""One measurement in a process of its own: `python -m benchmarks.scale.study run_large quick`.

The environment has the addresses of the servers, and the folder of the package that is measured.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any, Final

from benchmarks.scale.sizes import BY_NAME
from benchmarks.stage import set_up

#: Module of each measurement.
MODULES: Final = {
    "airports": "airports",
    "after_large": "latency",
    "callbacks": "latency",
    "cancel": "sweeps",
    "chain": "chains",
    "children": "chains",
    "dispatch_huge": "large",
    "dispatch_large": "large",
    "failures": "sweeps",
    "idle_workers": "latency",
    "isolated": "large",
    "mixed": "latency",
    "run_large": "large",
    "small_batches": "small",
    "small_costs": "small",
    "small_dispatch": "small",
    "two_workers": "large",
    "writers": "writers",
}


def main(name: str, sizes: str) -> None:
    """Measure, and print the figures as JSON."""
    set_up()
    module = importlib.import_module(f"benchmarks.scale.{MODULES[name]}")
    measured: dict[str, Any] = getattr(module, name)(BY_NAME[sizes])
    print(json.dumps(measured))


if __name__ == "__main__":
    main(*sys.argv[1:])

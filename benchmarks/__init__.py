"""Benchmarks of batches against RQ alone: `python -m benchmarks.batch`, in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

# The servers, settings and models are those of the sandbox.
sys.path.append(str(Path(__file__).resolve().parent.parent / "sandbox"))

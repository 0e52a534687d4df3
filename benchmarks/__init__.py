"""What a batch costs beside bare RQ: `python -m benchmarks.batch`, in a checkout."""

from __future__ import annotations

import sys
from pathlib import Path

# Its servers, settings and models are those of the sandbox.
sys.path.append(str(Path(__file__).resolve().parent.parent / "sandbox"))

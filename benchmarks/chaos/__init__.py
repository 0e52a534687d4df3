"""Random trees under random faults: `python -m benchmarks.chaos`, in a checkout."""

"""Benchmark of everything that shall be fast: `python -m benchmarks.scale`, in a checkout."""

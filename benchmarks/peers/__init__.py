"""Benchmark of the same work on other packages: `python -m benchmarks.peers`, in a checkout."""

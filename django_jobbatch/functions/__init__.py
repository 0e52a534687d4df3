"""Functions of jobs: dotted paths, options, loading and calls."""

"""Functions of jobs: their dotted paths, their options, loading and calling them."""

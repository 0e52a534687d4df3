"""Deleting batches and failures, with rows of other apps that point at them."""

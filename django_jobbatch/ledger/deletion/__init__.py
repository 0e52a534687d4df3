"""Deleting batches and failures, with the rows of other apps that refer to them."""

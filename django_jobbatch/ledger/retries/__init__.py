"""Retrying: the links that are reset, chunk by chunk, and the batches that are reopened for them."""

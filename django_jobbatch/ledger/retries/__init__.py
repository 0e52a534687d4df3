"""Retrying: which settled links run again, page by page, and which batches reopen with them."""

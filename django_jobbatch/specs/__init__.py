"""Descriptions of jobs and batches, as frozen and checked values."""

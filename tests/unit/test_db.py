"""Chunks of rows for one statement."""

from __future__ import annotations

from django_jobbatch import tuning
from django_jobbatch.db import chunked_by_size


def test_rows_are_split_before_they_are_too_long_for_one_statement() -> None:
    half = tuning.MAX_STATEMENT_CHARS // 2

    assert list(chunked_by_size([half, half, 1, half, tuning.MAX_STATEMENT_CHARS, 0, 1], int)) == [
        [half, half],
        [1, half],
        [tuning.MAX_STATEMENT_CHARS, 0],
        [1],
    ]


def test_a_row_that_is_too_long_is_a_chunk_of_its_own() -> None:
    assert list(chunked_by_size([1, tuning.MAX_STATEMENT_CHARS + 1, 1], int)) == [
        [1],
        [tuning.MAX_STATEMENT_CHARS + 1],
        [1],
    ]


def test_without_rows_there_is_nothing_to_send() -> None:
    assert list(chunked_by_size([], int)) == []

"""Hooks after a commit."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from django_jobbatch.dispatch.error_log import in_current_block


def run_after_commit(using: str, hook: Callable[[], None]) -> None:
    """Run `hook` after the commit of the caller's transaction; now outside of one.

    Its transport errors belong to the block that registers it. Django logs other exceptions, which
    never reach the caller.
    """
    transaction.on_commit(in_current_block(hook), using=using, robust=True)

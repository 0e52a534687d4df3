"""Nemesis: injects the faults of a round."""

from __future__ import annotations

from benchmarks.chaos.faults import Fault
from benchmarks.chaos.kill_after_commit import REJECTIONS
from benchmarks.chaos.nemesis.database import DatabaseFaults
from benchmarks.chaos.nemesis.logs import LogFaults
from benchmarks.chaos.nemesis.people import PeopleFaults
from benchmarks.chaos.nemesis.processes import ProcessFaults
from benchmarks.chaos.nemesis.redis import RedisFaults


class Nemesis(ProcessFaults, RedisFaults, DatabaseFaults, LogFaults, PeopleFaults):
    """Injector of all faults."""

    def inject(self, fault: Fault) -> tuple[bool, str]:
        """Inject the fault; return whether it had an effect, and its target or the reason.

        A rejection by the app is an answer, so it is no violation.
        """
        try:
            target: str | None = getattr(self, fault.kind)(fault.choice)
        except REJECTIONS as rejection:
            return False, f"rejected: {rejection!r}"
        finally:
            self._workers.restart_dead()
        if not target:
            return False, "no target"
        self.injected.kinds[fault.kind] += 1
        return True, target

    def repeat_deletions(self) -> bool:
        """Repeat the interrupted deletions that are to be repeated; return whether any were."""
        repeated = [
            deletion
            for deletion in self.injected.deletions
            if deletion.is_repeated and not deletion.is_complete
        ]
        for deletion in repeated:
            deletion.run()
        return bool(repeated)

"""What runs leave on a cluster that outlives them: placement groups that hold resources, and the actors that clean up."""

import time

from ray._private import state  # what `ray list actors` asks needs a dashboard
from ray.util import placement_group_table

CLEANER = "PlacementGroupCleaner"


def leaks(patience_s: float = 0.0) -> set[str]:
    """Placement groups that hold resources and detached cleaners of Train's, a line each; waits so long for them to go.

    Between runs there ought to be none: a killed controller leaves a cleaner of 200 MB, and a driver that was terminated
    has left groups that held every CPU.
    """
    end = time.monotonic() + patience_s
    while found := _groups() | _cleaners():
        if time.monotonic() >= end:
            break
        time.sleep(0.2)
    return found


def _groups() -> set[str]:
    held = (group for group in placement_group_table().values() if group["state"] != "REMOVED")
    return {f"placement group {group['placement_group_id']} ({group['name'] or 'no name'}), {group['state']}" for group in held}


def _cleaners() -> set[str]:
    living = (actor for actor in state.actors().values() if actor["State"] != "DEAD")
    return {f"actor {actor['ActorID']} ({CLEANER})" for actor in living if CLEANER in actor["ActorClassName"]}

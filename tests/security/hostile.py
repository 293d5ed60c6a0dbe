"""What somebody might send: values that a careless reader would obey, for whichever field takes them."""

import os
import pickle
from pathlib import Path

TEXTS = (
    "<script>document.title='owned'</script>",
    '"><img src=x onerror="document.title=\'owned\'">',
    "\x1b]0;owned\x07\x1b[2J",
    "../../../../tmp/owned",
    "/etc/passwd",
    "$(touch owned)",
    "`touch owned`; touch owned",
    "x\ntouch owned",
    "{{ 7 * 7 }}{% include '/etc/passwd' %}",
    "\u202egnp.exe",
    "a\x00b",
    "x" * 100_000,
    "!!python/object/apply:os.system ['touch owned']",
)


def pickled(done: Path) -> bytes:
    """A pickle that makes a file when it is read."""

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {done}",)

    return pickle.dumps(Bomb())

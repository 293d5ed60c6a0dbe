"""What took most of a search of 1,000 runs, beside MLflow's own work: Python's garbage collector, and blanks.

MLflow makes about 70 objects for each run that it finds. Looking through them, again and again and for nothing, took 60 % of a
search and 40 % of the server's part of it. Its answers are laid out for people, by Python's slow writer of JSON: 6 MB, and a
third of the rest.
"""

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

SELDOM = (100_000, 50, 50)


@contextmanager
def uncollected() -> Iterator[None]:
    """Nothing is looked through meanwhile; what is no longer referred to still goes at once."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def loop() -> asyncio.AbstractEventLoop:
    """The event loop of a server process that collects seldom and answers without blanks.

    uvicorn's `--loop` is what it lets one name.
    """
    from mlflow.server import handlers

    handlers.message_to_json = partial(handlers.message_to_json, pretty=False)
    gc.freeze()
    gc.set_threshold(*SELDOM)
    return asyncio.new_event_loop()

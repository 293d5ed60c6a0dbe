"""Messages to where somebody looks: mail, chat, a phone, by the addresses of apprise (https://github.com/caronc/apprise)."""

from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread

from parrots.record import failures_of, path_of
from parrots.spec import Trial
from sweeps.watch import counted

REPEATED = 2  # attempts of one trial that failed
FEW = 3  # messages about such trials that are sent as they come
EVERY_S = 60.0  # between those that come after them
LISTED = 10  # trials of one message
PATIENCE_S = 30.0  # of the end of a run with an address that does not answer


def covered(url: str) -> str:
    """An address without what follows its kind, which may be a password or a token."""
    kind, separator, _ = url.partition("://")
    return f"{kind}://***" if separator else "***"


class Teller:
    """Tells of the end of a sweep, and of trials that fail again and again. ValueError for an address that is none.

    Trials are told of from a thread, since an address that does not answer takes seconds, and many of them in one message.
    A message that cannot be delivered is no reason to stop: `problem` says so.
    """

    def __init__(self, sweep: str, urls: Sequence[str] = ()):
        self.sweep, self.problem = sweep, ""
        self.failures: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        self.over = Event()
        self.thread: Thread | None = None
        self.to = None
        if urls:
            from apprise import Apprise

            self.to = Apprise()
            for url in urls:
                if not self.to.add(url):
                    said = covered(url)
                    raise ValueError(f"--notify {said}: no address that apprise knows, such as mailto://, slack:// or json://")

    def attempted(self, trial: Trial, results: Path) -> None:
        """A trial has ended, well or not."""
        failed = len(failures_of(trial.id, results)) if self.to else 0
        if failed >= REPEATED and not path_of(trial.id, results).exists():
            what = f"{trial.task.kind} {trial.name} failed {failed} times"
            self.failures.put((what, f"`parrots logs {trial.id}` has the reasons"))
            if not self.thread:
                self.thread = Thread(target=self._tell, daemon=True)
                self.thread.start()

    def ended(self, states: Mapping[str, int]) -> None:
        """The sweep has ended, with so many cells in each state."""
        self._end("ended", f"{counted(states)}. `parrots status {self.sweep}` has more")

    def stopped(self, why: str, states: Mapping[str, int]) -> None:
        """The sweep was asked to end before that."""
        self._end("stopped", f"{why or 'as asked'}; {counted(states)}. The next `parrots run` goes on from here")

    def _tell(self) -> None:
        """Send what trials failed, until it is over: the first few as they come, then those of a while together."""
        for sent in count():
            some = [self.failures.get()]
            if sent >= FEW:
                self.over.wait(EVERY_S)
            while not self.failures.empty():
                some.append(self.failures.get())
            if told := [one for one in some if one]:
                self._send(*self._together(told))
            if None in some:
                return

    def _together(self, told: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """Some messages as one."""
        if len(told) == 1:
            return told[0]
        more = [f"and {len(told) - LISTED} more"] * (len(told) > LISTED)
        lines = [*(what for what, _ in told[:LISTED]), *more, f"`parrots status {self.sweep}` has the reasons"]
        return f"{len(told)} trials failed again", "\n".join(lines)

    def _end(self, title: str, text: str) -> None:
        """Send what is left to tell of trials, and this."""
        if self.thread:
            self.over.set()
            self.failures.put(None)
            self.thread.join(PATIENCE_S)
        self._send(title, text)

    def _send(self, title: str, text: str) -> None:
        """To everyone."""
        if self.to and not self.to.notify(title=f"{self.sweep}: {title}", body=text, timeout=PATIENCE_S):
            self.problem = f"could not deliver to an address of --notify: {title}"

"""Messages to where somebody looks: mail, chat, a phone, by the addresses of apprise (https://github.com/caronc/apprise)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from parrots.record import path_of
from parrots.spec import Trial
from sweeps.watch import counted

REPEATED = 2  # attempts of one trial that failed


def covered(url: str) -> str:
    """An address without what follows its kind, which may be a password or a token."""
    kind, separator, _ = url.partition("://")
    return f"{kind}://***" if separator else "***"


class Teller:
    """Tells of the end of a sweep, and of trials that fail again and again. ValueError for an address that is none.

    A message that cannot be delivered is no reason to stop: `problem` says so.
    """

    def __init__(self, sweep: str, urls: Sequence[str] = ()):
        self.sweep, self.problem = sweep, ""
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
        failed = len(list((results / "failures").glob(f"{trial.id}-*.parquet"))) if self.to else 0
        if failed >= REPEATED and not path_of(trial.id, results).exists():
            self.say(f"{trial.task.kind} {trial.name} failed {failed} times", f"`parrots logs {trial.id}` has the reasons")

    def ended(self, states: Mapping[str, int]) -> None:
        """The sweep has ended, with so many cells in each state."""
        self.say("ended", f"{counted(states)}. `parrots status {self.sweep}` has more")

    def stopped(self, why: str, states: Mapping[str, int]) -> None:
        """The sweep was asked to end before that."""
        self.say("stopped", f"{why or 'as asked'}; {counted(states)}. The next `parrots run` goes on from here")

    def say(self, title: str, text: str) -> None:
        """Send it to everyone."""
        if self.to and not self.to.notify(title=f"{self.sweep}: {title}", body=text):
            self.problem = f"could not deliver to an address of --notify: {title}"

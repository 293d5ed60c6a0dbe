"""`parrots board`: all trials on one page, live while a run is going."""

from pathlib import Path

import click

from sweeps.guard import LOOPBACK, free
from sweeps.say import out
from sweeps.verbs.options import results_option


@click.command()
@click.argument("sweeps", nargs=-1, metavar="[SWEEP...]")
@results_option
@click.option("--port", type=click.IntRange(1, 65535), default=5001, show_default=True)
@click.option(
    "--once",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the page as it is now into one HTML file that opens anywhere, and end.",
)
def board(sweeps: tuple[str, ...], results: Path, port: int, once: Path | None) -> None:
    """Show every trial of each SWEEP, or of all that was run into the results: a table, parallel coordinates, scores by size.

    It listens on the loopback address alone and has no password. From elsewhere: ssh -L 5001:localhost:5001 HOST
    """
    from sweeps.board import Board

    shown = Board(results, sweeps)
    if once:
        from analysis.board.page import page
        from parrots.atomic import atomic

        shown.refresh()
        with atomic(once) as sink:
            sink.write(page(shown.about(live=False), shown.since(0, at_most=None)).encode())
        out.print(f"{len(shown.rows):,} trials: {once}")
        return
    from sweeps.board_server import Server

    free(port)
    with Server(shown, port) as server:
        out.print(f"the board is at http://{LOOPBACK}:{port} until Ctrl-C")
        server.serve_forever()

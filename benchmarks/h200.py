"""All that is to be measured on one H200, in calls of under nine minutes each; one file of tables.

    python benchmarks/h200.py [--only train_step] [--out benchmarks/results/h200.md]

Each call is a script of this folder in a process of its own, ended after nine minutes; its table stands in the file as soon as
it is there, so a run that is cut short keeps what it has. Without a GPU nothing runs and the file says `not measured`. Needs
torch alone; transformers, for the columns of the peer. --smoke runs each on its first shape, on whatever is here.
"""

import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

import torch

HERE = Path(__file__).parent
MINUTES = 9
WIDTHS = (64, 128, 256, 512, 1024)
CALLS = [
    ("A training step, eager", "train_step"),
    *((f"A training step, compiled, d = {d}", f"train_step --compiled --width {d}") for d in (256, 512, 1024)),
    ("MFU", "mfu"),
    ("Sparse FFN", "moe_ffn"),
    ("Decoding", "decode"),
    *((f"Eager, compiled, CUDA graphs, d = {d}", f"compiling --width {d}") for d in WIDTHS),
    ("Four trials side by side, eager", "stacked"),
    ("Four trials side by side, CUDA graphs", "stacked --compiled"),
]


def table(title: str, call: str, smoke: bool) -> str:
    """What a call prints, or why there is nothing, below its title."""
    script, *args = call.split()
    if not smoke and not torch.cuda.is_available():
        return f"# {title}\n\nnot measured (no GPU here): `python benchmarks/{' '.join([f'{script}.py', *args])}`\n"
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent)}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "table.md"
        command = [sys.executable, str(HERE / f"{script}.py"), *args, "--out", str(kept), *["--smoke"] * smoke]
        try:
            done = subprocess.run(  # nosec B603 # words of ours, and no shell
                command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60 * MINUTES, check=False
            )
        except subprocess.TimeoutExpired as late:
            so_far = late.stdout.decode() if isinstance(late.stdout, bytes) else late.stdout or f"# {title}\n"
            return f"{so_far}\nnot measured further: {MINUTES} minutes were over\n"
        if done.returncode:
            return f"{done.stdout or f'# {title}'}\nnot measured: `{call}` ended with exit code {done.returncode}\n"
        return kept.read_text()


def main() -> None:
    """Run every call, and keep the tables so far after each."""
    about = ArgumentParser(description=__doc__)
    about.add_argument("--only", default="", help="calls of this script alone")
    about.add_argument("--out", type=Path, help="file to keep the tables in")
    about.add_argument("--smoke", action="store_true", help="the first shape of each, timed once, on whatever is here")
    args = about.parse_args()
    scripts = sorted({call.split()[0] for _, call in CALLS})
    if args.only and args.only not in scripts:
        about.error(f"--only {args.only}: one of {', '.join(scripts)}")
    tables = []
    for title, call in CALLS:
        if args.only in ("", call.split()[0]):
            tables.append(table(title, call, args.smoke))
            print(tables[-1], flush=True)
            if args.out:
                args.out.write_text("\n".join(tables))


if __name__ == "__main__":
    main()

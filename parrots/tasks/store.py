"""A task's data on disk: Arrow, memory-mapped, made once for each content hash and shared by every trial that names it.

Beside `x.arrow` lies `x.arrow.sha256`, as `sha256sum` writes and checks it. Data whose bytes are not those that were written
are made again.
"""

import hashlib
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from parrots.atomic import atomic
from parrots.frozen import canonical_json
from parrots.tasks.task import Examples, Split, Task


def load(task: Task, split: Split, folder: Path) -> Examples:
    """A split of `task`, memory-mapped from `folder`; made first if it is not there, or not as it was written.

    Two processes that make it at once write the same bytes, each to its own file, and the later rename wins. Checking the
    bytes takes half a second a GB.
    """
    path = path_of(task, split, folder)
    if path.exists() and (found := _read(path)) is not None:
        return found
    if path.exists():
        print(f"{path}: not as it was written; made again", file=sys.stderr)
    _write(checked(task.make(split), task, split), path)
    found = _read(path)
    assert found is not None, f"{path}: changes while it is read"
    return found


def path_of(task: Task, split: Split, folder: Path) -> Path:
    """Where a split of a task is kept."""
    content = hashlib.sha256(f"{canonical_json(task)} v{task.version} {split}".encode()).hexdigest()[:16]
    return folder / f"{task.kind}-{split}-{content}.arrow"


def checked(examples: Examples, task: Task, split: Split) -> Examples:
    """The examples, or a ValueError that says what a task's `make` did wrong."""
    what = f"{task.kind}, {split}"
    n, length = examples.tokens_NS.shape
    if n != task.n_examples(split):
        raise ValueError(f"{what}: {n} examples, not n_examples={task.n_examples(split)}")
    if length > task.seq_len:
        raise ValueError(f"{what}: examples of {length} tokens, beyond the context of seq_len={task.seq_len}")
    if (largest := int(examples.tokens_NS.max())) >= task.vocab_size:
        raise ValueError(f"{what}: a token {largest}, which is not below vocab_size={task.vocab_size}")
    if (longest := int(examples.length_N.max())) > length:
        raise ValueError(f"{what}: an answer ends at {longest}, beyond the {length} tokens that there are")
    if not (examples.answer_N >= 1).all() or not (examples.answer_N < examples.length_N).all():
        raise ValueError(f"{what}: an example without a prompt or without an answer")
    width = 0 if examples.vectors_NSI is None else examples.vectors_NSI.shape[2]
    if width != task.input_dim:
        raise ValueError(f"{what}: vectors of width {width}, not input_dim={task.input_dim}")
    return examples


def _read(path: Path) -> Examples | None:
    """The examples of a file; None if its bytes are not those that were written."""
    mapped = _map(path)
    try:
        written = _digest_path(path).read_text().split()
    except (OSError, UnicodeDecodeError):
        return None
    if written[:1] != [hashlib.sha256(mapped).hexdigest()]:
        return None
    batch = pa.ipc.open_file(mapped).get_batch(0)
    columns = {name: batch.column(name) for name in batch.schema.names}
    tokens_NS = columns["tokens"].values.to_numpy().reshape(batch.num_rows, -1)
    examples = Examples(tokens_NS, columns["answer"].to_numpy(), columns["length"].to_numpy())
    if "vectors" in columns:
        vectors = columns["vectors"].values.to_numpy()
        examples = examples._replace(vectors_NSI=vectors.reshape(batch.num_rows, tokens_NS.shape[1] - 1, -1))
    return examples


def _write(examples: Examples, path: Path) -> None:
    columns = {
        "tokens": lists(examples.tokens_NS),
        "answer": pa.array(examples.answer_N),
        "length": pa.array(examples.length_N),
    }
    if examples.vectors_NSI is not None:
        columns["vectors"] = lists(examples.vectors_NSI)
    batch = pa.record_batch(columns)
    with atomic(path) as sink:
        with pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        sink.flush()
        digest = hashlib.sha256(_map(sink.name)).hexdigest()
        with atomic(_digest_path(path)) as beside:  # there first, so that nobody meets the data without it
            beside.write(f"{digest}  {path.name}\n".encode())


def _map(path: str | Path) -> pa.Buffer:
    with pa.memory_map(str(path)) as source:
        return source.read_buffer()


def _digest_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def lists(x_N: np.ndarray) -> pa.Array:
    """One row an example, whatever its shape."""
    return pa.FixedSizeListArray.from_arrays(pa.array(x_N.reshape(-1)), x_N[0].size)


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order in which the n training examples are met in one epoch, the same on every worker and device."""
    return np.random.default_rng([seed, epoch]).permutation(n)

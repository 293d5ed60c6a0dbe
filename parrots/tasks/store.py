"""A task's data on disk: Arrow, memory-mapped, made once for each content hash and shared by every trial that names it."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from parrots.atomic import atomic
from parrots.frozen import canonical_json
from parrots.tasks.task import Examples, Split, Task


def load(task: Task, split: Split, folder: Path) -> Examples:
    """A split of `task`, memory-mapped from `folder`; made first if it is not there.

    Two processes that make it at once write the same bytes, each to its own file, and the later rename wins.
    """
    content = hashlib.sha256(f"{canonical_json(task)} v{task.version} {split}".encode()).hexdigest()[:16]
    path = folder / f"{task.kind}-{split}-{content}.arrow"
    if not path.exists():
        _write(task.make(split), path)
    with pa.memory_map(str(path)) as source:
        batch = pa.ipc.open_file(source).get_batch(0)
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
    with atomic(path) as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def lists(x_N: np.ndarray) -> pa.Array:
    """One row an example, whatever its shape."""
    return pa.FixedSizeListArray.from_arrays(pa.array(x_N.reshape(-1)), x_N[0].size)


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order in which the n training examples are met in one epoch, the same on every worker and device."""
    return np.random.default_rng([seed, epoch]).permutation(n)

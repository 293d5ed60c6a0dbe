"""The bytes of the tensors that are alive, and their peak: what `torch.cuda.max_memory_allocated` says, for a CPU too."""

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """While entered, counts each storage from the operator that makes it until it is freed.

    What an operator takes for itself while it runs is not seen. `peak` and `now` are bytes.
    """

    def __init__(self, *known: Any):
        super().__init__()
        self.now = self.peak = 0
        self.seen: set[int] = set()
        self.add(known)

    def add(self, tensors: Any) -> None:
        """Count what is alive already: weights, a batch."""
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if (key := storage._cdata) not in self.seen:
                    self.seen.add(key)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, key, storage.nbytes())
        self.peak = max(self.peak, self.now)

    def _freed(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.add(out)
        return out

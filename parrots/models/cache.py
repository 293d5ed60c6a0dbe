"""What decoding remembers: the keys and values of every layer for the positions so far."""

# B batch, S sequence, L layers, G key-value heads, C head width, M capacity

import torch
from torch import Tensor

from parrots.models.config import Model


class KVCache:
    """Room for `capacity` positions of `batch` sequences, which may come to differ in length.

    While they do not, new keys are written side by side and nothing is masked, which is several times as fast.
    """

    def __init__(self, config: Model, batch: int, capacity: int, like: Tensor):
        """like: a tensor of the device and dtype that keys have."""
        shape = (config.n_layers, batch, config.n_kv_heads, capacity, config.d_head)
        self.keys = torch.zeros(shape, device=like.device, dtype=like.dtype)
        self.values = torch.zeros_like(self.keys)
        self.length: int | Tensor = 0
        """Positions held: of each sequence, or (B,) where they differ."""

    def positions(self, S: int) -> slice | Tensor:
        """The positions of the next S tokens, (B, S) where sequences differ."""
        if isinstance(self.length, int):
            return slice(self.length, self.length + S)
        return self.length[:, None] + torch.arange(S, device=self.length.device)

    def extend(self, layer: int, k_BGSC: Tensor, v_BGSC: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Write one layer's new keys and values; returns all of that layer's, and who may see them where not all may.

        The mask is (S, M) or (B, 1, S, M). None: the new tokens are the first, or one, and a causal mask or none will do.
        """
        S = k_BGSC.shape[2]
        keys, values = self.keys[layer], self.values[layer]
        if isinstance(self.length, int):
            end = self.length + S
            keys[:, :, self.length : end] = k_BGSC
            values[:, :, self.length : end] = v_BGSC
            mask = None
            if self.length and S > 1:
                mask = torch.ones(S, end, dtype=torch.bool, device=keys.device).tril(self.length)
            return keys[:, :, :end], values[:, :, :end], mask
        at_BS = self.length[:, None] + torch.arange(S, device=keys.device)
        batch_B1 = torch.arange(len(keys), device=keys.device)[:, None]
        keys[batch_B1, :, at_BS] = k_BGSC.transpose(1, 2)
        values[batch_B1, :, at_BS] = v_BGSC.transpose(1, 2)
        seen_BSM = torch.arange(keys.shape[2], device=keys.device) <= at_BS[..., None]
        return keys, values, seen_BSM[:, None]

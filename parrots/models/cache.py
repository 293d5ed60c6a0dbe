"""What decoding remembers: the keys and values of every layer for the positions so far."""

# B batch, S sequence, L layers, G key-value heads, C head width, M capacity, W lanes of a vector

import torch
from torch import Tensor

from parrots.models import fused
from parrots.models.config import Model


class KVCache:
    """Room for `capacity` positions of `batch` sequences, which may come to differ in length.

    While they do not, new keys are written side by side and nothing is masked, which is several times as fast.
    """

    def __init__(self, config: Model, batch: int, capacity: int, like: Tensor, together: bool = False):
        """like: a tensor of the device and dtype that keys have. together: sequences will not come to differ in length.

        Then, where numba's kernels take it, the heads of W sequences stand side by side as the lanes of a vector.
        """
        self.heads, self.width = (config.n_heads, config.n_kv_heads), config.d_head
        self.batch, self.capacity = batch, capacity
        self.in_lanes = together and config.qk_norm == "none" and fused.takes(like)
        shape: tuple[int, ...] = (config.n_layers, batch, config.n_kv_heads, capacity, config.d_head)
        if self.in_lanes:
            shape = (config.n_layers, fused.blocks(batch * config.n_kv_heads), capacity, config.d_head, fused.LANES)
        self.keys = torch.zeros(shape, device=like.device, dtype=like.dtype)
        self.values = torch.zeros_like(self.keys)
        self.length: int | Tensor = 0
        """Positions held: of each sequence, or (B,) where they differ."""

    def positions(self, S: int) -> slice | Tensor:
        """The positions of the next S tokens, (B, S) where sequences differ."""
        if isinstance(self.length, int):
            return slice(self.length, self.length + S)
        return self.length[:, None] + torch.arange(S, device=self.length.device)

    def attend(self, layer: int, qkv_BSX: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
        """(B, S, H * C) one layer's attention of the new tokens, whose keys and values are written. Only `in_lanes`."""
        assert isinstance(self.length, int)
        room = (self.length, self.capacity, *self.heads, self.width)
        return fused.attend(qkv_BSX, rotation, self.keys[layer], self.values[layer], *room)

    def spread(self, index_B: Tensor) -> "KVCache":
        """A cache of as many positions in which sequence b goes on from where `index_B[b]` is here. Only `in_lanes`."""
        assert isinstance(self.length, int)
        wider = object.__new__(KVCache)
        wider.__dict__.update(self.__dict__, batch=len(index_B))
        G, C, past = self.heads[1], self.width, self.length
        n = fused.blocks(len(index_B) * G)
        lane_N = (index_B[:, None] * G + torch.arange(G)).flatten()
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = torch.zeros(len(old), n, self.capacity, C, fused.LANES)
            rows = old[:, :, :past].permute(0, 1, 4, 2, 3).flatten(1, 2)[:, lane_N]
            rows = torch.nn.functional.pad(rows, (0, 0, 0, 0, 0, n * fused.LANES - len(lane_N)))
            new[:, :, :past] = rows.unflatten(1, (n, fused.LANES)).permute(0, 1, 3, 4, 2)
            setattr(wider, name, new)
        return wider

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

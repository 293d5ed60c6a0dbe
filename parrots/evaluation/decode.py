"""Greedy decoding with a key-value cache, for prompts of unequal length."""

import torch
from torch import Tensor

from parrots.models.transformer import KVCache, Transformer


@torch.no_grad()
def greedy(model: Transformer, prompts_BS: Tensor, length_B: Tensor, new_tokens: int) -> Tensor:
    """(B, new_tokens) the most probable continuation of each prompt, token by token.

    prompts_BS: right-padded to the longest. length_B: tokens of each that are not padding. What was written to the cache
    for padding is overwritten before anything attends to it.
    """
    batch, longest = prompts_BS.shape
    cache = KVCache(model, batch, longest + new_tokens)
    last_B = torch.arange(batch, device=prompts_BS.device) * longest + length_B - 1
    token_B = model(prompts_BS, cache, last_B).logits.argmax(-1)
    cache.length_B = length_B.clone()
    out = [token_B]
    for _ in range(new_tokens - 1):
        token_B = model(token_B[:, None], cache).logits[:, 0].argmax(-1)
        out.append(token_B)
    return torch.stack(out, dim=1)

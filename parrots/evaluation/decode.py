"""Decoding with a key-value cache: greedy or sampled, for prompts of unequal length, until all are done."""

import torch
from torch import Tensor

from parrots.models.cache import KVCache
from parrots.models.transformer import Transformer


@torch.no_grad()
def generate(
    model: Transformer,
    prompts_BS: Tensor,
    length_B: Tensor,
    new_tokens: int,
    stop: int | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """(B, N) up to `new_tokens` that continue each prompt; fewer where all have met `stop`, which also fills up after it.

    prompts_BS: right-padded to the longest. length_B: tokens of each that are not padding. temperature: 0 takes the most
    probable token, 1 samples from what the model says; `generator` draws. What was written to the cache for padding is
    overwritten before anything attends to it.
    """
    if model.input_dim:
        raise ValueError(
            f"input_dim={model.input_dim}: the model reads vectors, and what it says are tokens; nothing to decode"
        )
    batch, longest = prompts_BS.shape
    cache = KVCache(model.config, batch, longest + new_tokens, model.embedding.weight)
    last_B = torch.arange(batch, device=prompts_BS.device) * longest + length_B - 1
    logits_BV = model(prompts_BS, cache, last_B).logits
    if not (length_B == longest).all():
        cache.length = length_B.clone()
    done_B = torch.zeros(batch, dtype=torch.bool, device=prompts_BS.device)
    out = []
    while True:
        token_B = choose(logits_BV, temperature, generator)
        if stop is not None:
            token_B = token_B.masked_fill(done_B, stop)
            done_B |= token_B == stop
        out.append(token_B)
        if len(out) == new_tokens or (stop is not None and done_B.all()):
            return torch.stack(out, dim=1)
        logits_BV = model(token_B[:, None], cache).logits[:, 0]


def choose(logits_BV: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """(B,) the next token of each."""
    if temperature == 0:
        return logits_BV.argmax(-1)
    return torch.multinomial((logits_BV.float() / temperature).softmax(-1), 1, generator=generator)[:, 0]

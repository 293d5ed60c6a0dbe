"""Decoding with a key-value cache: greedy or sampled, for prompts of unequal length, until all are done."""

import torch
from torch import Tensor

from parrots.models.cache import KVCache
from parrots.models.transformer import Transformer

MANY = 64  # prompts from which it is looked for what they share
SHARED = 0.75  # distinct beginnings to a prompt, from which on each prompt is read by itself


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
    together = bool((length_B == longest).all())
    cache = KVCache(model.config, batch, longest + new_tokens, model.embedding.weight, together)
    if cache.in_lanes and batch >= MANY:
        cache, prompts_BS = read_shared(model, prompts_BS, longest + new_tokens)
    left = prompts_BS.shape[1]
    last_B = torch.arange(batch, device=prompts_BS.device) * left + length_B - longest + left - 1
    logits_BV = model(prompts_BS, cache, last_B).logits
    if not together:
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


def read_shared(model: Transformer, prompts_BS: Tensor, capacity: int) -> tuple[KVCache, Tensor]:
    """A cache that has read what many prompts begin with, once for all that do, and what is left of each prompt."""
    batch, S = prompts_BS.shape
    vocab = model.head.weight.shape[0]
    of_B = prompts_BS.new_zeros(batch)  # where in the cache each prompt goes on
    cache = KVCache(model.config, 1, capacity, model.embedding.weight, together=True)
    for s in range(S - 1):
        following, next_B = torch.unique(of_B * vocab + prompts_BS[:, s], return_inverse=True)
        if len(following) > SHARED * batch:
            break
        cache = cache.spread(following // vocab)
        model(following[:, None] % vocab, cache, following[:0])
        of_B = next_B
    else:
        s = S - 1
    return cache.spread(of_B), prompts_BS[:, s:]


def choose(logits_BV: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """(B,) the next token of each."""
    if temperature == 0:
        return logits_BV.argmax(-1)
    return torch.multinomial((logits_BV.float() / temperature).softmax(-1), 1, generator=generator)[:, 0]

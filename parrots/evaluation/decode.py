"""Decoding with a key-value cache: greedy or sampled, for prompts of unequal length, until all are done."""

import torch
from torch import Tensor

from parrots.models import fused, lanes
from parrots.models.cache import KVCache
from parrots.models.config import count_active
from parrots.models.transformer import Transformer

SAVED = 10_000_000  # products of two numbers, from which on it is worth finding out which prompts begin alike
COPIED = 300  # products in the time of which one number of keys and values finds another sequence


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
    overwritten before anything attends to it. ValueError for nothing to read or to
    say, and for more than the model's `seq_len`; IndexError for what is no token.
    """
    if model.input_dim:
        raise ValueError(
            f"input_dim={model.input_dim}: the model reads vectors, and what it says are tokens; nothing to decode"
        )
    if new_tokens < 1 or length_B.min() < 1:
        raise ValueError(f"new_tokens={new_tokens}, shortest prompt {int(length_B.min())}: at least one token of each")
    if (most := prompts_BS.shape[1] + new_tokens - 1) > len(model.cos):
        raise ValueError(f"new_tokens={new_tokens}: {most} tokens are to be read, and the model's seq_len is {len(model.cos)}")
    if lanes.take(model, len(prompts_BS)):
        return in_lanes(model, prompts_BS, length_B, new_tokens, stop, temperature, generator)
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


def in_lanes(
    model: Transformer,
    prompts_BS: Tensor,
    length_B: Tensor,
    new_tokens: int,
    stop: int | None,
    temperature: float,
    generator: torch.Generator | None,
) -> Tensor:
    """`generate`, all sequences one token at a time: each reads its prompt as far as that goes and then what it says."""
    batch, longest = prompts_BS.shape
    prompts_BS = prompts_BS.long()
    check_tokens(prompts_BS, len(model.embedding.weight))
    shortest = int(length_B.min())
    state = read_shared(model, prompts_BS[:, :shortest], longest + new_tokens)
    tokens_SB = torch.nn.functional.pad(prompts_BS.T, (0, 0, 0, new_tokens)).contiguous()
    drawn = torch.empty(0)
    if temperature:
        drawn = 1 - torch.rand(longest + new_tokens - shortest, fused.blocks(batch) * fused.LANES, generator=generator)
    length_B = length_B.long().contiguous()
    state.decode(tokens_SB, length_B, new_tokens, -1 if stop is None else stop, 1 / temperature if temperature else 0, drawn)
    said_BN = tokens_SB.gather(0, length_B + torch.arange(new_tokens)[:, None]).T
    if stop is None:
        return said_BN
    after_BN = (said_BN == stop).cumsum(1) > 0
    return said_BN.masked_fill(after_BN, stop)[:, : int((~after_BN).sum(1).max()) + 1]


def check_tokens(tokens: Tensor, vocab_size: int) -> None:
    """IndexError for what is no token: kernels read at addresses, and do not ask."""
    least, most = tokens.aminmax()
    if least < 0 or most >= vocab_size:
        raise IndexError(f"token {int(least if least < 0 else most)}: the vocabulary has 0 to {vocab_size - 1}")


def read_shared(model: Transformer, prompts_BS: Tensor, capacity: int) -> lanes.Lanes:
    """What many prompts begin with, read once for all that do: all but one token of each at most."""
    from parrots.models import compiled

    (batch, S), V, c = prompts_BS.shape, len(model.embedding.weight), model.config
    prompts_BS, of_B, sizes_S = prompts_BS.contiguous(), prompts_BS.new_empty(batch), prompts_BS.new_empty(S)
    before_SB, token_SB = prompts_BS.new_empty(2, S, batch)
    kept = 2 * c.n_layers * c.n_kv_heads * c.d_head  # numbers a token
    costs = float(count_active(c, V).N), float(SAVED), float(COPIED * kept)
    found = (fused.at(x) for x in (of_B, before_SB, token_SB, sizes_S))
    shared = compiled.beginnings(fused.at(prompts_BS), batch, S, V, *costs, *found)
    sizes = sizes_S.tolist()[:shared]
    state = lanes.Lanes(model, sizes[0] if shared else batch, 1 if shared else capacity, batch)
    for s, n in enumerate(sizes):
        if s:
            state.spread(before_SB[s, :n], s + 1)
        state.read(token_SB[s, :n], wanted=False)
    if shared:
        state.spread(of_B, capacity)
    return state


def choose(logits_BV: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """(B,) the next token of each."""
    if temperature == 0:
        return logits_BV.argmax(-1)
    return torch.multinomial((logits_BV.float() / temperature).softmax(-1), 1, generator=generator)[:, 0]

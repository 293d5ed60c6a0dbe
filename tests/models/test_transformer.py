import pytest
import torch

from parrots.evaluation.decode import greedy
from parrots.models.config import Dense, Model, MoE
from parrots.models.transformer import KVCache, Transformer, rotate

VOCAB, SEQ = 30, 24
FFNS = {"dense": Dense(d_ff=24), "moe": MoE(d_ff=12, n_experts=4)}


def built(ffn, n_kv_heads: int = 2) -> Transformer:
    transformer = Transformer(
        Model(d_model=16, n_layers=2, n_heads=4, n_kv_heads=n_kv_heads, ffn=ffn, init_std=0.3), VOCAB, SEQ
    )
    transformer.initialize(0)
    return transformer.eval()


@pytest.fixture(params=FFNS)
def transformer(request) -> Transformer:
    return built(FFNS[request.param])


def test_a_token_sees_only_its_past(transformer):
    tokens = torch.randint(VOCAB, (2, SEQ), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, 10] = (tokens[:, 10] + 1) % VOCAB
    before, after = transformer(tokens).logits, transformer(changed).logits
    torch.testing.assert_close(before[:, :10], after[:, :10])
    assert (before[:, 10] - after[:, 10]).abs().max() > 1e-3


def test_logits_asked_for_at_some_positions_are_those_of_all(transformer):
    tokens = torch.randint(VOCAB, (3, SEQ), generator=torch.Generator().manual_seed(0))
    at = torch.tensor([0, 5, SEQ, 2 * SEQ + 3])
    torch.testing.assert_close(transformer(tokens, at_C=at).logits, transformer(tokens).logits.flatten(0, 1)[at])


def test_cached_decoding_gives_the_logits_of_the_whole_sequence(transformer):
    tokens = torch.randint(VOCAB, (3, SEQ), generator=torch.Generator().manual_seed(0))
    whole = transformer(tokens).logits
    cache = KVCache(transformer, 3, SEQ)
    parts = [transformer(tokens[:, :7], cache).logits]
    parts += [transformer(tokens[:, i : i + 1], cache).logits for i in range(7, SEQ)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_greedy_decoding_of_padded_prompts_is_that_of_each_alone(transformer):
    draw = torch.Generator().manual_seed(1)
    prompts = [torch.randint(VOCAB, (n,), generator=draw) for n in (3, 9, 6)]
    padded = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True)
    together = greedy(transformer, padded, torch.tensor([len(p) for p in prompts]), new_tokens=8)
    for prompt, got in zip(prompts, together, strict=True):
        sequence = prompt.clone()
        for _ in range(8):
            sequence = torch.cat([sequence, transformer(sequence[None]).logits[0, -1:].argmax(-1)])
        assert got.tolist() == sequence[len(prompt) :].tolist()


def test_attention_depends_on_distance_not_on_position():
    """The scores of rotated queries and keys are those of a shift of both."""
    model = built(FFNS["dense"])
    draw = torch.Generator().manual_seed(2)
    heads, d_head = 6, 4
    q, k = (torch.randn(1, 1, heads * d_head, generator=draw) for _ in range(2))

    def score(i: int, j: int) -> torch.Tensor:
        a, b = (rotate(x, model.cos[[at]], model.sin[[at]], d_head) for x, at in ((q, i), (k, j)))
        return (a * b).sum(-1)

    torch.testing.assert_close(score(9, 4), score(14, 9), rtol=1e-4, atol=1e-5)
    assert (score(9, 4) - score(9, 5)).abs().max() > 1e-3


def test_the_same_seed_gives_the_same_weights_and_another_gives_others():
    one, same, other = (built(FFNS["moe"]) for _ in range(3))
    other.initialize(1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.head.weight, other.head.weight)
    assert max(w.abs().max() for w in one.parameters() if w.dim() > 1) <= 3 * one.config.init_std


def test_backends_give_one_model(transformer):
    other = Transformer(transformer.config, VOCAB, SEQ, backend="loop")
    other.load_state_dict(transformer.state_dict())
    tokens = torch.randint(VOCAB, (3, SEQ), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(tokens).logits, transformer(tokens).logits, rtol=1e-4, atol=1e-5)

import pytest
import torch

from parrots.evaluation.decode import generate
from parrots.models.cache import KVCache
from parrots.models.config import Dense, Model, MoE
from parrots.models.kernels import rotate
from parrots.models.transformer import Transformer

VOCAB, SEQ = 30, 24
FFNS = {"dense": Dense(d_ff=24), "moe": MoE(d_ff=12, n_experts=4)}


def built(ffn, **options) -> Transformer:
    transformer = Transformer(
        Model(d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, ffn=ffn, init_std=0.3, **options), VOCAB, SEQ
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


@pytest.mark.parametrize("qk_norm", ["none", "head", "projection"])
@pytest.mark.parametrize(
    "ffn", [*FFNS.values(), MoE(d_ff=12, n_experts=4, router="expert_choice", renormalize=False, n_shared=1)]
)
def test_in_float64_nothing_is_rounded_to_less(ffn, qk_norm):
    """By central differences: their second-order error is far below what any rounding to float32 would leave."""
    transformer = built(ffn, qk_norm=qk_norm).double().train()
    tokens = torch.randint(VOCAB, (2, SEQ), generator=torch.Generator().manual_seed(0))
    weights = list(transformer.parameters())
    along = [torch.randn(w.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) for w in weights]
    slope = sum((g * a).sum() for g, a in zip(torch.autograd.grad(loss(transformer, tokens), weights), along, strict=True))

    @torch.no_grad()
    def moved(by: float) -> float:
        torch._foreach_add_(weights, along, alpha=by)
        value = loss(transformer, tokens)
        torch._foreach_add_(weights, along, alpha=-by)
        return value

    assert (moved(1e-7) - moved(-1e-7)) / 2e-7 == pytest.approx(slope.item(), rel=1e-6)


def loss(transformer, tokens):
    return transformer(tokens).logits.square().mean()


def test_more_tokens_than_positions_are_refused(transformer):
    with pytest.raises(ValueError, match=f"{SEQ + 1} tokens: the model's seq_len is {SEQ}"):
        transformer(torch.zeros(1, SEQ + 1, dtype=torch.int64))
    cache = KVCache(transformer.config, 1, SEQ + 1, transformer.embedding.weight)
    transformer(torch.zeros(1, SEQ, dtype=torch.int64), cache)
    with pytest.raises(ValueError, match=f"{SEQ + 1} tokens"):
        transformer(torch.zeros(1, 1, dtype=torch.int64), cache)


def test_no_sequences_have_no_logits(transformer):
    assert transformer(torch.zeros(0, 5, dtype=torch.int64)).logits.shape == (0, 5, VOCAB)


def test_logits_asked_for_at_some_positions_are_those_of_all(transformer):
    tokens = torch.randint(VOCAB, (3, SEQ), generator=torch.Generator().manual_seed(0))
    at = torch.tensor([0, 5, SEQ, 2 * SEQ + 3])
    torch.testing.assert_close(transformer(tokens, at_C=at).logits, transformer(tokens).logits.flatten(0, 1)[at])


@pytest.mark.parametrize("ragged", [False, True])
def test_cached_decoding_gives_the_logits_of_the_whole_sequence(transformer, ragged):
    tokens = torch.randint(VOCAB, (3, SEQ), generator=torch.Generator().manual_seed(0))
    whole = transformer(tokens).logits
    cache = KVCache(transformer.config, 3, SEQ, transformer.head.weight)
    if ragged:
        cache.length = torch.zeros(3, dtype=torch.int64)
    parts = [transformer(tokens[:, :7], cache).logits, transformer(tokens[:, 7:11], cache).logits]
    parts += [transformer(tokens[:, i : i + 1], cache).logits for i in range(11, SEQ)]
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-4, atol=1e-5)


def test_greedy_decoding_of_padded_prompts_is_that_of_each_alone(transformer):
    draw = torch.Generator().manual_seed(1)
    prompts = [torch.randint(VOCAB, (n,), generator=draw) for n in (3, 9, 6)]
    padded = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True)
    together = generate(transformer, padded, torch.tensor([len(p) for p in prompts]), new_tokens=8)
    for prompt, got in zip(prompts, together, strict=True):
        sequence = prompt.clone()
        for _ in range(8):
            sequence = torch.cat([sequence, transformer(sequence[None]).logits[0, -1:].argmax(-1)])
        assert got.tolist() == sequence[len(prompt) :].tolist()


def test_decoding_ends_when_all_have_stopped_and_fills_up_after(transformer):
    prompts = torch.randint(VOCAB, (6, 4), generator=torch.Generator().manual_seed(3))
    length = torch.full((6,), 4)
    free = generate(transformer, prompts, length, 12)
    stop = int(free.flatten().mode().values)
    held = generate(transformer, prompts, length, 12, stop=stop)
    assert held.shape[1] <= 12
    for row, got in zip(free.tolist(), held.tolist(), strict=True):
        end = row.index(stop) if stop in row else len(row)
        assert got == (row[:end] + [stop] * 12)[: len(got)]
    ends = [row.index(stop) + 1 if stop in row else 12 for row in free.tolist()]
    assert held.shape[1] == max(ends)


def test_samples_come_as_often_as_the_model_says(transformer):
    """A thousand draws of the next token; a chi-squared of fewer than 60 with 29 degrees of freedom (p = 6e-4)."""
    prompt = torch.tensor([[1, 2, 3]]).expand(1000, 3)
    draw = torch.Generator().manual_seed(0)
    sampled = generate(transformer, prompt, torch.full((1000,), 3), 1, temperature=2.0, generator=draw)
    expected = 1000 * (transformer(prompt[:1]).logits[0, -1] / 2.0).softmax(-1)
    found = torch.bincount(sampled[:, 0], minlength=VOCAB)
    assert ((found - expected) ** 2 / expected).sum() < 60


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


@pytest.mark.parametrize(("ffn", "writers"), [(FFNS["dense"], 2), (MoE(d_ff=12, n_experts=4, n_shared=1), 3)])
def test_depth_scaled_init_divides_what_writes_to_the_residual_and_nothing_else(ffn, writers):
    plain, scaled = built(ffn), built(ffn, depth_scaled_init=True)
    divided = []
    for (name, weight), other in zip(plain.named_parameters(), scaled.parameters(), strict=True):
        if not torch.equal(weight, other):
            torch.testing.assert_close(other, weight / (2 * 2) ** 0.5)
            divided.append(name.removeprefix("blocks.")[2:])
    assert len(divided) == 2 * writers
    assert set(divided) <= {"attention.out.weight", "ffn.down.weight", "ffn.down_EFD", "ffn.shared.down.weight"}


def test_backends_give_one_model(transformer):
    other = Transformer(transformer.config, VOCAB, SEQ, backend="loop")
    other.load_state_dict(transformer.state_dict())
    tokens = torch.randint(VOCAB, (3, SEQ), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(other(tokens).logits, transformer(tokens).logits, rtol=1e-4, atol=1e-5)

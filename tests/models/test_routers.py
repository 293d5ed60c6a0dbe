"""Who goes where, and what may depend on what."""

import pytest
import torch
import torch.nn.functional as F

from parrots.evaluation.decode import generate
from parrots.models.cache import KVCache
from parrots.models.config import Dense, Model, MoE
from parrots.models.routers import ExpertChoice, count, load_balance_loss, softmax_top_k, z_loss
from parrots.models.transformer import Transformer

VOCAB, S, E = 30, 10, 4
CHOOSING = MoE(d_ff=8, n_experts=E, top_k=2, router="expert_choice", renormalize=False)


def built(ffn) -> Transformer:
    config = Model(d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, ffn=ffn, init_std=0.3)
    transformer = Transformer(config, VOCAB, S)
    transformer.initialize(0)
    return transformer


def tokens(B: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randint(VOCAB, (B, S), generator=torch.Generator().manual_seed(seed))


def with_thresholds(transformer: Transformer) -> Transformer:
    for routing, block in zip(transformer(tokens(64)).routings, transformer.blocks, strict=True):
        block.ffn.router.learn(routing.cutoff_E)
    return transformer.eval()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_no_token_is_dropped(k):
    routing = softmax_top_k(torch.randn(100, 8), k, renormalize=k > 1)
    assert routing.counts_E.sum() == 100 * k
    assert all(len(set(row.tolist())) == k for row in routing.expert_R.view(100, k))


def test_renormalized_weights_are_mixtrals_softmax_over_the_chosen():
    logits_TE = torch.randn(50, 8)
    routing = softmax_top_k(logits_TE, 2, renormalize=True)
    chosen_TK = logits_TE.gather(1, routing.expert_R.view(50, 2)).softmax(-1)
    torch.testing.assert_close(routing.weight_R.view(50, 2), chosen_TK)


def test_switch_weighs_its_one_expert_with_its_probability():
    logits_TE = torch.randn(50, 8)
    torch.testing.assert_close(softmax_top_k(logits_TE, 1, renormalize=False).weight_R, logits_TE.softmax(-1).amax(1))


def test_experts_that_choose_take_the_same_number_of_tokens_of_each_sequence():
    for routing in built(CHOOSING)(tokens()).routings:
        for e in range(E):
            taken = routing.token_R[routing.expert_R == e] // S
            assert taken.bincount(minlength=3).tolist() == [S * 2 // E] * 3


def test_what_experts_choose_of_a_sequence_does_not_depend_on_its_batch():
    """Else workers and micro-batches would change the result."""
    transformer = built(CHOOSING)
    torch.testing.assert_close(transformer(tokens())[0][1:2], transformer(tokens()[1:2])[0])


def test_expert_choice_looks_ahead_in_training_and_not_in_evaluation():
    one = tokens()
    other = one.clone()
    other[:, -1] = (one[:, -1] + 1) % VOCAB
    transformer = built(CHOOSING)
    moved = [(transformer(one).logits - transformer(t).logits)[:, :-1].abs().max() for t in (other, one)]
    assert moved[0] > 1e-3 > moved[1]
    with_thresholds(transformer)
    torch.testing.assert_close(transformer(one).logits[:, :-1], transformer(other).logits[:, :-1])


def test_thresholds_send_about_as_many_tokens_as_training_did():
    transformer = with_thresholds(built(CHOOSING))
    for routing in transformer(tokens(64, seed=1)).routings:
        assert 0.7 < routing.counts_E.sum() / (64 * S * 2) < 1.3


def test_experts_that_choose_decode_with_thresholds_and_are_refused_without():
    transformer = built(CHOOSING)
    prompt, length = tokens()[:, :4], torch.full((3,), 4)
    with pytest.raises(ValueError, match="router='expert_choice' looks at later tokens"):
        transformer(prompt, KVCache(transformer.config, 3, S, transformer.head.weight))
    with pytest.raises(ValueError, match="no thresholds yet"):
        transformer.eval()(prompt)
    decoded = generate(with_thresholds(transformer.train()), prompt, length, 3)
    for i in range(3):
        want = transformer(torch.cat([prompt, decoded[:, :i]], dim=1)).logits[:, -1].argmax(-1)
        assert torch.equal(decoded[:, i], want)


def test_thresholds_are_a_running_mean_that_starts_at_the_first():
    router = ExpertChoice(16, CHOOSING)
    router.learn(torch.full((E,), 0.5))
    assert router.threshold_E.tolist() == [0.5] * E
    router.learn(torch.zeros(E))
    assert router.threshold_E.tolist() == pytest.approx([0.495] * E)


def test_a_hash_sends_a_token_where_its_id_says_and_nowhere_twice():
    transformer = built(MoE(d_ff=8, n_experts=E, router="hash"))
    ids = tokens()
    experts = transformer(ids).routings[0].expert_R.view(-1, 2)
    assert (experts[:, 0] != experts[:, 1]).all()
    table = transformer.blocks[0].ffn.router.table_VK
    assert torch.equal(experts, table[ids.flatten()])
    assert len(table.unique()) == E
    assert not torch.equal(table, transformer.blocks[1].ffn.router.table_VK)


def test_a_random_router_is_never_trained_and_moves_nothing_for_balance():
    transformer = built(MoE(d_ff=8, n_experts=E, router="random"))
    out = transformer(tokens())
    assert not any(routing.logits_TE.requires_grad for routing in out.routings)
    out.logits.square().mean().backward()
    assert transformer.blocks[0].ffn.router.linear.weight.grad is None


@pytest.mark.parametrize("ffn", [Dense(d_ff=8), MoE(d_ff=8, n_experts=E), MoE(d_ff=8, n_experts=E, router="hash")])
def test_other_models_do_not_look_ahead_even_in_training(ffn):
    one = tokens()
    other = one.clone()
    other[:, -1] = (one[:, -1] + 1) % VOCAB
    transformer = built(ffn)
    torch.testing.assert_close(transformer(one).logits[:, :-1], transformer(other).logits[:, :-1])


def test_load_balance_loss_is_one_when_balanced_and_n_experts_when_collapsed():
    even = load_balance_loss(torch.full((64, 8), 1 / 8), torch.full((1, 8), 16), k=2)
    assert even == pytest.approx(1.0)
    collapsed = F.one_hot(torch.zeros(64, dtype=torch.int64), 8)
    assert load_balance_loss(collapsed.float(), collapsed.sum(0)[None], k=1) == pytest.approx(8)


def test_parts_of_the_load_balance_loss_add_up_to_the_mean_over_groups():
    """Two groups of twelve tokens, four tokens of padding, taken in parts of any size."""
    probs_TE = torch.randn(28, E).softmax(-1)
    group_T = torch.tensor([0] * 12 + [1] * 12 + [2] * 4)
    experts_TK = probs_TE.topk(2).indices
    counts_GE = torch.stack([count(experts_TK[group_T == g].flatten(), E) for g in (0, 1)])
    each = [E * (counts / 24 * probs_TE[group_T == g].mean(0)).sum() for g, counts in enumerate(counts_GE)]
    for size in (1, 5, 28):
        parts = zip(probs_TE.split(size), group_T.split(size), strict=True)
        total = sum(load_balance_loss(probs, counts_GE, 2, group) for probs, group in parts)
        assert total == pytest.approx(torch.stack(each).mean().item(), abs=1e-6)


def test_z_loss_is_the_squared_log_partition():
    assert z_loss(torch.zeros(1, 8)).item() == pytest.approx(torch.tensor(8.0).log().item() ** 2)

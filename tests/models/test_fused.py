"""Kernels compiled by numba are the plain formulas, forward and backward, and step aside where they do not go."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from parrots.evaluation import decode
from parrots.evaluation.decode import generate
from parrots.models import fused, kernels, lanes
from parrots.models.config import Model, count_active
from parrots.models.routers import softmax_top_k
from parrots.models.transformer import Block, Transformer
from parrots.spec import Training
from parrots.training.optim import adamw, descend

pytestmark = pytest.mark.skipif(not fused.installed(), reason="numba is not installed")
DRAW = torch.Generator().manual_seed(0)
FFNS = {
    "dense": {"kind": "dense", "d_ff": 13},
    "ungated": {"kind": "dense", "d_ff": 16, "activation": "mlp"},
    "experts": {"kind": "moe", "d_ff": 8, "n_experts": 5},
    "switch": {"kind": "moe", "d_ff": 8, "n_experts": 20, "top_k": 1, "renormalize": False},
    "ungated-experts": {"kind": "moe", "d_ff": 5, "n_experts": 4, "activation": "mlp", "renormalize": False},
    "shared": {"kind": "moe", "d_ff": 8, "n_experts": 4, "n_shared": 2, "router": "random"},
}


def normal(*shape: int, scale: float = 1.0) -> torch.Tensor:
    return (scale * torch.randn(shape, generator=DRAW)).requires_grad_()


def model(heads: int = 4, kv: int = 2, d: int = 16, ffn=None, **more) -> Model:
    said = {"d_model": d, "n_layers": 2, "n_heads": heads, "n_kv_heads": kv, "init_std": 0.3}
    return Model.model_validate({**said, "ffn": ffn or {"kind": "dense", "d_ff": 24}, **more})


def outcome(call, *inputs):
    """What a function gives and the gradients of a random projection of it."""
    inputs = [x.detach().requires_grad_() for x in inputs]
    y = call(*inputs)
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.dtype)
    return [y.detach(), *torch.autograd.grad((y * probe).sum(), inputs)]


def same(call, *inputs, tolerance=3e-6):
    """In float32, through the kernels, and in float64, through plain formulas."""
    assert fused.takes(inputs[0])
    got, want = outcome(call, *inputs), outcome(call, *(x.double() for x in inputs))
    for a, b in zip(got, want, strict=True):
        assert (a.double() - b).abs().max() <= tolerance * max(1.0, b.abs().max().item())


@pytest.mark.parametrize("shape", [(1, 1, 2), (3, 5, 16), (2, 7, 33)])
def test_norm_swiglu_and_loss_are_their_formulas(shape):
    D = shape[-1]
    same(lambda x, w: kernels.rms_norm(x, w, 1e-5), normal(*shape, scale=3.0), normal(D))
    same(kernels.swiglu, normal(*shape[:-1], 2 * D, scale=4.0))
    targets = torch.randint(D, (shape[1],), generator=DRAW)
    same(lambda x: kernels.cross_entropy(x, targets), normal(shape[1], D, scale=5.0))


@pytest.mark.parametrize(
    ("T", "I", "O"), [(1, 700, 600), (7, 300, 200), (9, 256, 513), (500, 30, 50), (300, 300, 17), (600, 5, 160), (30_000, 7, 2)]
)
def test_a_product_with_a_weight_is_its_formula(T, I, O):  # noqa: E741
    """Widths that fill no vector, rows that fill no tile, sums longer than a strip; of sequences as of rows."""
    x, weight = normal(2, T, I), normal(O, I, scale=0.3)
    assert fused.multiplies(x, weight)
    linear = kernels.Linear(I, O)
    assert linear.weight.shape == (O, I)
    same(lambda x, w: torch.func.functional_call(linear, {"weight": w}, (x,)), x, weight, tolerance=3e-5)


def test_a_product_under_autocast_or_of_other_numbers_is_torchs():
    x, weight = normal(500, 32), normal(64, 32)
    assert fused.multiplies(x, weight)
    assert not fused.multiplies(x[:2], weight)
    assert not fused.multiplies(x.bfloat16(), weight.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fused.multiplies(x, weight)


def test_exponentials_saturate_as_they_ought_to():
    x = torch.tensor([[-200.0, -100.0, -80.0, 0.0, 80.0, 200.0] + [1.0] * 6])
    torch.testing.assert_close(kernels.swiglu(x), F.silu(x[:, :6]) * x[:, 6:], rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize(("T", "E", "k"), [(1, 1, 1), (9, 5, 2), (6, 70, 3)])
def test_the_router_is_softmax_and_top_k(renormalize, T, E, k):
    logits_TE, pull_TE = normal(T, E, scale=2.0), normal(T, E).detach()

    def both(x):
        routing = softmax_top_k(x, k, renormalize)
        probs, weights = routing.probs_TE, routing.weight_R
        return torch.cat([weights.double(), (probs.double() * pull_TE).flatten()])

    with FlopCounterMode(display=False):  # something watches operators: the plain way
        want, plain = outcome(both, logits_TE), softmax_top_k(logits_TE, k, renormalize)
    torch.testing.assert_close(outcome(both, logits_TE), want, rtol=2e-5, atol=2e-6)
    routing = softmax_top_k(logits_TE, k, renormalize)
    assert torch.equal(routing.expert_R, plain.expert_R)
    assert torch.equal(routing.counts_E, plain.counts_E)


@pytest.mark.parametrize("ffn", ["dense", "ungated", "experts"])
@pytest.mark.parametrize(("heads", "kv", "d"), [(4, 2, 16), (3, 3, 30), (4, 1, 8), (1, 1, 34)])
@pytest.mark.parametrize(("B", "S"), [(1, 1), (3, 7), (9, 16), (1, fused.LONGEST_WIDE), (2, fused.LONGEST)])
def test_half_a_block_in_one_call_is_its_formula(ffn, heads, kv, d, B, S, monkeypatch):
    """Also where heads of sequences do not fill the lanes of a vector."""
    block = Block(model(heads, kv, d, FFNS[ffn]), 9, 0, "loop")
    for weight in block.parameters():
        torch.nn.init.normal_(weight, 0.0 if weight.dim() > 1 else 1.0, 0.3, generator=DRAW)
    names = [name for name, _ in block.named_parameters()]
    monkeypatch.setattr(fused, "longest", lambda *_: S)
    half = d // heads // 2
    angles = torch.outer(torch.arange(S), 10_000.0 ** (-torch.arange(half) / half)).repeat(1, heads + kv)
    called = []
    for function in (fused.AttentionBlock, fused.SwiGLUBlock):
        monkeypatch.setattr(function, "apply", lambda *args, call=function.apply: (called.append(call), call(*args))[1])

    def call(x, *weights):
        rotation = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        inputs = (x, torch.zeros(B, S, dtype=torch.int64), rotation, None)
        return functional_call(block, dict(zip(names, weights, strict=True)), inputs)[0]

    same(call, normal(B, S, d), *(weight.detach() for weight in block.parameters()), tolerance=2e-5)
    assert len(called) == (2 if ffn == "dense" else 1)


def test_what_is_no_number_is_never_hidden():
    """Divergence is seen by it."""
    nan = torch.full((4, 8), 1.0)
    nan[2, 3] = torch.nan
    targets = torch.zeros(4, dtype=torch.int64)
    assert kernels.cross_entropy(nan, targets).isnan()
    for y in (kernels.swiglu(nan), kernels.rms_norm(nan, torch.ones(8), 1e-5), softmax_top_k(nan, 2, True).probs_TE):
        assert y[2].isnan().any()
        assert y[[0, 1, 3]].isfinite().all()
    x = torch.ones(1, 5, 16)
    x[0, 3, 0] = torch.nan
    weights = torch.ones(16), torch.ones(32, 16), torch.ones(16, 16)
    y = fused.AttentionBlock.apply(x, *weights, torch.ones(5, 12), torch.zeros(5, 12), 4, 2, 1e-5)[0]
    assert y[:3].isfinite().all()
    assert y[3].isnan().any()


def test_lanes_that_would_be_empty_shorten_what_is_worth_it():
    assert fused.longest(8, 16) == fused.longest(8, 32) == fused.LONGEST
    assert fused.longest(8, 4) == fused.LONGEST // 4
    assert fused.longest(8, 17) == fused.LONGEST * 17 // 32


def test_a_gradient_of_a_gradient_is_refused_and_not_left_out():
    x = normal(4, 8)
    for y in (kernels.rms_norm(x, torch.ones(8), 1e-5), kernels.cross_entropy(x, torch.zeros(4, dtype=torch.int64))):
        with pytest.raises(RuntimeError, match="have none of their own"):
            torch.autograd.grad(y.sum(), x, create_graph=True)


def test_a_router_in_lanes_hides_nothing_that_is_no_number():
    from parrots.models.compiled.decoding import choose

    for renormalize in (True, False):
        logits, expert, weight = torch.zeros(4, 16), torch.zeros(2, 16), torch.zeros(2, 16)
        logits[2, 5] = torch.nan
        choose(fused.at(logits), fused.at(expert), fused.at(weight), 4, 2, renormalize)
        assert weight[:, 5].isnan().all()
        assert weight[:, :5].sum() == pytest.approx(5.0 if renormalize else 2.5)


@pytest.mark.parametrize("where", ["counted", "float64", "long"])
def test_where_they_do_not_go_the_plain_formulas_run(where, monkeypatch):
    transformer = Transformer(model(), 20, fused.LONGEST + 1)
    transformer.initialize(0)
    tokens = torch.randint(20, (1, fused.LONGEST + 1 if where == "long" else 10), generator=DRAW)
    want = transformer(tokens).logits
    ran = []
    monkeypatch.setattr(fused.AttentionBlock, "apply", lambda *args: ran.append(args))
    if where == "counted":
        with FlopCounterMode(display=False) as counter:
            transformer(tokens)
        assert counter.get_total_flops() > 0
    else:
        got = transformer.to(torch.float64 if where == "float64" else torch.float32)(tokens).logits
        torch.testing.assert_close(got.float(), want, rtol=1e-4, atol=1e-5)
    assert not ran


@pytest.mark.parametrize("clip_norm", [0.5, 1e9])
@pytest.mark.parametrize("ffn", [None, {"kind": "moe", "d_ff": 8, "n_experts": 4}])
def test_a_step_is_clipping_and_adamw_as_torch_has_them(clip_norm, ffn):
    """Also in state, so that a checkpoint of either goes on in the other, and where a weight had no gradient once."""
    training = Training(steps=10, batch_size=1, lr=1e-2)
    ours = Transformer(model(ffn=ffn), 20, 8)
    ours.initialize(0)
    theirs = copy.deepcopy(ours)
    optimizers = [adamw(one, training) for one in (ours, theirs)]
    tokens = torch.randint(20, (4, 8), generator=DRAW)
    for step in range(5):
        for one in (ours, theirs):
            one(tokens).logits.logsumexp(-1).square().sum().backward()
            if step == 0:
                one.embedding.weight.grad = None
        want = torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip_norm)
        assert descend(optimizers[0], clip_norm).item() == pytest.approx(want.item(), rel=1e-4)
        optimizers[1].step()
        optimizers[1].zero_grad()
    assert all(weight.grad is None for weight in ours.parameters())
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=2e-5)
        assert optimizers[0].state[a].keys() == optimizers[1].state[b].keys()
        assert optimizers[0].state[a]["step"] == optimizers[1].state[b]["step"] == (4 if a is ours.embedding.weight else 5)


def reference_logits(transformer: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    """What a forward pass over all tokens at once says, in float64 and with the reference experts."""
    reference = Transformer(transformer.config, 9, 16, "loop").eval()
    reference.load_state_dict(transformer.state_dict())
    with torch.no_grad():
        return reference.double()(tokens).logits


@pytest.mark.parametrize(("heads", "kv"), [(4, 2), (4, 4), (3, 1)])
@pytest.mark.parametrize("ffn", FFNS)
@pytest.mark.parametrize("batch", [lanes.FEWEST, 70])
def test_decoding_in_lanes_is_decoding(heads, kv, ffn, batch):
    """Token by token what a forward pass over all of it says, whatever the length of a prompt; 70 share their beginnings."""
    transformer = Transformer(model(heads, kv, 24, FFNS[ffn]), 9, 16)
    transformer.initialize(0)
    transformer.eval()
    assert lanes.take(transformer, batch)
    for low in (5, 2):
        prompts, length = torch.randint(9, (batch, 6), generator=DRAW), torch.randint(low, 6, (batch,), generator=DRAW)
        prompts[:, 0] = 1
        said = generate(transformer, prompts, length, 7)
        whole = torch.nn.functional.pad(prompts, (0, 7))
        at = length[:, None] + torch.arange(7)
        logits = reference_logits(transformer, whole.scatter_(1, at, said)).gather(1, (at - 1)[..., None].expand(-1, -1, 9))
        chosen = logits.gather(2, said[..., None])[..., 0]
        assert (logits.max(-1).values - chosen).max() < 1e-4


@pytest.mark.parametrize("most", [1, 21])
@pytest.mark.parametrize("ffn", FFNS)
@torch.no_grad()
def test_logits_in_lanes_are_those_of_a_forward_pass(ffn, most):
    """Whether the first layer looks its products up, as it does for more sequences than tokens, or not."""
    transformer = Transformer(model(4, 2, 24, FFNS[ffn]), 9, 16)
    transformer.initialize(0)
    transformer.eval()
    tokens = torch.randint(9, (21, 6), generator=DRAW)
    state = lanes.Lanes(transformer, 21, 6, most)
    want = reference_logits(transformer, tokens)
    for s in range(6):
        state.read(tokens[:, s].contiguous(), wanted=s != 3)
        if s != 3:
            read = transformer.norm(state.residual.transpose(1, 2).reshape(-1, transformer.config.d_model)[:21])
            torch.testing.assert_close(transformer.head(read).double(), want[:, s], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("many", [20, 300])
def test_stopping_in_lanes_is_stopping(many, monkeypatch):
    """As the key-value cache has it: nothing after `stop` but itself, and no longer than the last that meets it."""
    transformer = Transformer(model(4, 2, 24), 9, 16)
    transformer.initialize(0)
    transformer.eval()
    prompts, length = torch.randint(9, (many, 6), generator=DRAW), torch.randint(2, 7, (many,), generator=DRAW)
    for new in (1, 3, 10):
        for stop in range(9):
            got = generate(transformer, prompts, length, new, stop)
            with monkeypatch.context() as patch:
                patch.setattr(lanes, "FEWEST", many + 1)
                assert torch.equal(generate(transformer, prompts, length, new, stop), got)


def test_sampling_in_lanes_draws_what_the_model_says():
    transformer = Transformer(model(4, 2, 24), 9, 16)
    transformer.initialize(0)
    transformer.eval()
    prompts = torch.tensor([[1, 2, 3]]).expand(20_000, -1).contiguous()
    drawn = generate(transformer, prompts, torch.full((20_000,), 3), 1, temperature=2.0, generator=DRAW)
    want = (reference_logits(transformer, prompts[:1])[0, -1] / 2).softmax(-1)
    assert (torch.bincount(drawn[:, 0], minlength=9) / 20_000 - want).abs().max() < 0.015


def test_beginnings_that_prompts_share_are_read_once(monkeypatch):
    transformer = Transformer(model(), 9, 12)
    transformer.initialize(0)
    transformer.eval()
    monkeypatch.setattr(decode, "COPIED", 0)
    monkeypatch.setattr(decode, "SAVED", 150 * count_active(transformer.config, 9).N)
    prompts = torch.randint(9, (200, 6), generator=DRAW)
    prompts[:, :2] = torch.tensor([3, 5])
    length = torch.full((200,), 6)
    real, read = lanes.Lanes.read, []
    monkeypatch.setattr(
        lanes.Lanes, "read", lambda self, token_N, wanted: (read.append(len(token_N)), real(self, token_N, wanted))
    )
    shared = generate(transformer, prompts, length, 3)
    n = len(torch.unique(prompts[:, :3], dim=0))
    assert read[:3] == [1, 1, n]
    assert len(read) == 3, "the next position, read once for fewer than 150 others, is read by each"
    monkeypatch.setattr(decode, "SAVED", math.inf)
    assert torch.equal(generate(transformer, prompts, length, 3), shared)


@pytest.mark.parametrize("V", [9, 50_000, 2**40])
def test_what_begins_alike_is_found_whatever_the_vocabulary(V):
    from parrots.models import compiled

    some = torch.randint(V, (40, 5), generator=DRAW)
    some[20:, :3] = some[:20, :3]
    prompts = some[torch.randint(40, (300,), generator=DRAW)]
    of, sizes, (before, token) = torch.empty(300, dtype=int), torch.empty(5, dtype=int), torch.empty(2, 5, 300, dtype=int)
    found = map(fused.at, (of, before, token, sizes))
    assert compiled.beginnings(fused.at(prompts), 300, 5, V, 1.0, 0.0, 0.0, *found) == 4
    assert sizes[:4].tolist() == [len(prompts[:, : s + 1].unique(dim=0)) for s in range(4)]
    for s in (3, 2, 1, 0):  # back from where each sequence goes on
        assert torch.equal(token[s, of], prompts[:, s])
        of = before[s, of]
    assert not of.any()


def test_prompts_of_which_a_few_are_the_same_are_not_copied_position_by_position():
    transformer = Transformer(model(d=64), 9, 200)
    transformer.initialize(0)
    prompts = torch.randint(9, (400, 100), generator=DRAW)
    prompts[:60] = prompts[0]
    assert decode.read_shared(transformer.eval(), prompts, 101).past < 10


def test_what_is_not_told_apart_in_lanes_is_decoded_with_a_cache():
    for changed in ({"qk_norm": "head"}, {"ffn": FFNS["experts"] | {"router": "hash"}}):
        config = Model.model_validate(model(4, 2, 24).model_dump() | changed)
        assert not lanes.take(Transformer(config, 9, 16).eval(), 100)
    assert not lanes.take(Transformer(model(4, 2, 24, FFNS["experts"]), 9, 16, "loop"), 100)
    assert not lanes.take(Transformer(model(4, 2, 24), 9, 16).to(torch.bfloat16), 100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not lanes.take(Transformer(model(4, 2, 24), 9, 16), 100)


@pytest.mark.parametrize("many", [2, 20])
def test_tokens_and_lengths_that_the_model_has_not_are_refused(many):
    transformer = Transformer(model(4, 2, 24), 9, 12)
    transformer.initialize(0)
    transformer.eval()
    prompts, length = torch.ones(many, 4, dtype=torch.int64), torch.full((many,), 4)
    assert generate(transformer, prompts, length, 9).shape == (many, 9)
    with pytest.raises(ValueError, match="seq_len is 12"):
        generate(transformer, prompts, length, 10)
    assert torch.equal(generate(transformer, prompts.int(), length, 3), generate(transformer, prompts, length, 3))
    for new, shortest in ((0, 4), (3, 0)):
        with pytest.raises(ValueError, match="at least one token"):
            generate(transformer, prompts, length.clamp(max=shortest), new)
    for token in (-1, 9):
        prompts[1, 2] = token
        with pytest.raises(IndexError):
            generate(transformer, prompts, length, 3)

"""Gradients written out are those of the plain formulas."""

import pytest
import torch
import torch.nn.functional as F

from parrots.models import kernels

DRAW = torch.Generator().manual_seed(0)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=DRAW, dtype=torch.float64, requires_grad=True)


def turned(x, cos, sin):
    """Each pair (a, b) of a head as a complex number, times e^(i angle)."""
    a, b = x.unflatten(-1, (2, -1, 3)).unbind(-3)
    out = torch.complex(a, b) * torch.complex(cos, sin).unflatten(-1, (-1, 3))
    return torch.cat([out.real, out.imag], dim=-1).transpose(1, 2)


def rotations(angles):
    """Ours and the plain one."""
    cos, sin = angles.cos(), angles.sin()
    return lambda x: kernels.rotate(x, cos, sin, 6), lambda x: turned(x, cos, sin), [(2, 5, 24)]


CASES = {
    "rms_norm": (lambda x, w: kernels.rms_norm(x, w, 1e-5), lambda x, w: F.rms_norm(x, (6,), w, 1e-5), [(2, 5, 6), (6,)]),
    "swiglu": (kernels.swiglu, lambda x: F.silu(x[..., :6]) * x[..., 6:], [(4, 12)]),
    "rotate": rotations(torch.randn(5, 12, generator=DRAW, dtype=torch.float64)),
    "rotate each its own": rotations(torch.randn(2, 5, 12, generator=DRAW, dtype=torch.float64)),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("written_out", [True, False])
def test_values_and_gradients_are_those_of_the_plain_formula(name, written_out, monkeypatch):
    monkeypatch.setattr(kernels, "written_out", lambda x: written_out)
    ours, plain, shapes = CASES[name]
    inputs = [normal(*shape) for shape in shapes]
    got, want = ours(*inputs), plain(*inputs)
    torch.testing.assert_close(got, want)
    probe = torch.randn(want.shape, generator=DRAW, dtype=torch.float64)
    torch.testing.assert_close(torch.autograd.grad(got, inputs, probe), torch.autograd.grad(want, inputs, probe))


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_differences(name, monkeypatch):
    monkeypatch.setattr(kernels, "written_out", lambda x: True)
    ours, _, shapes = CASES[name]
    assert torch.autograd.gradcheck(ours, [normal(*shape) for shape in shapes])

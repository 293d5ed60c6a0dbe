"""Bits: how few a weight may have before a built network mislabels, and how many labelings bits can tell apart at all.

Theorem 3.6 of arXiv 2410.19034 counts: W weights of c bits are at most 2^(c W) networks, n sequences have 2^n labelings, so
n <= c W. Its constant hides c, which is read here as it is: bits a weight.
"""

# B sequences, D width, F neurons, E experts

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from parrots.theory.memorization import Experts


def rounded(weight: Tensor, bits: int) -> Tensor:
    """To 2^bits equally spaced values, symmetric about the mean; the step is that of least squared error.

    Mean and step are one number each a tensor, and not counted.
    """
    middle = weight.mean()
    centred = weight - middle
    half = 2 ** (bits - 1)
    largest = float(centred.abs().max())
    best = centred * 0
    for clip in np.linspace(0.05, 1, 20):
        step = max(largest * clip / half, 1e-30)
        tried = ((centred / step).floor().clamp(-half, half - 1) + 0.5) * step
        if (tried - centred).square().sum() < (best - centred).square().sum():
            best = tried
    return best + middle


def with_bits(experts: Experts, bits: int) -> Experts:
    """The same networks with weights and biases of so many bits; output weights are labels and have one. Zeros that fill
    up an expert stay zeros: which neurons there are is the expert's size and no weight."""
    used_EF = experts.out_EF != 0
    in_EFD, bias_EF = experts.in_EFD.clone(), experts.bias_EF.clone()
    in_EFD[used_EF] = rounded(experts.in_EFD[used_EF], bits)
    bias_EF[used_EF] = rounded(experts.bias_EF[used_EF], bits)
    return replace(experts, in_EFD=in_EFD, bias_EF=bias_EF)


def labelings(x_BD: Tensor, neurons: int, bits: int) -> list[int]:
    """How many labelings of the first 1, 2, ... B points ReLU networks of so many neurons and bits a weight reach, all told.

    Every network is tried: 2^(bits x (neurons (D + 2))) of them. ValueError beyond 2^20.
    """
    B, D = x_BD.shape
    W = neurons * (D + 2)
    if bits * W > 20:
        raise ValueError(f"neurons={neurons}, bits={bits}: 2^{bits * W} networks; at most 2^20 are tried")
    digit = (torch.arange(2 ** (bits * W))[:, None] >> (bits * torch.arange(W))) & (2**bits - 1)
    weight = (digit - (2**bits - 1) / 2).reshape(-1, neurons, D + 2)
    hidden = (weight[:, :, :D] @ x_BD.T + weight[:, :, D, None]).relu()
    positive = ((hidden * weight[:, :, D + 1, None]).sum(1) > 0).long()
    code = (positive << torch.arange(B)).cumsum(1)  # of the first points: a number for each labeling
    return [len(code[:, b].unique()) for b in range(B)]

"""What kernels are made of: tensors by their address, exponentials and sums in vectors."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

W = 16  # heads of sequences that attention works on at once, one to a lane of a vector
ONE, ZERO, HALF = np.float32(1), np.float32(0), np.float32(0.5)
# Sums may be taken in any order and products fused; what is no number stays none, so that divergence is seen.
LOOSE = {"reassoc", "contract", "arcp", "nsz"}

SOURCES = sorted(Path(__file__).parent.glob("*.py"))
# numba asks whether the file of a kernel changed, and not those of the kernels that it calls
KEPT = Path(__file__).parent / "__pycache__" / hashlib.sha256(b"".join(map(Path.read_bytes, SOURCES))).hexdigest()[:16]


def kernel(function: Callable[..., Any], fastmath: Any = LOOSE) -> Any:
    """Compiled when first called, and kept on disk until any of the kernels changes."""
    before = config.CACHE_DIR
    config.CACHE_DIR = before or str(KEPT)
    try:
        return njit(cache=True, fastmath=fastmath, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before


@intrinsic
def pointer(typing: Any, address: Any) -> Any:
    """An address as a pointer."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), build


@intrinsic
def as_float(typing: Any, bits: Any) -> Any:
    """The float32 that these 32 bits are."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), build


@kernel
def vector(address: int, n: int) -> np.ndarray:
    """(n,) float32 at an address."""
    return carray(pointer(address), (n,), np.float32)


@kernel
def matrix(address: int, n: int, m: int) -> np.ndarray:
    """(n, m) float32 at an address."""
    return carray(pointer(address), (n, m), np.float32)


@kernel
def indices(address: int, n: int) -> np.ndarray:
    """(n,) int64 at an address."""
    return carray(pointer(address), (n,), np.int64)


@kernel
def matrix_of_indices(address: int, n: int, m: int) -> np.ndarray:
    """(n, m) int64 at an address."""
    return carray(pointer(address), (n, m), np.int64)


@kernel
def at(x: np.ndarray) -> Any:
    """Where an array begins, signed as all addresses are: of two kinds each kernel would be compiled twice."""
    return np.int64(x.ctypes.data)


@kernel
def room(n: int) -> tuple[np.ndarray, int]:
    """Memory for n vectors of W numbers, and where they begin: none in two lines of a cache."""
    kept = np.empty((n + 1) * W, np.float32)
    return kept, (at(kept) + 4 * W - 1) // (4 * W) * (4 * W)


@kernel
def exp(x: Any) -> Any:
    """e^x to 2 units in the last place: 2^n times a polynomial (Cephes' expf), which a compiler can do in vectors."""
    inside = min(max(x, np.float32(-87)), np.float32(88))
    n = np.int32(inside * np.float32(1.44269504) + np.float32(128.5)) - np.int32(128)
    r = inside - np.float32(n) * np.float32(0.693359375) + np.float32(n) * np.float32(2.12194440e-4)
    y = np.float32(1.9875691500e-4)
    y = y * r + np.float32(1.3981999507e-3)
    y = y * r + np.float32(8.3334519073e-3)
    y = y * r + np.float32(4.1665795894e-2)
    y = y * r + np.float32(1.6666665459e-1)
    y = y * r + HALF
    y = (y * r * r + r + ONE) * as_float((n + np.int32(127)) << np.int32(23))
    return x if x != x else y  # noqa: PLR0124


def _largest(x: np.ndarray) -> Any:
    most = x[0]
    for i in range(len(x)):
        most = max(most, x[i])
    return most


largest = kernel(_largest, fastmath=True)  # of the elements; any, where some are no numbers

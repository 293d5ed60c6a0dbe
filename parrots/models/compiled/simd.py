"""Vectors of W float32 as values, for kernels that hold one sequence to a lane: loops over memory become plain arithmetic.

A compiler that has to find the vectors by itself must first know that no two addresses overlap, which it cannot.
"""

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

from parrots.models.compiled.vectors import W, kernel

BYTES = 4 * W
ROUND = 12582912.0  # 1.5 * 2^23: a number near 0 added to it loses what is not whole
FLOATS, INTS = ir.VectorType(ir.FloatType(), W), ir.VectorType(ir.IntType(32), W)


class Vector(types.Type):
    """W numbers, one to a lane."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector{W}")


VECTOR, ADDRESS = Vector(), types.int64


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """As LLVM has it."""

    def __init__(self, manager: Any, type_: Any) -> None:
        super().__init__(manager, type_, FLOATS)


def arithmetic(operation: Any, instruction: str) -> None:
    """Let an operator of two vectors be an instruction of LLVM."""
    infer_global(operation)(type(instruction, (ConcreteTemplate,), {"cases": [signature(VECTOR, VECTOR, VECTOR)]}))

    @lower_builtin(operation, VECTOR, VECTOR)
    def _(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args, flags=("contract",))


for name, instruction in (("add", "fadd"), ("sub", "fsub"), ("mul", "fmul"), ("truediv", "fdiv")):
    arithmetic(getattr(operator, name), instruction)
    arithmetic(getattr(operator, f"i{name}"), instruction)


@intrinsic
def load(typing: Any, address: Any) -> Any:
    """The W numbers at an address."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], FLOATS.as_pointer()), align=4)

    return VECTOR(ADDRESS), build


@intrinsic
def store(typing: Any, address: Any, x: Any) -> Any:
    """Write them there."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(ADDRESS, VECTOR), build


@intrinsic
def fill(typing: Any, x: Any) -> Any:
    """A float32 in every lane."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), args[0], ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, ir.Constant(FLOATS, ir.Undefined), ir.Constant(INTS, [0] * W))

    return VECTOR(types.float32), build


@intrinsic
def fill_from(typing: Any, address: Any) -> Any:
    """The float32 at an address in every lane."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = builder.load(builder.inttoptr(args[0], ir.FloatType().as_pointer()), align=4)
        one = builder.insert_element(ir.Constant(FLOATS, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, ir.Constant(FLOATS, ir.Undefined), ir.Constant(INTS, [0] * W))

    return VECTOR(ADDRESS), build


@intrinsic
def where_greater(typing: Any, a: Any, b: Any, x: Any, y: Any) -> Any:
    """x in the lanes where a > b, y in the others."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return VECTOR(VECTOR, VECTOR, VECTOR, VECTOR), build


@intrinsic
def sqrt(typing: Any, x: Any) -> Any:
    """Of each lane."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(FLOATS, [FLOATS])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.sqrt.v{W}f32"), args)

    return VECTOR(VECTOR), build


@intrinsic
def power_of_two(typing: Any, x: Any) -> Any:
    """2^n for x = 1.5 * 2^23 + n, whose lowest bits are those of a whole number n from -126 to 127."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        exponent = builder.shl(builder.bitcast(args[0], INTS), ir.Constant(INTS, [23] * W))
        return builder.bitcast(builder.add(exponent, ir.Constant(INTS, [127 << 23] * W)), FLOATS)

    return VECTOR(VECTOR), build


def turning(n: int, m: int) -> Any:
    """What turns n vectors of m numbers: number j of the i-th of them becomes number i of the j-th. n or m is W.

    from_, to_: of n and of m addresses (int64), to which from_more and to_more are added.
    """

    @intrinsic
    def turn(typing: Any, from_: Any, from_more: Any, to_: Any, to_more: Any) -> Any:
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def pointers(addresses: Any, more: Any, many: int, wide: int) -> list[Any]:
                first = builder.inttoptr(addresses, ir.IntType(64).as_pointer())
                each = [builder.load(builder.gep(first, [ir.Constant(ir.IntType(64), i)])) for i in range(many)]
                type_ = ir.VectorType(ir.FloatType(), wide).as_pointer()
                return [builder.inttoptr(builder.add(one, more), type_) for one in each]

            def shuffled(a: Any, b: Any, at: list[int]) -> Any:
                return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(at)), at))

            rows = [builder.load(pointer, align=4) for pointer in pointers(args[0], args[1], n, m)]
            rows = [shuffled(row, row, [i % m for i in range(W)]) for row in rows]
            rows += [ir.Constant(FLOATS, ir.Undefined)] * (W - n)
            apart = W // 2
            while apart:
                low = [W + lane - apart if lane & apart else lane for lane in range(W)]
                high = [W + lane if lane & apart else lane + apart for lane in range(W)]
                for i in (i for i in range(W) if not i & apart):
                    a, b = rows[i], rows[i + apart]
                    rows[i], rows[i + apart] = shuffled(a, b, low), shuffled(a, b, high)
                apart //= 2
            for row, pointer in zip(rows, pointers(args[2], args[3], m, n), strict=False):  # beyond m nothing was asked
                builder.store(shuffled(row, row, list(range(n))), pointer, align=4)
            return context.get_dummy_value()

        return types.void(ADDRESS, ADDRESS, ADDRESS, ADDRESS), build

    return turn


@kernel
def value(x: float) -> Any:
    """A number that is known when this is compiled, in every lane."""
    return fill(np.float32(x))


@kernel
def exp(x: Any) -> Any:
    """e^x to 2 units in the last place: 2^n times a polynomial, as parrots.models.compiled.vectors.exp."""
    inside = where_greater(value(-87), x, value(-87), x)
    inside = where_greater(inside, value(88), value(88), inside)
    rounded = inside * value(1.44269504) + value(ROUND)
    n = rounded - value(ROUND)
    r = inside - n * value(0.693359375) + n * value(2.12194440e-4)
    y = value(1.9875691500e-4)
    y = y * r + value(1.3981999507e-3)
    y = y * r + value(8.3334519073e-3)
    y = y * r + value(4.1665795894e-2)
    y = y * r + value(1.6666665459e-1)
    y = y * r + value(0.5)
    return (y * r * r + r + value(1)) * power_of_two(rounded)

"""Operations on eight neighbouring numbers, each one vector instruction.

LLVM unrolls loops of length 8 into scalar code, which is three times slower.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8
FLOATS = ir.VectorType(ir.FloatType(), LANES)
BYTES = ir.VectorType(ir.IntType(8), LANES)
FAST = {"flags": ("fast",)}


@intrinsic
def add_scaled(context: Any, sums: Any, i: Any, values: Any, n: Any, x: Any) -> Any:
    """sums[i : i + 8] += values[n : n + 8] * x, with float32 sums and float32 or int8 values.

    The indices are uint64. Like in all compiled code here, nothing checks them.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s, i, v, n, x = arguments
        undefined = ir.Constant(FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, x, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        scales = builder.shuffle_vector(first, undefined, zeros)
        factors = _load(context, builder, signature.args[2], v, n), scales
        return _accumulate(context, builder, signature.args[0], s, i, factors)

    return types.void(sums, types.uint64, values, types.uint64, types.float32), generate


@intrinsic
def add_products(context: Any, sums: Any, values: Any, n: Any, x: Any, j: Any) -> Any:
    """sums[0:8] += values[n : n + 8] * x[j : j + 8], float32 sums and x; values as above."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        s, v, n, x, j = arguments
        zero = ir.Constant(ir.IntType(64), 0)
        factors = (
            _load(context, builder, signature.args[1], v, n),
            _load(context, builder, signature.args[3], x, j),
        )
        return _accumulate(context, builder, signature.args[0], s, zero, factors)

    return types.void(sums, values, types.uint64, x, types.uint64), generate


def _accumulate(context: Any, builder: Any, kind: Any, array: Any, i: Any, factors: Any) -> Any:
    """Add a product to array[i : i + 8]."""
    total = builder.fadd(
        _load(context, builder, kind, array, i), builder.fmul(*factors, **FAST), **FAST
    )
    builder.store(total, _pointer(context, builder, kind, array, i)).align = 4
    return context.get_dummy_value()


def _load(context: Any, builder: Any, kind: Any, array: Any, i: Any) -> Any:
    """Load array[i : i + 8] as float32."""
    loaded = builder.load(_pointer(context, builder, kind, array, i))
    loaded.align = kind.dtype.bitwidth // 8
    return loaded if kind.dtype == types.float32 else builder.sitofp(loaded, FLOATS)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, i: Any) -> Any:
    """A pointer to the vector that starts at array[i]."""
    data = context.make_array(kind)(context, builder, array).data
    vector = FLOATS if kind.dtype == types.float32 else BYTES
    return builder.bitcast(builder.gep(data, [i]), vector.as_pointer())

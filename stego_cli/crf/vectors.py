"""Eight single-precision numbers at a time inside Numba kernels.

Numba's compiler leaves short loops over a row of eight as eight scalar steps, because it cannot rule out that two
arrays overlap. These few functions name the vector instead; LLVM turns each into one instruction, or two where
registers are shorter, on any processor. They can be called from compiled code only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic, models, register_model

from stego_cli.crf.jit import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

LANES = 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WHOLE = ir.VectorType(ir.IntType(32), LANES)
_LEAST_EXPONENT = -87.0  # beyond it the result would not be a normal number


class _Lanes(types.Type):
    def __init__(self) -> None:
        super().__init__(name="EightFloats")


_LANES = _Lanes()


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)  # type: ignore[no-untyped-call]


def _table(kind: Any) -> Any:
    """Accept contiguous float32 arrays of shape (rows, 8) only, as far as their type tells."""
    known = isinstance(kind, types.Array) and kind.dtype == types.float32 and (kind.ndim, kind.layout) == (2, "C")
    return kind if known else None


def _address(context: Any, builder: Any, kind: Any, array: Any, row: Any) -> Any:
    """Where row `row` of an array (rows, 8) begins, as a pointer to a vector."""
    data = context.make_array(kind)(context, builder, array).data
    offset = builder.mul(row, ir.Constant(row.type, LANES))
    return builder.bitcast(builder.gep(data, [offset]), _VECTOR.as_pointer())


def _load(_typing: Any, array: Any, _row: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, signature.args[0], *args), align=4)

    return _table(array) and (_LANES(array, types.int64), generate)


def _store(_typing: Any, array: Any, _row: Any, _value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, signature.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return _table(array) and (types.void(array, types.int64, _LANES), generate)


def _unary(signature: Any, make: Callable[..., Any]) -> Any:
    return intrinsic(lambda _typing, _one: (signature, lambda _c, builder, _s, args: make(builder, *args)))


def _binary(signature: Any, make: Callable[..., Any]) -> Any:
    return intrinsic(lambda _typing, _one, _two: (signature, lambda _c, builder, _s, args: make(builder, *args)))


def _ternary(signature: Any, make: Callable[..., Any]) -> Any:
    return intrinsic(lambda _typing, _a, _b, _c: (signature, lambda _d, builder, _s, args: make(builder, *args)))


def _constant(value: float) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


def _same(builder: Any, value: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    one = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, undefined, ir.Constant(_WHOLE, [0] * LANES))


def _larger(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def _kept(builder: Any, value: Any, bound: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", value, bound), value, other)


def _exponential(builder: Any, value: Any) -> Any:
    """2^x = 2^n 2^f: the whole part n goes into the exponent bits, the rest (|f| <= 1/2) through the Taylor series."""
    power = builder.fmul(_larger(builder, value, _constant(_LEAST_EXPONENT)), _constant(1 / math.log(2)))
    # For values of at most 0, towards zero after taking half away is towards the nearest.
    whole = builder.fptosi(builder.fsub(power, _constant(0.5)), _WHOLE)
    rest = builder.fmul(builder.fsub(power, builder.sitofp(whole, _VECTOR)), _constant(math.log(2)))
    series = _constant(1 / math.factorial(7))
    for degree in range(6, -1, -1):
        series = builder.fadd(builder.fmul(series, rest), _constant(1 / math.factorial(degree)))
    shifted = builder.shl(whole, ir.Constant(_WHOLE, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(series, _WHOLE), shifted), _VECTOR)


# Row `row` of a table (rows, 8): `load(table, row)`, `store(table, row, value)`. Rows are not checked.
load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
# Eight times one number; one of eight.
same: Any = _unary(_LANES(types.float32), _same)
lane: Any = _binary(types.float32(_LANES, types.int64), lambda builder, value, at: builder.extract_element(value, at))
# Lane by lane.
plus: Any = _binary(_LANES(_LANES, _LANES), lambda builder, left, right: builder.fadd(left, right))
minus: Any = _binary(_LANES(_LANES, _LANES), lambda builder, left, right: builder.fsub(left, right))
times: Any = _binary(_LANES(_LANES, _LANES), lambda builder, left, right: builder.fmul(left, right))
larger: Any = _binary(_LANES(_LANES, _LANES), _larger)
# `kept(value, bound, other)`: value where it is below bound, else other.
kept: Any = _ternary(_LANES(_LANES, _LANES, _LANES), _kept)
# e to the power of values of at most 0, to about one unit in the last place; below e^-87 it is e^-87.
exponential: Any = _unary(_LANES(_LANES), _exponential)


@compiled
def across(value: Any) -> Any:
    """Return the sum over the lanes, in pairs."""
    return ((lane(value, 0) + lane(value, 4)) + (lane(value, 2) + lane(value, 6))) + (
        (lane(value, 1) + lane(value, 5)) + (lane(value, 3) + lane(value, 7))
    )


@compiled
def largest(value: Any) -> Any:
    """Return the largest lane."""
    top = lane(value, 0)
    for at in range(1, LANES):
        top = max(top, lane(value, at))
    return top

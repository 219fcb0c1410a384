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

if TYPE_CHECKING:
    from collections.abc import Callable

LANES = 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WHOLE = ir.VectorType(ir.IntType(32), LANES)
_LIMIT = 87.0  # beyond it the power of e, or of its inverse, would not be a normal number
_ROUNDER = 1.5 * 2**23
_LN2_HIGH = 0.693359375  # so few bits that its product with a whole number below 2^12 is exact


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


def _plus(builder: Any, left: Any, right: Any) -> Any:
    return builder.fadd(left, right)


def _larger(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", left, right), left, right)


def _below(builder: Any, left: Any, right: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", left, right), _constant(1.0), _constant(0.0))


def _kept(builder: Any, value: Any, bound: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", value, bound), value, other)


def _nearest(builder: Any, value: Any) -> Any:
    """Adding and taking away 1.5 * 2^23 leaves no room for a fraction."""
    return builder.fsub(builder.fadd(value, _constant(_ROUNDER)), _constant(_ROUNDER))


def _times_plus(builder: Any, left: Any, right: Any, more: Any) -> Any:
    signature = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
    name = f"llvm.fmuladd.v{LANES}f32"  # one rounding where the processor has the instruction, else two
    return builder.call(builder.module.declare_intrinsic(name, (), signature), [left, right, more])


def _exponential(builder: Any, value: Any) -> Any:
    """e^x = 2^n e^f: the whole part n goes into the exponent bits, the rest, |f| <= ln 2 / 2, by a Taylor series."""
    bounded = _larger(builder, value, _constant(-_LIMIT))
    bounded = _kept(builder, bounded, _constant(_LIMIT), _constant(_LIMIT))
    shifted = _times_plus(builder, bounded, _constant(1 / math.log(2)), _constant(_ROUNDER))
    whole = builder.fsub(shifted, _constant(_ROUNDER))
    rest = _times_plus(builder, whole, _constant(-_LN2_HIGH), bounded)  # exact: ln 2 in two parts
    rest = _times_plus(builder, whole, _constant(_LN2_HIGH - math.log(2)), rest)
    series = _constant(1 / math.factorial(6))
    for degree in range(5, -1, -1):
        series = _times_plus(builder, series, rest, _constant(1 / math.factorial(degree)))
    power = builder.shl(builder.bitcast(shifted, _WHOLE), ir.Constant(_WHOLE, [23] * LANES))
    return builder.bitcast(builder.add(builder.bitcast(series, _WHOLE), power), _VECTOR)


def _folded(builder: Any, value: Any, join: Callable[[Any, Any, Any], Any]) -> Any:
    """Bring all lanes into the first: halves onto each other, then quarters, then pairs."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    step = LANES // 2
    while step:
        order = ir.Constant(_WHOLE, [(lane + step) % LANES for lane in range(LANES)])
        value = join(builder, value, builder.shuffle_vector(value, undefined, order))
        step //= 2
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


# Row `row` of a table (rows, 8): `load(table, row)`, `store(table, row, value)`. Rows are not checked.
load: Any = intrinsic(_load)
store: Any = intrinsic(_store)
# Eight times one number; one of eight.
same: Any = _unary(_LANES(types.float32), _same)
lane: Any = _binary(types.float32(_LANES, types.int64), lambda builder, value, at: builder.extract_element(value, at))
# Lane by lane.
plus: Any = _binary(_LANES(_LANES, _LANES), _plus)
minus: Any = _binary(_LANES(_LANES, _LANES), lambda builder, left, right: builder.fsub(left, right))
times: Any = _binary(_LANES(_LANES, _LANES), lambda builder, left, right: builder.fmul(left, right))
larger: Any = _binary(_LANES(_LANES, _LANES), _larger)
# 1 where the left one is below the right one, else 0.
below: Any = _binary(_LANES(_LANES, _LANES), _below)
# `kept(value, bound, other)`: value where it is below bound, else other.
kept: Any = _ternary(_LANES(_LANES, _LANES, _LANES), _kept)
# `times_plus(left, right, more)`: left * right + more.
times_plus: Any = _ternary(_LANES(_LANES, _LANES, _LANES), _times_plus)
# The nearest whole number, of two the even one; for values up to 2^22.
nearest: Any = _unary(_LANES(_LANES), _nearest)
# e to the power of each value, to about two units in the last place; beyond +-87 it is e^+-87.
exponential: Any = _unary(_LANES(_LANES), _exponential)
# The sum over the lanes, in pairs; the largest lane.
across: Any = _unary(types.float32(_LANES), lambda builder, value: _folded(builder, value, _plus))
largest: Any = _unary(types.float32(_LANES), lambda builder, value: _folded(builder, value, _larger))

"""The arithmetic of the PTX executor, against exact fractions, Python's integers and `struct`."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ptx import arithmetic
from tests.ptx.operations import UndefinedResultError

SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
NAN, INFINITY = float("nan"), float("inf")
FLOATS = {"f16": np.float16, "f32": np.float32, "f64": np.float64}
ROUNDINGS = {"rn": round, "rz": math.trunc, "rm": math.floor, "rp": math.ceil}

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # of NumPy, about NaN and overflow


def compute(name: str, *operands):
    """Return what an instruction makes of numbers, or of lists of them."""
    opcode, *modifiers = name.split(".")
    operation = arithmetic.find(opcode, tuple(modifiers))
    assert operation is not None, name
    values = [
        np.atleast_1d(np.asarray(operand, dtype)) for operand, dtype in zip(operands, operation.operands, strict=True)
    ]
    result = operation.function(*values)
    assert result.dtype == operation.result
    return result.tolist() if np.ndim(operands[0]) else result.tolist()[0]


def rounded(exact: Fraction, type_name: str, rounding: str = "rn") -> float:
    """Return the floating-point number that IEEE 754 prescribes for a number other than zero."""
    limits = np.finfo(FLOATS[type_name])
    exponent = abs(exact.numerator).bit_length() - exact.denominator.bit_length()
    exponent -= abs(exact) < Fraction(2) ** exponent  # now the exponent of the leading bit
    unit = max(exponent, int(limits.minexp)) - limits.nmant
    number = ROUNDINGS[rounding](exact / Fraction(2) ** unit) * Fraction(2) ** unit
    if abs(number) <= Fraction(float(limits.max)):
        return float(number)
    towards_zero = rounding in ("rz", "rm" if exact > 0 else "rp")
    return math.copysign(float(limits.max) if towards_zero else INFINITY, 1 if exact > 0 else -1)


def bits_of(value: float) -> bytes:
    return struct.pack("<d", value)


# -------------------------------------------------------------------------------------------- floating point


@given(SINGLES, SINGLES, SINGLES, st.sampled_from(sorted(ROUNDINGS)))
def test_fma_of_float32_is_rounded_once(a, b, c, rounding):
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact:
        assert compute(f"fma.{rounding}.f32", a, b, c) == rounded(exact, "f32", rounding)


def test_fma_of_float32_does_not_round_a_rounded_sum():
    a, b, c = 2.0**-12 * (1 + 2.0**-23), 2.0**-12 * (1 - 2.0**-23), 1 + 2.0**-23
    twice = float(np.float32(a * b + c))
    assert compute("fma.rn.f32", a, b, c) == c != twice


def test_fma_of_float32_is_right_among_subnormal_numbers():
    smallest = 2.0**-149
    a, b, c = 2.0**-75 * (1 + 2.0**-23), 2.0**-75, smallest  # the product is just above half of the smallest
    assert compute("fma.rn.f32", a, b, c) == 2 * smallest
    assert compute("fma.rn.ftz.f32", a, b, c) == 0


@given(DOUBLES, DOUBLES, DOUBLES)
def test_fma_of_float64_is_rounded_once(a, b, c):
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    if exact:
        assert compute("fma.rn.f64", a, b, c) == rounded(exact, "f64")


@given(st.lists(st.tuples(*[st.floats(-4, 4)] * 3), min_size=2))
def test_fma_of_float64_near_one(triples):
    a, b, c = (list(column) for column in zip(*triples, strict=True))
    result = compute("fma.rn.f64", a, b, c)
    for value, (x, y, z) in zip(result, triples, strict=True):
        exact = Fraction(x) * Fraction(y) + Fraction(z)
        assert value == (rounded(exact, "f64") if exact else 0)


@pytest.mark.parametrize("name", ["fma.rn.f32", "fma.rn.f64"])
def test_fma_of_special_numbers(name):
    largest = float(np.finfo(FLOATS[name[-3:]]).max)
    assert compute(name, largest, 2, -INFINITY) == -INFINITY
    assert compute(name, largest, largest, 0) == INFINITY
    assert math.isnan(compute(name, INFINITY, 0, 1))
    assert math.isnan(compute(name, INFINITY, 1, -INFINITY))
    assert math.isnan(compute(name, 1, NAN, 1))
    assert bits_of(compute(name, -0.0, 1, -0.0)) == bits_of(-0.0)
    assert bits_of(compute(name, -0.0, 1, 0.0)) == bits_of(0.0)


@pytest.mark.parametrize("rounding", sorted(ROUNDINGS))
@given(a=SINGLES, b=SINGLES)
def test_sums_and_products_of_float32(rounding, a, b):
    for opcode, exact in {
        "add": Fraction(a) + Fraction(b),
        "sub": Fraction(a) - Fraction(b),
        "mul": Fraction(a) * Fraction(b),
    }.items():
        if exact:
            assert compute(f"{opcode}.{rounding}.f32", a, b) == rounded(exact, "f32", rounding)


@pytest.mark.parametrize("type_name", ["f32", "f64"])
@given(data=st.data())
def test_quotients_and_roots(type_name, data):
    numbers = SINGLES if type_name == "f32" else DOUBLES
    a, b = data.draw(numbers), data.draw(numbers)
    if a and b:
        assert compute(f"div.rn.{type_name}", a, b) == rounded(Fraction(a) / Fraction(b), type_name)
        assert compute(f"rcp.rn.{type_name}", b) == rounded(1 / Fraction(b), type_name)
    root = FLOATS[type_name](compute(f"sqrt.rn.{type_name}", abs(a)))
    below = (Fraction(float(root)) + Fraction(float(np.nextafter(root, FLOATS[type_name](0))))) / 2
    above = (Fraction(float(root)) + Fraction(float(np.nextafter(root, FLOATS[type_name](INFINITY))))) / 2
    assert below**2 <= abs(Fraction(a)) <= above**2


@pytest.mark.parametrize("type_name", ["f32", "f64"])
def test_minimum_and_maximum_of_nan_and_zeros(type_name):
    for a, b in [(NAN, 2.0), (2.0, NAN)]:
        assert compute(f"min.{type_name}", a, b) == compute(f"max.{type_name}", a, b) == 2
        assert math.isnan(compute(f"min.NaN.{type_name}", a, b))
        assert math.isnan(compute(f"max.NaN.{type_name}", a, b))
    assert math.isnan(compute(f"min.{type_name}", NAN, NAN))
    for a, b in [(0.0, -0.0), (-0.0, 0.0)]:
        assert bits_of(compute(f"min.{type_name}", a, b)) == bits_of(-0.0)
        assert bits_of(compute(f"max.{type_name}", a, b)) == bits_of(0.0)
    assert compute(f"min.{type_name}", -3, -3) == -3


def test_flushing_of_operands_and_results():
    tiny, small = 2.0**-130, 2.0**-126
    assert compute("add.f32", tiny, small) == tiny + small
    assert compute("add.ftz.f32", tiny, small) == small
    assert compute("mul.ftz.f32", small, 0.5) == 0
    assert bits_of(compute("mul.ftz.f32", small, -0.5)) == bits_of(-0.0)
    assert compute("setp.lt.f32", 0, tiny)
    assert not compute("setp.lt.ftz.f32", 0, tiny)
    assert compute("cvt.rpi.s32.f32", tiny) == 1
    assert compute("cvt.rpi.ftz.s32.f32", tiny) == 0


def test_saturation_to_one():
    assert compute("add.sat.f32", [0.75, 0.25, -1.0, NAN, INFINITY], 0.5) == [1, 0.75, 0, 0, 1]
    assert compute("cvt.sat.f32.f32", [0.75, 7.0, -7.0, NAN]) == [0.75, 1, 0, 0]
    assert bits_of(compute("cvt.sat.f32.f32", -0.0)) == bits_of(0.0)


def test_signs_and_approximations():
    assert compute("copysign.f32", -1.0, 3.0) == -3  # the sign is the first operand's
    assert compute("neg.f32", 3.0) == -3
    assert compute("abs.f64", -3.0) == 3
    assert compute("ex2.approx.ftz.f32", -3.0) == 0.125
    assert compute("lg2.approx.f32", 8.0) == 3
    assert compute("rsqrt.approx.f32", 0.25) == 2


@pytest.mark.parametrize("name", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_comparisons_with_nan(name):
    for a, b in [(NAN, 1.0), (1.0, NAN), (NAN, NAN)]:
        assert not compute(f"setp.{name}.f32", a, b)
        assert compute(f"setp.{name}u.f32", a, b)
        assert compute("setp.nan.f32", a, b)
        assert not compute("setp.num.f64", a, b)
    for a, b in [(1.0, 2.0), (2.0, 1.0), (-0.0, 0.0)]:
        expected = {"lt": a < b, "le": a <= b, "gt": a > b, "ge": a >= b, "eq": a == b, "ne": a != b}[name]
        assert compute(f"setp.{name}.f32", a, b) == compute(f"setp.{name}u.f64", a, b) == expected


def test_predicates_combine_and_select():
    for a, b in [(False, False), (False, True), (True, False), (True, True)]:
        assert compute("setp.lt.and.s32", 0, int(a), b) == (a and b)
        assert compute("setp.lt.or.s32", 0, int(a), b) == (a or b)
        assert compute("setp.lt.xor.s32", 0, int(a), b) == (a ^ b)
        assert compute("xor.pred", a, b) == (a ^ b)
        assert compute("not.pred", a) == (not a)
    assert compute("setp.lt.s32", -1, 1)
    assert not compute("setp.lt.u32", 2**32 - 1, 1)
    assert compute("selp.f32", [1.0, 2.0], [3.0, 4.0], [True, False]) == [1, 4]


def test_kinds_of_numbers():
    numbers = [1.0, 2.0**-140, 0.0, INFINITY, NAN]
    assert compute("testp.finite.f32", numbers) == [True, True, True, False, False]
    assert compute("testp.normal.f32", numbers) == [True, False, False, False, False]
    assert compute("testp.subnormal.f32", numbers) == [False, True, False, False, False]
    assert compute("testp.notanumber.f32", numbers) == [False, False, False, False, True]


# ----------------------------------------------------------------------------------------------- conversions

INTEGERS = {f"{kind}{bits}": (kind == "s", bits) for kind in "us" for bits in (8, 16, 32, 64)}
TO_INTEGER = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}


def limits(type_name: str) -> tuple[int, int]:
    signed, bits = INTEGERS[type_name]
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def clamped(value: int, type_name: str) -> int:
    low, high = limits(type_name)
    return min(max(value, low), high)


def wrapped(value: int, type_name: str) -> int:
    low, high = limits(type_name)
    return (value - low) % (high - low + 1) + low


@pytest.mark.parametrize("target", INTEGERS)
@given(value=SINGLES | st.floats(-300, 300, width=32) | st.sampled_from([0.5, 1.5, 2.5, -0.5, -1.5, 254.5, 255.5]))
def test_floats_to_integers(target, value):
    for rounding, function in TO_INTEGER.items():
        expected = clamped(function(Fraction(value)), target)
        assert compute(f"cvt.{rounding}.{target}.f32", value) == expected
        assert compute(f"cvt.{rounding}.sat.{target}.f64", value) == expected


@pytest.mark.parametrize("target", INTEGERS)
def test_what_no_integer_can_hold(target):
    low, high = limits(target)
    bits = INTEGERS[target][1]
    for source in ("f16", "f32", "f64"):
        assert compute(f"cvt.rni.{target}.{source}", [INFINITY, -INFINITY]) == [high, low]
        of_nan = compute(f"cvt.rni.sat.{target}.{source}", NAN)
        assert of_nan == (wrapped(2 ** (bits - 1), target) if source == "f64" or bits == 64 else 0)
    assert compute(f"cvt.rzi.{target}.f64", [high + 1.0, 2.0**64, -(2.0**64)]) == [high, high, low]


@pytest.mark.parametrize("source", INTEGERS)
@given(data=st.data())
def test_integers_to_floats(source, data):
    value = data.draw(st.integers(*limits(source)))
    for target in FLOATS:
        expected = rounded(Fraction(value), target) if value else 0
        assert compute(f"cvt.rn.{target}.{source}", value) == expected
        if INTEGERS[source][1] < 64 and value:
            for rounding in ("rz", "rm", "rp"):
                assert compute(f"cvt.{rounding}.{target}.{source}", value) == rounded(Fraction(value), target, rounding)


@pytest.mark.parametrize("source", INTEGERS)
@pytest.mark.parametrize("target", INTEGERS)
def test_integers_to_integers(source, target):
    values = sorted({limits(source)[0], -1, 0, 1, 127, 128, 255, limits(source)[1]})
    values = [value for value in values if limits(source)[0] <= value <= limits(source)[1]]
    assert compute(f"cvt.{target}.{source}", values) == [wrapped(value, target) for value in values]
    assert compute(f"cvt.sat.{target}.{source}", values) == [clamped(value, target) for value in values]


@given(DOUBLES | st.floats(-7e4, 7e4), st.sampled_from(sorted(ROUNDINGS)))
def test_floats_to_narrower_floats(value, rounding):
    if value:
        for target in ("f16", "f32"):
            assert compute(f"cvt.{rounding}.{target}.f64", value) == rounded(Fraction(value), target, rounding)
        single = float(np.float32(value))
        if single and math.isfinite(single):
            assert compute(f"cvt.{rounding}.f16.f32", single) == rounded(Fraction(single), "f16", rounding)


def test_halves_are_those_of_struct():
    halves = np.arange(65536, dtype=np.uint16).view(np.float16)
    expected = struct.unpack("<65536e", halves.tobytes())
    np.testing.assert_array_equal(np.array(compute("cvt.f32.f16", halves)), expected)
    values = np.random.default_rng(0).normal(0, 1, 1000).astype(np.float32) * np.float32(2.0) ** np.arange(1000) ** 0.3
    packed = struct.pack("<1000e", *values.tolist())
    assert np.array(compute("cvt.rn.f16.f32", values), np.float16).tobytes() == packed
    (word,) = struct.unpack("<I", struct.pack("<2e", values[1], values[0]))
    assert compute("cvt.rn.f16x2.f32", values[0], values[1]) == word  # the first operand is the upper half


@pytest.mark.parametrize("type_name", ["f32", "f64"])
def test_floats_to_integral_floats(type_name):
    values = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, 2.0**52 + 1]
    values = [float(FLOATS[type_name](value)) for value in values]
    for rounding, function in TO_INTEGER.items():
        assert compute(f"cvt.{rounding}.{type_name}.{type_name}", values) == [function(value) for value in values]


# -------------------------------------------------------------------------------------------------- integers


@pytest.mark.parametrize("type_name", [name for name in INTEGERS if not name.endswith("8")])
@given(data=st.data())
def test_integer_arithmetic(type_name, data):
    numbers = st.integers(*limits(type_name))
    a, b, c = (data.draw(numbers) for _ in range(3))
    bits = INTEGERS[type_name][1]
    for opcode, exact in {"add": a + b, "sub": a - b, "mul.lo": a * b, "mul.hi": a * b >> bits}.items():
        assert compute(f"{opcode}.{type_name}", a, b) == wrapped(exact, type_name)
    assert compute(f"mad.lo.{type_name}", a, b, c) == wrapped(a * b + c, type_name)
    assert compute(f"mad.hi.{type_name}", a, b, c) == wrapped((a * b >> bits) + c, type_name)
    assert compute(f"min.{type_name}", a, b) == min(a, b)
    assert compute(f"max.{type_name}", a, b) == max(a, b)
    if bits < 64:
        assert compute(f"mul.wide.{type_name}", a, b) == a * b
    if b:
        quotient = wrapped(math.trunc(Fraction(a, b)), type_name)
        assert compute(f"div.{type_name}", a, b) == quotient
        assert compute(f"rem.{type_name}", a, b) == a - b * math.trunc(Fraction(a, b))


def test_the_most_negative_integer():
    lowest = -(2**31)
    assert compute("div.s32", lowest, -1) == compute("neg.s32", lowest) == compute("abs.s32", lowest) == lowest
    assert compute("rem.s32", lowest, -1) == 0


@pytest.mark.parametrize("name", ["div.s32", "rem.u64"])
def test_division_by_zero_has_no_result(name):
    with pytest.raises(UndefinedResultError) as caught:
        compute(name, [1, 2, 3], [1, 0, 0])
    assert caught.value.position == 1


@pytest.mark.parametrize("bits", [16, 32, 64])
def test_shifts_by_the_width_and_more(bits):
    amounts = [0, 1, bits - 1, bits, bits + 1, 2**32 - 1]
    highest = 2 ** (bits - 1)
    left, right = [1, 2, highest, 0, 0, 0], [highest, highest >> 1, 1, 0, 0, 0]
    assert compute(f"shl.b{bits}", [1] * 6, amounts) == left
    assert compute(f"shr.u{bits}", [highest] * 6, amounts) == right
    assert compute(f"shr.s{bits}", [-highest] * 6, amounts) == [-highest, -highest >> 1, -1, -1, -1, -1]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_funnel_shifts(low, high, amount):
    both = high << 32 | low
    assert compute("shf.l.wrap.b32", low, high, amount) == both << (amount & 31) >> 32 & 2**32 - 1
    assert compute("shf.l.clamp.b32", low, high, amount) == both << min(amount, 32) >> 32 & 2**32 - 1
    assert compute("shf.r.wrap.b32", low, high, amount) == both >> (amount & 31) & 2**32 - 1
    assert compute("shf.r.clamp.b32", low, high, amount) == both >> min(amount, 32) & 2**32 - 1


FIELD_PLACES = st.integers(0, 70) | st.integers(250, 260)


@pytest.mark.parametrize("type_name", ["u32", "s32", "u64", "s64"])
@given(data=st.data(), position=FIELD_PLACES, length=FIELD_PLACES)
def test_bit_fields(type_name, data, position, length):
    bits = INTEGERS[type_name][1]
    value, field = (data.draw(st.integers(*limits(type_name))) for _ in range(2))
    start, count = position & 255, length & 255
    above = value >> min(start + count - 1, bits - 1) & 1 if type_name[0] == "s" and count else 0
    extracted = [value >> start + bit & 1 if bit < count and start + bit < bits else above for bit in range(bits)]
    expected = wrapped(sum(bit << place for place, bit in enumerate(extracted)), type_name)
    assert compute(f"bfe.{type_name}", value, position, length) == expected
    if type_name[0] == "u":
        inserted = [(field >> bit - start if start <= bit < start + count else value >> bit) & 1 for bit in range(bits)]
        expected = sum(bit << place for place, bit in enumerate(inserted))
        assert compute(f"bfi.b{bits}", field, value, position, length) == expected


@given(*[st.integers(0, 2**32 - 1)] * 3)
def test_bytes_and_bits(a, b, c):
    source = struct.pack("<II", a, b)
    chosen = [c >> 4 * place & 15 for place in range(4)]
    expected = bytes((0xFF if source[one & 7] & 0x80 else 0) if one & 8 else source[one] for one in chosen)
    assert compute("prmt.b32", a, b, c) == int.from_bytes(expected, "little")
    assert compute("lop3.b32", a, b, c, 0x96) == a ^ b ^ c
    assert compute("lop3.b32", a, b, c, 0xCA) == (a & b) | (~a & c)
    assert compute("popc.b32", a) == a.bit_count()
    assert compute("clz.b32", a) == 32 - a.bit_length()
    assert compute("clz.b64", a << 32 | b) == 64 - (a << 32 | b).bit_length()
    assert compute("brev.b32", a) == int(f"{a:032b}"[::-1], 2)
    assert compute("not.b32", a) == a ^ 2**32 - 1
    assert compute("and.b32", a, b) == a & b


@pytest.mark.parametrize(
    "name",
    [
        "add.cc.u32", "add.sat.f64", "add.rz.f64", "add.f16", "add.pred", "addc.u32", "bfe.u16", "cvt.f32.f64",
        "cvt.pack.sat.u8.s32.b32", "cvt.rn.bf16.f32", "cvt.rn.f32.f16", "cvt.rn.s32.f32", "cvt.rni.u8.s32",
        "cvt.rz.f32.s64", "cvt.s32.f32", "div.f32", "div.full.f64", "ex2.f32", "fma.f32", "fma.rz.f64",
        "max.xorsign.abs.f32", "mul.f16", "mul.s32", "mul.wide.s64", "neg.u32", "prmt.f4e.b32", "rcp.approx.ftz.f64",
        "selp.ftz.f32", "setp.eq.f16", "setp.lt.foo.s32", "setp.ltu.s32", "sin.approx.f32", "sqrt.f32",
        "tanh.approx.f32",
    ],
)  # fmt: skip
def test_what_is_not_known_is_not_guessed(name):
    opcode, *modifiers = name.split(".")
    assert arithmetic.find(opcode, tuple(modifiers)) is None

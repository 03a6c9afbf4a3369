"""The PTX executor on kernels written by hand: the language, the memory, and how threads go their ways."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ptx import (
    BarrierDivergence,
    GlobalMemory,
    Misaligned,
    OutOfBounds,
    PtxFault,
    Race,
    StepLimit,
    Trap,
    Undefined,
    Uninitialised,
    Unsupported,
    execute,
    parse,
)
from tests.ptx.running import Unwritten, run
from tests.ptx.syntax import Address, Entry, Floating, Integer, Parameter, Register, Symbol, Vector

HEADER = ".version 8.0\n.target sm_75\n.address_size 64\n"

DECLARATIONS = """
    .reg .pred %p<9>;
    .reg .b16  %h<9>;
    .reg .b32  %r<20>;
    .reg .f32  %f<20>;
    .reg .b64  %d<20>;
"""

OWN_PLACE = """
    ld.param.u64 %d1, [out];
    mov.u32 %r1, %tid.x;
    mul.wide.u32 %d2, %r1, 4;
    add.s64 %d1, %d1, %d2;
"""
"""Sets %r1 to the thread and %d1 to the address of its word of the parameter `out`."""


def entry_of(body: str, parameters: str = ".param .u64 out", outside: str = "") -> Entry:
    text = f"{HEADER}{outside}\n.visible .entry kernel({parameters})\n{{{DECLARATIONS}{body}\n}}\n"
    return parse(text).entries["kernel"]


def words_of(body: str, threads: int = 32, outside: str = "", **options) -> list[int]:
    """Return what each thread left in its word; `body` begins behind `OWN_PLACE`."""
    entry = entry_of(OWN_PLACE + body, outside=outside)
    outcome = run(entry, Unwritten((threads,), "uint32"), block=(threads,), **options)
    return outcome.arrays[0].tolist()


# ------------------------------------------------------------------------------------------------ the language


def test_an_entry_is_taken_apart():
    program = parse(
        HEADER
        + """
        // one comment;
        /* and
           another */ /**/
        .common .global .align 8 .u64 unused;
        .visible .shared .align 16 .b8 tile[1056];
        .extern .shared .align 4 .f32 dynamic[];
        .func (.param .b32 result) helper(.param .b32 x)
        {
            { ret; }
        }
        .visible .entry first(
            .param .u64 .ptr .global .align 4 first_param_0,
            .param .align 4 .b8 first_param_1[12]
        )
        .maxntid 256, 1, 1
        {
            .local .align 4 .b8 depot[8];
            .reg .b32 %r<3>; .reg .pred %p, %q;
        $L__1:
            @!%p ld.global.L1::no_allocate.v2.f32 {%r1, _}, [%r2+-8];
            { .reg .b32 %r1; mov.b32 %r1, 0f3F800000; }
            bra.uni $L__1;
        }
        .entry second { ret; }
        """
    )
    assert program.target == "sm_75"
    assert list(program.entries) == ["first", "second"]
    first = program.entries["first"]
    assert first.parameters == (Parameter("first_param_0", "u64"), Parameter("first_param_1", "b8", 12))
    assert first.labels == {"$L__1": 0}
    assert [(variable.name, variable.space, variable.size) for variable in first.variables] == [
        ("unused", "global", 8),
        ("tile", "shared", 1056),
        ("dynamic", "shared", None),
        ("depot", "local", 8),
    ]
    load, move, jump = first.instructions
    assert (load.opcode, load.modifiers) == ("ld", ("global", "L1::no_allocate", "v2", "f32"))
    assert load.guard == Register("%p", negated=True)
    assert isinstance(load.operands[0], Vector)
    assert load.operands[1] == Address(Register("%r2"), -8)
    assert move.operands[0] != Register("%r1"), "a block's own register"
    assert first.registers[move.operands[0].name] == "b32"
    assert move.operands[1] == Floating(0x3F800000, 4)
    assert jump.operands == (Symbol("$L__1"),)
    assert jump.line == 26
    assert str(jump) == "line 26: bra.uni $L__1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-5", Integer(-5)),
        ("0x1F", Integer(31)),
        ("017", Integer(15)),
        ("0b101", Integer(5)),
        ("4294967295U", Integer(2**32 - 1)),
        ("0d3FF0000000000000", Floating(0x3FF0000000000000, 8)),
        ("1.5", Floating(0x3FF8000000000000, 8)),
        ("label+12", Symbol("label", 12)),
        ("[label+12]", Address(Symbol("label"), 12)),
        ("[%d1]", Address(Register("%d1"), 0)),
    ],
)
def test_operands(text, expected):
    (instruction,) = entry_of(f"mov.u64 %d0, {text};").instructions
    assert instruction.operands[1] == expected


@pytest.mark.parametrize(
    "body",
    [
        "tex.2d.v4.f32.s32 {%f1, %f2, %f3, %f4}, [%d1, {%r1, %r2}];",
        "call.uni helper, ();",
        "bar.sync 0, 64;",
        "bar.red.popc.u32 %r1, 0, %p1;",
        "atom.global.cas.b32 %r1, [%d1], %r2, %r3;",
        "ld.acquire.gpu.global.u32 %r1, [%d1];",
        "ld.global.L2::cache_hint.u32 %r1, [%d1], %d2;",
        "mov.u32 %r1, %clock;",
        "mov.u32 %r1, %unheard;",
        "mov.u64 %d1, somewhere;",
        "setp.lt.s32 %p1|%p2, %r1, %r2;",
        "add.u64 %d1, %r1, %r2;",
        "add.u32 %d1, %r1, %r2;",
        "add.f16 %h1, %h2, %h3;",
        "cvt.u32.f32 %r1, %f1;",
        "bra nowhere;",
        "activemask.b32 %r1;",
        "brx.idx %r1, table;",
        "shfl.sync.bfly.b64 %d1, %d2, 1, 31, -1;",
        ".unheard 5;",
    ],
)
def test_what_is_not_known_is_a_fault(body):
    with pytest.raises(Unsupported) as caught:
        run(entry_of(body + "\nret;"), 0)
    assert f"line 12: {body[:-1]}" in str(caught.value)


def test_launches_must_fit():
    entry = entry_of("ret;", ".param .u64 out, .param .f32 share, .param .u32 count")
    memory = GlobalMemory()

    def launch(*arguments, grid=(1,), block=(1,)):
        execute(entry, memory, grid=grid, block=block, arguments=arguments)

    launch(2**64 - 1, 0.5, -1)
    launch(np.uint64(3), np.float32(0.5), np.int32(-1))
    for arguments in [(0, 0.5), (0, 0.5, 2**32), (0, 0.5, 1.5), (0, np.float64(0.5), 1), (0, 0.5, np.int64(1))]:
        with pytest.raises(ValueError, match=r"argument|bits|is float|is uint"):
            launch(*arguments)
    for sizes in [{"block": (1025,)}, {"block": (32, 33)}, {"block": (0,)}, {"grid": (1, 65536)}]:
        with pytest.raises(ValueError, match=r"grid|block"):
            launch(0, 0.5, 1, **sizes)


# -------------------------------------------------------------------------------------------------- the memory


def test_memory_gives_back_what_was_written():
    memory = GlobalMemory()
    first, second = memory.allocate(10), memory.allocate(16)
    assert first % 256 == second % 256 == 0
    values = np.arange(4, dtype=np.float32)[::-1]
    memory.write(second, values)
    np.testing.assert_array_equal(memory.read(second + 4, np.float32, (3, 1)), values[1:, np.newaxis])
    memory.write(first + 2, np.arange(3, dtype=np.uint8))
    assert memory.written(first, 10).tolist() == [False] * 2 + [True] * 3 + [False] * 5
    assert memory.used == 26


def test_copies_know_what_was_never_written():
    memory = GlobalMemory()
    source, target = memory.allocate(8), memory.allocate(8)
    memory.write(source + 2, np.arange(4, dtype=np.uint8))
    memory.write(target, np.full(8, 77, np.uint8))
    memory.copy(target + 1, source + 1, 6)
    assert memory.written(target, 8).tolist() == [True, False, True, True, True, True, False, True]
    assert memory.read(target, np.uint8, (8,)).tolist() == [77, 255, 0, 1, 2, 3, 255, 77]
    memory.copy(target + 3, target + 2, 3)
    assert memory.read(target + 2, np.uint8, (4,)).tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize(
    ("act", "place"),
    [
        (lambda memory, address: memory.read(address, np.uint8, (11,)), "byte 0 of an allocation of 10 bytes"),
        (lambda memory, address: memory.write(address + 8, np.zeros(3, np.uint8)), "byte 8"),
        (lambda memory, address: memory.read(address + 10, np.uint8, (1,)), "byte 10 of an allocation of 10"),
        (lambda memory, address: memory.read(address - 1, np.uint8, (1,)), "1 bytes before"),
        (lambda memory, address: memory.free(address + 1), "byte 1 of an allocation"),
    ],
)
def test_memory_ends_where_it_was_allocated(act, place):
    memory = GlobalMemory()
    address = memory.allocate(10)
    with pytest.raises(OutOfBounds, match=place):
        act(memory, address)


def test_freed_memory_is_nobodys():
    memory = GlobalMemory()
    address = memory.allocate(10)
    memory.free(address)
    assert memory.allocate(10) != address
    with pytest.raises(OutOfBounds, match="byte 3 of freed memory of 10 bytes"):
        memory.read(address + 3, np.uint8, (1,))
    with pytest.raises(OutOfBounds, match="freed memory"):
        memory.free(address)


def test_a_kernel_may_meet_several_allocations_in_one_instruction():
    entry = entry_of(
        """
        ld.param.u64 %d1, [low]; ld.param.u64 %d2, [high];
        mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 1; setp.eq.u32 %p1, %r2, 0;
        selp.u64 %d3, %d1, %d2, %p1;
        mul.wide.u32 %d4, %r1, 4; add.u64 %d3, %d3, %d4;
        ld.global.u32 %r3, [%d3]; add.u32 %r3, %r3, %r1; st.global.u32 [%d3], %r3;
        ret;
        """,
        ".param .u64 low, .param .u64 high",
    )
    threads = np.arange(32, dtype=np.uint32)
    low, high = run(entry, threads * 100, threads * 1000).arrays
    np.testing.assert_array_equal(low, threads * 100 + np.where(threads % 2, 0, threads))
    np.testing.assert_array_equal(high, threads * 1000 + np.where(threads % 2, threads, 0))
    with pytest.raises(OutOfBounds, match=r"thread \(17, 0, 0\): 4 bytes at byte 68 of an allocation of 68 bytes"):
        run(entry, threads, threads[:17])


EXCEPT_LAST = "setp.lt.u32 %p1, %r1, 31; "


@pytest.mark.parametrize(
    ("body", "fault", "message"),
    [
        (
            "st.global.u32 [%d1+4], %r1;",
            OutOfBounds,
            r"\(31, 0, 0\): 4 bytes at byte 128 of an allocation of 128",
        ),
        ("st.global.u32 [%d1+-4], %r1;", OutOfBounds, r"thread \(0, 0, 0\): 4 bytes at 4 bytes before an allocation"),
        ("st.global.u32 [%d2], %r1;", OutOfBounds, "before an allocation"),
        ("st.u32 [%d1+132], %r1;", OutOfBounds, "byte 132"),
        (f"{EXCEPT_LAST}@%p1 st.global.v2.u32 [%d1], {{%r1, %r1}};", Misaligned, r"\(1, 0, 0\): 8 bytes.* byte 4 of"),
        ("ld.global.u32 %r2, [%d1];", Uninitialised, r"thread \(0, 0, 0\): 4 bytes.* byte 0 of an allocation"),
        ("st.global.u8 [%d1], %r1; ld.global.u32 %r2, [%d1];", Uninitialised, "not all of which were ever written"),
        ("st.global.u32 [%d1], %r9;", Uninitialised, "a register that was never written"),
        ("st.shared.u32 [%d2], %r1;", OutOfBounds, "nothing declared"),
        ("mov.u32 %r2, 0; div.u32 %r3, %r1, %r2;", Undefined, "division by zero"),
        ("trap;", Trap, "gives up"),
    ],
)
def test_faults_say_what_where_and_who(body, fault, message):
    with pytest.raises(fault, match=message) as caught:
        words_of(body + "\nret;")
    text = str(caught.value)
    instruction = body.split(";")[-2].strip()
    assert text.startswith("kernel, line ")
    assert instruction in text
    assert "block (0, 0, 0), thread (" in text


def test_local_memory_belongs_to_one_thread():
    body = """
        .local .align 8 .b8 depot[16];
        .reg .b64 %SP; .reg .b64 %SPL;
        mov.u64 %SPL, depot; cvta.local.u64 %SP, %SPL;
        st.local.u32 [%SPL+4], %r1;
        add.u32 %r2, %r1, 7; st.u32 [%SP+8], %r2;
        ld.local.u32 %r3, [%SPL+8]; ld.u32 %r4, [%SP+4];
        sub.u32 %r5, %r3, %r4; st.global.u32 [%d1], %r5;
        """
    assert words_of(body + "ret;", 50) == [7] * 50
    with pytest.raises(OutOfBounds, match="4 bytes at byte 16 of depot, which has 16 bytes"):
        words_of(body.replace("+8]", "+16]") + "ret;")
    with pytest.raises(Uninitialised, match="byte 12 of depot"):
        words_of(body.replace("%r3, [%SPL+8]", "%r3, [%SPL+12]") + "ret;")


SHARED = """
    .shared .align 4 .b8 narrow[4];
    .shared .align 16 .b8 wide[128];
    .extern .shared .align 16 .b8 dynamic[];
"""


def test_variables_in_shared_memory_have_their_own_ends():
    body = "mov.u64 %d3, wide; add.u64 %d3, %d3, %d2; st.shared.u32 [%d3{}], %r1; ld.shared.u32 %r2, [%d3]; "
    body += "mov.u64 %d4, dynamic; cvta.shared.u64 %d4, %d4; add.u64 %d4, %d4, %d2; st.u32 [%d4], %r2; "
    body += "ld.u32 %r3, [%d4]; st.global.u32 [%d1], %r3; ret;"
    assert words_of(body.format(""), outside=SHARED, shared_bytes=128) == list(range(32))
    with pytest.raises(OutOfBounds, match="byte 128 of wide, which has 128 bytes"):
        words_of(body.format("+4"), outside=SHARED, shared_bytes=128)
    with pytest.raises(OutOfBounds, match="byte -4 of wide"):
        words_of(body.format("+-4"), outside=SHARED, shared_bytes=128)
    with pytest.raises(OutOfBounds, match=r"thread \(31, 0, 0\): 4 bytes at byte 124 of dynamic, which has 124"):
        words_of(body.format(""), outside=SHARED, shared_bytes=124)


def test_dynamic_memory_begins_where_the_alignment_of_all_others_ends():
    misaligned = ".shared .align 4 .b8 narrow[4];\n.extern .shared .align 4 .b8 dynamic[];"
    body = (
        "setp.ne.u32 %p1, %r1, 0; @%p1 ret; st.shared.u32 [narrow], %r1; st.shared.v2.u32 [dynamic], {%r1, %r1}; ret;"
    )
    with pytest.raises(Misaligned, match="8 bytes, which must be aligned, at byte 0 of dynamic"):
        words_of(body, outside=misaligned, shared_bytes=64)
    assert words_of(body, outside=misaligned.replace("4 .b8 dynamic", "8 .b8 dynamic"), shared_bytes=64)


# --------------------------------------------------------------------------------- how threads go their ways


def test_threads_part_and_meet_again():
    body = """
        and.b32 %r2, %r1, 3;
        mov.u32 %r3, 0;
    $again:
        setp.eq.u32 %p1, %r2, 0;
        @%p1 bra $done;
        add.u32 %r3, %r3, %r2;
        sub.u32 %r2, %r2, 1;
        bra.uni $again;
    $done:
        setp.lt.u32 %p2, %r1, 2;
        @!%p2 add.u32 %r3, %r3, 100;
        @%p2 mov.u32 %r3, 5000;
        st.global.u32 [%d1], %r3;
        """
    assert words_of(body, 33) == [5000 if i < 2 else 100 + (0, 1, 3, 6)[i % 4] for i in range(33)]


def test_a_register_may_be_written_on_some_ways_only():
    body = "setp.lt.u32 %p1, %r1, 7; @%p1 mov.u32 %r2, 3; {} st.global.u32 [%d1], %r2; ret;"
    assert words_of(body.format("@!%p1 mov.u32 %r2, 4;")) == [3] * 7 + [4] * 25
    with pytest.raises(Uninitialised, match=r"thread \(7, 0, 0\): a register that was never written"):
        words_of(body.format(""))
    assert words_of(body.format("@!%p1 ret;"))[:8] == [3] * 7 + [2**32 - 1]


def test_threads_know_who_they_are():
    entry = entry_of(
        """
        mov.u32 %r1, %ctaid.z; mov.u32 %r2, %nctaid.y; mov.u32 %r3, %ctaid.y; mad.lo.u32 %r1, %r1, %r2, %r3;
        mov.u32 %r2, %nctaid.x; mov.u32 %r3, %ctaid.x; mad.lo.u32 %r1, %r1, %r2, %r3;
        mov.u32 %r2, %ntid.z; mov.u32 %r3, %tid.z; mad.lo.u32 %r1, %r1, %r2, %r3;
        mov.u32 %r2, %ntid.y; mov.u32 %r3, %tid.y; mad.lo.u32 %r1, %r1, %r2, %r3;
        mov.u32 %r2, %ntid.x; mov.u32 %r3, %tid.x; mad.lo.u32 %r1, %r1, %r2, %r3;
        mul.wide.u32 %d2, %r1, 4; ld.param.u64 %d1, [out]; add.u64 %d1, %d1, %d2;
        mov.u32 %r4, %laneid; shl.b32 %r4, %r4, 24; or.b32 %r4, %r4, %r1; st.global.u32 [%d1], %r4;
        """
    )
    grid, block = (5, 7, 11), (7, 3, 2)
    size = int(np.prod(grid) * np.prod(block))
    outcome = run(entry, Unwritten((size,), "uint32"), grid=grid, block=block)
    expected = [thread | (thread % 42 % 32) << 24 for thread in range(size)]
    assert outcome.arrays[0].tolist() == expected
    assert outcome.counters.threads == size


def test_values_are_put_side_by_side_and_taken_apart():
    body = """
        mov.b64 %d3, {%r1, 7}; mov.b64 {_, %r2}, %d3; shr.u64 %d4, %d3, 32; cvt.u32.u64 %r3, %d4;
        cvt.u16.u32 %h1, %r1; mov.b32 %r4, {%h1, %h1}; mov.b32 {%h2, %h3}, %r4;
        cvt.u32.u16 %r5, %h3; add.u32 %r5, %r5, %r2; add.u32 %r5, %r5, %r3; st.global.u32 [%d1], %r5;
        """
    assert words_of(body) == [i + 14 for i in range(32)]


def test_narrow_loads_and_stores_extend_and_cut_off():
    body = """
        sub.u32 %r2, 0, %r1; st.global.u8 [%d1], %r2; st.global.u8 [%d1+1], 255; st.global.u16 [%d1+2], %r2;
        ld.global.s8 %r3, [%d1]; ld.global.u8 %h1, [%d1+1]; ld.global.s16 %d3, [%d1+2];
        cvt.u32.u16 %r4, %h1; cvt.u32.u64 %r5, %d3;
        sub.u32 %r6, %r3, %r5; add.u32 %r6, %r6, %r4; st.global.u32 [%d1], %r6;
        """
    assert words_of(body) == [255] * 32


def test_shuffles():
    def shuffled(what: str, threads: int = 40) -> list[int]:
        body = f"add.u32 %r2, %r1, 100; shfl.sync.{what}, -1; @!%p1 add.u32 %r3, %r3, 1000; st.global.u32 [%d1], %r3;"
        return words_of(body, threads)

    lanes = [(thread, thread // 32 * 32) for thread in range(64)]
    assert shuffled("up.b32 %r3|%p1, %r2, 3, 0", 64) == [100 + i - 3 if i % 32 >= 3 else 1100 + i for i, _ in lanes]
    assert shuffled("down.b32 %r3|%p1, %r2, 3, 31", 64) == [100 + i + 3 if i % 32 < 29 else 1100 + i for i, _ in lanes]
    assert shuffled("bfly.b32 %r3|%p1, %r2, 5, 31", 64) == [100 + (i ^ 5) for i, _ in lanes]
    assert shuffled("idx.b32 %r3|%p1, %r2, 4, 31") == [100 + first + 4 for _, first in lanes[:40]]
    # Segments of eight lanes: the third operand's upper bits say which bits of a lane name its segment.
    assert shuffled("idx.b32 %r3|%p1, %r2, 2, 6175", 32) == [100 + i // 8 * 8 + 2 for i in range(32)]
    with pytest.raises(Undefined, match=r"thread \(32, 0, 0\): lane 20 does not take part"):
        shuffled("idx.b32 %r3|%p1, %r2, 20, 31")


def test_threads_that_went_another_way_take_part_in_a_shuffle():
    body = """
        and.b32 %r2, %r1, 1; setp.eq.u32 %p1, %r2, 0; @%p1 bra $even;
        add.u32 %r3, %r1, 500; bra.uni $meet;
    $even:
        mov.u32 %r3, %r1;
    $meet:
        shfl.sync.bfly.b32 %r4, %r3, 1, 31, -1; st.global.u32 [%d1], %r4;
        """
    assert words_of(body) == [(i ^ 1) + 500 * (i % 2 == 0) for i in range(32)]


def test_votes():
    body = """
        setp.lt.u32 %p1, %r1, 35; vote.sync.ballot.b32 %r2, %p1, -1;
        vote.sync.any.pred %p2, %p1, -1; vote.sync.all.pred %p3, %p1, -1;
        @%p2 add.u32 %r2, %r2, 100; @%p3 add.u32 %r2, %r2, 2000; st.global.u32 [%d1], %r2;
        """
    assert words_of(body, 96) == [(2**32 - 1 + 2100) % 2**32] * 32 + [107] * 32 + [0] * 32


def test_masks_that_leave_running_threads_out_are_not_known():
    assert words_of("bar.warp.sync 1023; st.global.u32 [%d1], 1;", 10) == [1] * 10
    with pytest.raises(Unsupported, match="only some of the running threads are members"):
        words_of("bar.warp.sync 1023; st.global.u32 [%d1], 1;", 11)


@pytest.mark.parametrize(("kind", "dtype"), [("u32", "uint32"), ("f32", "float32")])
def test_atomic_additions(kind, dtype):
    register = {"u32": "%r", "f32": "%f"}[kind]
    entry = entry_of(
        f"""
        ld.param.u64 %d1, [sums]; ld.param.u64 %d3, [before]; mov.u32 %r1, %tid.x; and.b32 %r2, %r1, 3;
        mul.wide.u32 %d2, %r2, 4; add.u64 %d2, %d1, %d2; cvt.rn.f32.u32 %f1, %r1;
        atom.global.add.{kind} {register}5, [%d2], {register}1; red.relaxed.gpu.global.add.{kind} [%d2], {register}1;
        mul.wide.u32 %d4, %r1, 4; add.u64 %d3, %d3, %d4; st.global.{kind} [%d3], {register}5;
        """,
        ".param .u64 sums, .param .u64 before",
    )
    sums, before = run(entry, np.full(4, 7, dtype), Unwritten((64,), dtype), block=(64,)).arrays
    assert sums.tolist() == [7 + 2 * sum(range(first, 64, 4)) for first in range(4)]
    assert before.tolist() == [7 + sum(range(thread % 4, thread, 4)) for thread in range(64)]


def test_plain_accesses_beside_atomic_ones_race():
    with pytest.raises(Race, match="also updated by block"):
        words_of(
            "st.global.u32 [%d1], 0; bar.sync 0; ld.param.u64 %d3, [out]; red.global.add.u32 [%d3], 1;"
            "ld.global.u32 %r2, [%d3];"
        )


def test_endless_loops_end():
    with pytest.raises(StepLimit, match="more than 1000 instructions"):
        words_of("$again: bra.uni $again;", step_limit=1000)


def test_every_thread_of_a_warp_must_come():
    body = "setp.lt.u32 %p1, %r1, 3; @%p1 bar.warp.sync -1; @!%p1 bar.sync 0;"
    with pytest.raises(BarrierDivergence, match=r"thread \(0, 0, 0\): waits, but .*\(3, 0, 0\) waits at line"):
        words_of(body)
    # Those that have returned are not waited for.
    assert words_of("setp.lt.u32 %p1, %r1, 3; @%p1 ret; bar.warp.sync -1; st.global.u32 [%d1], 1;")[3:] == [1] * 29


def test_all_faults_are_of_one_kind():
    for fault in (BarrierDivergence, Misaligned, OutOfBounds, Race, StepLimit, Trap, Undefined, Unsupported):
        assert issubclass(fault, PtxFault)

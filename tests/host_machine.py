"""A GPU's multiprocessor on the host, in LLVM's IR: the numbers of threads and blocks, and the barrier.

Each thread of a block has a stack of its own, in a context of glibc's. A thread runs up to a barrier, to where its warp
meets, or to its end, and goes on to the next one that can run; where none can it goes back to the caller. glibc's
`_setjmp` and `_longjmp` do that without asking the operating system, which `swapcontext` does each time.

At a matrix instruction the 32 threads of a warp meet: the last one to come computes what all of them get, by a function
that `host_matrices` has.
"""

MOST_THREADS = 1024
"""Maximum threads per block, on any GPU."""
CONTEXT, JUMP = 8192, 6144
"""Bytes that are kept of a thread, first glibc's `ucontext_t` and then `jmp_buf`: more than on any processor."""

AXES = "xyz"
SIZES = tuple(f"{what}_{axis}" for what in ("ntid", "nctaid", "ctaid") for axis in AXES)
"""What a GPU's threads read besides their own numbers: the sizes of block and grid, and the block's numbers."""
STATE = {
    name: number
    for number, name in enumerate(
        (*SIZES, "shared_bytes", "threads", "current", "waiting", "finished", "site", "apart", "multiply")
    )
}
"""Places of the numbers, 64 bits each, that Python reads and writes too.

`threads` are in the block, and `current` is the one that runs, by its turn; `waiting` are at a barrier, the first of
them at `site` in the code, and some of them elsewhere if `apart` isn't 0; `finished` have come to their end.
`multiply` is the address of the function for matrix instructions.
"""

WARP = 32
GIVEN, RESULTS = 10, 4
"""Numbers that a thread gives to a matrix instruction, and gets from it."""
MULTIPLY = (
    'asm sideeffect "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, '
    '{$10,$11,$12,$13};", "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f"'
)
FRAGMENT = "{float, float, float, float}"

BARRIER = "llvm.nvvm.barrier0"
NAMES = {
    f'@"{BARRIER}"': "@gpu_barrier",
    **{f'@"llvm.nvvm.read.ptx.sreg.{name.replace("_", ".")}"': f"@gpu_{name}" for name in SIZES},
    **{f'@"llvm.nvvm.read.ptx.sreg.tid.{axis}"': f"@gpu_tid_{axis}" for axis in AXES},
    'asm sideeffect "mov.u32 $0, %dynamic_smem_size;", "=r"': "@gpu_shared_bytes",
    MULTIPLY: "@gpu_multiply_add",
    'asm  "prmt.b32 $0, $1, $2, $3;", "=r,r,r,r"': "@gpu_permute",
    '@"__nv_': '@"',  # libdevice's functions are named after those of libm
}
"""What takes the place of a GPU's own in a kernel's IR."""


def _at(name: str) -> str:
    return f"ptr getelementptr (i64, ptr @gpu_state, i64 {STATE[name]})"


def _reader(name: str) -> str:
    return f"define i32 @gpu_{name}() alwaysinline {{\n  %v = load i32, {_at(name)}\n  ret i32 %v\n}}"


def _thread_number(axis: str) -> str:
    return f"""
define i32 @gpu_tid_{axis}() alwaysinline {{
  %current = load i64, {_at("current")}
  %place = getelementptr i32, ptr @gpu_threads, i64 %current
  %thread = load i32, ptr %place
  %width = load i32, {_at("ntid_x")}
  %height = load i32, {_at("ntid_y")}
  %x = urem i32 %thread, %width
  %row = udiv i32 %thread, %width
  %y = urem i32 %row, %height
  %z = udiv i32 %row, %height
  ret i32 %{axis}
}}"""


def _deposit() -> str:
    """Return the code that stores what a thread gives to a matrix instruction."""
    names = [*(f"i32 %a{n}" for n in range(4)), "i32 %b0", "i32 %b1", *(f"float %c{n}" for n in range(4))]
    return "\n".join(
        f"  %given{n} = getelementptr i32, ptr %given, i64 {n}\n  store {name}, ptr %given{n}"
        for n, name in enumerate(names)
    )


def _chosen_bytes() -> str:
    """Return the code that puts the bytes that `%selector` chooses of `%bytes` together."""
    lines = []
    for n in range(4):
        before = f"%r{n - 1}" if n else "0"
        lines.append(f"""
  %digit{n} = lshr i32 %selector, {4 * n}
  %number{n} = and i32 %digit{n}, 7
  %bits{n} = shl i32 %number{n}, 3
  %far{n} = zext i32 %bits{n} to i64
  %moved{n} = lshr i64 %bytes, %far{n}
  %word{n} = trunc i64 %moved{n} to i32
  %byte{n} = and i32 %word{n}, 255
  %placed{n} = shl i32 %byte{n}, {8 * n}
  %r{n} = or i32 {before}, %placed{n}""")
    return "".join(lines)


def machine(shared_bytes: int) -> str:
    """Return the machine with `shared_bytes` for a block, but for `gpu_kernel`, which calls the kernel."""
    return (
        "\n".join([*map(_reader, (*SIZES, "shared_bytes")), *map(_thread_number, AXES)])
        + f"""
@gpu_state = global [{len(STATE)} x i64] zeroinitializer
@gpu_threads = global [{MOST_THREADS} x i32] zeroinitializer ; their numbers, in turn
@gpu_shared = global [{shared_bytes} x i8] zeroinitializer, align 64
@gpu_contexts = global ptr null ; in turn, and after them the caller's
@gpu_held = global [{MOST_THREADS} x i8] zeroinitializer ; whether they can't run, in turn
@gpu_given = global [{MOST_THREADS} x [{GIVEN} x i32]] zeroinitializer ; for matrix instructions, by number
@gpu_results = global [{MOST_THREADS} x [{RESULTS} x float]] zeroinitializer
@gpu_met = global [{MOST_THREADS // WARP} x i64] zeroinitializer ; how many threads of a warp have come
@gpu_met_turns = global [{MOST_THREADS} x i64] zeroinitializer ; their turns
@gpu_met_sites = global [{MOST_THREADS // WARP} x i64] zeroinitializer ; and where in the code the first one was
declare void @gpu_kernel()
declare i32 @_setjmp(ptr) returns_twice
declare void @_longjmp(ptr, i32) noreturn
declare i32 @setcontext(ptr)
declare ptr @llvm.returnaddress(i32)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)

define ptr @gpu_context(i64 %n) alwaysinline {{
  %contexts = load ptr, ptr @gpu_contexts
  %offset = mul i64 %n, {CONTEXT}
  %context = getelementptr i8, ptr %contexts, i64 %offset
  ret ptr %context
}}

define void @gpu_switch(i64 %from, i64 %to) noinline {{
  %mine = call ptr @gpu_context(i64 %from)
  %here = getelementptr i8, ptr %mine, i64 {JUMP}
  %again = call i32 @_setjmp(ptr %here) returns_twice
  %back = icmp ne i32 %again, 0
  br i1 %back, label %return, label %leave
leave:
  %other = call ptr @gpu_context(i64 %to)
  %there = getelementptr i8, ptr %other, i64 {JUMP}
  call void @_longjmp(ptr %there, i32 1)
  unreachable
return:
  ret void
}}

; Let thread %n wait at its beginning.
define void @gpu_start(i64 %n) noinline {{
  store i64 %n, {_at("current")}
  %mine = call ptr @gpu_context(i64 {MOST_THREADS})
  %here = getelementptr i8, ptr %mine, i64 {JUMP}
  %again = call i32 @_setjmp(ptr %here) returns_twice
  %back = icmp ne i32 %again, 0
  br i1 %back, label %return, label %leave
leave:
  %context = call ptr @gpu_context(i64 %n)
  %failed = call i32 @setcontext(ptr %context)
  unreachable
return:
  ret void
}}

; What a thread runs, block by block.
define void @gpu_thread() {{
  %n = load i64, {_at("current")}
  call void @gpu_switch(i64 %n, i64 {MOST_THREADS})
  br label %block
block:
  call void @gpu_kernel()
  %before = load i64, {_at("finished")}
  %finished = add i64 %before, 1
  store i64 %finished, {_at("finished")}
  call void @gpu_hold()
  br label %block
}}

; Let the next thread run that can, or the caller.
define void @gpu_hold() {{
  %n = load i64, {_at("current")}
  %mine = getelementptr i8, ptr @gpu_held, i64 %n
  store i8 1, ptr %mine
  %threads = load i64, {_at("threads")}
  br label %search
search:
  %before = phi i64 [ %n, %0 ], [ %turn, %search_on ]
  %after = add i64 %before, 1
  %last = icmp eq i64 %after, %threads
  %turn = select i1 %last, i64 0, i64 %after
  %none = icmp eq i64 %turn, %n
  br i1 %none, label %found, label %look
look:
  %its = getelementptr i8, ptr @gpu_held, i64 %turn
  %held = load i8, ptr %its
  %runs = icmp eq i8 %held, 0
  br i1 %runs, label %found, label %search_on
search_on:
  br label %search
found:
  %to = phi i64 [ {MOST_THREADS}, %search ], [ %turn, %look ]
  store i64 %to, {_at("current")}
  call void @gpu_switch(i64 %n, i64 %to)
  ret void
}}

define {FRAGMENT} @gpu_multiply_add(i32 %a0, i32 %a1, i32 %a2, i32 %a3, i32 %b0, i32 %b1,
    float %c0, float %c1, float %c2, float %c3) noinline convergent noduplicate nomerge {{
  %address = call ptr @llvm.returnaddress(i32 0)
  %here = ptrtoint ptr %address to i64
  %current = load i64, {_at("current")}
  %place = getelementptr i32, ptr @gpu_threads, i64 %current
  %number = load i32, ptr %place
  %thread = zext i32 %number to i64
  %warp = udiv i64 %thread, {WARP}
  %first = mul i64 %warp, {WARP}
  %given = getelementptr [{GIVEN} x i32], ptr @gpu_given, i64 %thread
{_deposit()}
  %count = getelementptr i64, ptr @gpu_met, i64 %warp
  %came = load i64, ptr %count
  %met = add i64 %came, 1
  %turn_of = add i64 %first, %came
  %turn_at = getelementptr i64, ptr @gpu_met_turns, i64 %turn_of
  store i64 %current, ptr %turn_at
  %site_at = getelementptr i64, ptr @gpu_met_sites, i64 %warp
  %is_first = icmp eq i64 %came, 0
  %known = load i64, ptr %site_at
  %site = select i1 %is_first, i64 %here, i64 %known
  store i64 %site, ptr %site_at
  %same = icmp eq i64 %here, %site
  br i1 %same, label %together, label %wait ; for ever, as not all are here
together:
  store i64 %met, ptr %count
  %all = icmp eq i64 %met, {WARP}
  br i1 %all, label %compute, label %wait
wait:
  call void @gpu_hold()
  br label %return
compute:
  store i64 0, ptr %count
  %pointer = load ptr, {_at("multiply")}
  %all_given = getelementptr [{GIVEN} x i32], ptr @gpu_given, i64 %first
  %all_results = getelementptr [{RESULTS} x float], ptr @gpu_results, i64 %first
  call void %pointer(ptr %all_given, ptr %all_results)
  br label %let_go
let_go:
  %k = phi i64 [ 0, %compute ], [ %next, %let_go ]
  %other = add i64 %first, %k
  %other_at = getelementptr i64, ptr @gpu_met_turns, i64 %other
  %other_turn = load i64, ptr %other_at
  %held = getelementptr i8, ptr @gpu_held, i64 %other_turn
  store i8 0, ptr %held
  %next = add i64 %k, 1
  %more = icmp ult i64 %next, {WARP}
  br i1 %more, label %let_go, label %return
return:
  %results = getelementptr [{RESULTS} x float], ptr @gpu_results, i64 %thread
  %found = load {FRAGMENT}, ptr %results
  ret {FRAGMENT} %found
}}

; PTX ISA, "Data Movement and Conversion Instructions: prmt": each digit of %selector chooses one of eight bytes.
define i32 @gpu_permute(i32 %a, i32 %b, i32 %selector) alwaysinline {{
  %low = zext i32 %a to i64
  %wide = zext i32 %b to i64
  %high = shl i64 %wide, 32
  %bytes = or i64 %high, %low
{_chosen_bytes()}
  ret i32 %r3
}}

define void @gpu_barrier() noinline convergent noduplicate nomerge {{
  %address = call ptr @llvm.returnaddress(i32 0)
  %here = ptrtoint ptr %address to i64
  %before = load i64, {_at("waiting")}
  %waiting = add i64 %before, 1
  store i64 %waiting, {_at("waiting")}
  %first = icmp eq i64 %before, 0
  %known = load i64, {_at("site")}
  %site = select i1 %first, i64 %here, i64 %known
  store i64 %site, {_at("site")}
  %elsewhere = icmp ne i64 %here, %site
  %one = zext i1 %elsewhere to i64
  %others = load i64, {_at("apart")}
  %apart = or i64 %others, %one
  store i64 %apart, {_at("apart")}
  call void @gpu_hold()
  ret void
}}

; Run all threads from barrier to barrier, until not all of them come to the same one.
define void @gpu_block() {{
  store i64 0, {_at("apart")}
  call void @llvm.memset.p0.i64(ptr @gpu_met, i8 0, i64 {8 * MOST_THREADS // WARP}, i1 false)
  br label %round
round:
  store i64 0, {_at("current")}
  store i64 0, {_at("waiting")}
  store i64 0, {_at("finished")}
  %threads = load i64, {_at("threads")}
  call void @llvm.memset.p0.i64(ptr @gpu_held, i8 0, i64 %threads, i1 false)
  call void @gpu_switch(i64 {MOST_THREADS}, i64 0)
  %waiting = load i64, {_at("waiting")}
  %apart = load i64, {_at("apart")}
  %all = icmp eq i64 %waiting, %threads
  %together = icmp eq i64 %apart, 0
  %go_on = and i1 %all, %together
  br i1 %go_on, label %round, label %end
end:
  ret void
}}

; Run all threads of a kernel that has no barrier: they need no stacks of their own.
define void @gpu_block_without_barriers() {{
  %threads = load i64, {_at("threads")}
  br label %thread
thread:
  %n = phi i64 [ 0, %0 ], [ %next, %thread ]
  store i64 %n, {_at("current")}
  call void @gpu_kernel()
  %next = add i64 %n, 1
  %go_on = icmp ult i64 %next, %threads
  br i1 %go_on, label %thread, label %end
end:
  ret void
}}
"""
    )

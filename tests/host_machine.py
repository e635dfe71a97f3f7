"""A GPU's multiprocessor on the host, in LLVM's IR: the numbers of threads and blocks, and the barrier.

Each thread of a block has a stack of its own, in a context of glibc's. A thread runs up to a barrier, or to its end,
and goes on to the next one; the last one goes back to the caller. glibc's `_setjmp` and `_longjmp` do that
without asking the operating system, which `swapcontext` does each time.
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
        (*SIZES, "shared_bytes", "threads", "current", "waiting", "finished", "site", "apart")
    )
}
"""Places of the numbers, 64 bits each, that Python reads and writes too.

`threads` are in the block, and `current` is the one that runs, by its turn; `waiting` are at a barrier, the first of
them at `site` in the code, and some of them elsewhere if `apart` isn't 0; `finished` have come to their end.
"""

BARRIER = "llvm.nvvm.barrier0"
NAMES = {
    f'@"{BARRIER}"': "@gpu_barrier",
    **{f'@"llvm.nvvm.read.ptx.sreg.{name.replace("_", ".")}"': f"@gpu_{name}" for name in SIZES},
    **{f'@"llvm.nvvm.read.ptx.sreg.tid.{axis}"': f"@gpu_tid_{axis}" for axis in AXES},
    'asm sideeffect "mov.u32 $0, %dynamic_smem_size;", "=r"': "@gpu_shared_bytes",
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


def machine(shared_bytes: int) -> str:
    """Return the machine with `shared_bytes` for a block, but for `gpu_kernel`, which calls the kernel."""
    return (
        "\n".join([*map(_reader, (*SIZES, "shared_bytes")), *map(_thread_number, AXES)])
        + f"""
@gpu_state = global [{len(STATE)} x i64] zeroinitializer
@gpu_threads = global [{MOST_THREADS} x i32] zeroinitializer ; their numbers, in turn
@gpu_shared = global [{shared_bytes} x i8] zeroinitializer, align 64
@gpu_contexts = global ptr null ; in turn, and after them the caller's
declare void @gpu_kernel()
declare i32 @_setjmp(ptr) returns_twice
declare void @_longjmp(ptr, i32) noreturn
declare i32 @setcontext(ptr)
declare ptr @llvm.returnaddress(i32)

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
  call void @gpu_next()
  br label %block
}}

define void @gpu_next() {{
  %n = load i64, {_at("current")}
  %next = add i64 %n, 1
  store i64 %next, {_at("current")}
  %threads = load i64, {_at("threads")}
  %last = icmp eq i64 %next, %threads
  %to = select i1 %last, i64 {MOST_THREADS}, i64 %next
  call void @gpu_switch(i64 %n, i64 %to)
  ret void
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
  call void @gpu_next()
  ret void
}}

; Run all threads from barrier to barrier, until one has finished or has come to another barrier than the others.
define void @gpu_block() {{
  store i64 0, {_at("apart")}
  br label %round
round:
  store i64 0, {_at("current")}
  store i64 0, {_at("waiting")}
  store i64 0, {_at("finished")}
  call void @gpu_switch(i64 {MOST_THREADS}, i64 0)
  %finished = load i64, {_at("finished")}
  %apart = load i64, {_at("apart")}
  %some = or i64 %finished, %apart
  %go_on = icmp eq i64 %some, 0
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

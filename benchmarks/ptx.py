"""PTX run by NumPy, a block's threads at once, to count what each warp issues: no GPU is needed, and none is measured.

Threads that are at the same instruction run it together, those that are behind first, so that they meet again where
paths do. Only what the whole-epoch kernels use is understood; anything else is an error.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WARP = 32
BANKS = 32
SECTOR = 32
"""Bytes that the L2 cache hands out at once."""
LINE = 128
"""Bytes of a line of the L1 cache."""
SHARED = 1 << 40
"""Where shared memory begins, beyond all of the device's."""
MOST_SHARED = 227 * 1024
MARGIN = 4096

DTYPES = {
    **{f"{kind}{bits}": np.dtype(f"{name}{bits // 8}") for kind, name in (("u", "u"), ("s", "i"), ("b", "u"))
       for bits in (8, 16, 32, 64)},
    "f32": np.dtype("f4"), "f64": np.dtype("f8"), "pred": np.dtype(bool),
}  # fmt: skip
REGISTERS = {"p": "pred", "rs": "u16", "r": "u32", "rd": "u64", "f": "f32", "fd": "f64"}


class Instruction(NamedTuple):
    """One instruction: the register of its guard and its value, its name in parts, and its operands."""

    guard: tuple[str, bool] | None
    parts: tuple[str, ...]
    operands: tuple[Any, ...]


@dataclass
class Part:
    """What happens between two barriers: by warp, instructions by name; by block, accesses to memory."""

    issued: dict[str, NDArray[np.int64]]
    shared: int = 0
    """Times that shared memory, one for each word of the same bank, and lines of the L1 cache are accessed."""
    bytes_of_l2: int = 0
    """What is loaded counts once between two barriers, as the L1 cache keeps it."""
    runs: int = 0


@dataclass
class Program:
    """The instructions of the one kernel in a PTX text."""

    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)
    registers: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, text: str) -> "Program":
        program, body = cls(), text[text.index("{\n", text.index(".entry")) :]
        body = re.sub(r"//.*|\.pragma.*;", "", body)
        for line in re.split(r"[;\n]", body):
            program._add(line.strip())
        return program

    def _add(self, line: str) -> None:
        if match := re.fullmatch(r"(\$\w+):", line):
            self.labels[match[1]] = len(self.instructions)
        elif line and line not in "{}" and not line.startswith("."):
            guard, name, rest = re.fullmatch(r"(?:@(!?%\w+)\s+)?(\S+)\s*(.*)", line).groups()  # type: ignore[union-attr]
            operands = tuple(_operand(each) for each in re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^,\s]+", rest))
            condition = None if guard is None else (guard.lstrip("!"), guard[0] != "!")
            self.instructions.append(Instruction(condition, tuple(name.split(".")), operands))
            self.registers |= set(re.findall(r"%(?:p|rs|r|rd|f|fd)\d+\b", line))


def _operand(text: str) -> Any:
    """Return a list for a vector, a pair of base and offset for an address, a number, or the name of something."""
    if text[0] == "{":
        return [_operand(each.strip()) for each in text[1:-1].split(",")]
    if text[0] == "[":
        base, _, offset = text[1:-1].partition("+")
        return base, int(offset or 0)
    if text.startswith("0f"):
        return np.uint32(int(text[2:], 16)).view(np.float32)
    if text.startswith("0d"):
        return np.uint64(int(text[2:], 16)).view(np.float64)
    return int(text) if re.fullmatch(r"-?\d+", text) else text


class Block:
    """A block of threads, and the device's arrays that its kernel is given."""

    def __init__(self, program: Program, n_threads: int, arguments: Sequence[Any], shared_bytes: int) -> None:
        """Take the arguments in Numba's layout, arrays first of all; they are copied, see `array`."""
        self._program, self._n, self._shared_bytes = program, n_threads, shared_bytes
        self.shared = np.zeros(MOST_SHARED, np.uint8)
        self._places: list[int] = []
        self._loaded = [np.empty(0, np.int64)]
        arrays = [np.ascontiguousarray(value) for value in arguments]
        end = MARGIN
        for array in arrays:
            self._places.append(end)
            end += -(-array.nbytes // MARGIN) * MARGIN + MARGIN
        self.memory = np.zeros(end, np.uint8)
        self._like, self._slots = arrays, list[int]()
        for place, array in zip(self._places, arrays, strict=True):
            self.memory[place : place + array.nbytes] = array.reshape(-1).view(np.uint8)
            self._slots += [0, 0, array.size, array.itemsize, place, *array.shape, *array.strides]
        self._values: dict[str, Any] = {
            "%tid.x": np.arange(n_threads, dtype=np.uint32), "%ctaid.x": np.uint32(0),
            "%ntid.x": np.uint32(n_threads), "%dynamic_smem_size": np.uint32(shared_bytes),
        }  # fmt: skip
        for name in program.registers:
            kind = DTYPES[REGISTERS[re.match(r"%([a-z]+)", name)[1]]]  # type: ignore[index]
            self._values[name] = np.zeros(n_threads, kind)
        self.parts: dict[int, Part] = defaultdict(
            lambda: Part(defaultdict(lambda: np.zeros(n_threads // WARP, np.int64)))
        )
        """By the number of the barrier in the program after which it comes, from 1; 0 is the beginning."""

    def array(self, number: int) -> NDArray[Any]:
        """Return argument `number` as the kernel has left it."""
        like, place = self._like[number], self._places[number]
        return self.memory[place : place + like.nbytes].view(like.dtype).reshape(like.shape)

    def run(self) -> None:
        """Run all threads to their end."""
        instructions, end = self._program.instructions, len(self._program.instructions)
        barriers = [n for n, each in enumerate(instructions) if each.parts[0] == "bar"]
        at, waits = np.zeros(self._n, np.int64), np.zeros(self._n, bool)
        part = self.parts[0]
        while True:
            ready = np.where(waits, end, at)
            here = int(ready.min())
            if here == end:
                part.bytes_of_l2 += SECTOR * len(np.unique(np.concatenate(self._loaded)))
                self._loaded = [np.empty(0, np.int64)]
                if not waits.any():
                    return
                if len(set(at.tolist())) > 1:
                    raise ValueError("not all threads meet at a barrier")
                part = self.parts[1 + barriers.index(int(at[0]) - 1)]
                part.runs += 1
                waits[:] = False
                continue
            who, instruction = ready == here, instructions[here]
            part.issued[".".join(instruction.parts)] += who.reshape(-1, WARP).any(axis=1)
            taken = who
            if instruction.guard is not None:
                name, wanted = instruction.guard
                taken = who & (self._values[name] == wanted)
            at[who] = here + 1
            match instruction.parts[0]:
                case "bra":
                    at[taken] = self._program.labels[instruction.operands[0]]
                case "bar":
                    waits |= who
                case "ret":
                    at[taken] = end
                case _:
                    self._execute(instruction, taken, part)

    def _execute(self, instruction: Instruction, who: NDArray[np.bool_], part: Part) -> None:
        parts, (target, *sources) = instruction.parts, instruction.operands
        if parts[0] in {"ld", "st"}:
            self._access(parts, target, sources, who, part)
            return
        if parts[0] == "mma":
            found = self._multiply(sources)
            for register, values in zip(target, found, strict=True):
                np.copyto(self._values[register], values, where=who)
            return
        with np.errstate(all="ignore"):
            value = OPERATIONS[parts[0]](self, parts, sources)
        register = self._values[target]
        value = np.broadcast_to(np.asarray(value), (self._n,))
        if value.dtype != register.dtype:  # the same bits, or a truth
            same = value.dtype.itemsize == register.dtype.itemsize
            value = np.ascontiguousarray(value).view(register.dtype) if same else value.astype(register.dtype)
        np.copyto(register, value, where=who)

    def get(self, operand: Any, kind: str) -> Any:
        """Return an operand's values as numbers of a PTX type."""
        dtype = DTYPES[kind]
        if isinstance(operand, int):
            return (
                np.array(operand % 2 ** (8 * dtype.itemsize), f"u{dtype.itemsize}").view(dtype)
                if (dtype.kind in "iu")
                else dtype.type(operand)
            )
        value = self._values.get(operand) if isinstance(operand, str) else operand
        if value is None:
            if "smem" not in operand:
                raise NotImplementedError(f"found the operand {operand}")
            return dtype.type(SHARED)
        value = np.asarray(value)
        if value.dtype == dtype:
            return value
        if value.dtype.itemsize == dtype.itemsize and value.dtype != bool:
            return value.view(dtype)
        return value.astype(dtype)

    def _access(
        self, parts: tuple[str, ...], target: Any, sources: Sequence[Any], who: NDArray[np.bool_], part: Part
    ) -> None:
        loads, space, kind = parts[0] == "ld", parts[1], parts[-1]
        if space == "param":
            self._values[target][:] = self._slots[int(sources[0][0].rpartition("_")[2])]
            return
        (base, offset), registers = (sources[0], target) if loads else (target, sources[0])
        registers, dtype = registers if isinstance(registers, list) else [registers], DTYPES[kind]
        places = self._values[base][who].astype(np.int64) + offset
        memory, size = self.memory, dtype.itemsize * len(registers)
        if space not in {"shared", "global", kind, f"v{len(registers)}"}:
            raise NotImplementedError(f"found memory of the kind {space}")
        if len(places) and places.min() >= SHARED:
            memory, places = self.shared, places - SHARED
            self._count_banks(places, size, who, part)
        else:
            warps = np.flatnonzero(who) // WARP << 40
            part.shared += len(np.unique(places // LINE + warps))
            if loads:
                self._loaded.append(np.unique(places // SECTOR))
            else:
                part.bytes_of_l2 += SECTOR * len(np.unique(places // SECTOR + warps))
        if (places % size).any() or (len(places) and places.max() + size > len(memory)):
            raise ValueError("found a place that is no multiple of what is there")
        numbers = memory[: len(memory) // dtype.itemsize * dtype.itemsize].view(dtype)
        for n, register in enumerate(registers):
            index = places // dtype.itemsize + n
            if loads:
                own = self._values[register]
                found = numbers[index]
                own[who] = found.view(own.dtype) if found.itemsize == own.itemsize else found.astype(own.dtype)
            else:
                value = np.broadcast_to(self.get(register, kind), (self._n,))
                numbers[index] = value[who]

    @staticmethod
    def _count_banks(places: NDArray[np.int64], size: int, who: NDArray[np.bool_], part: Part) -> None:
        """Count how often each warp's access is repeated: it goes by 128 bytes, of which each bank has one word."""
        at_once, numbers = WARP * 4 // max(size, 4), np.flatnonzero(who)
        groups = numbers // at_once
        words = np.unique(
            groups * 2**40 + places // 4
            if size <= 4
            else ((groups * 2**40 + places // 4)[:, None] + np.arange(size // 4)).ravel()
        )
        counts = np.bincount((words >> 40) * BANKS + words % BANKS).reshape(-1)
        padded = np.zeros(-(-len(counts) // BANKS) * BANKS, np.int64)
        padded[: len(counts)] = counts
        part.shared += int(padded.reshape(-1, BANKS).max(axis=1).sum())

    def _multiply(self, sources: Sequence[Any]) -> list[NDArray[np.float32]]:
        """Return the fragments of A B + C, as `mma.sync.m16n8k16` has them, with exact sums."""
        a, b, c = ([np.broadcast_to(self._values[name], (self._n,)) for name in names] for names in sources)
        lane = np.arange(WARP)
        group, member, warps = lane // 4, lane % 4, self._n // WARP

        def halves(register: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
            bits = register.reshape(warps, WARP)
            return (bits << np.uint32(16)).view(np.float32), (bits & np.uint32(0xFFFF0000)).view(np.float32)

        A, B, C = np.empty((warps, 16, 16)), np.empty((warps, 16, 8)), np.empty((warps, 16, 8))
        for n, register in enumerate(a):
            for k, half in enumerate(halves(register)):
                A[:, group + 8 * (n % 2), 2 * member + k + 8 * (n // 2)] = half
        for n, register in enumerate(b):
            for k, half in enumerate(halves(register)):
                B[:, 2 * member + k + 8 * n, group] = half
        for n, register in enumerate(c):
            C[:, group + 8 * (n // 2), 2 * member + n % 2] = register.reshape(warps, WARP)
        D = (A @ B + C).astype(np.float32)
        return [D[:, group + 8 * (n // 2), 2 * member + n % 2].reshape(-1) for n in range(4)]


def _binary(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def apply(block: Block, parts: tuple[str, ...], sources: Sequence[Any]) -> Any:
        return function(*(block.get(each, parts[-1]) for each in sources))

    return apply


def _multiply_integers(block: Block, parts: tuple[str, ...], sources: Sequence[Any]) -> Any:
    kind = parts[-1]
    left, right = (block.get(each, kind) for each in sources[:2])
    if "wide" in parts:
        wide = {"u32": np.uint64, "s32": np.int64}[kind]
        return left.astype(wide) * right.astype(wide)
    if "hi" in parts and DTYPES[kind].itemsize == 8:
        exact = np.broadcast_to(left, (block._n,)).astype(object) * np.broadcast_to(right, (block._n,)).astype(object)
        return np.array([int(each) >> 64 for each in exact]).astype(DTYPES[kind])
    if "hi" in parts:
        return (left.astype(np.int64) * right.astype(np.int64) >> 32).astype(DTYPES[kind])
    product = left * right
    return product + block.get(sources[2], kind) if parts[0] == "mad" else product


def _shift(block: Block, parts: tuple[str, ...], sources: Sequence[Any]) -> Any:
    value, amount = block.get(sources[0], parts[-1]), block.get(sources[1], "u32")
    amount = np.asarray(amount).astype(value.dtype)
    return value << amount if parts[0] == "shl" else value >> amount


def _compare(block: Block, parts: tuple[str, ...], sources: Sequence[Any]) -> Any:
    name = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
    return getattr(np, name[parts[1]])(*(block.get(each, parts[-1]) for each in sources))


def _convert(block: Block, parts: tuple[str, ...], sources: Sequence[Any]) -> Any:
    to, of = DTYPES[parts[-2]], block.get(sources[0], parts[-1])
    if "sat" in parts:
        return np.clip(np.nan_to_num(of, nan=0.0), 0, 1)
    return np.asarray(of).astype(to)


def _permute(block: Block, _: tuple[str, ...], sources: Sequence[Any]) -> Any:
    a, b, selector = (np.asarray(block.get(each, "u32")).astype(np.uint64) for each in sources)
    both, found = a | b << np.uint64(32), np.uint64(0)
    for n in range(4):
        number = selector >> np.uint64(4 * n) & np.uint64(7)
        found |= (both >> number * np.uint64(8) & np.uint64(255)) << np.uint64(8 * n)
    return np.asarray(found).astype(np.uint32)


def _fused(block: Block, parts: tuple[str, ...], sources: Sequence[Any]) -> Any:
    a, b, c = (block.get(each, "f32").astype(np.float64) for each in sources)
    exact = a * b + c
    rounded = exact.astype(np.float32)
    return np.where(rounded > exact, np.nextafter(rounded, np.float32(-np.inf)), rounded) if "rm" in parts else rounded


def _logic(function: Callable[..., Any]) -> Callable[..., Any]:
    def apply(block: Block, parts: tuple[str, ...], sources: Sequence[Any]) -> Any:
        return function(*(block.get(each, "pred" if parts[-1] == "pred" else parts[-1]) for each in sources))

    return apply


def _same(block: Block, parts: tuple[str, ...], sources: Sequence[Any]) -> Any:
    return block.get(sources[0], "u64" if parts[0] == "cvta" else parts[-1])


def _select(block: Block, parts: tuple[str, ...], sources: Sequence[Any]) -> Any:
    yes, no, which = (*(block.get(each, parts[-1]) for each in sources[:2]), block.get(sources[2], "pred"))
    return np.where(which, yes, no)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _binary(np.add), "sub": _binary(np.subtract), "div": _binary(np.divide), "rem": _binary(np.fmod),
    "min": _binary(np.minimum), "max": _binary(np.maximum), "neg": _binary(np.negative), "abs": _binary(np.abs),
    "and": _logic(np.bitwise_and), "or": _logic(np.bitwise_or), "xor": _logic(np.bitwise_xor), "not": _logic(np.invert),
    "ex2": _binary(np.exp2), "mov": _same, "cvta": _same, "selp": _select, "setp": _compare, "cvt": _convert,
    "shl": _shift, "shr": _shift, "prmt": _permute, "fma": _fused, "mad": _multiply_integers,
    "mul": lambda block, parts, sources: (
        _binary(np.multiply) if parts[-1][0] == "f" else _multiply_integers
    )(*(block, parts, sources)),
}  # fmt: skip

"""Unchecked access to arrays, for Numba-compiled code on CPUs.

Numba's own indexing has to allow for negative indices and overlapping arrays; these functions don't. Arrays are
one-dimensional and C-contiguous, and an index counts elements from the start. Nothing is checked, unless the code is
compiled with Numba's bounds checking (NUMBA_BOUNDSCHECK=1): then every access is, and may raise `IndexError`.
"""

from typing import Any

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import I32, LANES, VECTOR, LanesType, multiply_add, pack, splat, unpack

BYTES = ir.VectorType(ir.IntType(8), LANES)
MASK = ir.VectorType(ir.IntType(1), LANES)
BYTE_POINTER = ir.IntType(8).as_pointer()

CACHE_LINE = 64


def element(context: Any, builder: Any, kind: Any, pointee: Any, array: Any, index: Any, count: Any = 1) -> Any:
    """Return a pointer to `pointee` at element `index` of `array`, of Numba type `kind`, for `count` elements."""
    if isinstance(kind, types.CPointer):
        return builder.bitcast(builder.gep(array, [index]), pointee.as_pointer())
    view = context.make_array(kind)(context, builder, array)
    if config.BOUNDSCHECK:
        if isinstance(count, int):
            count = ir.Constant(index.type, count)
        outside = builder.or_(
            builder.icmp_signed("<", index, ir.Constant(index.type, 0)),
            builder.icmp_signed(">", builder.add(index, count), view.nitems),
        )
        with builder.if_then(outside, likely=False):
            context.call_conv.return_user_exc(builder, IndexError, ("a kernel accessed an array out of bounds",))
    return builder.bitcast(builder.gep(view.data, [index]), pointee.as_pointer())


def _read(builder: Any, start: Any, count: int) -> list[Any]:
    """Load `count` vectors from `start`; arrays are aligned to their elements, and need not be to vectors."""
    loaded = [builder.load(builder.gep(start, [I32(number)])) for number in range(count)]
    for instruction in loaded:
        instruction.align = 4
    return loaded


def _write(builder: Any, start: Any, vectors: list[Any]) -> None:
    for number, vector in enumerate(vectors):
        builder.store(vector, builder.gep(start, [I32(number)])).align = 4


def _mask(builder: Any, count: Any) -> Any:
    """Return the mask of the first `count`, an LLVM int64, of 16 lanes."""
    undefined = ir.Constant(ir.VectorType(I32, LANES), ir.Undefined)
    first = builder.insert_element(undefined, builder.trunc(count, I32), I32(0))
    counts = builder.shuffle_vector(first, undefined, ir.Constant(undefined.type, [0] * LANES))
    return builder.icmp_signed("<", ir.Constant(undefined.type, list(range(LANES))), counts)


def _is_whole(builder: Any, count: Any) -> Any:
    """Return whether `count`, an LLVM int64, is that of a vector's lanes: AVX2's masked stores take tens of cycles."""
    return builder.icmp_signed("==", count, ir.Constant(count.type, LANES))


@intrinsic
def pointer(_typing: Any, array: Any) -> Any:
    """Return the address of `array`, which the functions below take in its place; in tuples, those of their arrays.

    Numba passes an array as seven numbers, which costs more than the work on one example. With bounds checking the
    array itself is returned; everything else is returned as it is.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return _pointed(context, builder, array, args[0])

    return pointed(array)(array), generate


def pointed(kind: Any) -> Any:
    """Return the Numba type of what `pointer` returns for an array or tuple of type `kind`."""
    if isinstance(kind, types.BaseNamedTuple):
        return types.BaseTuple.from_types([pointed(each) for each in kind.types], kind.instance_class)
    return types.CPointer(kind.dtype) if isinstance(kind, types.Array) and not config.BOUNDSCHECK else kind


def _pointed(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, types.BaseNamedTuple):
        values = cgutils.unpack_tuple(builder, value, len(kind.types))
        parts = [_pointed(context, builder, *each) for each in zip(kind.types, values, strict=True)]
        return context.make_tuple(builder, pointed(kind), parts)
    return value if pointed(kind) == kind else context.make_array(kind)(context, builder, value).data


def pointer_to(dtype: Any) -> Any:
    """Return the Numba type of pointers to a one-dimensional array's elements, of Numba type `dtype`."""
    return pointed(types.Array(dtype, 1, "C"))


def tuple_type(kind: type, *fields: Any) -> Any:
    """Return the Numba type of a named tuple, given those of its fields."""
    return types.BaseTuple.from_types(fields, kind)


@intrinsic
def kept(_typing: Any, values: Any) -> Any:
    """Return a pointer to a copy of a tuple, valid until the function that calls this returns; for `recalled`.

    Each call in the source has one place: in a loop, a copy replaces the one before.

    Passing it costs less than passing many values.
    """

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        place = cgutils.alloca_once_value(builder, args[0])
        return builder.bitcast(place, context.get_value_type(types.CPointer(values)))

    return types.CPointer(values)(values), generate


@intrinsic
def recalled(_typing: Any, pointer: Any) -> Any:
    """Return the tuple that `kept` has copied."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = context.get_value_type(pointer.dtype)
        return _loaded(context, builder, pointer.dtype, builder.bitcast(args[0], kind.as_pointer()))

    return pointer.dtype(pointer), generate


def _loaded(context: Any, builder: Any, kind: Any, place: Any) -> Any:
    """Load a tuple field by field, as most will not be used."""
    if not isinstance(kind, types.BaseTuple):
        return builder.load(place)
    fields = [
        _loaded(context, builder, each, cgutils.gep_inbounds(builder, place, 0, index))
        for index, each in enumerate(kind.types)
    ]
    return context.make_tuple(builder, kind, fields)


@intrinsic
def at(_typing: Any, array: Any, index: Any) -> Any:
    """Return array[index]; integers as int64."""
    result = types.int64 if isinstance(array.dtype, types.Integer) else array.dtype

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        address = element(context, builder, array, context.get_data_type(array.dtype), *args)
        return context.cast(builder, builder.load(address), array.dtype, result)

    return result(array, types.int64), generate


@intrinsic
def put(_typing: Any, array: Any, index: Any, value: Any) -> Any:
    """Store `value` in array[index], cast to the array's dtype."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        address = element(context, builder, array, context.get_data_type(array.dtype), *args[:2])
        builder.store(context.cast(builder, args[2], value, array.dtype), address)
        return context.get_dummy_value()

    return types.none(array, types.int64, value), generate


@intrinsic
def load(_typing: Any, array: Any, index: Any, vectors: Any) -> Any:
    """Return the `vectors` vectors, a `Static`, that start at array[index]."""
    count = vectors.value

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return pack(
            builder, _read(builder, element(context, builder, array, VECTOR, args[0], args[1], LANES * count), count)
        )

    return LanesType(count)(array, types.int64, vectors), generate


@intrinsic
def store(_typing: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Store `lanes` from array[index] on."""
    count = lanes.vectors

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        start = element(context, builder, array, VECTOR, args[0], args[1], LANES * count)
        _write(builder, start, unpack(builder, args[2], count))
        return context.get_dummy_value()

    return types.none(array, types.int64, lanes), generate


@intrinsic
def load_part(_typing: Any, array: Any, index: Any, count: Any) -> Any:
    """Return array[index : index + count] in 16 lanes, padded with 0; `count` is at most 16."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        start = element(context, builder, array, VECTOR, *args)
        kind = ir.FunctionType(VECTOR, [VECTOR.as_pointer(), I32, MASK, VECTOR])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.load.v16f32.p0")
        with builder.if_else(_is_whole(builder, args[2]), likely=True) as (whole, part):
            with whole:
                (all_of_it,) = _read(builder, start, 1)
                after_whole = builder.block
            with part:
                zero = ir.Constant(VECTOR, [0.0] * LANES)
                padded = builder.call(function, [start, I32(4), _mask(builder, args[2]), zero])
                after_part = builder.block
        vector = builder.phi(VECTOR)
        vector.add_incoming(all_of_it, after_whole)
        vector.add_incoming(padded, after_part)
        return pack(builder, [vector])

    return LanesType(1)(array, types.int64, types.int64), generate


@intrinsic
def store_part(_typing: Any, array: Any, index: Any, lanes: Any, count: Any) -> Any:
    """Store the first `count` of 16 `lanes` in array[index : index + count]."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        start = element(context, builder, array, VECTOR, args[0], args[1], args[3])
        kind = ir.FunctionType(ir.VoidType(), [VECTOR, VECTOR.as_pointer(), I32, MASK])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v16f32.p0")
        vectors = unpack(builder, args[2], 1)
        with builder.if_else(_is_whole(builder, args[3]), likely=True) as (whole, part):
            with whole:
                _write(builder, start, vectors)
            with part:
                builder.call(function, [*vectors, start, I32(4), _mask(builder, args[3])])
        return context.get_dummy_value()

    return types.none(array, types.int64, lanes, types.int64), generate


@intrinsic
def mask_lanes(_typing: Any, lanes: Any, count: Any) -> Any:
    """Return `lanes`, one vector, with 0 in those from `count` on."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        (vector,) = unpack(builder, args[0], 1)
        return pack(builder, [builder.select(_mask(builder, args[1]), vector, ir.Constant(VECTOR, [0.0] * LANES))])

    return lanes(lanes, types.int64), generate


@intrinsic
def fill_lanes(_typing: Any, lanes: Any, count: Any, number: Any) -> Any:
    """Return `lanes`, one vector, with `number`, a float32, in those from `count` on."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        (vector,) = unpack(builder, args[0], 1)
        return pack(builder, [builder.select(_mask(builder, args[1]), vector, splat(builder, args[2]))])

    return lanes(lanes, types.int64, types.float32), generate


@intrinsic
def load_bytes(_typing: Any, array: Any, index: Any) -> Any:
    """Return the 16 numbers array[index : index + 16], uint8, as float32."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        loaded = builder.load(element(context, builder, array, BYTES, args[0], args[1], LANES))
        loaded.align = 1
        return pack(builder, [builder.uitofp(loaded, VECTOR)])

    return LanesType(1)(array, types.int64), generate


@intrinsic
def nonzero_bits(_typing: Any, array: Any, index: Any) -> Any:
    """Return a bit for each of the bytes array[index : index + 64], the first one's lowest: whether it isn't 0."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        block = ir.VectorType(ir.IntType(8), 64)
        loaded = builder.load(element(context, builder, array, block, args[0], args[1], 64))
        loaded.align = 1
        differ = builder.icmp_unsigned("!=", loaded, ir.Constant(block, [0] * 64))
        return builder.bitcast(differ, ir.IntType(64))

    return types.int64(array, types.int64), generate


@intrinsic
def trailing_zeros(_typing: Any, number: Any) -> Any:
    """Return how many of the lowest bits of `number` are 0, 0 to 64."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.int64), generate


@intrinsic
def load_rows(_typing: Any, array: Any, index: Any, stride: Any, rows: Any, vectors: Any) -> Any:
    """Return the lanes at array[index], array[index + stride], ...: `rows` times `vectors`, both `Static`."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        loaded = []
        offset = args[1]
        for _ in range(rows.value):
            start = element(context, builder, array, VECTOR, args[0], offset, LANES * vectors.value)
            loaded += _read(builder, start, vectors.value)
            offset = builder.add(offset, args[2])
        return pack(builder, loaded)

    return LanesType(rows.value * vectors.value)(array, types.int64, types.int64, rows, vectors), generate


@intrinsic
def store_rows(_typing: Any, array: Any, index: Any, stride: Any, rows: Any, lanes: Any) -> Any:
    """Store `lanes`, `rows` rows of vectors, where `load_rows` reads them."""
    count = lanes.vectors // rows.value

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        values = unpack(builder, args[4], lanes.vectors)
        offset = args[1]
        for row in range(rows.value):
            start = element(context, builder, array, VECTOR, args[0], offset, LANES * count)
            _write(builder, start, values[row * count : (row + 1) * count])
            offset = builder.add(offset, args[2])
        return context.get_dummy_value()

    return types.none(array, types.int64, types.int64, rows, lanes), generate


@intrinsic
def add_outer(_typing: Any, rows: Any, array: Any, index: Any, stride: Any, lanes: Any) -> Any:
    """Return `rows`, each with array[index], array[index + stride], ... times `lanes` added."""
    count = rows.vectors // lanes.vectors

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        others = unpack(builder, args[4], lanes.vectors)
        values = unpack(builder, args[0], rows.vectors)
        summed = []
        offset = args[2]
        for row in range(count):
            number = builder.load(element(context, builder, array, ir.FloatType(), args[1], offset))
            factor = splat(builder, number)
            for column, other in enumerate(others):
                summed.append(multiply_add(builder, factor, other, values[row * len(others) + column]))
            offset = builder.add(offset, args[3])
        return pack(builder, summed)

    return rows(rows, array, types.int64, types.int64, lanes), generate


@intrinsic
def add_entries(_typing: Any, sums: Any, numbers: Any, y: Any, positions: Any, vectors: Any) -> Any:
    """Return `sums`, each of `vectors` vectors, a `Static`, with a product added to each.

    The products are those of each of the `numbers`, a tuple, and the lanes at y[position] for its position.
    """
    count = vectors.value

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        values = unpack(builder, args[0], sums.vectors)
        pairs = zip(*(cgutils.unpack_tuple(builder, args[which], len(numbers)) for which in (1, 3)), strict=True)
        for index, (number, position) in enumerate(pairs):
            factor = splat(builder, number)
            others = _read(builder, element(context, builder, y, VECTOR, args[2], position, LANES * count), count)
            for place, other in enumerate(others, index * count):
                values[place] = multiply_add(builder, factor, other, values[place])
        return pack(builder, values)

    return sums(sums, numbers, y, positions, vectors), generate


@intrinsic
def scatter_entries(_typing: Any, y: Any, positions: Any, numbers: Any, lanes: Any) -> Any:
    """Add each of the `numbers`, a tuple, times `lanes` to the lanes at y[position] of its position, in turn."""
    count = lanes.vectors

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        others = unpack(builder, args[3], count)
        pairs = zip(*(cgutils.unpack_tuple(builder, args[which], len(numbers)) for which in (1, 2)), strict=True)
        for position, number in pairs:
            start = element(context, builder, y, VECTOR, args[0], position, LANES * count)
            factor, values = splat(builder, number), _read(builder, start, count)
            updated = [multiply_add(builder, factor, *each) for each in zip(others, values, strict=True)]
            _write(builder, start, updated)
        return context.get_dummy_value()

    return types.none(y, positions, numbers, lanes), generate


@intrinsic
def prefetch(_typing: Any, array: Any, index: Any) -> Any:
    """Prefetch the cache line of array[index], which may be out of bounds."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        start = args[0]
        if isinstance(array, types.Array):
            start = context.make_array(array)(context, builder, start).data
        address = builder.bitcast(builder.gep(start, [args[1]]), BYTE_POINTER)
        kind = ir.FunctionType(ir.VoidType(), [BYTE_POINTER, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        # For reading; kept in all cache levels; data, not instructions.
        builder.call(function, [address, I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.none(array, types.int64), generate

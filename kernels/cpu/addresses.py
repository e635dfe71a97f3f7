"""Calls of compiled functions by their addresses: code that calls one need not be compiled for it.

Functions of a recipe (its activation functions, its loss, its optimiser's steps) are compiled once each, when a recipe
first needs them, and the code around them once for all recipes. A call costs a few nanoseconds: one is worth its cost
for a batch's part of a layer, but not for a vector.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vectors import Static

ANY = Static("any")
"""Stands for a `Static`, or None, that the called function was compiled for."""


def signature(result: Any, *arguments: Any) -> Static:
    """Return the Numba types of a result and of arguments, for `call` and `address_of`.

    None stands for those that differ: in a call, for the type of what is given.
    """
    return Static((result, *arguments))


def address_of(kernel: Any, of: Static, *differing: Any) -> int:
    """Return the address of `kernel`, of `compiled_apart`, compiled for a `signature`, now unless it is already.

    `differing` are the Numba types, `Static`s or None in place of the signature's Nones. The address stays valid as
    long as the process.
    """
    result, *expected = of.value
    if len(differing) != expected.count(None):
        raise TypeError(f"found {len(differing)} types that differ, expected {expected.count(None)}")
    given = iter(differing)
    kinds = tuple(_type_of(next(given)) if kind is None else kind for kind in expected)
    part = kernel.part
    part.compile(kinds)
    found = part.overloads[kinds]
    if found.signature.return_type != result:
        raise TypeError(f"{kernel.py_func.__name__} returns {found.signature.return_type}, expected {result}")
    address = int(found.library.get_pointer_to_function(found.fndesc.llvm_func_name))
    if not address:
        raise TypeError(f"{kernel.py_func.__name__} has no machine code of its own: see `compiled_apart`")
    return address


def _type_of(given: Any) -> Any:
    if given is None:
        return types.none
    return given.type if isinstance(given, Static) else given


@intrinsic
def call(_typing: Any, of: Any, address: Any, *given: Any) -> Any:
    """Call the function at `address`, as `address_of` returns it for the signature `of`, and return its result."""
    result, *expected = of.value
    kinds = [actual if kind is None else kind for kind, actual in zip(expected, given, strict=True)]

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[2], len(kinds))
        values = [context.cast(builder, *each) for each in zip(values, given, kinds, strict=True)]
        convention = context.call_conv
        pointer = convention.get_function_type(result, kinds).as_pointer()
        function = builder.inttoptr(args[1], pointer)
        status, returned = convention.call_function(builder, function, result, kinds, values)
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return returned

    return result(of, types.int64, types.StarArgTuple.from_types(given)), generate

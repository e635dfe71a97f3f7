"""Compilation of functions as parts of kernels: each is optimised and translated once, in the kernel that calls it.

Numba translates every function alone, together with a copy of all that it calls: a function five calls deep is
optimised and translated six times. A part is typed and becomes LLVM's instructions, no more; a `Kernel`, which Python
calls, links all parts into one module. A function that many kernels call is better compiled apart: its machine code is
made once, and kernels call that.
"""

import importlib
import uuid
from typing import Any, Self

import llvmlite.binding as llvm
from numba.core import cgutils
from numba.core.caching import FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, PassManager
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import (
    BaseNativeLowering,
    IRLegalization,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import (
    DeadBranchPrune,
    FixupArgs,
    GenericRewrites,
    IRProcessing,
    ReconstructSSA,
    RewriteSemanticConstants,
    TranslateByteCode,
)


class _Lower(Lower):  # type: ignore[misc, unused-ignore]
    """Numba's lowering, for variables that hold no references to objects, and without debug information."""

    def delvar(self, name: str) -> None:
        """Do nothing: there is no reference to drop."""

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:  # noqa: ARG002
        self._alloca_var(name, self.typeof(name))
        if name in self._singly_assigned_vars and not self._disable_sroa_like_opt:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:  # noqa: ARG002
        return cgutils.alloca_once(self.builder, lltype, name=name)


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(BaseNativeLowering):  # type: ignore[misc, unused-ignore]
    _name = "kernel_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return _Lower


PASSES = (
    TranslateByteCode,
    FixupArgs,
    IRProcessing,
    RewriteSemanticConstants,
    DeadBranchPrune,
    GenericRewrites,
    ReconstructSSA,
    NopythonTypeInference,
    PreLowerStripPhis,
    IRLegalization,
    _Lowering,
    NoPythonBackend,
)
"""Those of Numba's passes that kernels need: without closures, array expressions, and loops over tuples."""


class _Library(JITCodeLibrary):  # type: ignore[misc, unused-ignore]
    """A function's LLVM module, optimised as a whole with all that it calls."""

    _linking_libraries: list[Any]

    def called(self) -> list[Any]:
        """Return the libraries of all that this function calls, directly or by its parts, callers first.

        LLVM's linker takes only those functions of a module that are called by what it has linked before.
        """
        found: list[Any] = []
        seen: set[Any] = set()

        def visit(caller: Any) -> None:
            for other in caller._linking_libraries:
                if other not in seen:
                    seen.add(other)
                    if isinstance(other, _Part):
                        visit(other)
                    found.append(other)

        visit(self)
        return found[::-1]

    def apart(self) -> "list[_Apart]":
        """Return those whose machine code isn't part of this function's."""
        return [library for library in self.called() if isinstance(library, _Apart)]

    def linked(self) -> list[Any]:
        """Return the others."""
        return [library for library in self.called() if not isinstance(library, _Apart)]

    def _optimize_functions(self, ll_module: Any) -> None:
        """Shorten the functions of a module a little: they are optimised when all is linked."""
        ll_module.data_layout = self._codegen._data_layout
        builder = llvm.create_pass_builder(self._codegen._tm, llvm.create_pipeline_tuning_options())
        passes = llvm.create_new_function_pass_manager()
        if hasattr(passes, "add_sroa_pass"):  # since llvmlite 0.45
            passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        passes.add_instruction_combine_pass()
        for function in ll_module.functions:
            passes.run(function, builder)

    def finalize(self) -> None:
        self._linking_libraries, apart = self.linked(), self.apart()
        super().finalize()
        self._linking_libraries += apart

    def serialize_using_object_code(self) -> Any:
        """Return machine code, with the functions that it needs."""
        return *super().serialize_using_object_code(), [library.origin for library in self.apart()]

    @classmethod
    def restored(cls, codegen: Any, serialized: Any) -> Self:
        """Return a library that was serialized."""
        name, _, (machine_code, bitcode), apart = serialized
        library = cls(codegen, name)
        library._linking_libraries = list(map(_compiled_apart, apart))
        library.enable_object_caching()
        library._set_compiled_object(machine_code)
        library._shared_module = llvm.parse_bitcode(bitcode)
        library._finalize_final_module()
        codegen._engine._load_defined_symbols(library._shared_module)
        return library


class _Apart(_Library):
    """A function with machine code of its own, which other modules call by its name."""

    origin: Any
    """Its module, its name and the types of its arguments."""


class _Part(_Library):
    """LLVM's instructions of one part, of which there is no machine code."""

    def finalize(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:  # noqa: ARG002
        return 0

    @property
    def codegen(self) -> Self:
        """This library, as of its code generator only `set_env` is called."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Do nothing: only code that handles Python's objects needs an environment."""

    def _get_module_for_linking(self) -> Any:
        module = self._final_module.clone()
        for function in module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"
        return module

    def serialize_using_object_code(self) -> Any:
        """Return this part and all that it calls as LLVM's bitcode, with the functions that it needs."""
        whole = self._final_module.clone()
        for library in self.linked():
            whole.link_in(library._get_module_for_linking(), preserve=True)
        return self.name, whole.as_bitcode(), [library.origin for library in self.apart()]

    @classmethod
    def restored(cls, codegen: Any, serialized: Any) -> Self:
        name, bitcode, apart = serialized
        part = cls(codegen, name)
        part._linking_libraries = list(map(_compiled_apart, apart))
        part._final_module = llvm.parse_bitcode(bitcode)
        part.finalize()
        return part


def _compiled_apart(origin: Any) -> Any:
    module, name, types = origin
    dispatcher = getattr(importlib.import_module(module), name).part
    dispatcher.compile(types)
    return dispatcher.overloads[types].library


class _Compiler(CompilerBase):  # type: ignore[misc, unused-ignore]
    library: type[_Library]

    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        # Names of symbols: those of kept machine code must not be those of other functions.
        state.func_id.unique_id = uuid.uuid4().hex
        if isinstance(state.library, _Apart):
            state.library.origin = state.func_id.modname, state.func_id.func_name, tuple(state.args)
            state.func_id.unique_id = "apart"
        passes = PassManager("kernel")
        for needed in PASSES:
            passes.add_pass(needed, needed.__name__)
        passes.finalize()
        return [passes]


class PartCompiler(_Compiler):
    """Numba's `pipeline_class` for functions that only compiled code calls."""

    library = _Part


class ApartCompiler(_Compiler):
    """The same for functions compiled apart."""

    library = _Apart


class _KernelCompiler(_Compiler):
    library = _Library


class _Files(FunctionCache._impl_class):  # type: ignore[misc, unused-ignore]
    library: type[_Library]

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        serialized, fndesc, environment, signature, objectmode, lifted, annotation, reload_init, environments = payload
        library = self.library.restored(target_context.codegen(), serialized)
        if isinstance(library, _Apart):
            library.origin = fndesc.modname, fndesc.qualname, tuple(signature.args)
        return CompileResult(
            target_context=target_context,
            typing_context=target_context.typing_context,
            library=library,
            environment=environment,
            entry_point=target_context.get_executable(library, fndesc, environment),
            fndesc=fndesc,
            type_annotation=annotation,
            signature=signature,
            objectmode=objectmode,
            lifted=lifted,
            typing_error=None,
            call_helper=None,
            metadata=None,
            reload_init=reload_init,
            referenced_envs=environments,
        )


def _cache_of(kind: type[_Library]) -> type:
    class Files(_Files):
        library = kind

    class Cache(FunctionCache):  # type: ignore[misc, unused-ignore]
        _impl_class = Files

    Cache.__name__ = kind.__name__
    return Cache


CACHES = {compiler: _cache_of(compiler.library) for compiler in (PartCompiler, ApartCompiler, _KernelCompiler)}
"""Numba's caches of functions, by `pipeline_class`."""


class Kernel(CPUDispatcher):  # type: ignore[misc, unused-ignore]
    """A function to be called from Python, and as a part from compiled code."""

    def __init__(self, part: Any) -> None:
        """Take it as it is called from compiled code."""
        super().__init__(part.py_func, {}, {**part.targetoptions, "no_cpython_wrapper": False}, _KernelCompiler)
        self.part = part

    def get_call_template(self, args: Any, kws: Any) -> Any:
        return self.part.get_call_template(args, kws)

    def get_overload(self, sig: Any) -> Any:
        return self.part.get_overload(sig)

"""Numba's compiler for functions that only ever run as parts of others.

Numba would optimise each of them, and turn it into machine code, by itself and then again in whatever calls it: half
of the time of a first compile. A part is lowered to LLVM's code, and the rest is done once, for the entry.
"""

from typing import Any

from numba import _dynfunc, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _Part(JITCodeLibrary):
    """The code of one part, and of what it calls."""

    def _optimize_final_module(self) -> None:
        """Left to the entry."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    _name = "lowering_of_a_part"

    def run_pass(self, state: Any) -> bool:
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        told, library = lowered.fndesc, (state.library,)
        if not state.flags.forceinline:
            state.library.get_function(told.llvm_func_name).add_function_attribute("noinline")
        # What callers find the code by; calling it would crash, and Numba makes no wrapper that does.
        key = _dynfunc.make_function(told.lookup_module(), told.qualname, told.qualname, 0, lowered.env, library)
        state.targetctx.insert_user_function(key, told, library)
        state.reload_init.extend(state.library._reload_init)
        state["cr"] = lowered._replace(cfunc=key)
        return True


class PartCompiler(CompilerBase):
    """Numba's own passes but for the last."""

    def define_pipelines(self) -> list[Any]:
        """The passes of one pipeline."""
        made = DefaultPassBuilder.define_nopython_pipeline(self.state)
        made.passes = [(_Lowering, why) if one is NativeLowering else (one, why) for one, why in made.passes]
        made.finalize()
        return [made]


def whatever_constants(part: Any) -> None:
    """Let calls of `part` with different constants be of one compilation, where Numba would make one for each.

    Where it is compiled into its callers, LLVM sees the constants all the same.
    """
    folded = part._compiler.fold_argument_types

    def fold(arguments: Any, named: Any) -> Any:
        signature, given = folded(arguments, named)
        return signature, tuple(map(types.unliteral, given))

    part._compiler.fold_argument_types = fold

"""Hands compiled code the state's many arrays as one pointer.

Numba takes an array as seven values, and a tuple of arrays as all of them together: three hundred for each call of one
part by another, which is most of what there is to compile. Behind a pointer an array is two or three numbers, loaded
where it is used.
"""

from typing import Any, TypeVar, cast

import numpy as np
from numba.core import cgutils, config, types
from numba.core.extending import NativeValue, lower_getattr_generic, models, register_model, typeof_impl, unbox
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr
from numba.np.arrayobj import make_array, populate_array

Arrays = TypeVar("Arrays")


def pointed(arrays: Arrays) -> Arrays:
    """A named tuple of arrays as compiled code is to be given it; its attributes there are the arrays."""
    return arrays if config.DISABLE_JIT else cast(Arrays, Pointed(arrays))


class Pointed:
    """The arrays of a named tuple, and where they are."""

    def __init__(self, arrays: Any):
        if not all(array.flags.c_contiguous for array in arrays):
            raise ValueError("an array is not contiguous")
        self.arrays = arrays
        self._where = np.array([word for array in arrays for word in (array.ctypes.data, *array.shape)], np.int64)
        self.address = self._where.ctypes.data


class PointedType(types.Type):
    """What Numba calls a Pointed."""

    def __init__(self, arrays: Any):
        self.arrays = arrays
        ranks = [array.ndim for array in arrays.types]
        self.offsets = [len(ranks[:i]) + sum(ranks[:i]) for i in range(len(ranks))]
        super().__init__(name=f"Pointed({arrays.instance_class.__name__})")

    @property
    def key(self) -> Any:
        return self.arrays


@typeof_impl.register(Pointed)
def _typeof(value: Pointed, context: Any) -> PointedType:
    return PointedType(typeof_impl(value.arrays, context))


@register_model(PointedType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any):
        super().__init__(manager, kind, cgutils.intp_t.as_pointer())


@unbox(PointedType)
def _unbox(kind: Any, value: Any, c: Any) -> NativeValue:
    address = c.pyapi.object_getattr_string(value, "address")
    number = c.pyapi.number_as_ssize_t(address)
    c.pyapi.decref(address)
    return NativeValue(c.builder.inttoptr(number, cgutils.intp_t.as_pointer()))


@infer_getattr
class _Attributes(AttributeTemplate):
    key = PointedType

    def generic_resolve(self, kind: Any, attr: str) -> Any:
        fields = kind.arrays.fields
        return kind.arrays.types[fields.index(attr)] if attr in fields else None


@lower_getattr_generic(PointedType)
def _array(context: Any, builder: Any, kind: Any, pointer: Any, attr: str) -> Any:
    """The array, from where its data is and its shape."""
    index = kind.arrays.fields.index(attr)
    array_type, offset = kind.arrays.types[index], kind.offsets[index]
    made = make_array(array_type)(context, builder)
    data = builder.bitcast(cgutils.gep_inbounds(builder, pointer, offset), made.data.type.as_pointer())
    extents = range(offset + 1, offset + 1 + array_type.ndim)
    shape = [_constant_load(builder, cgutils.gep_inbounds(builder, pointer, extent)) for extent in extents]
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
    strides = [itemsize]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    populate_array(made, _constant_load(builder, data), shape, strides, itemsize, None)
    return made._getvalue()


def _constant_load(builder: Any, pointer: Any) -> Any:
    """A load of what never changes: it need not be repeated after something was stored."""
    loaded = builder.load(pointer)
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded

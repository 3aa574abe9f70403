"""CUDA's virtual memory, by the driver's own functions: addresses apart from the memory behind them."""

import ctypes
from ctypes import byref, c_int, c_size_t, c_ubyte, c_uint64, c_ushort, c_void_p
from typing import Any

from toolkit.errors import SettingFailure

SUPPORTED = 102  # CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED
PINNED, ON_DEVICE, READ_WRITE, MINIMUM = 1, 1, 3, 0
WHERE = "libcuda"


class Location(ctypes.Structure):
    _fields_ = (("type", c_int), ("id", c_int))


class Flags(ctypes.Structure):
    _fields_ = (("compression", c_ubyte), ("rdma", c_ubyte), ("usage", c_ushort), ("reserved", c_ubyte * 4))


class Properties(ctypes.Structure):
    """CUmemAllocationProp."""

    _fields_ = (
        ("type", c_int),
        ("handle_types", c_int),
        ("location", Location),
        ("win32", c_void_p),
        ("flags", Flags),
    )


class Access(ctypes.Structure):
    """CUmemAccessDesc."""

    _fields_ = (("location", Location), ("flags", c_int))


def library() -> Any:
    """The driver, as torch has begun to use it in this process."""
    for name in ("libcuda.so.1", "libcuda.so"):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise SettingFailure("is not found", where=WHERE, hint="install NVIDIA's driver")


class VirtualMemory:
    """Pages on one device. SettingFailure with the driver's word for it where it refuses."""

    def __init__(self, cuda: Any, device: int):
        self.cuda = cuda
        where = Location(ON_DEVICE, device)
        self.properties = Properties(PINNED, 0, where, None, Flags())
        self.access = Access(where, READ_WRITE)
        has = c_int(0)
        self._ask("cuDeviceGetAttribute", byref(has), c_int(SUPPORTED), c_int(device))
        if not has.value:
            raise SettingFailure("the device has no virtual memory management", where=WHERE)
        size = c_size_t(0)
        self._ask("cuMemGetAllocationGranularity", byref(size), byref(self.properties), c_int(MINIMUM))
        self.granularity = int(size.value)

    def nothing(self) -> None:
        """A call that does next to nothing: what calling takes by itself."""
        self._ask("cuDriverGetVersion", byref(c_int(0)))

    def reserve(self, size: int) -> int:
        """Addresses without memory."""
        address = c_uint64(0)
        self._ask("cuMemAddressReserve", byref(address), c_size_t(size), c_size_t(0), c_uint64(0), c_uint64(0))
        return int(address.value)

    def create(self, size: int) -> int:
        """Memory without an address."""
        handle = c_uint64(0)
        self._ask("cuMemCreate", byref(handle), c_size_t(size), byref(self.properties), c_uint64(0))
        return int(handle.value)

    def map(self, address: int, size: int, handle: int) -> None:
        self._ask("cuMemMap", c_uint64(address), c_size_t(size), c_size_t(0), c_uint64(handle), c_uint64(0))

    def open(self, address: int, size: int) -> None:
        """Let the device read and write there; several mappings in a row may be opened together."""
        self._ask("cuMemSetAccess", c_uint64(address), c_size_t(size), byref(self.access), c_size_t(1))

    def unmap(self, address: int, size: int) -> None:
        self._ask("cuMemUnmap", c_uint64(address), c_size_t(size))

    def release(self, handle: int) -> None:
        self._ask("cuMemRelease", c_uint64(handle))

    def free(self, address: int, size: int) -> None:
        self._ask("cuMemAddressFree", c_uint64(address), c_size_t(size))

    def _ask(self, name: str, *arguments: Any) -> None:
        status = int(getattr(self.cuda, name)(*arguments))
        if status:
            raise SettingFailure(f"{name} answered {status} ({self._word(status)})", where=WHERE)

    def _word(self, status: int) -> str:
        word = ctypes.c_char_p()
        self.cuda.cuGetErrorName(c_int(status), byref(word))
        return (word.value or b"unknown").decode()

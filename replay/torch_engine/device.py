"""Where tensors live, and what a clock must wait for there."""

import os
import platform
from dataclasses import dataclass
from typing import Any

import torch

from toolkit.errors import SettingFailure


@dataclass(frozen=True)
class Device:
    """One accelerator, or the CPU."""

    at: Any  # torch.device

    @classmethod
    def of(cls, name: str) -> "Device":
        """`cpu`, `cuda`, `cuda:N`, or `auto`: a GPU where there is one."""
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            at = torch.device(name)
        except RuntimeError as error:
            raise SettingFailure(f"no device is called '{name}'", where="--device", hint="cpu, cuda, cuda:N") from error
        if at.type not in ("cpu", "cuda"):
            raise SettingFailure(f"'{at.type}' is not served", where="--device", hint="cpu, cuda, cuda:N")
        if at.type == "cuda" and not torch.cuda.is_available():
            raise SettingFailure("torch finds no GPU here", where="--device", hint="use --device cpu")
        return cls(at)

    @property
    def is_gpu(self) -> bool:
        return bool(self.at.type == "cuda")

    @property
    def dtype(self) -> Any:
        """What weights and KV are kept in where nothing is said."""
        return torch.bfloat16 if self.is_gpu else torch.float32

    def wait(self) -> None:
        """Until all that was asked of it is done: a clock that is read before shows nothing."""
        if self.is_gpu:
            torch.cuda.synchronize(self.at)

    def host_bytes(self, size: int) -> Any:
        """Memory on the host that copies go to and from at full speed."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=self.is_gpu)

    def free_bytes(self) -> int:
        """What is free now."""
        if self.is_gpu:
            return int(torch.cuda.mem_get_info(self.at)[0])
        return host_free_bytes()

    def describe(self) -> dict[str, Any]:
        """What it is, in words and numbers."""
        said: dict[str, Any] = {"device": str(self.at), "torch": torch.__version__}
        if self.is_gpu:
            about = torch.cuda.get_device_properties(self.at)
            return said | {"gpu": about.name, "memory_bytes": about.total_memory, "cuda": torch.version.cuda}
        return said | {"cpu": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}


def host_free_bytes() -> int:
    """Memory that the host can still give without swapping."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

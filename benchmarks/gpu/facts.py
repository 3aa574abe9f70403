"""What a result was measured on."""

import os
import platform
import shutil
import subprocess
import sys
from typing import Any

import numpy as np

from replay.torch_engine.device import Device, host_free_bytes


def described(name: str) -> dict[str, Any]:
    """The device, its driver, the host and the versions; Failure where there is no such device."""
    import torch
    import transformers

    device = Device.of(name)
    if device.is_gpu:
        torch.empty(1, device=device.at)
    return {
        **device.describe(),
        **_driver(),
        "free_bytes": device.free_bytes(),
        "host_free_bytes": host_free_bytes(),
        "cores": os.cpu_count(),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


def _driver() -> dict[str, str]:
    """The driver's version and the link to the host, where nvidia-smi tells them."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    asked = "driver_version,pcie.link.gen.max,pcie.link.width.max"
    command = [program, f"--query-gpu={asked}", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        print(f"nvidia-smi tells no driver: {error}", file=sys.stderr)
        return {}
    words = [word.strip() for word in told.splitlines()[0].split(",")]
    return dict(zip(("driver", "pcie_generation", "pcie_lanes"), words, strict=False))

"""Loading Numba must not import scipy.linalg, and must leave compiled linear algebra as it is."""

import subprocess
import sys

SCRIPT = """
import sys
from replay.lean_numba import numba
from numba.core.registry import cpu_target

cpu_target.target_context.refresh()  # what comes before anything compiled is loaded
print("scipy.linalg" in sys.modules)

import numpy as np

twice = np.full((2, 2), 2.0)
print(numba.njit(lambda a, b: np.dot(a, b))(twice, np.eye(2)).tolist())
"""


def test_blas_is_imported_when_it_is_used():
    made = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert made.stdout.splitlines() == ["False", "[[2.0, 2.0], [2.0, 2.0]]"]

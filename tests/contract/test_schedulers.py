"""Every registered scheduler keeps the contract, with its defaults and with what else it can be."""

from pathlib import Path

import numpy as np
import pytest

from toolkit import plugins
from toolkit.contracts import check_scheduler

VARIANTS = (
    "priority:order=batch>other,displace=true",
    "trail:hold_share=1.0,predictor=ranked",
    "ltr:starve_s=0.5,period=8,predictor=stale,share=0.3",
    "mlfq:quantum_s=0.05,starve_s=0.2,levels=3",
    "las:quantum=4",
    "edf:slo_ttft_s=0.3",
    "moore-hodgson:window=5",
    "vtc:by=model+tenant,output_weight=1.0",
    *(f"sjf:predictor={p}" for p in ("oracle", "noisy", "ranked", "class-mean", "stale", "adversarial", "column")),
    "srpt:predictor=biased,bias=2.0",
    *(f"gittins:lengths={lengths},by=tenant" for lengths in ("trace", "train", "online")),
    *(f"gittins-boost:lengths={lengths},quantum=4,ratio=1.5" for lengths in ("trace", "online")),
    "distboost:gamma=0.3,alpha_prefill=0.001",
    *(f"uniboost:phase={phase}" for phase in ("base", "memguard", "ada")),
    "uniboost:rule=ratio,k=8,delta=0.1,swap_weight=0.0",
    "uniboost:gamma=inf",
    *(
        f"driftsched-{policy}:preset={preset},unit={unit}"
        for policy in ("sjf", "aging")
        for preset in ("paper", "trace")
        for unit in ("tokens", "words")
    ),
    "driftsched-weighted:adaptive=false,feedback_s=0.5",
)


@pytest.mark.parametrize("spec", [*sorted(plugins.BUILTIN["scheduler"]), *VARIANTS])
def test_a_scheduler_keeps_its_contract(spec: str) -> None:
    check_scheduler(spec)


RANK = "    def rank(self, requests, now_s): return "
ARRIVAL = RANK + "requests['arrival_s'].to_numpy()\n"
BROKEN = {
    "no docstring": ("class P:\n" + ARRIVAL, "no docstring"),
    "a silent parameter": (
        'class P:\n    """P."""\n    def __init__(self, weight: float = 1.0): ...\n' + ARRIVAL,
        "says nothing of weight",
    ),
    "ranks of another shape": ('class P:\n    """P."""\n' + RANK + "np.zeros(3)\n", "rank.. gives shape"),
    "no number": ('class P:\n    """P."""\n' + RANK + "requests['slo_ttft_s'].to_numpy()\n", "not a number"),
    "chance": ('class P:\n    """P."""\n' + RANK + "np.random.rand(len(requests))\n", "two instances rank differently"),
    "a rank among others": (
        'class P:\n    """P."""\n' + RANK + "requests['output_tokens'].rank().to_numpy()\n",
        "depends on the others",
    ),
    "no permutation": (
        'class P:\n    """P."""\n' + ARRIVAL + "    def order(self, waiting, now_s): return [0] * len(waiting)\n",
        "no permutation",
    ),
    "falling boundaries": (
        'class P:\n    """P."""\n    curve = Curve(boundaries=(8, 4), offsets=(0, 1, 2))\n' + ARRIVAL,
        "do not rise",
    ),
    "half a lane": (
        'class P:\n    """P."""\n    lanes = Lanes()\n    def lane(self, requests): return np.ones(len(requests))\n'
        + ARRIVAL,
        "lane.. gives float64",
    ),
    "a patience of two": (
        'class P:\n    """P."""\n    def patience(self, requests): return Patience(np.ones(2), 1.0)\n' + ARRIVAL,
        "neither a number nor one each",
    ),
    "an interval of nothing": (
        'class P:\n    """P."""\n    observe_every_s = 0\n    def observe(self, outcomes, now_s): ...\n' + ARRIVAL,
        "observe_every_s",
    ),
}  # fmt: skip


@pytest.mark.parametrize("flaw", BROKEN)
def test_the_contract_finds(flaw: str, tmp_path: Path) -> None:
    code, message = BROKEN[flaw]
    imports = "import numpy as np\nfrom toolkit.protocols import Curve, Lanes, Patience\n\n\n"
    (tmp_path / "policy.py").write_text(imports + code)
    np.random.seed(3)
    with pytest.raises(AssertionError, match=message):
        check_scheduler(f"{tmp_path / 'policy.py'}:P")

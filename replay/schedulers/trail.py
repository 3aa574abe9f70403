"""TRAIL: SRPT that stops displacing what is nearly done."""

from typing import Any

from replay.schedulers.srpt import SRPT
from toolkit.protocols import Preemption


class TRAIL(SRPT):
    """SRPT with limited preemption: past `hold_share` of its output a request keeps its place (TRAIL+ 0.6, TRAIL 0.8).

    TRAIL+ is UniBoost's baseline (2606.18431, set-up) and knows lengths exactly; TRAIL itself predicts them.
    """

    def __init__(self, hold_share: float = 0.6, **predictor: Any):
        super().__init__(**predictor)
        self.preemption = Preemption("rank", hold_share=hold_share)

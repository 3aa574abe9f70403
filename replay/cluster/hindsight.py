"""Lets a placement that has `alternatives` follow the one of them that does best on the same requests."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from replay.cluster.attaining import met, missed
from replay.cluster.driver import ClusterDriver
from replay.simulation.state import FINISHED, PS
from toolkit import plugins
from toolkit.errors import SettingFailure
from toolkit.placing import Placement
from toolkit.protocols import Watch

Merit = tuple[int, int, float]  # the greater the better


def placement_of(spec: str, follows: str | None) -> Placement:
    """The placement of a spec, with nothing behind it, following another where that is said."""
    made: Any = plugins.create("placement", spec)
    if follows is not None:
        made.follow(follows)
    placement: Placement = made
    return placement


def best_in_hindsight(spec: str, prepare: Callable[[Placement], ClusterDriver], watch: Watch | None) -> str | None:
    """Whom the placement of a spec is to follow: of its alternatives, the one that does best. None: it has none.

    The first that meets every objective is taken. One that refuses the cluster is passed over. Where all do, or `watch`
    stops it, the first is the answer: it will refuse, or be stopped, again.
    """
    placement: Any = plugins.create("placement", spec)
    alternatives = getattr(placement, "alternatives", ())
    best: tuple[Merit, str] | None = None
    for alternative in alternatives:
        try:
            driver = prepare(placement_of(spec, alternative))
            trial = Trial(driver, placement.of, -best[0][0] if best else None, watch)
            if not driver.run(None, trial):
                continue
        except SettingFailure:
            continue
        merit = _merit(driver, placement.of)
        best = max(best or (merit, alternative), (merit, alternative), key=lambda found: found[0])
        if _meets_all(driver, placement.of):
            break
    return best[1] if best else next(iter(alternatives), None)


@dataclass
class Trial:
    """Watches a replay that is stopped as soon as it has missed more objectives than `most`: it cannot be the best."""

    driver: ClusterDriver
    of: str
    most: int | None
    watch: Watch | None

    def progress(self, done: int, total: int) -> None:
        if self.watch is not None:
            self.watch.progress(done, total)

    def stopped(self) -> bool:
        if self.watch is not None and self.watch.stopped():
            return True
        return self.most is not None and missed(self.driver, self.of) > self.most


def _merit(driver: ClusterDriver, of: str) -> Merit:
    """How few missed their objectives, how many were served, how soon they began to be answered."""
    q = driver.controller.state.requests.view(np.ndarray)
    ok = q["status"] == FINISHED
    mean_s = float((q["first"] - q["arrival"])[ok].mean() / PS) if ok.any() else math.inf
    return -missed(driver, of), int(ok.sum()), -mean_s


def _meets_all(driver: ClusterDriver, of: str) -> bool:
    has, _ = met(driver)[of]
    return bool(has.any()) and missed(driver, of) == 0

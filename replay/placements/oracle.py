"""The best in hindsight."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

from toolkit import plugins
from toolkit.errors import SettingFailure, nearest
from toolkit.placing import Action, Facts, Placement, View

Of = Literal["joint", "ttft", "tpot"]


class Oracle:
    """Do what did best: try every other placement on the same requests, and follow the one that met most objectives.

    So none of `alternatives` does better under the same scheduler. It is the best that was found, and no proof that
    nothing better exists: `foresight`, which knows the arrivals to come, is tried in three forms, the others with their
    defaults. `of` says what counts: the share of requests that meet all their objectives (joint), or the one for TTFT
    or for TPOT; then how many are served, then their mean TTFT. The first that meets all is taken at once. Trying is
    for simulated clusters, and costs a replay each; elsewhere it is `foresight`.
    """

    alternatives = (
        "foresight",
        "foresight:hold_s=20,least_kv_share=0.15",
        "foresight:hold_s=20,least_kv_share=0.15,arbitrates=true",
        "cost-aware",
        "prism",
        "prism:kvpr=after",
        "prism-code",
        "lru",
        "muxserve++",
        "static",
        "static:kv=rate",
        "serverlessllm",
        "qlm",
    )

    def __init__(self, of: Of = "joint"):
        if of not in get_args(Of):
            raise SettingFailure(f"'{of}' is nothing to be best at", where="oracle:of", hint=nearest(of, get_args(Of)))
        self.of = of
        self.follow(self.alternatives[0])

    def follow(self, spec: str) -> None:
        """Do from now on what this placement would."""
        self._followed: Placement = plugins.create("placement", spec)

    def begin(self, facts: Facts) -> Sequence[Action]:
        return self._followed.begin(facts)

    def decide(self, view: View) -> Sequence[Action]:
        return self._followed.decide(view)

    def __getattr__(self, name: str) -> Any:
        """Optional members (`elastic`, `rests` and so on) are those of whom it follows."""
        if name == "_followed":
            raise AttributeError(name)
        return getattr(self._followed, name)

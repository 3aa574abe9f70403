"""Every registered placement keeps the contract, with its defaults and with what else it can be."""

import pytest

from toolkit import plugins
from toolkit.contracts import check_placement

VARIANTS = (
    "static:kv=rate",
    "prism:kvpr=after,tau=0,moves=9,idle_s=2,start=empty",
    "prism-code:ratio=1.1,idle_s=5,start=empty",
    "lru:hold_s=0,start=empty",
    "qlm:group=2,start=empty",
    "serverlessllm:keep_s=0,start=empty",
    "oracle:hold_s=0,horizon_s=2",
)


@pytest.mark.parametrize("spec", [*sorted(plugins.BUILTIN["placement"]), *VARIANTS])
def test_a_placement_keeps_its_contract(spec: str) -> None:
    check_placement(spec)

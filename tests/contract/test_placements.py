"""Every registered placement keeps the contract, with its defaults and with what else it can be."""

from pathlib import Path

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
    "foresight:hold_s=0,horizon_s=2",
    "cost-aware:park=false,relief=0",
)


@pytest.mark.parametrize("spec", sorted(plugins.BUILTIN["placement"]))
def test_a_placement_keeps_its_contract(spec: str) -> None:
    check_placement(spec)


@pytest.mark.parametrize("spec", VARIANTS)
def test_a_variant_keeps_the_contract(spec: str) -> None:
    check_placement(spec, seeds=(1, 3, 5))


WAIT = "    def decide(self, view): return []\n"
NOBODY = "    def begin(self, facts): return []\n"
BROKEN = {
    "no docstring": ("class P:\n" + NOBODY + WAIT, "no docstring"),
    "nobody served": ('class P:\n    """P."""\n' + NOBODY + WAIT, "to no GPU|while GPUs are empty"),
    "what is refused": (
        'class P:\n    """P."""\n    def begin(self, facts): return [Load(0, (0,)), Load(0, (0,))]\n' + WAIT,
        "what it does is refused: .* loads what is there already",
    ),
    "no action": ('class P:\n    """P."""\n    def begin(self, facts): return [0]\n' + WAIT, "0 is no action"),
    "a refusal without need": (
        'class P:\n    """P."""\n    def begin(self, facts): raise SettingFailure("no")\n' + WAIT,
        "refuses a cluster that has room",
    ),
}  # fmt: skip


@pytest.mark.parametrize("flaw", BROKEN)
def test_the_contract_finds(flaw: str, tmp_path: Path) -> None:
    code, message = BROKEN[flaw]
    imports = "from toolkit.errors import SettingFailure\nfrom toolkit.placing import Load\n\n\n"
    (tmp_path / "policy.py").write_text(imports + code)
    with pytest.raises(AssertionError, match=message):
        check_placement(f"{tmp_path / 'policy.py'}:P")

"""The house: who may import whom, what lies at the top, what is shipped, and what starting costs."""

import ast
import importlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from toolkit.cli import COMMANDS
from toolkit.plugins import BUILTIN

ROOT = Path(__file__).parents[1]
PACKAGES = ("toolkit", "workloads", "replay", "reports")
HEAVY = {"polars", "numpy", "pandas", "pyarrow", "duckdb", "scipy", "numba", "plotly", "rich", "jinja2"}
TOP = {
    ".ci", ".git", ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "benchmarks",
    "constraints.txt", "datasets", "docs", "pyproject.toml", "replay", "reports", "tests", "toolkit", "workloads",
}  # fmt: skip


def imported(file: Path) -> Iterator[str]:
    """The top-level package of every import in `file`, wherever it stands."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0] if node.level == 0 else "relative"


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_at_the_toolkit(package: str) -> None:
    forbidden = {*PACKAGES, "tests", "benchmarks", "datasets", "relative"} - {package, "toolkit"}
    found = {
        f"{file.relative_to(ROOT)} imports {name}"
        for file in (ROOT / package).rglob("*.py")
        for name in imported(file)
        if name in forbidden
    }
    assert found == set()


def test_nothing_else_lies_at_the_top() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    assert {Path(line).parts[0] for line in listed.stdout.splitlines()} <= TOP


def test_test_files_have_names_of_their_own() -> None:
    """Pytest imports them by their bare name."""
    names = [file.name for file in (ROOT / "tests").rglob("*.py") if file.name != "conftest.py"]
    assert [name for name in set(names) if names.count(name) > 1] == []


def test_data_is_no_package() -> None:
    assert not (ROOT / "datasets" / "__init__.py").exists()


def test_the_wheel_holds_exactly_the_four_packages(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("trace_toolkit-*.whl")
    names = [Path(name) for name in zipfile.ZipFile(wheel).namelist()]
    tops = {name.parts[0] for name in names if not name.parts[0].endswith(".dist-info")}
    assert tops == set(PACKAGES)
    shipped = {name for name in names if name.parts[0] in PACKAGES}
    listed = subprocess.run(["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False)
    assert shipped >= {Path(line) for line in listed.stdout.splitlines() if (ROOT / line).exists()}


@pytest.mark.parametrize(
    "target", [*COMMANDS.values(), *(target for table in BUILTIN.values() for target in table.values())]
)
def test_no_import_string_is_dead(target: str) -> None:
    module, _, attribute = target.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom toolkit.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        f"print('HEAVY', sorted({HEAVY!r} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "HEAVY []"

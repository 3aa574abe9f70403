"""The manifest of docs/cluster.md is YAML that fits together, and the commands have the option that it shows."""

import re
from pathlib import Path

import yaml
from click.testing import CliRunner

from toolkit.cli import main

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/cluster.md").read_text()


def test_the_manifest_names_what_it_should() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    (version,) = re.findall(r"rayproject/ray:([\d.]+)-", GUIDE)
    assert cluster["rayVersion"] == version
    (group,) = cluster["workerGroupSpecs"]
    (workers,) = re.findall(r"--workers (\d+)", job["spec"]["entrypoint"])
    assert group["minReplicas"] == group["replicas"] == group["maxReplicas"] == int(workers)
    for spec in (cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]):
        (container,) = spec["containers"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= volumes


def test_the_commands_of_the_guide_take_on() -> None:
    for name in ("sweep", "analyze", "generate", "replay"):
        assert "--on WHERE" in CliRunner().invoke(main, [name, "--help"]).output


def test_an_unknown_place_and_a_missing_extra_are_told(monkeypatch) -> None:
    wrong = CliRunner().invoke(main, ["analyze", "t.parquet", "--on", "spark"])
    assert wrong.exit_code == 2
    assert "'spark' is not local, ray, or ray://HOST:10001" in wrong.output
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    absent = CliRunner().invoke(main, ["analyze", "t.parquet", "--on", "ray"])
    assert absent.exit_code == 1
    assert "Ray is not installed; install it with: pip install 'trace-toolkit[ray]'" in absent.output

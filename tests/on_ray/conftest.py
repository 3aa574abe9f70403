"""A Ray cluster of three nodes on this machine, one core each, and a store of objects that all of them reach."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.object_store import Store, store

STORE_BYTES = 200_000_000


class Three:
    """A head and two more nodes; any but the head can be taken away, and others added. `objects` are the store's."""

    def __init__(self, serving: Store) -> None:
        from toolkit.on_ray import ray_module

        self.ray = ray_module()
        from ray.cluster_utils import Cluster

        self.objects = serving.folder
        os.environ.update(serving.environment)  # which workers get, as they begin
        os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # workers find the tests' own functions
        head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.others = [self.add(), self.add()]

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)

    def connect(self) -> None:
        self.ray.init(address=self.cluster.address, log_to_driver=False, logging_level="ERROR")

    def lose(self) -> None:
        """Take a node away as if its power had failed."""
        self.cluster.remove_node(self.others.pop(), allow_graceful=False)

    def whole(self) -> None:
        """Three nodes again."""
        while len(self.others) < 2:
            self.others.append(self.add())
        self.cluster.wait_for_nodes()

    def close(self) -> None:
        self.ray.shutdown()
        self.cluster.shutdown()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    with store(tmp_path_factory.mktemp("objects")) as serving:
        made = Three(serving)
        made.connect()
        yield made
        made.close()


@pytest.fixture
def three(cluster: Three) -> Three:
    cluster.whole()
    return cluster

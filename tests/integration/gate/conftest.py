"""The world of a module's tests. What stands between it and a guest is rig.joined()."""

import shutil

import pytest
import rig  # noqa: F401  it says where egress_world is
from egress_world.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    made = World(folder)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)

import pytest
from review_world import TREE, World


@pytest.fixture
def world(tmp_path):
    return World(tmp_path).host(TREE).pack()

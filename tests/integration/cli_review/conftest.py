import pytest
from cli_world import Cli


@pytest.fixture
def cli(tmp_path):
    return Cli(tmp_path)

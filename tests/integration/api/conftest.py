"""Fixtures of libberm's tests: the library of the staged installation, over the shared state."""

import apitest
import pytest


@pytest.fixture
def lib(berm, stage):
    """A test that leaves a sandbox or a process behind fails."""
    it = apitest.Lib(stage, berm.state_dir)
    yield it
    it.close()

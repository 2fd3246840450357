"""Fixtures of libberm's tests: the library of the staged installation, over the shared state."""

import apitest
import images
import pytest
import sandboxes


@pytest.fixture
def lib(berm, stage):
    """A test that leaves a sandbox or a process behind fails."""
    it = apitest.Lib(stage, berm.state_dir)
    yield it
    it.close()


@pytest.fixture(scope="session")
def bb(stage, shared_state, tmp_path_factory):
    """The name of an image that holds busybox and little else: its guests start soonest."""
    if not images.busybox():
        pytest.skip("busybox is missing: apt install busybox-static")
    rootfs = images.rootfs_tar(tmp_path_factory.mktemp("image") / "rootfs.tar")
    return images.import_image(sandboxes.Berm(shared_state, stage), rootfs, "busybox")

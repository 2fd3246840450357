"""Fixtures of the supervisor's tests: a staged berm whose engine is fake_engine.py.

Everything but the machine is real, so each test takes a fraction of a second, and its "guest" may
do what no honest agent does.
"""

import os
import shutil
import tarfile

import leaks
import pytest
import sandboxes
import suptest
import wire

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="session")
def fake_stage(stage, tmp_path_factory):
    """The installation under test, but for its engine."""
    folder = str(tmp_path_factory.mktemp("stage"))
    libexec = os.path.join(folder, "libexec", "berm")
    for part in ("bin", "libexec"):
        shutil.copytree(os.path.join(stage, part), os.path.join(folder, part))
    os.mkdir(os.path.join(folder, "share"))
    os.symlink(os.path.join(stage, "share", "berm"), os.path.join(folder, "share", "berm"))
    os.unlink(os.path.join(libexec, "berm-qemu"))
    shutil.copy(os.path.join(HERE, "fake_engine.py"), os.path.join(libexec, "berm-qemu"))
    with open(os.path.join(libexec, "wire_types"), "w") as f:
        f.writelines(f"{name} {number}\n" for name, number in wire.TYPES.items())
    return folder


@pytest.fixture(scope="session")
def sup_state(fake_stage, tmp_path_factory):
    """A state directory with the image "tiny": one directory, as nothing of it is ever run."""
    folder = tmp_path_factory.mktemp("sup-state")
    archive = os.path.join(folder, "tiny.tar")
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("etc")
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
    sandboxes.Berm(folder, fake_stage).ok("image", "import", "--name", "tiny", archive)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def sup(fake_stage, sup_state):
    """A test that leaves anything behind fails."""
    berm = suptest.Sup(sup_state, fake_stage, os.path.join(fake_stage, "libexec", "berm"))
    before = leaks.Leaks(sup_state, fake_stage)
    yield berm
    try:
        before.check()
    finally:
        before.close()
        berm.clean_up()

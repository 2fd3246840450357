"""Fixtures of the tests on real guests. BERM names the program; otherwise build/stage/bin/berm."""

import os
import shutil

import bermtest
import client_image
import egress as egress_lib
import images
import leaks
import pytest
import sandboxes
from egress_world import world as egress_world


@pytest.fixture(scope="session")
def stage():
    program = os.environ.get("BERM")
    folder = os.path.dirname(os.path.dirname(os.path.abspath(program))) if program else bermtest.STAGE
    if not os.access(os.path.join(folder, "bin", "berm"), os.X_OK):
        pytest.fail(f"no berm in {folder}: run `make stage`")
    return os.path.realpath(folder)


def guarded(stage, state_dir):
    """berm over that state directory. A test that leaves anything behind fails."""
    berm = sandboxes.Berm(state_dir, stage)
    before = leaks.Leaks(state_dir, stage)
    yield berm
    try:
        before.check()
        # a Popen's pipes and a socket are closed when they are collected, so not to the last one
        assert len(os.listdir("/proc/self/fd")) <= before.fds + 6, "this test keeps files open"
    finally:
        before.close()
        berm.clean_up()


@pytest.fixture
def berm(stage, shared_state):
    yield from guarded(stage, shared_state)


@pytest.fixture
def fresh_berm(stage, tmp_path):
    """The same over a state directory of this test alone: no image and no template."""
    yield from guarded(stage, tmp_path / "state")
    shutil.rmtree(tmp_path / "state", ignore_errors=True)


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory):
    """A tar of a small root file system: busybox and two users."""
    if not images.busybox():
        pytest.skip("busybox is missing: apt install busybox-static")
    return images.rootfs_tar(tmp_path_factory.mktemp("image") / "rootfs.tar")


@pytest.fixture
def own_stage(stage, tmp_path):
    """An installation of this test alone, to be broken; its images are shared by links."""
    copy = tmp_path / "stage"
    shutil.copytree(stage, copy, ignore=shutil.ignore_patterns("images"))
    return copy


@pytest.fixture
def broken(own_stage, fresh_berm, rootfs):
    """berm of that installation, with the small image imported."""
    images.import_image(fresh_berm, rootfs, "busybox")
    return sandboxes.Berm(fresh_berm.state_dir, str(own_stage))


@pytest.fixture(scope="session")
def busybox(stage, shared_state, rootfs):
    """The name of that image in the shared state. Its guests start in a fraction of a second."""
    return images.import_image(sandboxes.Berm(shared_state, stage), rootfs, "busybox")


@pytest.fixture(scope="session")
def bb(busybox):
    """The same, for tests; those of another account have their own."""
    return busybox


@pytest.fixture(scope="session")
def engine(stage, shared_state, busybox):
    """The name of the engine that runs guests here. With BERM_TEST_ENGINE it is that one."""
    berm = sandboxes.Berm(shared_state, stage)
    code, said = berm.judged(busybox, "true")
    assert code == 0, said
    return said["result"]["engine"]


@pytest.fixture(scope="session", autouse=True)
def wanted_engine(request):
    """No test of a run that is about one engine passes on another."""
    if bermtest.ENGINE:
        got = request.getfixturevalue("engine")
        assert got == bermtest.ENGINE, f"guests run on {got}"


@pytest.fixture(scope="session")
def configured(stage, shared_state, rootfs, tmp_path_factory):
    """An image that has opinions: entrypoint, command, environment, user and working directory."""
    config = {
        "Entrypoint": ["/bin/echo", "entry"],
        "Cmd": ["from", "cmd"],
        "Env": ["PATH=/bin:/usr/bin", "GREETING=hello from the image"],
        "User": "dev",
        "WorkingDir": "/home/dev",
    }
    path = tmp_path_factory.mktemp("image") / "configured.tar"
    images.docker_archive(path, rootfs, "configured:latest", config)
    return images.import_image(sandboxes.Berm(shared_state, stage), path, "configured")


@pytest.fixture
def running(berm, bb):
    """A sandbox in the background that does nothing."""
    with berm.detached(bb, "sleep", "3600") as sandbox:
        yield sandbox


# -- what a sandbox may reach: test_egress_*.py ---------------------------------------------------


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """The test world, one for the whole run."""
    why = egress_world.missing()
    if why:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("world")
    os.chmod(folder, 0o755)
    made = egress_world.World(folder)
    yield made
    made.close()
    shutil.rmtree(folder, ignore_errors=True)


AS_USER = ("test_egress_done", "test_egress_engine")  # the whole of it, and by far the shorter part of the time


@pytest.fixture(scope="module")
def egress(request, stage, shared_state, world):
    """berm in the test world. A module that leaves anything behind fails."""
    if os.geteuid() != 0 and request.module.__name__.rpartition(".")[2] not in AS_USER:
        pytest.skip(f"an ordinary user runs {' and '.join(AS_USER)}; the other tests of egress are root's")
    berm = egress_lib.WorldBerm(shared_state, stage, world)
    before = leaks.Leaks(shared_state, stage)
    yield berm
    try:
        before.check()
    finally:
        before.close()
        berm.clean_up()


@pytest.fixture(scope="session")
def clients(stage, shared_state):
    """The name of an image with the clients that agents use."""
    why = client_image.CLIENTS.missing()
    if why:
        pytest.skip(why)
    return images.import_image(sandboxes.Berm(shared_state, stage), client_image.CLIENTS.tar(), "clients")


@pytest.fixture(scope="module")
def new_box(egress, clients, tmp_path_factory):
    """Makes a sandbox with that policy; see egress.Box."""

    def make(policy="", image=None, **more):
        return egress_lib.Box(egress, image or clients, policy, files=tmp_path_factory.mktemp("policy"), **more)

    return make


@pytest.fixture(scope="module")
def box(request, new_box):
    """The sandbox of a module of tests, with the module's POLICY."""
    with new_box(request.module.POLICY, flags=getattr(request.module, "FLAGS", ()),
                 env=getattr(request.module, "ENV", None)) as b:
        yield b


@pytest.fixture
def mark(box, world):
    """What was recorded before this test. DNS says afterwards what it said before."""
    yield box.mark()
    world.reset()

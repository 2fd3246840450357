import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))

import guest  # noqa: E402


def pytest_collection_modifyitems(items):
    reason = guest.missing()
    here = pathlib.Path(__file__).parent
    for item in items:
        if reason and here in pathlib.Path(item.fspath).parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("agent")


@pytest.fixture(scope="session")
def initrd(work):
    return guest.initramfs(work)


@pytest.fixture(scope="session")
def image(work):
    return guest.squashfs(guest.busybox_root(work / "root"), work / "root.sqfs")


@pytest.fixture(scope="session")
def boot(work, image, initrd):
    """Boots a guest; each call a new one. The caller closes it."""
    count = iter(range(1000))

    def make(image=image, **kw):
        return guest.Guest(work / f"vm{next(count)}", image, initrd, **kw)

    return make


@pytest.fixture(scope="session")
def shared(boot):
    """One guest for all tests that leave it as they found it."""
    with boot() as g:
        yield g.handshake()


@pytest.fixture
def peer(shared):
    """The shared guest's port. Afterwards it must answer and have no stream left."""
    p = shared.peer
    yield p
    p.streams.clear()
    p.ping()
    assert p.stats().streams == 0, shared.console_text()

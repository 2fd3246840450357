import json
import os
import shutil
import subprocess
import time

import archives
import pytest


class Store:
    """`berm image` over a state directory of one test."""

    def __init__(self, stage, state):
        self.berm = os.path.join(stage, "bin/berm")
        self.unpack = os.path.join(stage, "libexec/berm/berm-unpack")
        self.state = str(state)
        self.env = {**os.environ, "BERM_STATE_DIR": self.state}

    def run(self, *words, **more):
        return subprocess.run([self.berm, "image", *map(str, words)], env=self.env, text=True,
                              capture_output=True, timeout=120, **more)

    def ok(self, *words, **more):
        got = self.run(*words, **more)
        assert got.returncode == 0, got.stderr
        return got.stdout

    def json(self, *words, **more):
        return json.loads(self.ok(*words, "--json", **more))

    def start(self, *words, **more):
        return subprocess.Popen([self.berm, "image", *map(str, words)], env=self.env,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more)

    def refuses(self, status, says, *words, **more):
        """Fails in one clear line with that status, and leaves nothing."""
        before = self.files()
        got = self.run(*words, **more)
        assert (got.returncode, got.stdout) == (status, ""), got.stderr
        assert got.stderr.startswith("berm: ") and got.stderr.count("\n") == 1, got.stderr
        assert says in got.stderr
        assert self.files() == before, "something half-made is left"
        return got.stderr

    def files(self):
        images = os.path.join(self.state, "images")
        return sorted(x for x in os.listdir(images) if x not in (".lock", "names")) \
            if os.path.isdir(images) else []

    def disk(self, ref):
        return os.path.join(self.state, "images", self.json("inspect", ref)["id"], "disk.sqfs")


@pytest.fixture(scope="session")
def bare(stage, tmp_path_factory):
    """The staged programs without the images that are installed with them."""
    folder = tmp_path_factory.mktemp("bare")
    for part in ("bin/berm", "libexec/berm/berm-unpack"):
        os.makedirs(folder / os.path.dirname(part))
        shutil.copy(os.path.join(stage, part), folder / part)
    return str(folder)


@pytest.fixture
def store(bare, tmp_path):
    return Store(bare, tmp_path / "state")


@pytest.fixture
def tree(store, tmp_path):
    """What the disk of an image holds. Owners and devices only show to root."""
    if os.geteuid() != 0:
        pytest.skip("unpacking owners and devices to look at them takes root")
    if not shutil.which("unsquashfs"):
        pytest.skip("unsquashfs is missing: apt install squashfs-tools")

    def look(ref):
        return archives.unsquash(store.disk(ref), str(tmp_path / f"tree-{time.monotonic_ns()}"))
    return look

"""A workspace in a guest, and what comes back of it. The driver stands for the commands; what a
proposal means is tested where it is parsed."""

import hashlib
import io
import json
import os
import signal
import subprocess
import tarfile

import bermtest
import pytest
import sandboxes

DRIVE = os.path.join(bermtest.TOP, "build", "main", "tests", "integration", "sup", "session_drive")


class Driver:
    def __init__(self, berm, stage, tree, engine):
        self.berm, self.tree = berm, tree
        self.head = [DRIVE, os.path.join(stage, "bin", "berm"), str(berm.state_dir)]
        self.engine = {"qemu": "engine=1", "kvm": "engine=2"}[engine]

    def __call__(self, *args, check=True):
        got = subprocess.run([*self.head, *args], capture_output=True, stdin=subprocess.DEVNULL,
                             timeout=120 * bermtest.SLOWNESS)
        assert not check or got.returncode == 0, got.stderr.decode()
        return got

    def start(self, *args):
        return subprocess.Popen([*self.head, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def new(self, mount="/workspace"):
        return self("new", self.tree, mount, self.tree).stdout.decode().strip()

    def args(self, session, image, script, *values):
        return ["run", session, image, self.engine, "memory_mib=192", *values, "--", "sh", "-c", script]

    def run(self, image, script, *values, session=None, mount="/workspace"):
        """(the session, what the command wrote, how it ended)"""
        session = session or self.new(mount)
        got = self(*self.args(session, image, script, *values))
        return session, got.stdout, json.loads(got.stderr.splitlines()[-1])

    def path(self, session, name=""):
        return os.path.join(self.berm.state_dir, "sessions", session, name)

    def info(self, session):
        return json.loads(self("show", session).stdout)

    def work(self, session):
        """{path: (type, content, our records)} of its spool."""
        found = {}
        with open(self.path(session, "spool.tar"), "rb") as f:
            data = f.read()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for m in tar:
                content = tar.extractfile(m).read() if m.isreg() else None
                ours = {k: v for k, v in m.pax_headers.items() if k.startswith("BERM.")}
                found[m.name] = (m.type, content, ours)
        assert ".berm-end" in found
        return found


@pytest.fixture
def session(berm, stage, tmp_path, engine):
    tree = tmp_path / "tree"
    (tree / "dir/below").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "a.txt").write_bytes(b"hello\n")
    (tree / "dir/b.txt").write_bytes(b"two\n" * 5000)
    (tree / "run.sh").write_bytes(b"#!/bin/sh\necho it ran\n")
    (tree / "run.sh").chmod(0o755)
    (tree / "link").symlink_to("a.txt")
    d = Driver(berm, stage, str(tree), engine)
    yield d
    for line in d("list").stdout.decode().splitlines():
        d("remove", line.split()[0])


def test_s1_the_guest_reads_what_was_packed(session, bb):
    script = "pwd; cat a.txt; md5sum < dir/b.txt; readlink link; ./run.sh; find . | sort; stat -c '%a %Y' run.sh"
    when = int(os.stat(os.path.join(session.tree, "run.sh")).st_mtime)
    _, out, end = session.run(bb, script)
    md5 = hashlib.md5(b"two\n" * 5000).hexdigest()
    want = (f"/workspace\nhello\n{md5}  -\na.txt\nit ran\n.\n./a.txt\n./dir\n./dir/b.txt\n./dir/below\n"
            f"./empty\n./link\n./run.sh\n755 {when}\n")
    assert (out.decode(), end["exit_code"]) == (want, 0)


@pytest.mark.parametrize("cold", (0, 1))
def test_the_work_comes_back_and_nothing_else(session, bb, cold):
    script = "echo new > new; echo more >> a.txt; mv dir moved; rm link; mkdir d; chmod 700 run.sh"
    name, _, end = session.run(bb, script, f"cold={cold}")
    assert end["exit_code"] == 0 and end["message"] is None, end
    info = session.info(name)
    assert (info["state"], info["ended"]) == ("spooled", "exited")
    work = session.work(name)
    assert work["new"][1] == b"new\n" and work["a.txt"][1] == b"hello\nmore\n"
    assert work["link"][2] == {"BERM.whiteout": "1"} and work["dir"][2] == {"BERM.whiteout": "1"}
    assert work["moved"][2].get("BERM.redirect") == "dir"  # a name, not 5000 lines
    assert work["run.sh"][1] == b"#!/bin/sh\necho it ran\n"  # with its data: metacopy is off
    assert set(work) == {".", "new", "a.txt", "link", "dir", "moved", "d", "run.sh", ".berm-end"}
    # the tree on the host is as it was
    assert sorted(os.listdir(session.tree)) == ["a.txt", "dir", "empty", "link", "run.sh"]


def test_what_is_written_at_the_last_moment_comes_back(session, bb):
    # no sync, files open for writing, a process left behind that goes on writing
    script = "(while :; do echo x >> loop; done) & dd if=/dev/zero of=big bs=1M count=20 2>/dev/null; echo end > last"
    name, _, _ = session.run(bb, script)
    work = session.work(name)
    assert work["last"][1] == b"end\n" and "loop" in work


def test_s11_the_base_cannot_be_written(session, bb):
    script = ("dd if=/dev/zero of=/dev/vdc bs=512 count=1 2>/dev/null && echo written; "
              "mount -o remount,rw /run/berm/base 2>/dev/null; touch /run/berm/base/x 2>/dev/null && echo made; "
              "cat /sys/block/vdc/ro")
    name = session.new()

    def digest():
        with open(session.path(name, "base.erofs"), "rb") as f:
            return hashlib.sha256(f.read(1 << 20)).hexdigest()

    before = digest()
    _, out, _ = session.run(bb, script, session=name)
    assert out == b"1\n" and digest() == before


def test_s18_the_same_path_as_on_the_host(session, bb):
    _, out, end = session.run(bb, "pwd; cat /home/dev/src/project/a.txt", mount="/home/dev/src/project")
    assert (out, end["exit_code"]) == (b"/home/dev/src/project\nhello\n", 0)


def test_s18_a_place_that_is_a_link_in_the_image_is_refused(session, bb):
    name, _, end = session.run(bb, "true", mount="/bin2/x")
    assert end["exit_code"] == 0
    name = session.new("/usr/bin/x")
    refused = session(*session.args(name, bb, "true"), check=False)
    assert refused.returncode == 1 and b"would hide what the guest needs" in refused.stderr


def test_an_image_that_is_none_is_said_and_costs_nothing(session, bb, tmp_path):
    (tmp_path / "none").write_bytes(b"no image" * 1000)
    name = session("new", str(tmp_path / "none"), "/workspace", "/x").stdout.decode().strip()
    _, _, end = session.run(bb, "true", session=name)
    assert end["exit_code"] == 125 and "workspace's image" in end["message"], end
    assert session.info(name)["state"] == "packed"


def test_k4_a_killed_machine_is_rescued(session, bb):
    name = session.new()
    caller = session.start(*session.args(name, bb, "echo kept > kept; mv dir moved; sync; echo go; sleep 3600"))
    assert caller.stdout.readline() == b"go\n"
    sandbox = session.info(name)["sandbox"]
    for pid in sandboxes.wait_for("its machine", session.berm.engines):
        os.kill(pid, signal.SIGKILL)
    _, err = caller.communicate(timeout=60 * bermtest.SLOWNESS)
    assert json.loads(err.splitlines()[-1])["reason"] == "engine-died", err
    info = session.info(name)
    assert (info["state"], info["sandbox"]) == ("uncollected", sandbox)
    session("rescue", name, session.engine)
    work = session.work(name)
    assert work["kept"][1] == b"kept\n" and work["moved"][2].get("BERM.redirect") == "dir"


def test_k5_a_guest_whose_agent_dies_is_rescued(session, bb):
    # root in the guest may do anything to process 1 but send it signals; its end is a panic
    script = ("echo kept > kept; sync; at=$(grep r-xp /proc/1/maps | head -n 1 | cut -d- -f1); "
              "dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((0x$at / 4096)) count=16 conv=notrunc; sleep 3600")
    name, _, end = session.run(bb, script)
    assert end["exit_code"] == 125 and name in end["message"], end
    assert session.info(name)["state"] == "uncollected"
    session("rescue", name, session.engine)
    assert session.work(name)["kept"][1] == b"kept\n"


def test_k5_a_supervisor_that_is_killed_costs_no_work(session, bb):
    name = session.new()
    caller = session.start(*session.args(name, bb, "echo kept > kept; sync; echo go; sleep 3600"))
    assert caller.stdout.readline() == b"go\n"
    for pid in session.berm.by_program("berm-supervisor"):
        os.kill(pid, signal.SIGKILL)
    caller.communicate(timeout=60 * bermtest.SLOWNESS)
    # its machine dies with it; until that is known nobody reads what it wrote
    sandboxes.wait_for("its machine's end", lambda: session("dead", name, check=False).returncode == 0)
    assert session.info(name)["state"] == "uncollected"
    session("rescue", name, session.engine)
    assert session.work(name)["kept"][1] == b"kept\n"
    session.berm.ok("ps", "-a")  # sweeps the sandbox

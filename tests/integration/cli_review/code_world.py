"""`berm code` up to the guest's start, and sessions that come of it, without a guest.

In the place of the supervisor is a program that kills who started it: what was packed stays as it was.
Such a session becomes one that a guest ran in by finished(): with a stream of what an agent would have
left, as review_world has them.
"""

import fcntl
import glob
import json
import os
import shutil
import subprocess
import sys
import time

from cli_world import TOP, Cli
from review_world import Guest

sys.path.insert(0, os.path.join(TOP, "tests/lib"))

import images  # pylint: disable=wrong-import-position

BASETOOL = os.path.join(TOP, "build/main/tests/integration/work/basetool")
KILLED = -9


class Coded(Cli):
    """An installation with an image and a workspace."""

    def __init__(self, path):
        super().__init__(path)
        for name in ("agents", "exclude", "egress"):
            shutil.copytree(os.path.join(TOP, "profiles", name), os.path.join(self.share, name))
        supervisor = os.path.join(self.path, "libexec/berm/berm-supervisor")
        with open(supervisor, "w", encoding="ascii") as f:
            f.write("#!/bin/sh\nkill -9 $PPID\n")  # strace, if that is around it, ends the same way
        os.chmod(supervisor, 0o755)
        self.tree = os.path.join(self.path, "tree")
        os.makedirs(self.tree, exist_ok=True)
        root = images.rootfs_tar(os.path.join(self.path, "root.tar"))
        self.run("image", "import", "-n", "default", root)

    def write(self, path, content):
        full = os.path.join(self.tree, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "wb") as f:
            f.write(content)
        os.utime(full, (1600000000, 1600000000))  # of the past as far as anybody asks

    def sessions(self):
        return sorted(os.path.basename(path) for path in glob.glob(os.path.join(self.state, "sessions", "*")))

    def at(self, session, name=""):
        return os.path.join(self.state, "sessions", session, name)

    def info(self, session):
        with open(self.at(session, "session.json"), encoding="ascii") as f:
            return json.load(f)

    def edit(self, session, **info):
        """Other words in its session.json."""
        info = {**self.info(session), **info}
        with open(self.at(session, "session.json"), "w", encoding="ascii") as f:
            json.dump({k: v for k, v in info.items() if v is not None}, f)

    def code(self, *words, wrap=()):
        """Packs, and is killed when it would start a guest, or before. The new session's id, or None."""
        before = set(self.sessions())
        self.said = self.run("code", *words, "--", "true", code=KILLED, cwd=self.tree, wrap=wrap)
        new = set(self.sessions()) - before
        for session in new:
            self.wait_free(session)
        return new.pop() if new else None

    def wait_free(self, session):
        """The one in the supervisor's place has its lock for a moment longer."""
        end = time.monotonic() + 60
        with open(self.at(session, "lock"), "rb") as f:
            while True:
                try:
                    return fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    assert time.monotonic() < end
                    time.sleep(0.005)

    def finished(self, session, agent, state="spooled"):
        """A guest ran in it, and left that."""
        with open(self.at(session, "spool.tar"), "wb") as f:
            f.write(agent.stream())
        os.chmod(self.at(session, "spool.tar"), 0o400)
        self.edit(session, state=state)
        return session

    def applied(self, **files):
        """A session of which all was applied: the files that the agent wrote."""
        agent = Guest(self.tree)
        session = self.code()
        for name, content in (files or {"made": "by the agent\n"}).items():
            agent.file(name, content)
        self.finished(session, agent)
        self.run("apply", session, "--all")
        assert self.info(session)["state"] == "applied" and self.info(session)["left"] == 0
        return session

    def listing(self, session):
        """All that is in its base: kind, mode, time, size, digest and path."""
        return subprocess.run([BASETOOL, "list", self.at(session)], check=True, capture_output=True, timeout=60).stdout

    def whole(self, session):
        return os.path.exists(self.at(session, "base.erofs"))

    def has(self, session, mark):
        """Does the image hold these bytes, anywhere?"""
        with open(self.at(session, "base.erofs"), "rb") as f:
            at, end = 0, os.fstat(f.fileno()).st_size
            while at < end:
                try:
                    at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                except OSError:
                    return False
                stop = os.lseek(f.fileno(), at, os.SEEK_HOLE)
                f.seek(at)
                if mark in f.read(stop - at):
                    return True
                at = stop
        return False

    def hold(self, path, how=fcntl.LOCK_EX):
        """A file of the state directory, locked until it is closed."""
        f = open(path, "r+b")  # pylint: disable=consider-using-with
        fcntl.flock(f, how)
        return f

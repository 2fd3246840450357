"""An installation and sessions made by hand, for the verbs about sessions: no guest, no terminal.

Cli(path) installs berm and its jobs there. session(...) is a session of a workspace: world.tree and
world.agent are as in review_world. run("diff", ...) is the command.
"""

import json
import os
import shutil
import subprocess
import sys
import time

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
sys.path.insert(0, os.path.join(TOP, "tests/integration/review"))

from review_world import BUILD, MAIN, World  # pylint: disable=wrong-import-position

PENDING, ERROR = 3, 125


class Session(World):
    """A workspace at path/tree and its session in the state directory."""

    def __init__(self, cli, name, agent="claude-code", tree=None):
        self.id, self.cli = name, cli
        super().__init__(os.path.join(cli.path, "w" + name) if tree is None else os.path.dirname(tree))
        if os.path.isdir(self.session):
            os.rmdir(self.session)
        self.session = os.path.join(cli.state, "sessions", name)
        os.makedirs(self.session, mode=0o700)
        with open(os.path.join(self.session, "lock"), "w", encoding="ascii"):
            pass
        self.info = {"state": "spooled", "id": name, "agent": agent, "image": "default", "exit_code": 0,
                     "image_id": "ab" * 32, "mount_hex": b"/workspace".hex(), "created_ns": time.time_ns()}

    def guest(self, **info):
        super().guest()
        st = os.stat(self.tree)
        self.info |= {"root": self.tree, "root_hex": os.fsencode(self.tree).hex(), "root_dev": st.st_dev,
                      "root_ino": st.st_ino, "snapshot_ns": time.time_ns(), **info}
        return self.save()

    def save(self):
        with open(os.path.join(self.session, "session.json"), "w", encoding="ascii") as f:
            json.dump(self.info, f)
        return self

    def state(self):
        with open(os.path.join(self.session, "session.json"), encoding="ascii") as f:
            return json.load(f)["state"]

    def run(self, verb, *words, **how):
        return self.cli.run(verb, self.id, *words, **how)

    def json(self, verb, *words, code=0):
        return json.loads(self.run(verb, "--json", *words, code=code).stdout)

    def changes(self, **how):
        return {c["path"]: c for c in self.json("diff", **how)["changes"]}


class Cli:
    def __init__(self, path):
        self.path = str(path)
        self.state = os.path.join(self.path, "state")
        os.makedirs(os.path.join(self.state, "sessions"), mode=0o700)
        os.chmod(self.state, 0o700)
        self.berm = self.install("bin", "src/cli/berm", BUILD)
        for name in ("berm-unpack", "berm-diff"):
            self.install("libexec/berm", f"src/bin/{name}")
        self.share = os.path.join(self.path, "share/berm")
        os.makedirs(self.share)
        shutil.copy(os.path.join(TOP, "profiles/classes.list"), self.share)
        self.env = {"PATH": os.environ["PATH"], "BERM_STATE_DIR": self.state, "HOME": self.path}

    def install(self, folder, program, build=MAIN):
        to = os.path.join(self.path, folder)
        os.makedirs(to, exist_ok=True)
        return shutil.copy(os.path.join(build, program), to)

    def run(self, *words, code=0, cwd=None, stdin=subprocess.DEVNULL, wrap=(), env=None, **how):
        done = subprocess.run([*wrap, self.berm, *words], cwd=cwd or self.path, env={**self.env, **(env or {})},
                              stdin=None if "input" in how else stdin, capture_output=True, check=False, timeout=120,
                              **how)
        done.out = done.stdout.decode("utf-8", "replace")
        done.err = done.stderr.decode("utf-8", "replace")
        assert code is None or done.returncode == code, (done.returncode, done.out, done.err)
        return done

    def session(self, name="0123456789ab", **how):
        return Session(self, name, **how)


GIT = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "T", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "T",
       "GIT_COMMITTER_EMAIL": "t@t", "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"}


def work(session, script, **env):
    """What a script does to a copy of the tree becomes the agent's work: files, links, deletions."""
    copy = session.tree + ".guest"
    shutil.copytree(session.tree, copy, symlinks=True)
    subprocess.run(["sh", "-eu", "-c", script], cwd=copy, env={**os.environ, **GIT, "HOME": copy, **env}, check=True,
                   timeout=60)
    for path in sorted(all_of(session.tree) - all_of(copy)):
        if os.path.dirname(path) == "" or os.path.isdir(os.path.join(copy, os.path.dirname(path))):
            session.agent.gone(path)
    for path in sorted(all_of(copy)):
        full, was = os.path.join(copy, path), os.path.join(session.tree, path)
        mode = os.lstat(full).st_mode & 0o777
        if os.path.islink(full):
            session.agent.link(path, os.readlink(full))
        elif os.path.isdir(full):
            if not os.path.isdir(was):
                session.agent.dir(path, mode)
        elif not os.path.isfile(was) or read_bytes(was) != read_bytes(full):
            session.agent.file(path, read_bytes(full), mode)
    return session


def all_of(tree):
    found = set()
    for folder, folders, files in os.walk(tree):
        found |= {os.path.relpath(os.path.join(folder, name), tree) for name in folders + files}
    return found


def read_bytes(path):
    with open(path, "rb") as f:
        return f.read()

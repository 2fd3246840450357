"""Trees and plans for the tests of apply: what they look like, and how applydrive is told of them."""

import errno
import hashlib
import os
import re
import shutil
import signal
import stat
import subprocess

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
DRIVE = os.path.join(
    os.environ.get("APPLY_BUILD", os.path.join(TOP, "build/main")), "tests/integration/work/applydrive"
)

PUT, MKDIR, CHMOD, MOVE, DELETE, RMDIR = range(6)
ABSENT, FILE, DIR, LINK, OTHER = range(5)
BREAK_LINKS = 1
NAME = "0123456789ab"
STAGE = f".berm-stage-{NAME}"
NOTHING = "0:0:0:0:0:0:0"


def seen(path):
    """What a reviewer saw there, as applydrive takes it."""
    try:
        st = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return NOTHING
    kind = {stat.S_IFREG: FILE, stat.S_IFDIR: DIR, stat.S_IFLNK: LINK}.get(
        stat.S_IFMT(st.st_mode), OTHER
    )
    return (
        f"{kind}:{st.st_mode & 0o7777}:{st.st_nlink}:{st.st_ino}:{st.st_size}:"
        f"{st.st_mtime_ns}:{st.st_ctime_ns}"
    )


def snapshot(root):
    """{path: (kind, mode, content)} of all that is beneath root, staging included."""
    found = {}
    root = os.fsencode(root)

    def walk(folder, prefix):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            st = os.lstat(path)
            key = prefix + name
            if stat.S_ISDIR(st.st_mode):
                found[key] = ("dir", st.st_mode & 0o7777, "")
                walk(path, key + b"/")
            elif stat.S_ISLNK(st.st_mode):
                found[key] = ("link", 0, os.readlink(path))
            else:
                with open(path, "rb") as f:
                    digest = hashlib.sha256(f.read()).hexdigest()
                found[key] = ("file", st.st_mode & 0o7777, digest)

    walk(root, b"")
    return found


def build(root, tree):
    """Makes a tree of {path: bytes | str (a link) | None (a directory) | (mode, any of these)}."""
    modes = []
    for path, what in sorted(tree.items()):
        mode = None
        if isinstance(what, tuple):
            mode, what = what
        full = os.path.join(root, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        if what is None:
            os.makedirs(full, exist_ok=True)
        elif isinstance(what, str):
            os.symlink(what, full)
            continue
        else:
            with open(full, "wb") as f:
                f.write(what)
            os.chmod(full, 0o644)
        if mode is not None:
            modes.append((full, mode))
    for full, mode in reversed(modes):
        os.chmod(full, mode)


class Answer:
    """What applydrive printed."""

    def __init__(self, text, code):
        self.code = code
        self.lines = text.splitlines()
        self.said = {}
        for line in self.lines:
            if line.startswith("said "):
                _, word, path = line.split(" ", 2)
                self.said.setdefault(path, []).append(word)
        last = (self.lines[-1] if self.lines else "").split(" ", 2)
        self.end = last[1] if last[0] == "end" else None
        self.generation = int(last[2]) if last[0] == "end" else 0
        self.recovered = last[1] if last[0] == "recovered" else None
        self.error = int(last[1]) if last[0] == "error" else 0
        self.why = last[2] if last[0] == "error" else ""
        self.points = dict(re.findall(r"^point (\S+) (\d+)$", text, re.MULTILINE))

    def __repr__(self):
        return f"exit {self.code}: " + "; ".join(self.lines[-6:])


class World:
    """A workspace, a session's directory, and a plan between them."""

    def __init__(self, folder, root=None):
        self.folder = str(folder)
        self.root = str(root or os.path.join(folder, "tree"))
        self.session = os.path.join(self.folder, "session")
        os.makedirs(self.root, exist_ok=True)
        os.makedirs(self.session, exist_ok=True)
        self.user = None
        self.fresh_plan()

    def fresh_plan(self):
        self.ops = []
        self.spool = bytearray(b"spool begins here\n")

    def at(self, path):
        return os.path.join(os.fsencode(self.root), os.fsencode(path))

    def read(self, path):
        with open(self.at(path), "rb") as f:
            return f.read()

    def write(self, path, data):
        with open(self.at(path), "wb") as f:
            f.write(data)

    # -- the plan ---------------------------------------------------------------------------------

    def op(self, what, path, host=None, frm="", kind=0, mode=0, flags=0, target="", size=0, ext="",
           was=None):
        """host: where the thing is on the host now, if not at path."""
        if was is None:
            was = seen(self.at(path if host is None else host))
        fields = [str(what), path, frm, str(kind), str(mode), str(flags), target, str(size), ext,
                  was, "."]
        self.ops.append(b"".join(os.fsencode(f) + b"\0" for f in fields))

    def put(self, path, data, mode=0o644, pieces=None, **more):
        """pieces: [(offset, bytes)] of a sparse file whose size is data, a number."""
        size = data if pieces is not None else len(data)
        extents = []
        for at, piece in pieces if pieces is not None else [(0, data)]:
            extents.append(f"{len(self.spool)}:{at}:{len(piece)}")
            self.spool += piece
        self.op(PUT, path, kind=FILE, mode=mode, size=size, ext=",".join(extents), **more)

    def link(self, path, target, **more):
        self.op(PUT, path, kind=LINK, target=target, **more)

    def mkdir(self, path, mode=0o755, **more):
        self.op(MKDIR, path, mode=mode, **more)

    def chmod(self, path, mode, **more):
        self.op(CHMOD, path, mode=mode, **more)

    def move(self, frm, path):
        self.op(MOVE, path, host=frm, frm=frm)

    def delete(self, path, **more):
        self.op(DELETE, path, **more)

    def rmdir(self, path, **more):
        self.op(RMDIR, path, **more)

    # -- applydrive -------------------------------------------------------------------------------

    def write_plan(self):
        plan, spool = os.path.join(self.folder, "plan"), os.path.join(self.folder, "spool")
        for name, data in ((plan, b"".join(self.ops)), (spool, bytes(self.spool))):
            with open(name, "wb") as f:
                f.write(data)
        return plan, spool

    def argv(self, verb, *options):
        argv = [DRIVE, verb, self.root, self.session, NAME]
        if verb == "apply":
            argv += self.write_plan()
        return [*argv, *options]

    def start(self, verb, *options, **more):
        """Runs it beside the test, which may wait for it to come to a point."""
        return subprocess.Popen(
            self.argv(verb, *options), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, user=self.user, group=self.user,
            extra_groups=[] if self.user else None, text=True, errors="surrogateescape", **more
        )

    def run(self, verb, *options, **more):
        with self.start(verb, *options, **more) as job:
            out, err = job.communicate(timeout=300)
        assert job.returncode in (0, -signal.SIGKILL), f"exit {job.returncode}: {out}{err}"
        return Answer(out, job.returncode)

    def apply(self, *options, **more):
        return self.run("apply", *options, **more)

    def recover(self, *options, **more):
        return self.run("recover", *options, **more)

    def undo(self, *options, **more):
        return self.run("undo", *options, **more)

    def race(self, point, change, *options, verb="apply"):
        """Stops at a point, lets change() happen, goes on."""
        with self.start(verb, f"wait={point}", *options) as job:
            said = []
            for line in job.stdout:
                said.append(line)
                if line.startswith("at "):
                    break
            else:
                raise AssertionError(f"it never came to {point}: {said}")
            change()
            out, err = job.communicate("go\n", timeout=300)
        assert job.returncode == 0, f"{out}{err}"
        return Answer("".join(said[:-1]) + out, 0)

    # -- what is seen afterwards ------------------------------------------------------------------

    def tree(self):
        return snapshot(self.root)

    def clean(self):
        """Nothing of ours is left in the workspace, and no journal of something unfinished."""
        left = [n for n in os.listdir(self.root) if n.startswith((".berm-stage", "berm-kept"))]
        assert not left, left
        assert not os.path.exists(os.path.join(self.session, "journal"))

    def done(self, answer):
        assert answer.end == "done", answer
        self.clean()
        return answer

    def nothing_changed(self, before):
        assert self.tree() == before
        self.clean()

    def remove(self):
        subprocess.run(["chmod", "-R", "u+rwX", self.folder], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def name_of(code):
    return errno.errorcode.get(code, str(code))

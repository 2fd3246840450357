"""Sessions made by hand for tests of reviews: a packed tree, a proposal's stream, and no guest.

World(path) has a tree; pack() takes it as the base; guest(...) writes the stream of what an agent
would have left; review() opens reviewdrive on both.
"""

import json
import os
import stat
import struct
import subprocess
import sys

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
sys.path.insert(0, os.path.join(TOP, "tests/integration/work"))

from proposal_stream import Stream  # pylint: disable=wrong-import-position

MAIN = os.path.join(TOP, "build/main")
BUILD = os.environ.get("REVIEW_BUILD", MAIN)  # of reviewdrive and berm; what is jailed runs without sanitizers
BASETOOL = os.path.join(MAIN, "tests/integration/work/basetool")
DRIVE = os.path.join(BUILD, "tests/integration/review/reviewdrive")
BIN = os.path.join(MAIN, "src/bin")
CLASSES = os.path.join(TOP, "profiles/classes.list")

REDECIDE, DONE, CONSENT, DECIDABLE, TEXT, NEEDS = 1, 2, 4, 8, 16, 32
APPLIED, ALREADY, STAYS, BACK_CHANGED, BACK_EXISTS, BACK_KIND, BACK_PARENT, BACK_LINKS = range(8)


TREE = """
mkdir -p src docs old .vscode
printf 'one\\ntwo\\nthree\\nfour\\nfive\\n' > src/text
seq 100 > docs/long
echo old > old/a; echo old > old/b
echo keep > keep
ln -s src/text link
find . -exec touch -h -d @1600000000 {} +
"""


def tree_of(root):
    """{path: (mode, content)}, of links the target."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in names + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            what = None
            if stat.S_ISLNK(st.st_mode):
                what = os.readlink(path)
            elif stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    what = f.read()
            found[os.path.relpath(path, root)] = (st.st_mode, what)
    return found


class Guest:
    """What an agent left in the upper layer. Directories on the way come by themselves."""

    def __init__(self, tree):
        self.tree = tree
        self.entries = {}

    def put(self, path, kind, **what):
        parts = path.split("/")
        for i in range(1, len(parts)):
            self.entries.setdefault("/".join(parts[:i]), ("dir", {}))
        self.entries[path] = (kind, what)
        return self

    def file(self, path, content="", mode=0o644):
        return self.put(path, "file", content=content, mode=mode)

    def link(self, path, target):
        return self.put(path, "link", target=target)

    def dir(self, path, mode=None, **marks):
        return self.put(path, "dir", mode=mode, **marks)

    def gone(self, path):
        return self.put(path, "gone")

    def renamed(self, source, path):
        """The directory, with a whiteout where it was."""
        if source not in self.entries:
            self.gone(source)
        return self.put(path, "dir", **{"BERM.redirect": source})

    def mode_of(self, path, marks):
        where = marks.get("BERM.redirect", path)
        try:
            return stat.S_IMODE(os.lstat(os.path.join(self.tree, where)).st_mode)
        except OSError:
            return 0o755

    def stream(self):
        s = Stream(root=False)
        s.dir(".", mode=stat.S_IMODE(os.lstat(self.tree).st_mode), **{"BERM.version": 1})
        for path in sorted(self.entries, key=lambda p: [os.fsencode(n) for n in p.split("/")]):
            kind, what = self.entries[path]
            if kind == "file":
                s.file(path, what["content"], what["mode"])
            elif kind == "link":
                s.link(path, what["target"])
            elif kind == "gone":
                s.whiteout(path)
            else:
                marks = {k: v for k, v in what.items() if k != "mode"}
                mode = what.get("mode")
                s.dir(path, self.mode_of(path, marks) if mode is None else mode, **marks)
        return s.whole()


class Refused(Exception):
    """What reviewdrive answered with an error: args are its number and its text."""


class Review:
    """reviewdrive, asked line by line."""

    def __init__(self, world, workspace=None):
        argv = [DRIVE, BIN, CLASSES, world.session, world.tree, *([workspace] if workspace else [])]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.opened = self.answer()

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(60) in (0, -9)

    def answer(self):
        found = []
        while True:
            line = self.process.stdout.readline()
            if not line.endswith(b"\n"):
                raise EOFError
            said = json.loads(line)
            if "ok" in said:
                return found
            if "error" in said:
                raise Refused(said["error"], said["text"])
            found.append(said)

    def ask(self, *words):
        self.process.stdin.write(b"\t".join(os.fsencode(w) for w in words) + b"\n")
        self.process.stdin.flush()
        return self.answer()

    def items(self):
        return self.ask("list")

    def item(self, path):
        (found,) = [i for i in self.items() if i["path"] == path]
        return found

    def by_path(self):
        return {i["path"]: i for i in self.items()}

    def of(self, section):
        return [i["path"] for i in self.items() if i["section"] == section]

    def apply(self, how="all"):
        return self.ask("apply", how)[-1]

    def undo(self, how="all"):
        return self.ask("undo", how)[-1]

    def totals(self):
        return self.ask("totals")[0]

    def accept(self, *paths):
        for path in paths:
            self.ask("accept", path)


class World:
    def __init__(self, path):
        self.path = str(path)
        self.tree = os.path.join(self.path, "tree")
        self.session = os.path.join(self.path, "session")
        os.makedirs(self.tree, exist_ok=True)
        os.makedirs(self.session, exist_ok=True)
        self.agent = Guest(self.tree)

    def host(self, script):
        subprocess.run(["sh", "-eu", "-c", script], cwd=self.tree, check=True, timeout=60)
        return self

    def pack(self, *options):
        """As `berm code` would. What did not enter is named with --skip NAME."""
        subprocess.run([BASETOOL, "pack", self.tree, self.session, *options], check=True,
                       stdout=subprocess.DEVNULL, timeout=120)
        os.rename(os.path.join(self.session, "base.report"), os.path.join(self.session, "pack.json"))
        self.agent = Guest(self.tree)
        return self

    def links(self, *pairs):
        """(link, where it leads), as `berm code` notes them while it packs."""
        with open(os.path.join(self.session, "links"), "wb") as f:
            f.write(b"BERMLNK1" + struct.pack("<II", len(pairs), 0))
            for text in (os.fsencode(t) for pair in pairs for t in pair):
                f.write(struct.pack("<H", len(text)) + text)
        return self

    def guest(self):
        """Writes the stream of what self.agent did."""
        path = os.path.join(self.session, "spool.tar")
        with open(path, "wb") as f:
            f.write(self.agent.stream())
        os.chmod(path, 0o400)
        return self

    def review(self, workspace=None):
        return Review(self, workspace)

    def at(self, path):
        return os.path.join(self.tree, path)

    def read(self, path):
        with open(self.at(path), encoding="utf-8") as f:
            return f.read()

    def log(self):
        with open(os.path.join(self.session, "decisions.jsonl"), "rb") as f:
            return f.read()

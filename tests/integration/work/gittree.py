"""A workspace with a repository, what an agent made of it, and the proposal that comes of both."""

import json
import os
import shutil
import stat
import subprocess

import proposal_stream

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
BUILD = os.path.join(TOP, "build/main")
DRIVE = os.path.join(BUILD, "tests/integration/work/gitdrive")
BASETOOL = os.path.join(BUILD, "tests/integration/work/basetool")
UNPACK = os.path.join(BUILD, "src/bin/berm-unpack")
WHO = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.org",
    "GIT_COMMITTER_NAME": "C",
    "GIT_COMMITTER_EMAIL": "c@example.org",
    "LC_ALL": "C",
    "HOME": "/nonexistent",
}


def git(where, *args, data=None, check=True, raw=False):
    env = {"PATH": os.environ["PATH"], **WHO}
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", "-c", "safe.directory=*", *args],
        cwd=where,
        env=env,
        input=data,
        capture_output=True,
        check=False,
    )
    assert not check or done.returncode == 0, f"git {args}: {done.stderr.decode()}"
    if not check:
        return done
    return done.stdout if raw else done.stdout.decode().strip()


def commit(where, message="work", **files):
    for name, content in files.items():
        path = os.path.join(where, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content if isinstance(content, bytes) else content.encode())
    git(where, "add", "-A")
    git(where, "commit", "-q", "-m", message)
    return git(where, "rev-parse", "HEAD")


def mint(where, kind, data):
    """An object that git itself might not make."""
    return git(where, "hash-object", "-w", "-t", kind, "--literally", "--stdin", data=data)


def entry(mode, name, hex_id):
    return mode + b" " + name + b"\0" + bytes.fromhex(hex_id)


def commit_of(where, tree, *parents, author=b"A <a@example.org> 1700000000 +0000"):
    lines = [b"tree " + tree.encode()] + [b"parent " + p.encode() for p in parents]
    lines += [b"author " + author, b"committer C <c@example.org> 1700000000 +0000", b"", b"made by hand\n"]
    return mint(where, "commit", b"\n".join(lines))


def plain_repository(where):
    os.makedirs(where)
    git(where, "init", "-q")
    commit(where, "first", **{"a.txt": "one\n", "dir/b.txt": "two\n", "dir/deep/c": b"\0\1\2" * 99})
    commit(where, "second", **{"a.txt": "one\nmore\n"})
    return where


# -- proposals


def read(path):
    with open(path, "rb") as f:
        return f.read()


def names(path):
    return set(os.listdir(path)) if os.path.isdir(path) and not os.path.islink(path) else set()


def same(one, two):
    a, b = os.lstat(one), os.lstat(two)
    if stat.S_IFMT(a.st_mode) != stat.S_IFMT(b.st_mode) or a.st_mode != b.st_mode:
        return False
    if stat.S_ISLNK(a.st_mode):
        return os.readlink(one) == os.readlink(two)
    return stat.S_ISDIR(a.st_mode) or read(one) == read(two)


def propose(stream, old, new, at=b""):
    """What an overlay's upper layer over `old` holds once it shows `new`."""
    for name in sorted(names(old) | names(new)):
        path = at + b"/" + name if at else name
        before, after = os.path.join(old, name), os.path.join(new, name)
        text = os.fsdecode(path)
        if not os.path.lexists(after):
            stream.whiteout(text)
        elif os.path.isdir(after) and not os.path.islink(after):
            inner = proposal_stream.Stream(root=False)
            propose(inner, before, after, path)
            if inner.entries or not os.path.lexists(before) or not same(before, after):
                stream.dir(text)
                stream.data += inner.data
                stream.entries += inner.entries
        elif not os.path.lexists(before) or not same(before, after):
            if os.path.islink(after):
                stream.link(text, os.readlink(after))
            else:
                stream.file(text, read(after), os.stat(after).st_mode & 0o777)


class Session:
    """Packs `seen` (what the guest is given), whose host side is `root`."""

    def __init__(self, tmp, root, seen=None, git_dir=".git"):
        self.tmp, self.root = str(tmp), str(root)
        self.seen = str(seen or root)
        self.git_dir = git_dir
        self.base = os.path.join(self.tmp, "base")
        self.guest = os.path.join(self.tmp, "guest")
        self.old = os.path.join(self.tmp, "old")
        os.makedirs(self.base)
        subprocess.run([BASETOOL, "pack", self.seen, self.base], check=True, capture_output=True)
        shutil.copytree(self.seen, self.old, symlinks=True)
        shutil.copytree(self.seen, self.guest, symlinks=True)

    def path(self, name):
        return os.path.join(self.tmp, name)

    def walk(self, jailed=False, edit=None):
        stream = proposal_stream.Stream()
        propose(stream, os.fsencode(self.old), os.fsencode(self.guest))
        if edit:
            edit(stream)
        with open(self.path("spool"), "wb") as f:
            f.write(stream.whole())
        args = ["unpack" if jailed else "walk", self.path("spool"), os.path.join(self.base, "base.erofs")]
        args += [self.path("index"), self.path("stream"), self.git_dir, *([UNPACK] if jailed else [])]
        return self.drive(*args)

    @staticmethod
    def drive(*args, data=None):
        return subprocess.run([DRIVE, *args], capture_output=True, check=False, input=data)

    def show(self, root=None):
        done = self.drive("show", self.path("stream"), root or self.root)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def imported(self, name="s1"):
        return self.drive("import", self.path("stream"), self.root, name)

    def back(self, jailed=False):
        """All of it: {branch: id}, {branch: reason}; what is not refused is on the host."""
        done = self.walk(jailed)
        assert done.returncode == 0, done.stderr
        lines = self.show()
        done = self.imported()
        assert done.returncode == 0, done.stderr
        branches = [line for line in lines if "branch" in line]
        taken = {b["branch"]: b["id"] for b in branches if not b["refused"]}
        return taken, {b["branch"]: b["reason"] for b in branches if b["refused"]}


def side_refs(root):
    listed = git(root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/berm/")
    return dict(line.split(" ") for line in listed.splitlines())


def untouched(root):
    """Digestible: all of the git directory that an import may not change, and the working tree."""
    common = os.path.join(root, git(root, "rev-parse", "--git-common-dir"))
    found = {}
    for top in (root, common):
        for folder, folders, files in os.walk(top):
            folders[:] = [f for f in folders if f not in ("objects", "berm")]
            for name in files:
                path = os.path.join(folder, name)
                found[path] = (os.lstat(path).st_mtime_ns, read(path))
    return found


def fsck(root):
    done = git(root, "fsck", "--strict", "--full", "--no-dangling", check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stdout, done.stdout

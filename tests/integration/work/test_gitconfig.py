"""Git configurations against git itself: random files, two readers; and what may enter a guest, read
by git. The seed of a failure is in its message; GITCONFIG_SEED repeats it.
"""

import os
import random
import subprocess

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
PROGRAM = os.path.join(TOP, "build/main/tests/integration/work/gitconfigask")
ROUNDS = 120
PIECES = [b'"', b"\\", b"\\\n", b"\\n", b"\\t", b'\\"', b"\\\\", b" ", b"\t", b"#", b";", b"a", b"B", b"=",
          b"[core]", b"\r", b"\xe9", b"]", b"\n", b"\\q", b"\x0b"]
HEADERS = [b"[core]", b'[remote "o\\"r\\x"]', b"[Branch.Main.x]", b'[a ""]', b"[ core ]", b'[a "b" ]', b"[a b]",
           b"[]", b'[url "https://x/"]', b"[a-1]", b'[a\t"B"]', b"[core", b'[a."b"]']
KEYS = [b"bare", b"Bare", b"fsMonitor", b"a-b", b"1a", b"a_b", b"url"]


def some_value(rng):
    return b"".join(rng.choice(PIECES) for _ in range(rng.randint(0, 6)))


def some_line(rng):
    kind = rng.random()
    if kind < 0.25:
        return rng.choice(HEADERS) + rng.choice([b"", b"", b" ", b" bare = 1", b" # c"])
    if kind < 0.35:
        return rng.choice([b"# c", b"; c", b"", b"  ", b"\t", b"key", b"key  "])
    return b"".join(
        [rng.choice([b"", b"\t", b" "]), rng.choice(KEYS), rng.choice([b"=", b" = ", b" ", b"\t=\t"]), some_value(rng)]
    )


def some_file(rng):
    lines = [b"[core]", *(some_line(rng) for _ in range(rng.randint(0, 5)))]
    text = rng.choice([b"\n", b"\n", b"\n", b"\r\n"]).join(lines)
    return rng.choice([b"", b"", b"", b"\xef\xbb\xbf"]) + text + rng.choice([b"", b"\n"])


def plain_blanks(listed):
    """Git before 2.45 makes a space of every blank within a value."""
    return listed and bytes(0x20 if c in b"\t\r" else c for c in listed)


def gits_list(path):
    done = subprocess.run(["git", "config", "-f", path, "-z", "--list"], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


@pytest.mark.parametrize("number", range(4))
def test_reads_what_git_reads(tmp_path, number):
    seed = int(os.environ.get("GITCONFIG_SEED", number))
    rng = random.Random(seed)
    path = tmp_path / "config"
    for turn in range(ROUNDS):
        text = some_file(rng)
        path.write_bytes(text)
        ours = subprocess.run([PROGRAM, "list", path], capture_output=True, check=False)
        theirs = gits_list(path)
        got = ours.stdout if ours.returncode == 0 else None
        same = plain_blanks(got) == plain_blanks(theirs)
        assert same, f"seed {seed}, turn {turn}: {text!r}: git says {theirs!r}, we {got!r}"


def clean(tmp_path, text, depth=0):
    path = tmp_path / "config"
    path.write_bytes(text)
    done = subprocess.run([PROGRAM, "clean", path, str(depth)], capture_output=True, check=False)
    path.write_bytes(done.stdout)
    return done.returncode, gits_list(path), done.stderr.decode()


def test_what_runs_or_tells_stays_out(tmp_path):
    text = b"""
[core]
	bare = false
	fsmonitor = /tmp/evil
	hooksPath = ../hooks
	sshCommand = "evil"
	worktree = ../../secret
[Core] pager = evil \\
	[user] \\
	bare = true
[filter "lfs"]
	clean = evil %f
[include]
	path = ~/.gitconfig
[credential "https://x.example"]
	helper = store
[remote "origin"]
	url = https://me:hunter2@x.example/a.git
	pushurl = ssh://git:hunter2@x.example/a.git
	uploadpack = evil
	fetch = +refs/heads/*:refs/remotes/origin/*
[remote "up"]
	url = git@x.example:a.git
[remote "bad"]
	url = ext::sh -c evil
[remote "worse"]
	url = --upload-pack=evil
[submodule "m"]
	url = ../m.git
	update = !evil
[alias]
	st = !evil
[gc]
	auto = 0
	recentObjectsHook = evil
[user]
	name = "A \\"B\\" C"
	signingKey = x
"""
    code, left, said = clean(tmp_path, text)
    assert code == 0
    assert left.split(b"\0")[:-1] == [
        b"core.bare\nfalse",
        b"remote.origin.url\nhttps://x.example/a.git",
        b"remote.origin.pushurl\nssh://git@x.example/a.git",
        b"remote.origin.fetch\n+refs/heads/*:refs/remotes/origin/*",
        b"remote.up.url\ngit@x.example:a.git",
        b"submodule.m.url\n../m.git",
        b"gc.auto\n0",
        b'user.name\nA "B" C',
    ]
    for name in ("core.fsmonitor", "core.pager", "filter.lfs.clean", "include.path", "credential.", "alias.st",
                 "gc.recentobjectshook", "core.worktree: a path outside", "remote.bad.url: a URL that names a program"):
        assert name in said, said
    assert "hunter2" not in said


def test_a_module_keeps_its_worktree(tmp_path):
    text = b"[core]\n\tworktree = ../../../lib/m\n"
    assert clean(tmp_path, text, depth=3)[1] == b"core.worktree\n../../../lib/m\0"
    assert clean(tmp_path, text, depth=2)[1] == b""


def test_what_git_cannot_read_does_not_enter(tmp_path):
    code, left, said = clean(tmp_path, b'[core]\n\tbare = false\n[remote "o\n')
    assert (code, left) == (1, b"")
    assert "line 3" in said

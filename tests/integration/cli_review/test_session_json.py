"""Mutations of a valid session.json, field by field and as a text: every verb ends with a right status and a line or a
few, and the tree is as it was or as the session itself would make it, never anything else."""

import json
import os
import random
import shutil
import subprocess

import pytest
from cli_world import ERROR, PENDING, Cli
from test_verbs import snapshot, standard

SAYS_MAX = 4  # lines of an error
SEED = 20240229
STATES = ("packing", "packed", "running", "collecting", "uncollected", "spooled", "pending", "applying", "applied",
          "unchanged", "none", "PENDING", "")
OTHERS = (True, 1.5, -1, 0, 1, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, [], {}, ["x"], {"x": 1}, "", "x", "x" * 70000,
          "\x00", "\x1b[2J", "\ud800", "../../../etc", "/", "2f", "2F", "2f2", "0123456789ab", "ffffffffffff",
          "00" * 4096, "../0123456789ab")


def contents(tree):
    """Bytes, modes and targets, by path: what an apply and its undo bring back, unlike times."""
    return snapshot(tree)


def fields(rng, valid):
    """One field at a time: gone, null, and of the others some; then two at a time."""
    for key in valid:
        yield f"{key} gone", {k: v for k, v in valid.items() if k != key}
        yield f"{key} null", valid | {key: None}
        for value in rng.sample(OTHERS, 3):
            yield f"{key} {value!r:.20}", valid | {key: value}
    for state in STATES:
        yield f"state {state!r}", valid | {"state": state}
    for other in ("0123456789ab", "ffffffffffff", "x"):
        yield f"handed_to {other}", valid | {"handed_to": other, "state": "applied"}
    for _ in range(40):
        one, two = rng.sample(sorted(valid), 2)
        yield f"{one} and {two}", valid | {one: rng.choice(OTHERS), two: rng.choice(OTHERS)}


def texts(rng, valid):
    """Of the text itself."""
    whole = json.dumps(valid).encode()
    for cut in sorted(rng.sample(range(len(whole)), 12)):
        yield f"cut at {cut}", whole[:cut]
    for at in sorted(rng.sample(range(len(whole)), 24)):
        yield f"a byte at {at}", whole[:at] + bytes([rng.randrange(256)]) + whole[at + 1:]
    yield "empty", b""
    yield "no object", b"[]"
    yield "a key twice", whole[:-1] + b', "state": "applied"}'
    yield "something behind it", whole + b"{}"
    yield "a mark in front", b"\xef\xbb\xbf" + whole
    yield "deep", b'{"x": ' + b"[" * 100000 + b"]" * 100000 + b"}"
    yield "large", whole[:-1] + b" " * (16 << 20) + b"}"
    yield "no UTF-8", whole.replace(b"claude", b"cl\xff\xfede")


class World:
    """One session, made once; each mutation has its files anew."""

    def __init__(self, path):
        self.cli = Cli(path)
        self.s = standard(self.cli)
        self.cli.run("diff", self.s.id)
        with open(os.path.join(self.s.session, "session.json"), encoding="ascii") as f:
            self.valid = json.load(f)
        self.kept = os.path.join(self.cli.path, "kept")
        os.rename(self.s.session, self.kept)
        self.before = contents(self.s.tree)
        self.anew(json.dumps(self.valid).encode())
        self.cli.run("apply", "--plain-only", self.s.id, code=PENDING)
        self.after = contents(self.s.tree)
        self.cli.run("undo", self.s.id, code=None)
        assert contents(self.s.tree) == self.before != self.after

    def anew(self, text):
        shutil.rmtree(self.s.session, ignore_errors=True)
        # the base's file is a hole of a TiB with little in it
        subprocess.run(["cp", "-a", "--sparse=always", self.kept, self.s.session], check=True, timeout=60)
        with open(os.path.join(self.s.session, "session.json"), "wb") as f:
            f.write(text)

    def verb(self, name, *words):
        done = self.cli.run(*words, code=None)
        assert done.returncode in (0, PENDING, ERROR), (name, words, done.returncode, done.err)
        assert done.returncode != ERROR or 0 < done.err.count("\n") <= SAYS_MAX, (name, words, done.err)
        assert all(ord(c) >= 32 or c == "\n" for c in done.err), (name, words, done.err)
        return done

    def check(self, name, text):
        session = self.s.id
        self.anew(text)
        listed = self.verb(name, "sessions")
        swept = name in ("state 'packing'", "state 'packed'")  # what a pack that was cut off leaves is nobody's work
        assert listed.returncode == 0 and (session in listed.out or swept), (name, listed.out, listed.err)
        json.loads(self.verb(name, "sessions", "--json").out)
        self.verb(name, "diff", session)
        assert contents(self.s.tree) == self.before, name
        for words in (["review", "--plain-only"], ["apply", "--plain-only"]):
            ended = self.verb(name, *words, session).returncode
            now = contents(self.s.tree)
            assert now in (self.before, self.after), name
            assert ended != ERROR or now == self.before, name
        undone = self.verb(name, "undo", session).returncode
        now = contents(self.s.tree)
        assert now == self.before or (undone == ERROR and now == self.after), name
        self.verb(name, "discard", "--yes", session)
        assert contents(self.s.tree) == now, name
        if now == self.after:  # by hand, for the next one
            self.anew(json.dumps(self.valid).encode())
            self.cli.run("undo", session, code=None)
            assert contents(self.s.tree) == self.before, name


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("mutated"))


@pytest.mark.parametrize("part", range(4))
def test_v17_fields_of_a_session_that_are_others(world, part):
    rng = random.Random(SEED)
    for name, info in list(fields(rng, world.valid))[part::4]:
        world.check(name, json.dumps(info).encode())


def test_v17_the_text_of_a_session_that_is_another(world):
    rng = random.Random(SEED)
    for name, text in texts(rng, world.valid):
        world.check(name, text)

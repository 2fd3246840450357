"""Ignore patterns against git itself: random patterns and trees, two answers (E10). The seed of a
failure is in its message; IGNORE_SEED repeats it.
"""

import os
import random
import subprocess

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
PROGRAM = os.path.join(TOP, "build/main/tests/integration/work/ignoreask")
BYTES = [b"a", b"b", b".", b"-", b"A", b"1", b"]", b"!", b"#", b" ", b"\\", b"\xe9"]
BRACKETS = [b"ab", b"a-z", b"]a", b"[:alpha:]", b"[:digit:]-", b"a-", b"-a", b"\\]", b"[:foo:]", b"[:",
            b"[::]", b"a/b", b"z-a", b"[:upper:]a"]
ROUNDS = 40


def some_name(rng):
    while True:
        name = b"".join(rng.choice(BYTES) for _ in range(rng.randint(1, 4)))
        if name not in (b".", b".."):
            return name


def some_piece(rng):
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(BYTES)
    if kind < 0.7:
        return rng.choice([b"*", b"*", b"**"])
    if kind < 0.8:
        return b"?"
    if kind < 0.85:
        return b"\\" + rng.choice([*BYTES, b"*", b"?", b"["])
    sign, end = rng.choice([b"", b"!", b"^"]), rng.choice([b"]", b"]", b"]", b""])
    return b"[" + sign + rng.choice(BRACKETS) + end


def some_part(rng):
    if rng.random() < 0.2:
        return rng.choice([b"**", b"**", b"***"])
    return b"".join(some_piece(rng) for _ in range(rng.randint(1, 4)))


def some_pattern(rng):
    if rng.random() < 0.05:
        return b"*".join([b"", *[rng.choice(BYTES[:2]) for _ in range(40)]])
    text = b"/".join(some_part(rng) for _ in range(rng.randint(1, 3)))
    for chance, change in (
        (0.2, lambda t: b"/" + t),
        (0.2, lambda t: t + b"/"),
        (0.2, lambda t: b"!" + t),
        (0.1, lambda t: t + b" "),
        (0.05, lambda t: t + b"\r"),
    ):
        if rng.random() < chance:
            text = change(text)
    return text


def some_tree(rng, top):
    paths = []
    for _ in range(12):
        path = b"/".join(some_name(rng) for _ in range(rng.randint(1, 4)))
        full = os.path.join(os.fsencode(top), path)
        try:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            if rng.random() < 0.3:
                os.makedirs(full, exist_ok=True)
                paths.append((b"d", path))
            else:
                with open(full, "xb"):
                    paths.append((b"f", path))
        except OSError:  # a file where a directory would have to be
            continue
    return paths


def gits_answer(top, paths):
    out = subprocess.run(
        ["git", "-C", top, "check-ignore", "-z", "-v", "-n", "--no-index", "--stdin"],
        input=b"".join(path + b"\0" for _, path in paths),
        capture_output=True,
        check=False,
    ).stdout.split(b"\0")[:-1]
    return ["1" if out[i] and not out[i].startswith(b"!") else "0" for i in range(2, len(out), 4)]


def our_answer(patterns, paths):
    return subprocess.run(
        [PROGRAM, patterns],
        input=b"".join(kind + b" " + path + b"\n" for kind, path in paths),
        capture_output=True,
        check=True,
    ).stdout.decode().split()


@pytest.mark.parametrize("number", range(4))
def test_e10_agrees_with_git(tmp_path, number):
    seed = int(os.environ.get("IGNORE_SEED", number))
    rng = random.Random(seed)
    for turn in range(ROUNDS):
        top = tmp_path / str(turn)
        subprocess.run(["git", "init", "-q", top], check=True)
        paths = some_tree(rng, top)
        patterns = [some_pattern(rng) for _ in range(rng.randint(1, 3))]
        patterns += [b"!" + path for _, path in paths[:1] if rng.random() < 0.3]
        if rng.random() < 0.3:
            patterns.insert(0, rng.choice([b"*", b"/*", b"**/a", b"a/**"]))
        excludes = top / ".git/info/exclude"
        excludes.parent.mkdir(exist_ok=True)
        excludes.write_bytes(b"\n".join(patterns) + b"\n")
        theirs, ours = gits_answer(top, paths), our_answer(excludes, paths)
        assert len(theirs) == len(ours) == len(paths)
        differ = [p for p, a, b in zip(paths, theirs, ours) if a != b]
        assert not differ, f"seed {seed}, turn {turn}: {patterns} and {differ}: git says {theirs}"

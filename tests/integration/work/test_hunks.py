"""Where texts differ, by the jailed program, and merges of three, against git's (D9, D10, D25, D26, V2).

Where we merge, git does too and comes to the same text. Git may merge where we see a conflict: it looks for
lines that both sides of an overlap have in common. HUNK_SEED repeats a failure.
"""

import errno
import os
import random
import subprocess
import time

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
MAIN = os.path.join(TOP, "build/main")
DRIVE = os.path.join(MAIN, "tests/integration/work/hunkdrive")
DIFF = os.path.join(MAIN, "src/bin/berm-diff")
ROUNDS = 25


def merge(path, base, host, guest, chosen=None, program=DIFF):
    names = []
    for name, data in (("base", base), ("host", host), ("guest", guest)):
        names.append(path / name)
        names[-1].write_bytes(data)
    argv = [DRIVE, program, *names, *([chosen] if chosen is not None else [])]
    done = subprocess.run(argv, capture_output=True, check=False, timeout=200)
    return done.returncode, done.stdout, done.stderr.decode()


def some_edit(rng, lines):
    lines = list(lines)
    for _ in range(rng.randint(0, 3)):
        at = rng.randrange(len(lines) + 1)
        kind = rng.random()
        if kind < 0.4:
            lines[at:at] = [rng.choice([b"x", b"y", b"a", b""]) + b"\n" for _ in range(rng.randint(1, 2))]
        elif kind < 0.7:
            del lines[at : at + rng.randint(1, 2)]
        elif at < len(lines):
            lines[at] = rng.choice([b"z", b"b", b"\xe9\r"]) + b"\n"
    text = b"".join(lines)
    return text[:-1] if rng.random() < 0.15 else text


@pytest.mark.parametrize("number", range(4))
def test_d9_d10_merges_as_git_does(tmp_path, number):
    seed = int(os.environ.get("HUNK_SEED", number))
    rng = random.Random(seed)
    for turn in range(ROUNDS):
        lines = [rng.choice(b"abcdefgh").to_bytes(1, "big") + b"\n" for _ in range(rng.randint(0, 14))]
        base, host, guest = b"".join(lines), some_edit(rng, lines), some_edit(rng, lines)
        code, text, fates = merge(tmp_path, base, host, guest)
        assert code == 0, fates
        if "C" in fates:
            continue
        git = subprocess.run(["git", "merge-file", "-p", tmp_path / "host", tmp_path / "base", tmp_path / "guest"],
                             capture_output=True, check=False)
        said = f"seed {seed}, turn {turn}: {base!r} {host!r} {guest!r}: {fates}"
        assert git.returncode == 0, said
        assert text == git.stdout, said


def test_v2_two_of_five_hunks_and_exactly_those(tmp_path):
    base = b"".join(b"%d\n-\n-\n-\n" % i for i in range(5))
    guest = base.replace(b"0\n", b"a\n").replace(b"1\n", b"b\n").replace(b"2\n", b"").replace(b"3\n", b"3\n3\n")
    guest = guest.replace(b"4\n", b"e\n")
    code, text, fates = merge(tmp_path, base, base, guest, "01010")
    assert (code, fates) == (0, "-T-T-")
    assert text == base.replace(b"1\n", b"b\n").replace(b"3\n", b"3\n3\n")


def test_d25_a_text_of_twelve_megabytes(tmp_path):
    lines = [b"line %d\n" % i for i in range(1_200_000)]
    base, guest = b"".join(lines), b"".join([*lines[:10], b"new\n", *lines[11:999_000], *lines[999_500:]])
    assert len(base) > 12 << 20
    code, text, fates = merge(tmp_path, base, base, guest)
    assert (code, fates) == (0, "TT")
    assert text == guest


def test_d25_what_is_too_large_or_too_different_is_said(tmp_path):
    base = b"\n" * ((32 << 20) + 1)
    code, _, said = merge(tmp_path, base, base, base)
    assert code == 2
    assert "over 32 MiB" in said or str(errno.EFBIG) in said
    base = b"".join(b"%d\n-\n" % i for i in range(70_000))
    guest = b"".join(b"x%d\n-\n" % i for i in range(70_000))
    code, _, said = merge(tmp_path, base, base, guest)
    assert code == 2
    assert said.startswith(f"{errno.E2BIG} ")


def test_a_program_that_lies_or_hangs_or_dies(tmp_path):
    lie = tmp_path / "lie"
    lie.write_text("#!/bin/sh\nprintf '\\0\\0\\0\\0' >&5\n")
    die = tmp_path / "die"
    die.write_text("#!/bin/sh\nkill -SEGV $$\n")
    for program in (lie, die):
        program.chmod(0o755)
    code, _, said = merge(tmp_path, b"a\n", b"a\n", b"b\n", program=lie)
    assert (code, said) == (2, f"{errno.EBADMSG} the comparison does not describe the two texts\n")
    code, _, said = merge(tmp_path, b"a\n", b"a\n", b"b\n", program=die)
    assert code == 2
    assert said.startswith(f"{errno.ECANCELED} ")


def test_texts_made_to_be_slow_end(tmp_path):
    rng = random.Random(1)
    base = b"".join(rng.choice([b"a\n", b"b\n", b"c\n"]) for _ in range(200_000))
    guest = b"".join(rng.choice([b"a\n", b"b\n", b"c\n"]) for _ in range(200_000))
    began = time.monotonic()
    code, _, said = merge(tmp_path, base, base, guest)
    assert code in (0, 2), said
    assert time.monotonic() - began < 180

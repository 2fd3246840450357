"""examples/: each is short, builds as the manual says, and does what it says."""

import os
import re
import subprocess

import apitest
import bermtest
import pytest

LINES_MAX = 60


@pytest.fixture
def example(berm, stage, tmp_path):
    """Builds and runs one with nothing but its state directory in the environment."""

    def run(name):
        source = os.path.join(apitest.EXAMPLES, f"{name}.c")
        program = apitest.build(stage, source, tmp_path / name)
        return subprocess.run(
            [program],
            env={"BERM_STATE_DIR": berm.state_dir},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=bermtest.RUN_SECONDS_MAX,
            check=False,
        )

    return run


def test_each_is_short():
    for name in os.listdir(apitest.EXAMPLES):
        with open(os.path.join(apitest.EXAMPLES, name), encoding="utf-8") as f:
            assert len(f.readlines()) < LINES_MAX, name


def test_hello(example):
    got = example("hello")
    assert got.returncode == 0, got.stderr
    assert got.stderr == ""
    assert re.fullmatch(
        r"hello from sandbox\nit exited with 0 after \d+ ms\n", got.stdout
    ), got.stdout


def test_eight(example):
    got = example("eight")
    assert got.returncode == 0, got.stderr
    lines = got.stdout.splitlines()
    assert len(lines) == len(set(lines)) == 8, got.stdout
    assert all(re.fullmatch(r"([0-9a-f]{12}): I am on \1", line) for line in lines), lines


def test_fork(example):
    got = example("fork")
    assert got.returncode == 0, got.stderr
    lines = got.stdout.splitlines()
    assert len({line.split(":")[0] for line in lines}) == 10, "ten sandboxes of their own"
    answers = [line.split(": ")[1] for line in lines]
    assert answers == [f"the square of {n} is {n * n}" for n in range(100, 110)]

"""Reviews that are killed: between an apply and what is written down of it, and at any moment (K1)."""

import os
import random
import threading

import pytest
from review_world import DONE, tree_of


def test_k1_killed_between_apply_and_what_is_written_down(world):
    g = world.agent.file("src/text", "x").renamed("old", "older").gone("keep").file("a/b", "y").link("link", "z")
    g.file("docs/long", "".join(f"{n}\n" for n in [0, *range(2, 100), 1000]))
    world.guest()
    world.host("sed -i s/five/FIVE/ src/text")
    with world.review() as r:
        r.ask("all", "plain", "accept")
        r.accept("src/text")
        r.ask("hunks", "docs/long", "10")
        r.ask("die", "1")
        with pytest.raises(EOFError):
            r.apply()
    assert world.read("docs/long").startswith("0\n2\n")
    with world.review() as r:
        assert [i for i in r.items() if not i["flags"] & DONE] == []
        assert r.apply()["end"] == "nothing"
        assert all(i["flags"] & DONE for i in r.items())
        assert r.undo()["back"] == 0
        assert r.totals()["done"] == 0
        assert r.totals()["undecided"] == len(r.items())


@pytest.mark.parametrize("number", range(4))
def test_k1_killed_at_any_moment_it_is_all_or_nothing(world, number):
    rng = random.Random(int(os.environ.get("REVIEW_SEED", number)))
    for n in range(150):
        world.agent.file(f"new/f{n}", f"{n}")
    world.agent.renamed("old", "older").file("older/a", "edited").gone("keep").file("src/text", "x")
    world.guest()
    before = tree_of(world.tree)
    with world.review() as r:
        r.ask("all", "plain", "accept")
        timer = threading.Timer(rng.random() * 0.1, r.process.kill)
        timer.start()
        try:
            r.apply()
        except (EOFError, BrokenPipeError):
            pass
        timer.join()
    with world.review() as r:
        assert not os.path.exists(world.at(".berm-stage-0123456789ab"))
        done = r.totals()["done"]
        if done == 0:
            assert tree_of(world.tree) == before
            assert r.totals()["accepted"] == len(r.items())
        else:
            assert done == len(r.items())
        r.apply()
        assert world.read("older/a") == "edited"
        assert len(os.listdir(world.at("new"))) == 150
        assert r.undo()["back"] == 0
        assert tree_of(world.tree) == before


def test_k1_killed_while_undoing(world):
    world.agent.file("src/text", "x").file("new", "n")
    world.guest()
    with world.review() as r:
        r.ask("all", "plain", "accept")
        r.apply()
        r.ask("die", "1")
        with pytest.raises(EOFError):
            r.undo()
    with world.review() as r:
        assert r.totals()["done"] == 0
        assert r.totals()["undecided"] == 2
    assert world.read("src/text").startswith("one")

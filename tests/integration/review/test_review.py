"""A review without a guest and without a terminal: what is shown, decided and applied."""

import errno
import hashlib
import os
import shutil
import stat
import time

import pytest
from review_world import CONSENT, DONE, NEEDS, REDECIDE, STAYS, TEXT, TREE, Refused, World, tree_of
from gittree import commit, git, untouched  # review_world says where it is

def test_p1_everything_in_one_apply(world):
    g = world.agent
    g.file("src/text", "one\ntwo\nTHREE\nfour\nfive\n").file("new/deep/file", "new\n").gone("keep")
    g.file("docs/long", "".join(f"{n}\n" for n in range(1, 101)), 0o755).link("link", "docs/long")
    g.renamed("old", "older")
    world.guest()
    with world.review() as r:
        assert r.of("plain") == ["keep", "link", "new", "new/deep", "new/deep/file", "older", "src/text"]
        assert r.of("X3") == ["docs/long"]
        assert r.totals()["undecided"] == 8
        r.ask("all", "plain", "accept")
        r.accept("docs/long")
        out = r.apply()
        assert (out["end"], out["items"], out["back"]) == ("done", 8, 0)
        assert all(i["flags"] & DONE for i in r.items())
        assert r.totals()["done"] == len(r.items())
    assert world.read("src/text") == "one\ntwo\nTHREE\nfour\nfive\n"
    assert world.read("new/deep/file") == "new\n"
    assert not os.path.exists(world.at("keep"))
    assert os.readlink(world.at("link")) == "docs/long"
    assert os.stat(world.at("docs/long")).st_mode & 0o777 == 0o755
    assert sorted(os.listdir(world.tree)) == [".vscode", "docs", "link", "new", "older", "src"]
    with world.review() as r:
        assert r.totals()["undecided"] == 0


def test_v2_two_of_five_hunks_land_and_exactly_those(world):
    lines = [str(n) for n in range(1, 101)]
    for n in (5, 25, 45, 65, 85):
        lines[n - 1] = f"changed {n}"
    world.agent.file("docs/long", "\n".join(lines) + "\n")
    world.guest()
    with world.review() as r:
        assert r.ask("texts", "docs/long") == [
            {"hunks": 5, "conflicts": 0, "host": False, "fates": "TTTTT"}]
        r.ask("hunks", "docs/long", "01010")
        assert r.item("docs/long")["choice"] == "hunks"
    with world.review() as r:
        assert r.item("docs/long")["hunks"] == "01010"
        assert r.apply()["items"] == 1
    want = [str(n) for n in range(1, 101)]
    want[24], want[64] = "changed 25", "changed 65"
    assert world.read("docs/long") == "\n".join(want) + "\n"


def test_v2_all_hunks_are_acceptance_and_none_rejection(world):
    world.agent.file("src/text", "ONE\ntwo\nthree\nfour\nFIVE\n")
    world.guest()
    with world.review() as r:
        r.ask("hunks", "src/text", "11")
        assert r.item("src/text")["choice"] == "accept"
        r.ask("hunks", "src/text", "00")
        assert r.item("src/text")["choice"] == "reject"


def test_v3_accepting_all_leaves_x0_undecided(world):
    world.agent.file(".envrc", "evil").file(".vscode/tasks.json", "{}").file("src/a", "a")
    world.agent.file("Makefile", "all:").file("sub/.claude/settings.json", "{}")
    world.guest()
    with world.review() as r:
        for section in ("X1", "X2", "X3", "X4", "plain", "ignored"):
            r.ask("all", section, "accept")
        for section in ("X0", "conflicts"):
            with pytest.raises(Refused) as why:
                r.ask("all", section, "accept")
            assert why.value.args[0] == errno.EPERM
        x0 = [".envrc", ".vscode/tasks.json", "sub/.claude", "sub/.claude/settings.json"]
        assert r.of("X0") == x0
        assert all(r.item(path)["choice"] == "undecided" for path in x0)
        r.apply()
        assert r.totals()["undecided"] == 4
    assert not os.path.exists(world.at(".envrc"))
    assert world.read("Makefile") == "all:"


def test_v3_x0_is_taken_with_its_path_typed(world):
    world.agent.file(".envrc\n", "x").file(".envrc", "evil")
    world.guest()
    with world.review() as r:
        for typed in ("", "y", ".envrc ", ".ENVRC"):
            with pytest.raises(Refused) as why:
                r.ask("accept", ".envrc", typed)
            assert why.value.args[0] == errno.EPERM
        assert r.item(".envrc")["choice"] == "undecided"
        r.ask("accept", ".envrc", ".envrc")
        r.apply()
    assert world.read(".envrc") == "evil"


def test_v6_decisions_are_there_after_a_break(world):
    world.agent.file("src/text", "x").gone("keep").file("new", "n").file("Makefile", "all:")
    world.guest()
    with world.review() as r:
        r.accept("src/text", "Makefile")
        r.ask("reject", "keep")
        r.process.kill()
    with world.review() as r:
        got = {p: i["choice"] for p, i in r.by_path().items()}
        assert got == {"src/text": "accept", "Makefile": "accept", "keep": "reject", "new": "undecided"}
        assert not any(i["flags"] & REDECIDE for i in r.items())


def test_v6_a_torn_last_line_is_passed_over_and_cut_off(world):
    world.agent.file("src/text", "x").file("new", "n")
    world.guest()
    with world.review() as r:
        r.accept("src/text")
    path = os.path.join(world.session, "decisions.jsonl")
    whole = world.log()
    with open(path, "ab") as f:
        f.write(b'{"path":"new","side":"here","cho')
    with world.review() as r:
        assert r.item("new")["choice"] == "undecided"
        assert r.item("src/text")["choice"] == "accept"
        r.ask("reject", "new")
    assert world.log().startswith(whole + b'{"path":"new","side":"here","choice":"reject"')
    with world.review() as r:
        assert r.item("new")["choice"] == "reject"


@pytest.mark.parametrize("damage", [b"rubbish\n", b"\n", b'{"path":"../x","side":"here"}\n'])
def test_v6_a_wrong_line_is_named_and_not_dropped(world, damage):
    world.agent.file("src/text", "x").file("new", "n")
    world.guest()
    with world.review() as r:
        r.accept("src/text")
        r.accept("new")
    lines = world.log().splitlines(True)
    with open(os.path.join(world.session, "decisions.jsonl"), "wb") as f:
        f.write(lines[0] + lines[1] + damage + lines[2])
    with pytest.raises(Refused) as why:
        world.review()
    assert why.value.args[0] == errno.EBADMSG
    assert "line 3 of its decisions" in why.value.args[1]
    assert os.path.join(world.session, "decisions.jsonl") in why.value.args[1]


def test_v8_reject_change_ones_mind_accept(world):
    world.agent.file("src/text", "x")
    world.guest()
    with world.review() as r:
        r.ask("reject", "src/text")
        assert r.apply()["end"] == "nothing"
        assert world.read("src/text").startswith("one")
        r.ask("undecide", "src/text")
        assert r.totals()["undecided"] == 1
        r.accept("src/text")
        assert r.apply()["items"] == 1
    assert world.read("src/text") == "x"


def test_v16_a_stream_of_partial_work_is_reviewed_like_any(world):
    world.agent.file("src/half", "not fin")
    world.guest()
    with world.review() as r:
        assert r.of("plain") == ["src/half"]


def test_d24_binaries_by_size_and_digest(world):
    world.host("printf 'a\\0host' > bin")
    world.pack()
    world.agent.file("bin", "b\0guest")
    world.guest()
    world.host("printf 'c\\0edited' > bin")
    with world.review() as r:
        assert r.item("bin")["section"] == "conflicts"
        assert not r.item("bin")["flags"] & TEXT
        for side, content in (("base", b"a\0host"), ("host", b"c\0edited"), ("guest", b"b\0guest")):
            assert r.ask("digest", "bin", side) == [{"digest": hashlib.sha256(content).hexdigest()}]
        with pytest.raises(Refused) as why:
            r.ask("texts", "bin")
        assert why.value.args[0] == errno.EINVAL
        world.host("printf 'd\\0again' > bin")
        with pytest.raises(Refused) as why:
            r.ask("digest", "bin", "host")
        assert why.value.args[0] == errno.ESTALE


# -- what did not enter ----------------------------------------------------------------------------


def test_e5_a_hidden_file_of_the_host_is_kept_by_default(tmp_path):
    w = World(tmp_path).host("echo secret > .netrc; echo x > f; echo y > Makefile").pack("--skip", ".netrc", "--skip",
                                                                                         "Makefile")
    w.agent.file(".netrc", "the agent's").file("f", "y").file("Makefile", "all:")
    w.guest()
    with w.review() as r:
        for path in (".netrc", "Makefile"):  # what a build would run is no less one
            it = r.item(path)
            assert (it["section"], it["state"]) == ("conflicts", "conflict")
            assert "did not enter" in it["reason"]
        r.ask("all", "plain", "accept")
        assert r.apply()["items"] == 1
        assert w.read(".netrc") == "secret\n"
        r.ask("accept", ".netrc")
        assert r.apply()["items"] == 1
    assert w.read(".netrc") == "the agent's"


def test_e6_a_directory_with_a_hidden_file_survives_its_removal(tmp_path):
    w = World(tmp_path).host("mkdir d; echo secret > d/.env; echo x > d/f").pack("--skip", ".env")
    w.agent.gone("d")
    w.guest()
    with w.review() as r:
        assert r.item("d")["change_flags"] & 4
        assert "d/.env" not in r.by_path()
        r.ask("all", "plain", "accept")
        said = r.ask("apply", "all")
        assert {"said": "d", "word": STAYS} in said
        assert r.totals()["undecided"] == 0
    assert w.read("d/.env") == "secret\n"
    assert os.listdir(w.at("d")) == [".env"]


def test_e7_a_directory_of_the_cost_tier_does_not_return(tmp_path):
    w = World(tmp_path).host("mkdir node_modules src; echo mine > node_modules/m").pack("--skip", "cost:node_modules")
    w.agent.file("node_modules/m", "theirs").file("node_modules/new/p", "p").file("src/node_modules/x", "other")
    w.guest()
    with w.review() as r:
        assert r.of("out") == ["node_modules", "node_modules/m", "node_modules/new", "node_modules/new/p"]
        assert all("made again" in r.item(path)["reason"] for path in r.of("out"))
        assert r.of("plain") == ["src/node_modules", "src/node_modules/x"]
        r.ask("all", "plain", "accept")
        r.apply()
    assert os.listdir(w.at("node_modules")) == ["m"]
    assert w.read("node_modules/m") == "mine\n"


def test_e8_ignored_outputs_have_a_section_of_their_own(tmp_path):
    w = World(tmp_path).host("printf '*.log\\n/out/\\n!keep.log\\n' > .gitignore; mkdir sub;"
                             " printf 'gen\\n' > sub/.gitignore").pack()
    w.agent.file("out/a", "1").file("out/keep.log", "2").file("x.log", "3").file("keep.log", "4").file("sub/gen", "5")
    w.agent.file("sub/out/b", "6").file("gen", "7").file("out/.envrc", "8").file("out/run", "#!/bin/sh\n", 0o755)
    # what an agent writes into a .gitignore hides nothing
    w.agent.file("sub/.gitignore", "*\n").file("sub/other", "9")
    w.guest()
    with w.review() as r:
        assert r.of("ignored") == ["out", "out/a", "out/keep.log", "out/run", "sub/gen", "x.log"]
        assert r.of("X0") == ["out/.envrc"]
        assert r.of("plain") == ["gen", "keep.log", "sub/.gitignore", "sub/other", "sub/out", "sub/out/b"]
        r.ask("all", "plain", "accept")
        r.apply()
        assert not os.path.exists(w.at("out"))
        r.ask("all", "ignored", "accept", "out")
        r.apply()
    assert w.read("out/a") == "1"
    assert not os.path.exists(w.at("x.log"))


def test_e9_a_bermignore_hides_nothing_from_review(tmp_path):
    w = World(tmp_path).host("printf '*\\n' > .bermignore; echo x > f").pack("--skip", "f")
    w.agent.file("new", "n").file("f", "mine").file(".bermignore", "**\n")
    w.guest()
    with w.review() as r:
        assert set(r.by_path()) == {"new", "f", ".bermignore"}
        assert r.item("f")["section"] == "conflicts"


# -- conflicts and merges -------------------------------------------------------------------------


def test_d9_disjoint_edits_are_merged_as_they_were_shown(world):
    world.agent.file("src/text", "ONE\ntwo\nthree\nfour\nfive\n")
    world.guest()
    world.host("sed -i s/five/FIVE/ src/text")
    with world.review() as r:
        assert r.item("src/text")["section"] == "conflicts"
        assert r.ask("texts", "src/text") == [{"hunks": 1, "conflicts": 0, "host": True, "fates": "T"}]
        r.accept("src/text")
        assert r.apply()["items"] == 1
        assert r.item("src/text")["flags"] & DONE
    assert world.read("src/text") == "ONE\ntwo\nthree\nfour\nFIVE\n"
    with world.review() as r:
        assert r.totals()["undecided"] == 0


def test_p2_a_merge_is_what_was_shown_or_returns(world):
    world.agent.file("src/text", "ONE\ntwo\nthree\nfour\nfive\n").file("docs/long", "0\n")
    world.guest()
    world.host("sed -i s/five/FIVE/ src/text")
    with world.review() as r:
        r.accept("src/text", "docs/long")
        world.host("echo more >> src/text")
        out = r.apply("rest")
        assert (out["items"], out["back"]) == (1, 1)
        it = r.item("src/text")
        assert (it["choice"], bool(it["flags"] & REDECIDE)) == ("undecided", True)
        assert world.read("src/text").startswith("one\n")
        r.accept("src/text")
        assert r.apply()["items"] == 1
    assert world.read("src/text") == "ONE\ntwo\nthree\nfour\nFIVE\nmore\n"


def test_a_spool_that_was_changed_is_not_applied(world):
    world.agent.file("src/text", "what was shown").file("new", "n")
    world.guest()
    path = os.path.join(world.session, "spool.tar")
    with world.review() as r:
        r.accept("src/text", "new")
        os.chmod(path, 0o600)
        with open(path, "r+b") as f:
            f.seek(f.read().index(b"what was shown"))
            f.write(b"what was never")
        with pytest.raises(Refused) as why:
            r.apply()
        assert why.value.args[0] == errno.EBADMSG
        assert "src/text" in why.value.args[1]
    assert not os.path.exists(world.at("new"))


def test_d10_overlapping_edits_are_one_or_the_other(world):
    world.agent.file("src/text", "ONE\ntwo\nthree\nfour\nFIVE\n")
    world.guest()
    world.host("sed -i s/one/1/ src/text")
    with world.review() as r:
        assert r.ask("texts", "src/text")[0]["fates"] == "CT"
        r.ask("hunks", "src/text", "01")
        r.apply()
        assert world.read("src/text") == "1\ntwo\nthree\nfour\nFIVE\n"
        assert r.undo()["items"] == 1
        assert world.read("src/text") == "1\ntwo\nthree\nfour\nfive\n"
        r.accept("src/text")
        r.apply()
    assert world.read("src/text") == "ONE\ntwo\nthree\nfour\nFIVE\n"


def test_d7_deleted_here_and_edited_there_comes_back_if_wanted(world):
    world.agent.file("src/text", "x")
    world.guest()
    world.host("rm -r src")
    with world.review() as r:
        assert r.item("src/text")["section"] == "conflicts"
        r.accept("src/text")
        assert r.apply()["items"] == 1
    assert world.read("src/text") == "x"


def test_d13_a_directory_that_the_host_renamed(world):
    world.agent.file("old/a", "x").renamed("docs", "papers")
    world.guest()
    world.host("mv old moved; mkdir papers")
    with world.review() as r:
        assert r.of("conflicts") == ["old/a", "papers"]
        with pytest.raises(Refused) as why:
            r.accept("papers")
        assert why.value.args[0] == errno.EPERM
        r.ask("reject", "papers")
        r.ask("reject", "old/a")
        assert r.apply()["end"] == "nothing"
        assert r.totals()["undecided"] == 0


# -- needs ----------------------------------------------------------------------------------------


def test_needs_bring_their_directories_along(world):
    world.agent.file("a/b/c", "x").file("a/other", "y").renamed("old", "older").file("older/a", "edited")
    world.guest()
    with world.review() as r:
        r.accept("a/b/c", "older/a")
        assert not any(i["flags"] & NEEDS for i in r.items())
        out = r.apply()
        assert (out["items"], out["needs"]) == (5, 0)
        assert {p for p, i in r.by_path().items() if i["flags"] & DONE} == {"a", "a/b", "a/b/c", "older", "older/a"}
    assert world.read("a/b/c") == "x"
    assert world.read("older/a") == "edited"
    assert not os.path.exists(world.at("a/other"))


def test_needs_that_were_rejected_keep_what_needs_them(world):
    world.agent.file("a/b/c", "x").renamed("old", "older").file("older/a", "edited")
    world.guest()
    with world.review() as r:
        r.accept("a/b/c", "older/a")
        r.ask("reject", "a")
        r.ask("reject", "older")
        assert {p for p, i in r.by_path().items() if i["flags"] & NEEDS} == {"a/b/c", "older/a"}
        out = r.apply()
        assert (out["end"], out["items"], out["needs"]) == ("nothing", 0, 2)
        r.accept("older")
        assert {p for p, i in r.by_path().items() if i["flags"] & NEEDS} == {"a/b/c"}
        assert r.apply()["items"] == 2
    assert world.read("older/a") == "edited"


def test_a_rename_first_and_the_edits_in_it_later(world):
    world.agent.renamed("old", "older").file("older/a", "edited").gone("older/b").file("older/new", "n")
    world.guest()
    with world.review() as r:
        r.accept("older")
        assert r.apply()["items"] == 1
        assert {p: i["section"] for p, i in r.by_path().items()} == {
            "older": "plain", "older/a": "plain", "older/b": "plain", "older/new": "plain"}
        assert r.totals()["undecided"] == 3
    with world.review() as r:
        assert r.item("older")["flags"] & DONE
        r.ask("all", "plain", "accept")
        assert r.apply()["items"] == 3
    assert world.read("older/a") == "edited"
    assert sorted(os.listdir(world.at("older"))) == ["a", "new"]


# -- the host moves on ----------------------------------------------------------------------------


def test_p2_changed_between_review_and_apply(world):
    world.agent.file("src/text", "x").file("new", "n")
    world.guest()
    with world.review() as r:
        r.accept("src/text", "new")
        world.host("echo host > src/text")
        out = r.apply()
        assert (out["end"], out["items"], out["back"]) == ("returned", 0, 1)
        it = r.item("src/text")
        assert (it["section"], it["choice"]) == ("conflicts", "undecided")
        assert it["flags"] & REDECIDE
        assert world.read("src/text") == "host\n"
        assert not os.path.exists(world.at("new"))
        assert r.apply()["items"] == 1
    assert world.read("new") == "n"


def test_p2_the_rest_is_applied_if_wanted(world):
    world.agent.file("src/text", "x").file("new", "n")
    world.guest()
    with world.review() as r:
        r.accept("src/text", "new")
        world.host("echo host > src/text")
        out = r.apply("rest")
        assert (out["end"], out["items"], out["back"]) == ("done", 1, 1)
        assert r.item("src/text")["flags"] & REDECIDE
    assert world.read("new") == "n"


def test_p2_changed_after_the_review_was_closed(world):
    world.agent.file("src/text", "x").gone("keep")
    world.guest()
    with world.review() as r:
        r.accept("src/text", "keep")
    world.host("echo host >> src/text; touch keep")
    with world.review() as r:
        it = r.item("src/text")
        assert (it["section"], it["choice"], bool(it["flags"] & REDECIDE)) == ("conflicts", "undecided", True)
        assert r.item("keep")["choice"] == "accept"  # touched, no more
        assert r.totals()["host_changes"] == 1


def test_p9_what_the_host_added_keeps_its_directory(world):
    world.agent.gone("old")
    world.guest()
    with world.review() as r:
        r.ask("all", "plain", "accept")
        world.host("echo mine > old/mine")
        said = r.ask("apply", "all")
        assert {"said": "old", "word": STAYS} in said
    assert os.listdir(world.at("old")) == ["mine"]


def test_p10_a_second_apply_does_nothing(world):
    world.agent.file("src/text", "x").renamed("old", "older").gone("keep").file("a/b", "y", 0o755)
    world.guest()
    with world.review() as r:
        for section in ("plain", "X3"):
            r.ask("all", section, "accept")
        assert r.apply()["end"] == "done"
        out = r.apply()
        assert (out["end"], out["items"], out["back"]) == ("nothing", 0, 0)
    with world.review() as r:
        assert r.apply()["end"] == "nothing"


def test_p11_another_directory_in_its_place(world):
    world.agent.file("src/text", "x")
    world.guest()
    os.rename(world.tree, world.tree + ".was")
    os.mkdir(world.tree)
    with pytest.raises(Refused) as why:
        world.review(world.tree + ".was")
    assert why.value.args[0] == errno.ESTALE


def test_p12_undo_restores_and_can_be_decided_anew(world):
    before = tree_of(world.tree)
    g = world.agent.file("src/text", "x").renamed("old", "older").gone("keep").file("a/b", "y", 0o755)
    g.link("link", "elsewhere").file("older/a", "edited")
    world.guest()
    with world.review() as r:
        for section in ("plain", "X3"):
            r.ask("all", section, "accept")
        assert r.apply()["items"] == 7
        out = r.undo()
        assert (out["end"], out["items"], out["back"]) == ("done", 7, 0)
        assert tree_of(world.tree) == before
        assert r.totals()["undecided"] == 7
        assert r.totals()["done"] == 0
        with pytest.raises(Refused) as why:
            r.undo()
        assert why.value.args[0] == errno.ENOENT
        r.ask("all", "plain", "accept")
        assert r.apply()["items"] > 0
    assert world.read("older/a") == "edited"


def test_p12_undo_of_a_directory_that_nobody_may_write(world):
    before = tree_of(world.tree)
    world.agent.dir("keep", mode=0o555).file("keep/in", "x").dir("new", mode=0o555).file("new/in", "x")
    world.guest()
    with world.review() as r:
        r.ask("all", "plain", "accept")
        assert r.apply()["items"] == 4
        assert stat.S_IMODE(os.stat(world.at("keep")).st_mode) == 0o555
        assert r.undo()["back"] == 0
        assert tree_of(world.tree) == before


def test_p12_undo_leaves_what_was_edited_since(world):
    world.agent.file("src/text", "x").file("new", "n")
    world.guest()
    with world.review() as r:
        r.ask("all", "plain", "accept")
        r.apply()
        world.host("echo more >> src/text")
        assert r.undo()["end"] == "returned"
        assert world.read("src/text") == "xmore\n"
        out = r.undo("rest")
        assert (out["items"], out["back"]) == (1, 1)
        assert r.item("src/text")["flags"] & DONE
        assert r.item("new")["choice"] == "undecided"
    assert not os.path.exists(world.at("new"))


def test_p12_an_edit_after_an_apply_is_the_hosts_own(world):
    world.agent.file("src/text", "x")
    world.guest()
    with world.review() as r:
        r.accept("src/text")
        r.apply()
    world.host("echo more >> src/text")
    with world.review() as r:
        assert r.item("src/text")["flags"] & DONE
        assert r.totals()["undecided"] == 0


def test_p13_the_first_sessions_result_is_a_host_edit_for_the_second(tmp_path):
    first = World(tmp_path).host(TREE)
    first.pack()
    second = World(tmp_path)
    second.session = os.path.join(second.path, "second")
    os.mkdir(second.session)
    second.pack()
    first.agent.file("src/text", "ONE\ntwo\nthree\nfour\nfive\n").file("new", "same").gone("keep")
    second.agent.file("src/text", "one\ntwo\nthree\nfour\nFIVE\n").file("new", "same").file("keep", "edited")
    first.guest()
    second.guest()
    with first.review() as r:
        r.ask("all", "plain", "accept")
        assert r.apply()["items"] == 3
    with second.review() as r:
        assert r.item("new")["section"] == "there"
        assert r.of("conflicts") == ["keep", "src/text"]
        r.accept("src/text")
        r.ask("reject", "keep")
        assert r.apply()["items"] == 1
    assert first.read("src/text") == "ONE\ntwo\nthree\nfour\nFIVE\n"


def test_p7_hard_links_part_only_with_consent(tmp_path):
    w = World(tmp_path).host("echo x > a; ln a b").pack()
    w.agent.file("a", "edited")
    w.guest()
    with w.review() as r:
        r.accept("a")
        out = r.apply()
        assert (out["end"], out["back"]) == ("returned", 1)
        r.ask("links", "a")
        r.accept("a")
        assert r.item("a")["flags"] & CONSENT
        assert r.apply()["items"] == 1
    assert (w.read("a"), w.read("b")) == ("edited", "x\n")


# -- large proposals ------------------------------------------------------------------------------


def test_v13_fifty_thousand_paths(tmp_path):
    w = World(tmp_path).host("mkdir src; echo x > src/f").pack()
    for d in range(100):
        for f in range(500):
            w.agent.file(f"out/d{d}/f{f}", "x")
    w.guest()
    with w.review() as r:
        began = time.monotonic()
        r.ask("reopen")
        opened = time.monotonic() - began
        began = time.monotonic()
        assert r.ask("all", "plain", "accept", "out/d7") == [{"count": 501}]
        assert r.ask("all", "plain", "accept")[0]["count"] == 50101 - 501
        decided = time.monotonic() - began
        assert r.totals()["accepted"] == 50101
        print(f"opened {opened:.2f} s, decided {decided:.2f} s")
        slow = float(os.environ.get("BERM_TEST_SLOWNESS", "1"))
        assert opened < 30 * slow
        assert decided < 30 * slow
    with w.review() as r:
        assert r.totals()["accepted"] == 50101


# -- commits --------------------------------------------------------------------------------------


def repository(world):
    """The world's tree as a repository with one commit, packed; and a copy for the agent to work in."""
    git(world.tree, "init", "-q")
    for n in range(10):
        world.host(f"echo line > src/file{n}")
    commit(world.tree, "first")
    world.pack()
    copy = os.path.join(world.path, "copy")
    shutil.copytree(world.tree, copy, symlinks=True)
    return copy


def send_copy(world, copy):
    """What the agent made of its copy, as an upper layer without renamings."""
    was, now = tree_of(world.tree), tree_of(copy)
    for path, (mode, what) in now.items():
        if was.get(path) == (mode, what):
            continue
        if stat.S_ISDIR(mode):
            world.agent.dir(path, mode=stat.S_IMODE(mode))
        elif stat.S_ISLNK(mode):
            world.agent.link(path, what)
        else:
            world.agent.file(path, what, stat.S_IMODE(mode))
    for path in was:
        if path not in now and os.path.dirname(path) in ("", *now):
            world.agent.gone(path)
    return world.guest()


def git_files(world):
    return {path: what for path, what in untouched(world.tree).items() if "/.git/" in path}


def test_p14_p16_commits_arrive_and_git_directories_do_not(world):
    copy = repository(world)
    for n in range(10):
        with open(os.path.join(copy, f"src/file{n}"), "a", encoding="ascii") as f:
            f.write("agent\n")
    head = commit(copy, "the agent's work", **{".envrc": "evil", ".vscode/tasks.json": "{}"})
    os.unlink(os.path.join(copy, "keep"))
    with open(os.path.join(copy, ".git/hooks/post-checkout"), "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nevil\n")
    git(copy, "config", "core.fsmonitor", "evil")
    send_copy(world, copy)
    world.host("sed -i 1ihost src/text")
    before = git_files(world)
    with world.review() as r:
        assert r.of("X0") == [".envrc", ".vscode/tasks.json"]
        assert r.of("plain") == ["keep", *[f"src/file{n}" for n in range(10)]]
        out = r.of("out")
        assert out and all(p == ".git" or p.startswith(".git/") for p in out)
        assert ".git/hooks/post-checkout" in out and ".git/config" in out
        assert r.ask("commits") == [{"why": "", "any": True}, {"message": "the agent's work\n"}]
        r.ask("all", "plain", "accept")
        said = r.apply()
        assert (said["items"], said["refs"], said["commits_error"]) == (11, 1, "")
        assert r.totals()["undecided"] == 2
    assert git_files(world) == before
    assert git(world.tree, "rev-parse", "refs/berm/0123456789ab/main") == head
    assert world.read("src/file3") == "line\nagent\n"
    assert world.read("src/text").startswith("host\none\n")
    assert not os.path.exists(world.at(".envrc"))
    assert not os.path.exists(world.at(".git/hooks/post-checkout"))
    git(world.tree, "fsck", "--strict")


def test_p14_a_workspace_without_a_repository_says_so(world):
    copy = repository(world)
    commit(copy, "work", **{"src/new": "n"})
    send_copy(world, copy)
    world.host("rm -rf .git")
    with world.review() as r:
        (said,) = r.ask("commits")
        assert said["any"] is False and said["why"]
        r.ask("all", "plain", "accept")
        out = r.apply()
        assert out["commits_error"] and out["items"] == 1


def test_no_repository_has_no_commits(world):
    world.agent.file("src/text", "x")
    world.guest()
    with world.review() as r:
        assert r.ask("commits") == [{"why": "", "any": False}]

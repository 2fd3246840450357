"""berm diff, apply, undo, discard and sessions, on sessions made by hand."""

import fcntl
import json
import os
import pty
import shutil
import subprocess
import time

import pytest
import schema
from cli_world import ERROR, PENDING, work
from tui import Terminal

TREE = """
mkdir -p src docs old
printf 'one\\ntwo\\nthree\\nfour\\nfive\\n' > src/text
seq 100 > docs/long
echo old > old/a; echo old > old/b
echo keep > keep; head -c 3000 /dev/zero > bin
ln -s src/text link
find . -exec touch -h -d @1600000000 {} +
"""


def standard(cli, name="0123456789ab", **how):
    """One of everything."""
    s = cli.session(name).host(TREE).pack()
    g = s.agent
    g.file("src/text", "one\ntwo\nTHREE\nfour\nfive\n").file("new/file", "new\n").gone("keep")
    g.file("docs/long", "".join(f"{n}\n" for n in range(1, 101) if n not in (5, 50)))
    g.link("link", "docs/long").renamed("old", "older").file("bin", b"\0" * 10)
    g.file(".envrc", "export X=1\n").file("Makefile", "all:\n")
    s.guest(**how)
    return s


PLAIN = {"src/text", "new", "new/file", "keep", "docs/long", "link", "older", "bin"}


def snapshot(tree):
    found = {}
    for folder, folders, files in os.walk(tree):
        for name in folders + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                with open(path, "rb") as f:
                    found[path] = (f.read(), st.st_mode)
            else:
                found[path] = st.st_mode
    return found


# -- deciding -------------------------------------------------------------------------------------


def test_v1_each_file_by_itself(cli):
    s = standard(cli)
    s.run("apply", "--path", "keep", code=PENDING)
    assert not os.path.exists(s.at("keep"))
    assert s.read("src/text").startswith("one\ntwo\nthree\n")
    s.run("apply", "--path", "src", "--path", "new/file", code=PENDING)
    assert s.read("src/text") == "one\ntwo\nTHREE\nfour\nfive\n"
    assert s.read("new/file") == "new\n"  # and the directory that it needs
    left = {p for p, c in s.changes().items() if not c["done"]}
    assert left == {".envrc", "Makefile", "docs/long", "link", "older", "bin"}


def test_v3_all_is_not_what_runs_by_itself(cli):
    s = standard(cli)
    s.run("apply", "--all", code=PENDING)
    assert os.path.exists(s.at("Makefile"))
    assert not os.path.exists(s.at(".envrc"))
    said = s.run("apply", "--path", ".envrc", code=ERROR).err
    assert "--accept-x0" in said
    s.run("apply", "--path", ".", code=PENDING)
    s.run("apply", "--accept-x0", "envrc", code=ERROR)
    assert not os.path.exists(s.at(".envrc"))
    s.run("apply", "--accept-x0", ".envrc")
    assert s.read(".envrc") == "export X=1\n"
    assert s.state() == "applied"


def test_v5_v12_what_is_plain_without_a_person_and_the_rest_is_counted(cli):
    s = standard(cli)
    out = s.json("apply", "--plain-only", code=PENDING)
    schema.check(out)
    assert out["did"] | {"paths": 0} == {"end": "done", "items": 8, "back": 0, "needs": 0, "commits_refs": 0,
                                         "commits_error": None, "more": 0, "paths": 0}
    assert out["totals"]["undecided"] == 2 and out["totals"]["done"] == 8
    assert {x["name"]: x["undecided"] for x in out["sections"] if x["undecided"]} == {"X0": 1, "X1": 1}
    assert {p for p, c in s.changes().items() if c["done"]} == PLAIN
    assert s.state() == "pending"
    # and in words, with what to type next
    words = s.run("apply", code=PENDING).out
    assert "2 undecided (1 X0, 1 X1)" in words and f"berm review {s.id}" in words


def test_nothing_is_accepted_without_a_flag(cli):
    s = standard(cli)
    before = snapshot(s.tree)
    out = s.json("apply", code=PENDING)
    assert out["did"]["end"] == "nothing"
    assert snapshot(s.tree) == before


def test_a_session_by_where_one_stands(cli):
    s = standard(cli)
    assert "src/text" in cli.run("diff", "--name-only", cwd=s.tree).out
    assert cli.run("diff", "--name-only", "text", cwd=s.at("src")).out == "src/text\n"
    assert cli.run("diff", "--name-only", "0123", s.at("src"), cwd="/").out == "src/text\n"
    said = cli.run("diff", cwd="/", code=ERROR).err
    assert s.id in said and "berm sessions" in said
    assert "nothing has changed" in s.run("diff", "src/nothing", code=ERROR).err
    assert "there is no session" in cli.run("apply", "ffffffffffff", code=ERROR).err
    cli.run("apply", "--plain-only", cwd=s.at("docs"), code=PENDING)
    cli.run("undo", cwd=s.at("docs"))


def test_v16_a_session_that_failed_has_the_same_review(cli):
    s = standard(cli, ended="killed", exit_code=137, message="it was killed")
    out = s.json("diff")
    assert out["session"]["ended"] == "killed" and out["session"]["exit_code"] == 137
    assert len(out["changes"]) == 10
    s.run("apply", "--plain-only", code=PENDING)


# -- sessions -------------------------------------------------------------------------------------


def test_v17_the_list_has_age_and_size(cli):
    for i, name in enumerate(("0123456789ab", "1123456789ab", "2123456789ab")):
        s = standard(cli, name, created_ns=time.time_ns() - (3 - i) * 3600 * 10**9)
    s.run("apply", "--plain-only", code=PENDING)
    listed = json.loads(cli.run("sessions", "--json").stdout)
    schema.check(listed, schema.SCHEMA["$defs"]["sessions"])
    assert [x["id"] for x in listed] == ["2123456789ab", "1123456789ab", "0123456789ab"]
    assert [x["undecided"] for x in listed] == [2, None, None]
    assert all(x["disk_bytes"] > 0 for x in listed)
    lines = cli.run("sessions").out.splitlines()
    assert lines[1].split()[:4] == ["2123456789ab", "claude-code", "pending", "2"]
    assert " 3 h " in lines[3] and "KiB" in lines[3] and "~/w0123456789ab/tree" in lines[3]
    assert cli.run("sessions", "ls", "-q").out.split() == [x["id"] for x in listed]
    assert "ls" in cli.run("sessions", "rm", code=ERROR).err


def test_v17_a_session_of_an_older_berm_and_one_that_is_damaged(cli):
    s = standard(cli)
    for name in ("snapshot_ns", "image_id", "exit_code"):  # what it did not know
        del s.info[name]
    s.save()
    assert len(s.changes()) == 10
    with open(os.path.join(s.session, "session.json"), "w", encoding="ascii") as f:
        f.write("{")
    (row,) = json.loads(cli.run("sessions", "--json").stdout)
    assert row["state"] == "damaged" and row["why"]
    schema.check([row], schema.SCHEMA["$defs"]["sessions"])


DAMAGES = {
    "torn": lambda path: open(path, "w", encoding="ascii").write('{"id":"01'),
    "empty": lambda path: open(path, "w", encoding="ascii").close(),
    "gone": os.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_v9_a_damaged_session_is_shown_with_its_size_and_can_be_discarded(cli, damage):
    s = standard(cli)
    s.changes()
    before = json.loads(cli.run("sessions", "--json").stdout)[0]["disk_bytes"]
    DAMAGES[damage](os.path.join(s.session, "session.json"))
    (row,) = json.loads(cli.run("sessions", "--json").stdout)
    assert row["state"] == "damaged" and row["disk_bytes"] == before > 0
    assert "session.json" in row["why"] or "JSON" in row["why"]
    done = cli.run("diff", s.id, code=ERROR)
    assert "session.json" in done.err and s.id in done.err, done.err
    assert "no terminal to ask" in cli.run("discard", s.id, code=ERROR).err
    assert os.path.isdir(s.session)
    done = cli.run("discard", s.id[:6], "--yes")
    assert done.out == s.id + "\n"
    assert "would be lost: all that is in there" in done.err and "no guest" not in done.err
    assert not os.path.exists(s.session) and json.loads(cli.run("sessions", "--json").stdout) == []


def test_v9_a_damaged_session_in_use_or_in_the_middle_of_an_apply_is_not_discarded(cli):
    s = standard(cli)
    with open(os.path.join(s.session, "session.json"), "w", encoding="ascii") as f:
        f.write("{")
    with open(os.path.join(s.session, "lock"), "rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cli.run("discard", s.id, "--yes", code=ERROR)
    with open(os.path.join(s.session, "journal"), "wb") as f:
        f.write(bytes(512))
    done = cli.run("discard", s.id, "--yes", code=ERROR)
    assert "interrupted" in done.err and f"sessions/{s.id}" in done.err
    assert os.path.isdir(s.session)


def test_v6_a_wrong_line_of_decisions_is_named_with_its_file(cli):
    s = standard(cli)
    path = os.path.join(s.session, "decisions.jsonl")
    s.changes()
    with open(path, "wb") as f:
        f.write(b"rubbish\n")
    done = s.run("diff", code=ERROR)
    assert path in done.err and "line 1" in done.err and "nothing of it is lost" in done.err


def test_v15_a_dumb_terminal_is_not_drawn_on(cli):
    s = standard(cli)
    raw = {}
    for term in ("xterm-256color", "dumb"):
        with Terminal(s, argv=["diff", s.id], term=term) as t:
            assert t.end() == 0
            raw[term] = t.raw
    assert b"\x1b[K" in raw["xterm-256color"]
    assert b"\x1b" not in raw["dumb"] and b"\r" not in raw["dumb"].replace(b"\r\n", b"")


def test_k11_a_host_that_is_started_anew(cli):
    """Devices have other numbers then; the workspace is known by its inode and when it was made."""
    made = subprocess.run(["stat", "-c", "%w", cli.path], capture_output=True, text=True, check=True).stdout
    sessions = []
    for name in ("0123456789ab", "1123456789ab", "2123456789ab"):
        s = standard(cli, name)
        said = subprocess.run(["stat", "-c", "%w", s.tree], capture_output=True, text=True, check=True).stdout.strip()
        if said == "-":
            pytest.skip(f"no birth time on the file system of {cli.path} ({made.strip()})")
        when, fraction = said.rsplit(" ", 1)[0].split(".")
        seconds = int(subprocess.run(["date", "-d", said, "+%s"], capture_output=True, check=True).stdout)
        assert when
        s.info["root_btime_ns"] = seconds * 10**9 + int(fraction)
        s.info["root_dev"] += 1
        sessions.append(s.save())
    for s in sessions:
        s.run("apply", "--plain-only", code=PENDING)
    s.info["root_btime_ns"] += 1
    assert "is not the directory" in s.save().run("diff", code=ERROR).err


def test_p11_another_directory_in_its_place(cli):
    s = standard(cli)
    os.rename(s.tree, s.tree + ".away")
    said = s.run("diff", code=ERROR).err
    assert "put it back" in said and f"berm discard {s.id}" in said
    shutil.copytree(s.tree + ".away", s.tree, symlinks=True)
    before = snapshot(s.tree)
    assert "is not the directory" in s.run("apply", "--plain-only", code=ERROR).err
    assert snapshot(s.tree) == before


# -- who may -------------------------------------------------------------------------------------


def locked(path, text=""):
    f = open(path, "w+", encoding="ascii")  # pylint: disable=consider-using-with
    f.write(text)
    f.flush()
    fcntl.flock(f, fcntl.LOCK_EX)
    return f


def test_v7_the_second_is_told_who_holds_it(cli):
    s = standard(cli)
    with locked(os.path.join(s.session, "lock"), f"{os.getpid()} review\n"):
        for verb in (["diff"], ["apply", "--plain-only"], ["undo"], ["discard", "--yes"]):
            assert f"(review, process {os.getpid()})" in s.run(*verb, code=ERROR).err


def test_k12_a_lock_of_the_dead_is_free(cli):
    s = standard(cli)
    with open(os.path.join(s.session, "lock"), "w", encoding="ascii") as f:
        f.write("999999 review\n")
    s.run("diff")


def test_k8_a_machine_that_may_be_alive(cli):
    s = standard(cli)
    with locked(os.path.join(s.session, "scratch.img")):
        for verb in (["diff"], ["apply", "--plain-only"], ["discard", "--yes"]):
            said = s.run(*verb, code=ERROR).err
            assert "may still be alive" in said and "scratch.img" in said
        assert not os.path.exists(os.path.join(s.session, "proposal.idx"))
    s.run("diff")
    assert not os.path.exists(os.path.join(s.session, "scratch.img"))  # its work was read


def test_nothing_ran(cli):
    s = standard(cli)
    s.info["state"] = "packed"
    assert "no guest ever ran" in s.save().run("diff", code=ERROR).err


def test_k9_a_reader_that_dies(cli):
    s = standard(cli)
    shutil.copy("/bin/false", os.path.join(cli.path, "libexec/berm/berm-unpack"))
    before = os.stat(os.path.join(s.session, "spool.tar"))
    assert s.id in s.run("diff", code=ERROR).err
    assert os.stat(os.path.join(s.session, "spool.tar")).st_mtime_ns == before.st_mtime_ns
    cli.install("libexec/berm", "src/bin/berm-unpack")
    s.run("diff")


# -- discard --------------------------------------------------------------------------------------


def on_terminal(cli, typed, *words):
    """berm with a terminal to read from, on which that is typed; None: it is closed."""
    master, slave = pty.openpty()
    with subprocess.Popen([cli.berm, *words], env=cli.env, cwd=cli.path, stdin=slave, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, start_new_session=True) as p:
        os.close(slave)
        if typed is None:
            os.close(master)
        else:
            os.write(master, typed)
        out, err = p.communicate(timeout=60)
        if typed is not None:
            os.close(master)
    return p.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("typed", [b"\n", b"\x04", b"no\n", b"y\n", None])
def test_v4_v9_no_answer_is_no(cli, typed):
    s = standard(cli)
    code, _, said = on_terminal(cli, typed, "discard", s.id)
    assert code in ((PENDING,) if typed is not None else (PENDING, -1, ERROR)), said
    assert os.path.exists(s.session)
    assert len(s.changes()) == 10


def test_v9_it_names_what_is_lost_and_asks(cli):
    s = standard(cli)
    s.run("apply", "--plain-only", code=PENDING)
    before = snapshot(s.tree)
    said = s.run("discard", code=ERROR).err
    assert "no terminal" in said and "--yes" in said
    assert os.path.exists(s.session)
    code, out, said = on_terminal(cli, b"yes\n", "discard", s.id)
    assert (code, out) == (0, s.id + "\n")
    assert "2 undecided (1 X0, 1 X1)" in said and "berm undo" in said and s.tree in said and "Type yes" in said
    assert not os.path.exists(s.session)
    assert snapshot(s.tree) == before
    s = standard(cli, "1123456789ab")
    assert "10 undecided" in s.run("discard", "--yes").err
    assert cli.run("sessions", "-q").out == ""


def test_v9_a_directory_that_was_replaced_is_no_reason_to_say_how_to_discard(cli):
    s = standard(cli)
    os.rename(s.tree, s.tree + ".old")
    os.mkdir(s.tree)
    code, _, said = on_terminal(cli, b"no\n", "discard", s.id)
    assert code == PENDING and "its directory has been replaced" in said and "berm discard" not in said
    assert os.path.exists(s.session)


def test_a_workspace_is_listed_from_home_on(cli):
    s = standard(cli)
    assert s.tree.startswith(cli.path + "/")
    assert cli.run("sessions").out.endswith("  ~" + s.tree[len(cli.path):] + "\n")
    for home in ("/", "", cli.path[:-1], s.tree):
        assert cli.run("sessions", env={"HOME": home}).out.endswith("  " + s.tree + "\n")


# -- apply and undo -------------------------------------------------------------------------------


def test_p2_changed_since_its_review(cli):
    s = cli.session().host(TREE + "ln keep other").pack()
    s.agent.file("src/text", "agent\n").file("keep", "agent\n").file("docs/long", "agent\n")
    s.guest()
    # one of them returns, so nothing is changed; all are accepted
    out = s.json("apply", "--plain-only", code=PENDING)
    assert out["did"]["end"] == "returned" and out["did"]["paths"] == [{"path": "keep", "word": "links"}]
    assert s.read("src/text").startswith("one\n")
    s.host("echo mine >> docs/long")
    s.run("apply", "--rest", code=PENDING)
    assert s.read("src/text") == "agent\n"
    assert s.read("docs/long").endswith("100\nmine\n")
    left = {p: c for p, c in s.changes().items() if not c["done"]}
    assert set(left) == {"docs/long", "keep"}
    assert left["docs/long"]["decide_again"] and left["docs/long"]["choice"] == "undecided"


def test_p7_hard_links_part_with_consent(cli):
    s = cli.session().host(TREE + "ln keep other").pack()
    s.agent.file("keep", "agent\n")
    s.guest()
    said = s.run("apply", "--plain-only", code=PENDING).out
    assert "nothing was changed" in said and "keep: " in said
    s.run("apply", "--path", "keep", "--break-links")
    assert (s.read("keep"), s.read("other")) == ("agent\n", "keep\n")


def test_p10_p12_a_second_apply_does_nothing_and_undo_restores(cli):
    s = standard(cli)
    before = snapshot(s.tree)
    s.run("apply", "--all", code=PENDING)
    after = snapshot(s.tree)
    assert after != before
    assert s.json("apply", "--all", code=PENDING)["did"]["end"] == "nothing"
    assert snapshot(s.tree) == after
    out = s.json("undo")
    schema.check(out)
    assert out["did"]["end"] == "done" and out["totals"]["undecided"] == 10
    assert snapshot(s.tree) == before
    assert not [p for p, c in s.changes().items() if c["decide_again"]]  # nothing of it is decided any more
    assert "nothing of session" in s.run("undo", code=ERROR).err
    s.run("apply", "--all", code=PENDING)
    assert snapshot(s.tree) == after


def test_p12_undo_leaves_what_was_edited_since(cli):
    s = standard(cli)
    s.run("apply", "--all", code=PENDING)
    s.host("echo mine >> src/text")
    after = snapshot(s.tree)
    words = s.run("undo", code=PENDING).out
    assert "src/text: " in words and "--rest" in words
    assert snapshot(s.tree) == after
    out = s.json("undo", "--rest", code=PENDING)
    assert [x["path"] for x in out["did"]["paths"]] == ["src/text"]
    assert s.read("src/text").endswith("mine\n") and s.read("keep") == "keep\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_p3_without_room_it_says_that_nothing_was_done_and_what_to_do(cli):
    room = os.path.join(cli.path, "room")
    os.mkdir(room)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", room], check=True)
    try:
        s = cli.session(tree=os.path.join(room, "w", "tree")).host(TREE).pack()
        s.agent.file("large", b"x" * (2 << 20)).gone("keep").file("src/text", "two\n")
        s.guest()
        before = snapshot(s.tree)
        done = s.run("apply", "--all", code=ERROR)
        assert done.err.startswith("berm: nothing was applied: 'large': "), done.err
        assert "make room" in done.err and done.err.count("\n") == 1, done.err
        assert snapshot(s.tree) == before
        subprocess.run(["mount", "-o", "remount,size=4m", room], check=True)
        s.run("apply")
        with open(os.path.join(s.tree, "filler"), "wb") as f:
            with pytest.raises(OSError):
                f.write(bytes(4 << 20))
        before = snapshot(s.tree)
        done = s.run("undo", code=ERROR)
        assert done.err.startswith("berm: nothing was undone: ") and "make room" in done.err, done.err
        assert snapshot(s.tree) == before
        os.unlink(os.path.join(s.tree, "filler"))
        s.run("undo")
    finally:
        subprocess.run(["umount", "-l", room], check=True)


def test_p13_two_sessions_in_turn(cli):
    one = cli.session().host(TREE).pack()
    two = cli.session("1123456789ab", tree=one.tree).pack()
    one.agent.file("src/text", "first\n").file("a", "1\n")
    two.agent.file("src/text", "second\n").file("a", "1\n").file("b", "2\n")
    one.guest()
    two.guest()
    one.run("apply", "--plain-only")
    left = two.changes()
    assert (left["src/text"]["section"], left["a"]["section"], left["b"]["section"]) == ("conflicts", "there", "plain")
    two.run("apply", "--all", code=PENDING)
    assert (one.read("src/text"), one.read("b")) == ("first\n", "2\n")
    two.run("apply", "--path", "src/text")
    assert one.read("src/text") == "second\n"


def test_p16_nothing_of_a_repository_comes_as_files(cli):
    s = cli.session().host("git init -q . && echo a > a && git add a && git -c user.name=T -c user.email=t@t "
                           "commit -qm a").pack()
    work(s, "git config core.fsmonitor evil; echo evil > .git/hooks/pre-commit; echo gitdir: /tmp > sub; mkdir n; "
            "mv sub n/.git; echo b > b; git add b; git commit -qm 'add b'").guest()
    before = snapshot(s.at(".git"))
    out = s.json("diff")
    assert {c["section"] for c in out["changes"] if ".git" in c["path"].split("/")} == {"out"}
    assert all(c["reason"] for c in out["changes"] if c["section"] == "out")
    assert ".git/config" in s.run("diff", "--name-only").out
    s.run("apply", "--all", "--no-commits")
    s.run("apply", "--path", ".git/config", "--no-commits", code=ERROR)
    assert snapshot(s.at(".git")) == before and not os.path.exists(s.at("n/.git"))
    # the commit comes, on a side ref
    assert s.run("diff").out.count("add b") == 1
    assert out["commits"]["count"] == 1 and out["commits"]["list"][0]["subject"] == "add b"
    did = s.json("apply")["did"]
    assert (did["commits_refs"], did["commits_error"]) == (1, None)
    refs = subprocess.run(["git", "for-each-ref", "--format=%(refname) %(subject)", "refs/berm"], cwd=s.tree,
                          capture_output=True, text=True, check=True).stdout
    assert refs.startswith(f"refs/berm/{s.id}/") and refs.endswith(" add b\n")


COMMIT = "git -c user.name=T -c user.email=t@t commit -q"


def test_p14_v9_commits_alone_wait_and_discard_names_them(cli):
    """Work that no file of the tree shows: it waits as any other, and its loss is said."""
    s = cli.session().host(f"git init -q . && echo a > a && git add a && {COMMIT} -m a").pack()
    work(s, f"{COMMIT} --allow-empty -m empty; git tag only; git reset -q --hard HEAD^").guest()
    assert "its commits are not in your repository yet" in s.run("review", code=PENDING).err
    assert cli.run("sessions", "-p", "-q").out.split() == [s.id]
    assert s.run("apply", "--no-commits").out.count("1 commit is not in your repository yet") == 1
    assert cli.run("sessions", "-p", "-q").out == ""  # somebody has said no
    cli.run("apply", s.id)
    refs = subprocess.run(["git", "for-each-ref", "--format=%(refname) %(subject)", "refs/berm"], cwd=s.tree,
                          capture_output=True, text=True, check=True).stdout
    assert refs == f"refs/berm/{s.id}/refs/tags/only empty\n"
    assert "nothing else is lost" in cli.run("discard", s.id, "--yes").err


def test_p12_undo_leaves_the_refs_and_says_how_to_remove_them(cli):
    s = cli.session().host(f"git init -q . && echo a > a && git add a && {COMMIT} -m a && git branch mine").pack()
    work(s, f"echo b > a; {COMMIT} -am b; git tag v").guest()
    s.run("apply", "--all")
    said = s.run("undo").out
    assert f"commits: undo leaves 2 refs, refs/berm/{s.id}/*; to remove them:\n" in said, said
    assert max(map(len, said.splitlines())) <= 80
    subprocess.run(["sh", "-ec", said.partition("remove them:\n")[2].partition("--stdin\n")[0] + "--stdin"],
                   cwd=s.tree, check=True)
    refs = subprocess.run(["git", "for-each-ref", "--format=%(refname)"], cwd=s.tree, capture_output=True, text=True,
                          check=True).stdout
    assert "refs/berm" not in refs and "refs/heads/mine" in refs


def test_p12_as_many_are_undone_as_were_applied(cli):
    """A renamed file is one change before it is applied, and two entries of the list afterwards."""
    s = cli.session().host("mkdir -p a/b old/x empty; echo 1 > a/b/f; echo 1 > old/x/h; echo 1 > old/i; seq 1 9 > t; "
                           "echo q > q; echo name > from; seq 20 90 > from2").pack()
    work(s, "mkdir -p n/e/w; echo 1 > n/e/w/f; mv old moved; echo 2 > moved/i; rm -r a; mv from to; mv from2 n/to2; "
            "echo x >> t; rm q; mkdir q; echo z > q/z; rmdir empty; ln -s t l; ln t t2").guest()
    listed = s.json("diff")["changes"]
    assert sum(c["op"] == "rename" for c in listed) >= 2
    for _ in range(2):
        said = s.run("apply", "--all").out
        assert f"applied: {len(listed)} changes\n" in said and f"0 undecided, {len(listed)} applied\n" in said, said
        said = s.run("undo").out
        assert f"undone: {len(listed)} changes\n" in said and f": {len(listed)} undecided" in said, said


@pytest.mark.parametrize("how", ["tag", "within", "none"])
def test_v9_discard_names_commits_that_are_not_home(cli, how):
    begin = "true" if how == "none" else f"git init -q . && echo a > a && git add a && {COMMIT} -m a"
    s = cli.session().host(f"echo x > x; {begin}").pack()
    work(s, {"tag": f"{COMMIT} --allow-empty -m lost; git tag only; git reset -q --hard HEAD^",
             "within": f"git init -q sub && cd sub && {COMMIT} --allow-empty -m lost",
             "none": f"git init -q . && {COMMIT} --allow-empty -m lost"}[how]).guest()
    if how == "within":
        out = [c for c in s.json("diff")["changes"] if c["path"].startswith("sub/.git/")]
        assert out and all("other than the workspace's own: of it only commits" in c["reason"] for c in out)
    said = cli.run("discard", s.id, "--yes").err
    assert "would be lost: what is not applied" in said
    assert {"tag": "1 commit is not in your repository yet",
            "within": "of git's objects whose commits do not come back: they are of a repository within the workspace",
            "none": "commits do not come back: the workspace has no repository (git init makes one"}[how] in said


def refs_of(repo):
    done = subprocess.run(["git", "for-each-ref", "--format=%(refname) %(subject)", "refs/berm"], cwd=repo, check=True,
                          capture_output=True, text=True)
    return done.stdout.splitlines()


def status(repo):
    return subprocess.run(["git", "status", "-sb"], cwd=repo, check=True, capture_output=True).stdout


WITHIN = f"""git init -q -b main . && echo a > a && git add a && {COMMIT} -m a
git init -q -b main sub && echo b > sub/b && git -C sub add b && cd sub && {COMMIT} -m b && cd ..
git init -q -b main ../lib && cd ../lib && echo c > c && git add c && {COMMIT} -m c && cd -
git -c protocol.file.allow=always submodule --quiet add --name odd/name ../lib libs/lib && {COMMIT} -m with"""


def within(cli, script):
    s = cli.session().host(WITHIN).pack()
    work(s, script)
    return s.guest()


def test_p14_commits_of_repositories_within_come_home(cli):
    """A submodule's and those of a repository in a directory, each to its own; and the session waits for them."""
    s = within(cli, f"cd sub && {COMMIT} --allow-empty -m inner; cd ../libs/lib; {COMMIT} --allow-empty -m library")
    said = s.run("diff").out
    assert "== commits of sub\n   to refs/berm: refs/heads/main\n" in said and ": inner\n" in said
    assert "== commits of libs/lib\n   to refs/berm: refs/heads/main\n" in said and ": library\n" in said
    commits = s.json("diff")["commits"]
    assert commits["count"] == 0
    assert [(c["path"], c["count"], c["list"][0]["subject"]) for c in commits["within"]] == [
        ("libs/lib", 1, "library"), ("sub", 1, "inner")]
    assert "its commits are not in your repository yet" in s.run("review", code=PENDING).err
    assert cli.run("sessions", "-p", "-q").out.split() == [s.id]
    before = {name: status(f"{s.tree}/{name}") for name in (".", "sub", "libs/lib")}
    assert s.run("apply", "--no-commits").out.count("2 commits are not in your repository yet") == 1
    assert cli.run("sessions", "-p", "-q").out == "" and refs_of(f"{s.tree}/sub") == []
    assert f"commits: 2 refs, as refs/berm/{s.id}/*" in cli.run("apply", s.id).out
    assert refs_of(s.tree) == []
    assert refs_of(f"{s.tree}/sub") == [f"refs/berm/{s.id}/main inner"]
    assert refs_of(f"{s.tree}/libs/lib") == [f"refs/berm/{s.id}/main library"]
    for name, was in before.items():
        assert status(f"{s.tree}/{name}") == was
        subprocess.run(["git", "fsck", "--strict"], cwd=f"{s.tree}/{name}", check=True, capture_output=True)
    assert "do not come back" not in s.run("diff").out
    assert "nothing else is lost" in cli.run("discard", s.id, "--yes").err


@pytest.mark.parametrize("how", ["gone", "link", "of another kind", "another's"])
def test_p14_a_repository_within_that_cannot_take_them_keeps_no_other_back(cli, how):
    s = within(cli, f"cd sub && {COMMIT} --allow-empty -m inner; cd ../libs/lib; {COMMIT} --allow-empty -m library")
    away = f"{s.tree}.away"
    if how in ("gone", "link"):
        os.rename(f"{s.tree}/sub", away)
    if how == "link":
        os.symlink(away, f"{s.tree}/sub")
    if how == "of another kind":
        with open(f"{s.tree}/sub/.git/objects/info/alternates", "w", encoding="ascii") as f:
            f.write("/elsewhere\n")
    if how == "another's":
        shutil.rmtree(f"{s.tree}/sub/.git")
        subprocess.run(["git", "init", "-q", f"{s.tree}/sub"], check=True)
    done = s.run("apply")
    assert refs_of(f"{s.tree}/libs/lib") == [f"refs/berm/{s.id}/main library"]
    if how in ("gone", "link"):
        assert "of a repository within the workspace that you do not have" in done.out
        assert how == "gone" or refs_of(away) == []
    else:
        words = {"of another kind": "alternates", "another's": "which the repository does not have"}[how]
        assert "the commits could not be brought home: of 'sub': " in done.out and words in done.out
        assert "of git's objects whose commits do not come back: sub: " in done.out
        assert refs_of(f"{s.tree}/sub") == []
    said = cli.run("discard", s.id, "--yes").err
    assert "would be lost" in said and "whose commits do not come back" in said


def test_p14_a_submodule_of_a_worktree(cli):
    """Its git directory is beside the worktree's own, outside the workspace."""
    s = within(cli, f"cd libs/lib; {COMMIT} --allow-empty -m library")
    admin = f"{s.tree}.git/worktrees/w"
    os.rename(f"{s.tree}/.git", f"{s.tree}.git")
    os.makedirs(admin)
    os.rename(f"{s.tree}.git/modules", f"{admin}/modules")
    for path, text in ((f"{admin}/gitdir", f"{s.tree}/.git"), (f"{admin}/commondir", "../.."),
                       (f"{admin}/HEAD", "ref: refs/heads/main"), (f"{s.tree}/.git", f"gitdir: {admin}")):
        with open(path, "w", encoding="ascii") as f:
            f.write(text + "\n")
    s.run("apply")
    assert os.listdir(f"{admin}/modules/odd/name/refs/berm/{s.id}") == ["main"]


def test_p14_more_repositories_within_than_are_read(cli):
    make = f"for i in $(seq 10 75); do git init -q -b main r$i; (cd r$i; {COMMIT} --allow-empty -m a); done"
    s = cli.session().host(make).pack()
    work(s, f"for i in $(seq 10 75); do (cd r$i; {COMMIT} --allow-empty -m b$i); done")
    s.guest()
    done = s.run("apply")
    assert f"commits: 64 refs, as refs/berm/{s.id}/*" in done.out
    assert "2 of git's objects whose commits do not come back" in done.out
    assert refs_of(f"{s.tree}/r73") == [f"refs/berm/{s.id}/main b73"] and refs_of(f"{s.tree}/r74") == []


def test_p14_a_repository_made_in_the_guest_comes_home_once_there_is_one(cli):
    s = cli.session().host("echo x > x").pack()
    work(s, f"git init -q -b main . && git add x && {COMMIT} -m made").guest()
    assert "the workspace has no repository" in s.run("diff").out
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=s.tree, check=True)
    s.run("apply")
    log = subprocess.run(["git", "log", "--format=%s", f"refs/berm/{s.id}/main"], cwd=s.tree, capture_output=True,
                         text=True, check=True).stdout
    assert log == "made\n"


# -- what is executed -----------------------------------------------------------------------------


def test_v10_only_berms_own_programs_are_executed(cli, tmp_path):
    if not shutil.which("strace"):
        pytest.skip("strace is missing")
    s = cli.session().host("git init -q . && seq 100 > a && git add a && git -c user.name=T -c user.email=t@t "
                           "commit -qm a").pack()
    work(s, "sed -i s/50/fifty/ a; git add a; git commit -qm b; printf '#!/bin/sh\\ntouch evil\\n' > run; "
            "chmod 755 run; cp run .envrc").guest()
    s.host("git config core.fsmonitor 'touch evil'; git config diff.external 'touch evil'")
    for verb in (["diff"], ["apply", "--all"], ["apply", "--accept-x0", ".envrc"], ["undo"]):
        log = str(tmp_path / "trace")
        code = PENDING if verb in (["apply", "--all"],) else 0
        cli.run(verb[0], s.id, *verb[1:], code=code, env={"PAGER": "touch evil", "EDITOR": "touch evil"},
                wrap=["strace", "-f", "-qq", "-e", "trace=execve,execveat", "-e", "signal=none", "-o", log])
        with open(log, encoding="utf-8") as f:
            calls = [line.split('"')[1] for line in f if "exec" in line and '"' in line]
        own = {os.path.join(cli.path, "libexec/berm", name) for name in ("berm-unpack", "berm-diff")}
        assert calls[0] == cli.berm
        assert set(calls[1:]) <= own, calls
    assert not os.path.exists(s.at("evil"))


def test_t14_t16_names_that_mean_something_elsewhere(cli):
    """Names that are ours stay out, and nothing of the host's that has one is touched; names of archives and
    overlays are names like any."""
    s = cli.session()
    s.host("mkdir .berm-stage-old .berm-stage-away; for f in .berm-stage-old/x .berm-stage-away/x .berm-stage-edited"
           " .berm-stage-gone plain; do echo mine > $f; done")
    s.pack()
    ours = [".berm-stage-" + s.id, ".berm-stage-edited", ".berm-stage-link", ".berm-stage-dir", ".berm-stage-gone",
            ".berm-stage-old"]
    for path in ours[:2]:
        s.agent.file(path, "theirs\n")
    s.agent.link(".berm-stage-link", "/etc")
    s.agent.dir(".berm-stage-dir")
    s.agent.file(".berm-stage-dir/x", "x")
    s.agent.gone(".berm-stage-gone")
    s.agent.gone(".berm-stage-old")
    s.agent.renamed(".berm-stage-away", "taken")
    names = [".berm-end", ".berm-pax", ".wh.plain", ".wh..wh..opq", "dir/.berm-stage-x", "berm-kept", "journal"]
    s.agent.dir("dir")
    for path in names:
        s.agent.file(path, path)
    s.agent.file("plain", "theirs\n")
    s.guest()
    before = {p: x for p, x in snapshot(s.tree).items() if p.startswith(".berm-stage-")}
    found = s.changes()
    for path in ours:
        assert (found[path]["section"], found[path]["decidable"]) == ("out", False), found[path]
        assert "berm keeps" in found[path]["reason"], found[path]
    assert "has a name that berm keeps for itself" in s.run("diff").out
    s.run("apply", "--all")
    after = snapshot(s.tree)
    assert {p: x for p, x in after.items() if p.startswith(".berm-stage-")} == before
    assert s.read("plain") == "theirs\n" and all(s.read(path) == path for path in names)

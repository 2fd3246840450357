"""Sessions of a workspace that has not changed in between have one base under several names (ADR 0008): when,
that none of them can take it from another, and what a kill leaves. And what is kept of a session in which nothing
was changed, for the next pack."""

import json
import os
import random
import threading
import time

import pytest
import schema
from cli_world import ERROR, read_bytes
from code_world import KILLED, Coded
from review_world import Guest
from test_hand_on import change, copied, filled, fresh, git, killed_at_every_call, over, restore

DAY_NS = 24 * 3600 * 10**9


@pytest.fixture
def cli(tmp_path):
    return filled(Coded(tmp_path))


def shared_with(cli):
    """Whose base the last session has, by its own word."""
    for line in cli.said.err.splitlines():
        if line.startswith("  nothing has changed since session "):
            return line.split()[5].rstrip(":")
    return None


def inode(cli, session, name="base.erofs"):
    return os.stat(cli.at(session, name)).st_ino


def pending(cli, *words, **files):
    """A session of which nothing is decided: one in which nothing ran goes with the next list."""
    session, agent = cli.code(*words), Guest(cli.tree)
    for name, content in (files or {"made": "by the agent\n"}).items():
        agent.file(name, content)
    return cli.finished(session, agent)


def names_of_base(cli, session):
    return sorted(name for name in os.listdir(cli.at(session)) if name.startswith("base."))


# -- one image


def test_m8_sessions_of_an_unchanged_tree_have_one_image(cli, tmp_path):
    first = pending(cli)
    sessions = [first]
    for _ in range(3):
        sessions.append(pending(cli, other="another\n"))
        assert shared_with(cli) in sessions, cli.said.err
    assert len({inode(cli, s) for s in sessions}) == len({inode(cli, s, "base.manifest") for s in sessions}) == 1
    assert all(cli.listing(s) == fresh(cli, tmp_path) for s in sessions)
    assert not os.path.samefile(cli.at(sessions[0], "pack.json"), cli.at(sessions[1], "pack.json"))
    for session in sessions:
        (made,) = json.loads(cli.run("diff", session, "--json").out)["changes"]
        assert made["path"] in ("made", "other")


def test_each_is_decided_for_itself(cli):
    """One is applied and undone, one thrown away; nothing of that is the others'."""
    one, two, three, four = (pending(cli, **{f"by{i}": f"{i}\n"}) for i in range(4))
    was = cli.listing(four)
    cli.run("apply", one, "--all")
    cli.run("discard", two, "--yes")
    assert "by2" in cli.run("diff", three).out
    cli.run("apply", three, "--all")
    cli.run("undo", one)
    assert not os.path.exists(os.path.join(cli.tree, "by0")) and os.path.exists(os.path.join(cli.tree, "by2"))
    assert cli.listing(four) == was and "by3" in cli.run("diff", four).out
    assert os.stat(cli.at(four, "base.erofs")).st_nlink == 3
    cli.run("undo", three)
    cli.run("apply", four, "--all")
    assert read_bytes(os.path.join(cli.tree, "by3")) == b"3\n"


def test_what_another_session_has_is_never_packed_over(cli, tmp_path):
    """All of the one was applied, so its base would be handed on; the other is not decided on."""
    first, other = pending(cli), pending(cli, theirs="x\n")
    assert inode(cli, first) == inode(cli, other)
    cli.run("apply", first, "--all")
    was = cli.listing(other)
    change(cli)
    third = cli.code()
    assert not over(cli) and not shared_with(cli)
    assert cli.listing(third) == fresh(cli, tmp_path)
    assert cli.listing(first) == cli.listing(other) == was
    assert "theirs" in cli.run("diff", other).out
    # nobody else has it any more: now it is
    cli.run("discard", other, "--yes")
    fourth = cli.code()
    assert over(cli) == first and cli.listing(fourth) == fresh(cli, tmp_path)


def test_a_name_that_somebody_else_made_keeps_it_from_being_written_over(cli):
    """A backup by hard links, say."""
    first = cli.applied()
    os.link(cli.at(first, "base.erofs"), os.path.join(cli.path, "backup"))
    before = cli.listing(first)
    change(cli)
    cli.code()
    assert not over(cli) and cli.whole(first)
    assert cli.listing(first) == before


def test_the_sizes_of_all_are_what_they_take(cli):
    cli.write("large", os.urandom(3 << 20))
    sessions = [pending(cli) for _ in range(3)]
    os.sync()
    listed = json.loads(cli.run("sessions", "--json").out)
    schema.check(listed, schema.SCHEMA["$defs"]["sessions"])
    sizes = {s["id"]: s["disk_bytes"] for s in listed}
    assert sizes.keys() == set(sessions) and max(sizes.values()) < 2 << 20
    assert 3 << 20 < sum(sizes.values()) < 4 << 20


def test_programs_are_told(cli):
    first = pending(cli)
    got = cli.run("code", "--json", "--", "true", code=KILLED, cwd=cli.tree)
    assert got.err == ""
    (second,) = set(cli.sessions()) - {first}
    assert inode(cli, first) == inode(cli, second)


# -- what is not the same


def excluded(cli):
    return ("--exclude", "gone")


def ignored(cli):
    cli.write(".bermignore", b"gone\n")
    return ()


def by_the_users_own_patterns(cli):
    config = os.path.join(cli.env["HOME"], ".config", "berm")
    os.makedirs(os.path.join(config, "agents"), exist_ok=True)
    with open(os.path.join(config, "ignore"), "w", encoding="ascii") as f:
        f.write("gone\n")
    return ()


def a_secret_taken_back(cli):
    return ("--include-secret", "keep/.env")


def without_history(cli):
    return ("--no-history",)


def git_configured(cli):
    git(cli.tree, "config core.abbrev 12")
    return ()


def edited_in_place(cli):
    path = os.path.join(cli.tree, "edited")
    before = os.stat(path)
    with open(path, "r+b") as f:
        f.write(b"M")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return ()


@pytest.mark.parametrize("how", (excluded, ignored, by_the_users_own_patterns, a_secret_taken_back, without_history,
                                 git_configured, edited_in_place))
def test_what_enters_otherwise_is_packed_for_itself(cli, how, tmp_path):
    cli.write("keep/.env", b"TOKEN=x\n")
    git(cli.tree, "init -q -b main && git add . && git commit -qm first && git repack -qad")
    first = pending(cli)
    words = how(cli)
    second = pending(cli, *words)
    assert second and not shared_with(cli) and inode(cli, first) != inode(cli, second)
    assert cli.listing(first) != cli.listing(second)
    third = cli.code(*words)
    assert shared_with(cli) == second and inode(cli, third) == inode(cli, second)


def opened_to_others(cli, first):
    os.chmod(cli.at(first, "base.erofs"), 0o644)


def of_another_user(cli, first):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    os.chown(cli.at(first, "base.erofs"), 47000, 47000)


def another_manifest(cli, first):
    os.truncate(cli.at(first, "base.manifest"), 100)


def another_first_block(cli, first):
    with open(cli.at(first, "base.erofs"), "r+b") as f:
        f.seek(1100)
        f.write(b"x")


def a_link_in_its_place(cli, first):
    os.rename(cli.at(first, "base.erofs"), os.path.join(cli.path, "elsewhere"))
    os.symlink(os.path.join(cli.path, "elsewhere"), cli.at(first, "base.erofs"))


def packed_before_the_machine_went_down(cli, first):
    cli.edit(first, boot="6a2f41a3-c54c-fce8-32d2-0324e1c32e22")


def packed_by_an_older_berm(cli, first):
    cli.edit(first, boot=None)


@pytest.mark.parametrize("how", (opened_to_others, of_another_user, another_manifest, another_first_block,
                                 a_link_in_its_place, packed_before_the_machine_went_down, packed_by_an_older_berm))
def test_a_base_that_is_not_to_be_believed_is_left_alone(cli, how, tmp_path):
    first = pending(cli)
    how(cli, first)
    second = cli.code()
    assert second and not shared_with(cli) and not over(cli)
    assert cli.listing(second) == fresh(cli, tmp_path)


def test_what_is_on_the_disk_outlives_the_machine(cli):
    first = pending(cli)
    cli.edit(first, boot="6a2f41a3-c54c-fce8-32d2-0324e1c32e22")
    with open(cli.at(first, "base.synced"), "wb"):
        pass
    cli.code()
    assert shared_with(cli) == first


# -- kills and races


def test_k1_killed_at_every_step_of_it(cli, tmp_path):
    """The earlier session is whole and can be reviewed, and the next one shares with it."""
    first = pending(cli)
    was, seen = cli.listing(first), 0
    names = names_of_base(cli, first)
    spare = {cli.state: copied(cli.state, str(tmp_path / "spare"))}
    ended = lambda got: restore(spare) if "packed" in got.err else False
    for call, at in killed_at_every_call(cli, ended, "code", "--", "true"):
        seen += 1
        cli.run("sessions")
        assert cli.sessions() == [first] and names_of_base(cli, first) == names, (call, at)
        assert os.stat(cli.at(first, "base.erofs")).st_nlink == 1, (call, at)
        assert cli.listing(first) == was and "made" in cli.run("diff", first).out, (call, at)
        cli.code()
        assert shared_with(cli) == first, (call, at)
        restore(spare)
    assert seen > 8, seen


def test_packs_share_and_write_over_at_the_same_time(cli, tmp_path):
    """Some find the tree unchanged while others, of other options, would write over what those look at."""
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    first = cli.code()
    cli.finished(first, Guest(cli.tree))  # an agent that did nothing, and said so
    cli.run("review", first, "--plain-only", code=None)
    cli.edit(first, state="applied", undecided=0, left=0)
    plain, less = fresh(cli, tmp_path), None
    said, before = [], set(cli.sessions())

    def start(words, wait_s):
        time.sleep(wait_s)
        said.append((words, cli.run("code", *words, "--", "true", code=KILLED, cwd=cli.tree)))

    threads = [threading.Thread(target=start, args=(words, rng.random() / 5)) for words in
               [(), ("--exclude", "gone")] * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lists = {cli.listing(s) for s in set(cli.sessions()) - before}
    less = {text for text in lists if b" gone" not in text}
    assert lists <= {plain} | less and len(less) <= 1, seed
    if cli.whole(first):
        assert cli.listing(first) == plain, seed
    assert sum(f"over what session {first}" in got.err for _, got in said) <= 1, seed


# -- what is kept of a session without changes


def unchanged(cli, session):
    """As one whose guest changed nothing ends: code_end() of it, by the program that the tests have for that."""
    for name in ("spool.tar", "pack.json", "links"):
        if os.path.exists(cli.at(session, name)):
            os.unlink(cli.at(session, name))
    cli.edit(session, state="unchanged", undecided=0, left=0, changed_ns=time.time_ns())
    return session


def test_a_kept_base_is_shared_or_packed_over_and_goes(cli, tmp_path):
    kept = unchanged(cli, cli.code())
    listed = json.loads(cli.run("sessions", "--json").out)
    schema.check(listed, schema.SCHEMA["$defs"]["sessions"])
    assert [(s["id"], s["state"]) for s in listed] == [(kept, "unchanged")]
    second = cli.code()
    assert shared_with(cli) == kept
    cli.finished(second, Guest(cli.tree).file("made", "x\n"))
    cli.run("sessions")
    assert cli.sessions() == [second]  # whose base it is now, alone
    assert os.stat(cli.at(second, "base.erofs")).st_nlink == 1
    cli.run("discard", second, "--yes")
    kept = unchanged(cli, cli.code())
    change(cli)
    third = cli.code()
    assert over(cli) == kept and cli.listing(third) == fresh(cli, tmp_path)
    cli.finished(third, Guest(cli.tree).file("made", "x\n"))
    cli.run("sessions")
    assert cli.sessions() == [third]


def test_a_kept_base_is_nobodys_work(cli):
    kept = unchanged(cli, cli.code())
    assert cli.run("sessions", "-pq").out == ""
    for words in (("review", kept), ("diff", kept), ("apply", kept, "--all"), ("undo", kept)):
        got = cli.run(*words, code=ERROR)
        assert "nothing was changed" in got.err and f"berm discard {kept}" in got.err, got.err
    got = cli.run("discard", kept, "--yes")
    assert "from nothing" in got.err and cli.sessions() == []


def test_kept_bases_have_bounds(cli):
    """One of a workspace, of so many workspaces, for so long; the oldest go first."""
    kept = unchanged(cli, cli.code())
    for i in range(6):
        other = copied(cli.at(kept), cli.at(f"{i:012x}"))
        text = json.loads(read_bytes(os.path.join(other, "session.json")))
        text.update(id=f"{i:012x}", root_ino=1000 + i, created_ns=text["created_ns"] - (i + 1) * 10**9)
        with open(os.path.join(other, "session.json"), "w", encoding="ascii") as f:
            json.dump(text, f)
    cli.run("sessions")
    assert cli.sessions() == sorted([kept, *(f"{i:012x}" for i in range(3))])
    cli.edit(f"{0:012x}", root_ino=cli.info(kept)["root_ino"])
    cli.run("sessions")
    assert cli.sessions() == sorted([kept, *(f"{i:012x}" for i in range(1, 3))])
    cli.edit(kept, changed_ns=time.time_ns() - 8 * DAY_NS)
    held = cli.hold(cli.at(f"{1:012x}", "lock"))
    cli.edit(f"{1:012x}", changed_ns=time.time_ns() - 8 * DAY_NS)
    cli.run("sessions")
    assert cli.sessions() == sorted(f"{i:012x}" for i in range(1, 3))  # one is somebody's
    held.close()
    cli.run("sessions")
    assert cli.sessions() == [f"{2:012x}"]


# -- a base that was not on the disk when the machine went down


def test_a_base_that_may_be_torn_is_told_and_its_work_is_there(cli):
    """Its contents never came to the disk; what the agent changed is shown and can be taken all the same."""
    session = pending(cli, edited="by the agent\n", made="x\n")
    assert "went down" not in cli.run("diff", session).err
    cli.edit(session, boot="6a2f41a3-c54c-fce8-32d2-0324e1c32e22")
    got = cli.run("diff", session)
    assert "edited" in got.out and got.err.count("\n") == 1
    assert f"session {session}: the machine went down before" in got.err
    cli.run("apply", session, "--all")
    assert read_bytes(os.path.join(cli.tree, "edited")) == b"by the agent\n"
    with open(cli.at(session, "base.synced"), "wb"):
        pass
    assert "went down" not in cli.run("diff", session).err


@pytest.mark.parametrize("torn", ("base.erofs", "base.manifest"))
def test_a_base_that_is_torn_is_named(cli, torn):
    session = pending(cli)
    cli.edit(session, boot="6a2f41a3-c54c-fce8-32d2-0324e1c32e22")
    size = os.stat(cli.at(session, torn)).st_size
    with open(cli.at(session, torn), "wb") as f:
        f.truncate(size)
    got = cli.run("review", session, "--plain-only", code=ERROR)
    told, error = got.err.splitlines()
    assert "the machine went down" in told and "nothing of it is lost" in error and "is damaged" in error
    assert cli.sessions() == [session] and os.path.exists(cli.at(session, "spool.tar"))

"""Something else in place of a session's own files: every verb ends in a while with its say, nothing is waited for, and
nothing outside the session is touched."""

import os
import socket

import pytest
from cli_world import ERROR
from test_verbs import snapshot, standard

SAYS_MAX = 4  # lines of an error
WHATS = ("fifo", "socket", "directory", "link", "dangling")
# those without which there is still a review, and those without which there is none
SPARED = ("proposal.idx", "pack.json")
NEEDED = ("session.json", "lock", "spool.tar", "base.erofs", "base.manifest", "links", "decisions.jsonl", "journal")


def replace(path, what, outside):
    if os.path.lexists(path):
        os.unlink(path)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as s:
            here = os.getcwd()
            os.chdir(os.path.dirname(path))
            s.bind(os.path.basename(path))
            os.chdir(here)
    elif what == "directory":
        os.mkdir(path)
    else:
        os.symlink(outside if what == "link" else "/nowhere/at/all", path)


def somebodys(cli):
    """A file outside, which links lead to."""
    path = os.path.join(cli.path, "outside")
    with open(path, "w", encoding="ascii") as f:
        f.write("not berm's\n")
    return path


def check_somebodys(path):
    with open(path, encoding="ascii") as f:
        assert f.read() == "not berm's\n"


def all_verbs(cli, s):
    """Each ends by itself, and none by a signal or in more than a few lines."""
    for verb in (["sessions"], ["diff", s.id], ["review", "--plain-only", s.id], ["apply", "--plain-only", s.id],
                 ["undo", s.id]):
        done = cli.run(*verb, code=None)
        assert done.returncode in (0, 3, ERROR), (verb, done.returncode, done.err)
        assert done.returncode != ERROR or 0 < done.err.count("\n") <= SAYS_MAX, (verb, done.err)
        yield verb[0], done


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("name", NEEDED)
def test_v9_a_file_that_is_needed(cli, name, what):
    s = standard(cli)
    s.changes()
    outside = somebodys(cli)
    before = snapshot(s.tree)
    spool = os.path.join(s.session, "spool.tar")
    size = os.path.getsize(spool)
    replace(os.path.join(s.session, name), what, outside)
    ended = {verb: done.returncode for verb, done in all_verbs(cli, s)}
    assert ended["sessions"] == 0 and ended["apply"] == ERROR, ended
    assert snapshot(s.tree) == before
    check_somebodys(outside)
    assert name == "spool.tar" or os.path.getsize(spool) == size


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize("name", SPARED)
def test_v9_a_file_that_is_made_again_or_done_without(cli, name, what):
    s = standard(cli)
    s.changes()
    outside = somebodys(cli)
    replace(os.path.join(s.session, name), what, outside)
    ended = {verb: done.returncode for verb, done in all_verbs(cli, s)}
    if (name, what) != ("proposal.idx", "directory"):  # which no file can be named over
        assert ended["diff"] == 0 and ended["undo"] == 0, ended
    check_somebodys(outside)

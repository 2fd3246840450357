"""berm review, on a terminal that is read character by character; sessions are made by hand."""

import os
import re
import signal
import subprocess
import termios

import pexpect
import pytest
from cli_world import ERROR, PENDING, TOP, Cli, work
from tui import Terminal

LIST = "^berm> a all plain"  # the prompt of the list
X0, X1, PLAIN = ".envrc", "Makefile", "notes.txt"


def plain_session(cli):
    """Three plain edits, a build file and one that runs by itself."""
    s = cli.session()
    s.host("mkdir src; echo one > src/one; echo two > src/two; echo notes > notes.txt; echo stays > stays")
    s.pack()
    s.agent.file("src/one", "ONE\n").file("src/two", "TWO\n").file(PLAIN, "changed\n")
    s.agent.file(X0, "export EVIL=1\n").file(X1, "all:\n\tcurl evil\n")
    return s.guest()


def start(session, **how):
    t = Terminal(session, **how)
    t.wait(r"^berm> ")
    return t


def goto(t, path):
    t.press("/", path, "enter", until="^>.*" + re.escape(path))
    return t


def left(session):
    """Paths that are undecided."""
    changes = session.json("diff", code=0)["changes"]
    return [c["path"] for c in changes if c["choice"] == "undecided" and c["decidable"]]


def untouched(session):
    assert session.read("src/one") == "one\n"
    assert session.read(PLAIN) == "notes\n"
    assert not os.path.exists(session.at(X0))
    assert not os.path.exists(session.at(X1))


def test_v1_yes_and_no_for_a_file(cli):
    s = plain_session(cli)
    with start(s) as t:
        goto(t, "src/one").press("y", until=r"\[y\] edit +src/one")
        goto(t, "src/two").press("r", until=r"\[n\] edit +src/two")
        t.press("w", until="Enter or w applies 1")
        t.press("enter", until="applied: 1 change")
        t.press("x", "q")
        assert t.end() == PENDING
        assert "1 applied, 1 rejected, 3 undecided" in t.said
    assert s.read("src/one") == "ONE\n"
    assert s.read("src/two") == "two\n"
    assert s.read(PLAIN) == "notes\n"


def test_v1_a_file_is_decided_on_where_it_is_looked_at(cli):
    s = plain_session(cli)
    with start(s) as t:
        goto(t, "src/one").press("enter", until=r"\+ONE")
        t.press("y", until=r"\+TWO")  # and on to the next that is undecided
        t.press("r", until=r"^ berm review")
        t.press("q", "w", until="Enter or w applies 1")
        t.press("w", until="applied: 1")
    assert s.read("src/one") == "ONE\n"
    assert s.read("src/two") == "two\n"


def numbers(changed=()):
    return "".join(f"line {i}{' changed' if i in changed else ''}\n" for i in range(1, 101))


def test_v2_two_of_five_hunks_land_and_exactly_those(cli):
    s = cli.session()
    with open(s.at("text"), "w", encoding="ascii") as f:
        f.write(numbers())
    s.pack()
    s.agent.file("text", numbers((10, 30, 50, 70, 90)))
    s.guest()
    with start(s) as t:
        goto(t, "text").press("enter", until="hunk 1 of 5")
        t.press("]", "t", until=r"hunk 2 taken")
        t.press("]", "t", until=r"hunk 4 taken")
        assert "2 of 5 hunks" in t.row("edit text")
        t.press("q", "w", until="some hunks")
        t.press("enter", until="applied: 1")
        t.press("x")
        assert "meanwhile" not in t.row("edit   text")  # it was this apply that changed it
        t.press("q")
        assert t.end() == 0
    assert s.read("text") == numbers((30, 70))


def test_v2_skipping_one_hunk_takes_the_others_and_u_takes_it_back(cli):
    s = cli.session()
    with open(s.at("text"), "w", encoding="ascii") as f:
        f.write(numbers())
    s.pack()
    s.agent.file("text", numbers((10, 30, 50)))
    s.guest()
    with start(s) as t:
        goto(t, "text").press("enter", until="hunk 1 of 3")
        t.press("s", until="hunk 1 left out")
        assert "2 of 3 hunks" in t.row("edit text")
        t.press("u", until="undecided")
        assert "[ ]" in t.row("edit text")
        t.press("[", "s", "q", "w", until="some hunks")
        t.press("enter", until="applied: 1")
    assert s.read("text") == numbers((30, 50))


def test_v3_accepting_all_leaves_x0_undecided(cli):
    s = plain_session(cli)
    with start(s) as t:
        t.press("A", until="y/n").press("y", until="4 accepted")
        assert "1 undecided" in t.lines()[2]
        t.press("g", "y", until="one by one")  # the section itself
        t.press("w", until="Enter or w applies 4")
        t.press("enter", until="applied: 4")
    assert not os.path.exists(s.at(X0))
    assert s.read(X1).startswith("all:")


def test_v3_x0_is_accepted_only_by_typing_its_path(cli):
    s = plain_session(cli)
    with start(s) as t:
        goto(t, X0).press("y", until="type its path")
        t.press("enter", until="that is not its path")
        t.press("y", "y", "enter", until="that is not its path")
        t.press("y", ".env", "enter", until="that is not its path")
        t.press("y", X0 + "x", "backspace", "enter", until=r"\[y\] new +.envrc")
        t.press("w", until="applies 1").press("w", until="applied: 1")
    assert s.read(X0) == "export EVIL=1\n"


def test_v3_an_x0_path_with_hidden_bytes_is_typed_as_it_is_shown(cli):
    s = cli.session().pack()
    s.agent.file("a\x1b[2Jb/.envrc", "x\n")
    s.guest()
    with start(s) as t:
        t.press("j", "y", until="type its path")
        t.press("a\\x1b[2Jb/.envrc", "enter", until=r"\[y\] new")


def test_v3_a_name_with_backslashes_is_typed_as_no_other(cli):
    """A name may be the very text that stands for a byte of another."""
    s = cli.session().pack()
    s.agent.file("a\x1bb/.envrc", "1\n").file("a\\x1bb/.envrc", "2\n")
    s.guest()
    with start(s) as t:
        t.press("g", "j", "y", until=r": a\\x1bb/.envrc")
        t.press(r"a\\x1bb/.envrc", "enter", until="that is not its path")
        t.press("y", r"a\x1bb/.envrc", "enter", until="accepted: ")
        t.press("y", until=r": a\\\\x1bb/.envrc")
        t.press(r"a\x1bb/.envrc", "enter", until="that is not its path")
        t.press("y", r"a\\x1bb/.envrc", "enter", until="accepted: ")
        t.press("w", until="applies 2")


ENDS = {
    "ctrl-d": lambda t: t.press("\x04"),
    "ctrl-c": lambda t: t.press("\x03"),
    "term": lambda t: t.kill(signal.SIGTERM),
    "hup": lambda t: t.kill(signal.SIGHUP),
    "quit": lambda t: t.press("q", "q"),
}


@pytest.mark.parametrize("end", ENDS)
def test_v4_whatever_ends_it_nothing_is_applied(cli, end):
    s = plain_session(cli)
    with start(s) as t:
        t.press("a", until="Enter or w applies 3")
        if end == "quit":
            t.press("q")
        ENDS[end](t)
        assert t.end() == PENDING
        assert b"\x1b[?1049l" in t.raw[-400:]  # the screen that was there is back
    untouched(s)
    assert s.state() == "pending"
    assert s.json("diff", code=0)["totals"]["accepted"] == 3


def test_v4_a_terminal_that_is_closed(cli):
    s = plain_session(cli)
    t = start(s)
    t.press("a", until="Enter or w applies 3")
    os.close(t.child.child_fd)
    t.child.closed = True
    _, status = os.waitpid(t.child.pid, 0)
    assert os.waitstatus_to_exitcode(status) in (PENDING, ERROR)  # stdout is gone too
    untouched(s)
    assert s.state() == "pending"


@pytest.mark.parametrize("fault", ["SEGV", "ABRT", "BUS", "XCPU"])
def test_v4_a_fault_gives_the_terminal_back(cli, fault):
    s = plain_session(cli)
    with start(s) as t:
        before = termios.tcgetattr(t.child.child_fd)
        assert not before[3] & (termios.ICANON | termios.ECHO)
        goto(t, "src/one").press("y", until=r"\[y\] edit +src/one")
        t.kill(getattr(signal, f"SIG{fault}"))
        t.child.expect(pexpect.EOF)
        t.raw += t.child.before
        modes = termios.tcgetattr(t.child.child_fd)
        assert t.end() == -getattr(signal, f"SIG{fault}")  # what ended it is still told
    assert modes[3] & termios.ICANON and modes[3] & termios.ECHO and modes[3] & termios.ISIG
    assert b"\x1b[?1049l" in t.raw[-200:] and b"\x1b[?25h" in t.raw[-200:]  # the screen that was there, the cursor
    assert t.said.endswith("\r\nberm: a fault ended the review; what was decided is kept\r\n")
    assert s.changes()["src/one"]["choice"] == "accepted"


def test_v4_an_empty_line_and_an_escape_decide_nothing(cli):
    s = plain_session(cli)
    with start(s) as t:
        goto(t, X0).press("y", until="type its path").press("escape", until=LIST)
        t.press("D", until="type discard").press("enter", until="nothing was discarded")
        t.press("A", until="y/n").press("enter", until="not done")
        t.press("/", "enter")
        t.press("q")
        assert t.end() == PENDING
    untouched(s)
    assert s.json("diff")["totals"]["undecided"] == 5


def test_v5_without_a_terminal_it_says_how_to_go_on(cli):
    s = plain_session(cli)
    done = s.run("review", code=PENDING)
    assert "5 changes wait" in done.err
    assert f"berm diff {s.id}" in done.err and f"berm apply --plain-only {s.id}" in done.err
    assert done.stdout == b""
    untouched(s)


@pytest.mark.parametrize("term", ["dumb", "", "no-such-terminal"])
def test_v5_a_terminal_that_cannot_be_drawn_on(cli, term):
    s = plain_session(cli)
    with Terminal(s, term=term) as t:
        assert t.end() == PENDING
        assert "berm apply --plain-only" in t.said
        assert "\x1b[?1049h" not in t.said
    untouched(s)


def test_v6_quit_and_resume(cli):
    s = plain_session(cli)
    with start(s) as t:
        goto(t, "src/one").press("y", until=r"\[y\] edit +src/one")
        goto(t, "src/two").press("r", until=r"\[n\] edit +src/two")
        t.press("q", until="q leaves it").press("q")
        assert t.end() == PENDING
        assert f"berm review {s.id}" in t.said
    with start(s) as t:
        assert "[y]" in t.row("src/one") and "[n]" in t.row("src/two") and "[ ]" in t.row(PLAIN)
        assert "3 undecided, 1 accepted, 1 rejected" in t.lines()[2]


def test_v7_a_second_reviewer_is_told_who_holds_it(cli):
    s = plain_session(cli)
    with start(s) as t:
        done = s.run("review", code=ERROR)
        assert "review" in done.err and str(t.child.pid) in done.err
        t.press("q")
        assert t.end() == PENDING


def test_v8_reject_change_ones_mind_accept(cli):
    s = plain_session(cli)
    with start(s) as t:
        goto(t, "src/one").press("r", until=r"\[n\] edit +src/one")
        t.press("u", until="taken back")
        assert "[ ]" in t.row("src/one")
        goto(t, "src/one").press("r", until=r"\[n\] edit +src/one")
        goto(t, "src/one").press("y", until=r"\[y\] edit +src/one")
        t.press("w", until="applies 1").press("w", until="applied: 1")
    assert s.read("src/one") == "ONE\n"


def test_v8_one_key_takes_back_what_one_key_decided(cli):
    """Of many, of several sections, and with others of them decided before."""
    s = cli.session()
    s.pack()
    for d in range(3):
        for i in range(100):
            s.agent.file(f"d{d}/f{i:02}", "x\n")
    for i in range(250):
        s.agent.file(f"c{i:03}/Makefile", "all:\n").file(f"c{i:03}/tool", "#!/bin/sh\n", 0o755)
    s.guest()
    with start(s) as t:
        t.press("/", "d1/f50", "enter", until=r"^>.*\[ \] new +f50").press("r", until="rejected: d1/f50")
        t.press("/", "c100/Makefile", "enter", until=r"^>.*Makefile").press("r", until="rejected: c100/Makefile")
        t.press("A", until="y/n").press("y", until=r"\d+ accepted \(u takes it back\)")
        assert "0 undecided" in t.lines()[2]
        t.press("u", until="taken back: 1051 decisions")
        assert "1051 undecided, 0 accepted, 2 rejected" in t.lines()[2], t.text()
        t.press("u", until="taken back: c100/Makefile")
        t.press("a", until="Enter or w applies").press("q", "u", until=r"taken back: 552 decisions")
        assert "1052 undecided, 0 accepted, 1 rejected" in t.lines()[2], t.text()
        t.press("q")
        assert t.end() == PENDING
    assert s.json("diff")["totals"]["undecided"] == 1052


def test_v9_discard_names_what_is_lost_and_asks(cli):
    s = plain_session(cli)
    with start(s) as t:
        t.press("D", until="type discard")
        assert "5 changes that are undecided" in t.text() and "src/one" in t.text()
        t.press("discard", "enter")
        assert t.end() == 0
    assert not os.path.exists(s.session)
    untouched(s)


def test_v13_fifty_thousand_paths(cli):
    s = cli.session().pack()
    for d in range(500):
        for i in range(100):
            s.agent.file(f"src/d{d:03}/f{i:02}", "x\n")
    s.guest()
    with start(s) as t:
        assert "50501 undecided" in t.lines()[2]  # the directories are new as well
        t.wait(r"\+ \[ \] new +src/  50501, 50501 undecided")
        t.press("j", "l", until=r"\+ \[ \] new +d000/  101, 101 undecided")
        sent = len(t.raw)
        t.press("G", until=r"^>.*d499/")
        t.press("k", "k", "k", until=r"^>.*d496/")
        assert len(t.raw) - sent < 40000  # a screen, not a list
        t.press("y", until="accept 101 undecided in src/d496").press("y", until="101 accepted")
        t.press("/", "d250/f99", "enter", until=r"^>.*\[ \] new +f99")
        t.press("u", until="taken back: 101 decisions")
        t.press("/", "d250/f99", "enter", until=r"^>.*\[ \] new +f99").press("r", until="rejected")
        t.press("a", until="Enter or w applies").press("q", "u", until="taken back: 50500 decisions")
        t.press("q")
        assert t.end() == PENDING


def test_v14_the_head_says_what_this_is(cli):
    s = plain_session(cli)
    s.host("echo meanwhile > src/one")
    with start(s, cols=100) as t:
        head = "\n".join(t.lines()[:3])
        assert s.id in head and "claude-code" in head and "abababababab" in head and s.tree[:20] in head
        assert re.search(r"packed \d{4}-\d\d-\d\d \d\d:\d\d \(\d+ s ago\)", head)
        assert "host changes: 1" in head
        t.press("i", until="image")
        assert "ab" * 32 in t.text()


def test_v14_all_of_the_head_fits_eighty_columns(cli):
    s = plain_session(cli)
    with start(s) as t:
        assert "host changes: 0" in t.lines()[1]


def test_v15_a_pipe_gets_neither_colour_nor_cursor(cli):
    s = plain_session(cli)
    done = s.run("review", code=PENDING)
    assert b"\x1b" not in done.stdout + done.stderr
    assert s.json("review", code=PENDING)["totals"]["undecided"] == 5


def test_plain_only_and_json_need_no_terminal(cli):
    s = plain_session(cli)
    done = s.run("review", "--plain-only", code=PENDING)
    assert "3" in done.out
    assert s.read("src/one") == "ONE\n" and not os.path.exists(s.at(X0)) and not os.path.exists(s.at(X1))


def test_a_conflict_shows_both_versions_and_asks(cli):
    s = cli.session()
    s.host("printf '1\\n2\\n3\\n' > both; echo x > other")
    s.pack()
    s.agent.file("both", "1\nagent\n3\n").file("other", "y\n")
    s.guest()
    s.host("printf '1\\nmine\\n3\\n' > both")
    with start(s) as t:
        assert "both" in t.row(r"\[ \] edit +both")
        goto(t, "both").press("enter", until=r"\+agent")
        assert "*mine" in t.text()
        t.press("v", until=r"\*mine.*\|.*\+agent")
        t.press("2", until="your version, whole")
        assert "mine" in t.text() and "agent" not in t.text().split("whole")[0].replace("the agent", "")
        t.press("d", "y", until="y/n").press("n", until="not done")
        t.press("q", "a", until="Enter or w applies 1").press("enter", until="applied: 1")
        assert s.read("both") == "1\nmine\n3\n"
        t.press("x")
        goto(t, "both").press("y", until="y/n").press("y", until=r"\[y\] edit +both")
        t.press("w", until="applies 1").press("w", until="applied: 1")
    assert s.read("both") == "1\nagent\n3\n"


def test_keys_that_nobody_knows_are_no_keys_of_ours(cli):
    s = plain_session(cli)
    with start(s) as t:
        for key in ("\x1b[1;5D", "\x1b[a", "\x1b[200~", "\x1bOw", "\x1ba", "\x1b[?1;2c"):
            t.press(key)
            assert "5 undecided, 0 accepted" in t.lines()[2] and "discard" not in t.prompt()
        t.press("\x1b[B", until=r"^>.*\.envrc").press("\x1bOB", until="^>- X1")


def test_p2_what_the_host_changed_meanwhile_goes_back(cli):
    s = plain_session(cli)
    with start(s) as t:
        t.press("a", until="Enter or w applies 3")
        s.host("echo meanwhile > src/one")
        t.press("enter", until="nothing was changed")
        assert "src/one" in t.text()
        assert s.read("src/two") == "two\n"
        t.press("w", until="applied: 2")
    assert s.read("src/one") == "meanwhile\n"
    assert s.read("src/two") == "TWO\n"


def test_a_hard_link_is_asked_about(cli):
    s = cli.session()
    s.host("echo a > a; ln a b; echo c > c")
    s.pack()
    s.agent.file("a", "A\n")
    s.guest()
    with start(s) as t:
        goto(t, "a").press("y", until="2 names").press("n", until="not done")
        t.press("y", until="2 names").press("y", until=r"\[y\] edit +a")
        t.press("w", until="applies 1").press("w", until="applied: 1")
    assert s.read("a") == "A\n" and s.read("b") == "a\n"


# --- what a guest wrote ---

HOSTILE = [
    "\x1b[2J\x1b[1;1H", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "\x1b]52;c;ZXZpbA==\x07",
    "\x1bPq#0\x1b\\", "\x9b31m", "\x07\x07\x07", "over\b\b\b\bprint", "over\rprint", "\x1b[?1049h", "\x1b[6n", "\x1bc",
    "\u202eabc\u202c", "\u2066x\u2069", "a\u200bb\ufeffc", "\u2028line", "berm> Enter or w applies 0",
]


def strange_session(cli, texts):
    s = cli.session()
    s.host("echo old > file")
    s.pack()
    s.agent.file("file", "".join(t + "\n" for t in texts))
    for i, text in enumerate(texts):
        name = text.replace("/", "|")
        s.agent.file(f"{i:02} {name}", text + "\n")
        s.agent.link(f"link{i:02}", "to " + text)
    s.agent.file("dir " + texts[0].replace("/", "|") + "/Makefile", "all:\n")
    return s.guest(agent="claude-code")


def read_all(s, **how):
    """Shows all there is to be shown; returns every byte that the terminal got."""
    with start(s, **how) as t:
        t.press(".", "enter", until="q back")
        for _ in range(len(HOSTILE) * 2 + 2):
            t.press("v", "i", "3", "d", "right", "left", "J")
        t.press("q", "a", until="Enter or w").press("q", "?", "x", "i", "x", "D").press("escape", until=LIST)
        t.press("q", "q")
        assert t.end() == PENDING
        return t.raw


SEQUENCE = re.compile(rb"\x1b\[[?>]?[0-9;]*[@A-Za-z]|\x1b[()][AB0]|\x1b[=>78M]")
CONTROL = re.compile(rb"[\x00-\x1a\x1c-\x1f\x7f]|\xc2[\x80-\x9f]"
                     rb"|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf")


# What ncurses may use to draw the same cells another way, which depends on what was there before.
DRAWS = {bytes([c]) for c in b"HJKdGABCDXPLMrmb@ST"}


def kinds(raw):
    """Of each control sequence its kind: modes whole, of the rest what they do."""
    found = set()
    for seq in SEQUENCE.findall(raw):
        found.add(seq if seq[-1:] in b"hl" or seq[1:2] != b"[" else seq[-1:])
    rest = SEQUENCE.sub(b"", raw)
    assert b"\x1b" not in rest, rest[max(0, rest.find(b"\x1b") - 40) :][:80]
    return found, set(CONTROL.findall(rest))


def test_z1_z2_z4_nothing_of_a_guest_reaches_the_terminal(cli, tmp_path):
    tame = ["".join(c if c.isprintable() and c.isascii() else "\\x00" for c in t) for t in HOSTILE]
    (tmp_path / "tame").mkdir()
    harmless, _ = kinds(read_all(strange_session(Cli(tmp_path / "tame"), tame)))
    s = strange_session(cli, HOSTILE)
    for lang in ("C.UTF-8", "C"):
        raw = read_all(s, env={"LANG": lang})
        sequences, controls = kinds(raw)
        assert sequences <= harmless | DRAWS
        assert controls <= {b"\r", b"\n", b"\b", b"\t"}
        if lang == "C":
            assert raw.isascii()


def committed(cli, texts):
    """Commits whose messages, authors and addresses are these words, and branches of these names."""
    commit = "git -c user.name=T -c user.email=t@t commit -qm a"
    s = cli.session().host(f"git init -q .; echo a > a; git add a; {commit}").pack()
    script = "".join(f"""
        echo {i} > a
        GIT_AUTHOR_NAME="A $N{i} Z" GIT_AUTHOR_EMAIL="a${{N{i}}}z" GIT_COMMITTER_NAME="C $N{i} Z" git commit -qam "$W{i}
$W{i}"
        git rev-parse HEAD > ".git/refs/heads/b{i}$N{i}"
        """ for i in range(len(texts)))
    names = {f"N{i}": t.translate({ord(c): "|" for c in "<>\n/"}) for i, t in enumerate(texts)}
    work(s, script, **names, **{f"W{i}": t for i, t in enumerate(texts)})
    return s.guest(agent="agent" + texts[0], message=texts[1], image="im" + texts[2], ended="failed")


def read_commits(s):
    with start(s) as t:
        t.press("o", until="any other key closes")
        for _ in range(len(HOSTILE)):
            t.press(" ")
        t.press("x", "i", " ", " ", "x", "a", until="Enter or w").press("enter").press("x", "q", "q")
        t.end()
        return t.raw


def test_z1_z4_commits_and_branches_of_hostile_words(cli, tmp_path):
    tame = ["".join(c if c.isprintable() and c.isascii() else "\\x00" for c in t) for t in HOSTILE]
    (tmp_path / "tame").mkdir()
    harmless, _ = kinds(read_commits(committed(Cli(tmp_path / "tame"), tame)))
    s = committed(cli, HOSTILE)
    said = []
    for words in (["diff", s.id], ["diff", "--json", s.id], ["sessions"], ["sessions", "--json"]):
        done = subprocess.run([cli.berm, *words], env=cli.env, capture_output=True, check=True)
        said += [done.stdout, done.stderr]
    raw = read_commits(s)
    sequences, controls = kinds(raw)
    assert sequences <= harmless | DRAWS and controls <= {b"\r", b"\n", b"\b", b"\t"}
    for words in (["apply", "--plain-only", s.id], ["undo", s.id], ["discard", "--yes", s.id]):
        done = subprocess.run([cli.berm, *words], env=cli.env, capture_output=True, check=False)
        assert done.returncode in (0, PENDING), done.stderr
        said += [done.stdout, done.stderr]
    for text in said:
        assert not CONTROL.search(text.replace(b"\n", b"")) and b"\x1b" not in text, text
    assert b"\\x1b" in b"".join(said)


def test_p14_commits_of_a_repository_within_are_shown_under_its_path(cli):
    commit = "git -c user.name=T -c user.email=t@t commit -q"
    s = cli.session().host(f"git init -q -b main sub; cd sub; echo a > a; git add a; {commit} -m a").pack()
    work(s, "cd sub; git commit -q --allow-empty -m b; cd ..; git init -q made; cd made; "
            "git commit -q --allow-empty -m x").guest()
    with start(s) as t:
        assert "; 1 commit" in t.lines()[2]
        t.press("o", until="any other key closes")
        shown = t.text()
        assert "branches of sub, which" in shown and "commits of sub, oldest first" in shown
        assert f"refs/heads/main becomes refs/berm/{s.id}/main" in shown
        assert "commits of made" in shown and "none come back: the workspace has no such repository" in shown
        t.press("x", "w", until="Enter or w brings 1 commit, q goes back")
        t.press("enter", until="no file was changed")
        t.press("x", until=LIST)
        t.press("q")
        assert t.end() == PENDING  # a directory that is new
    assert git(f"{s.tree}/sub", "for-each-ref", "--format=%(subject)", f"refs/berm/{s.id}/").split() == ["b"]


def test_p14_commits_alone_are_brought_once(cli):
    """A commit is no change to a file: the question counts it, and nobody asks again when it is home."""
    commit = "git -c user.name=T -c user.email=t@t commit -q"
    s = cli.session().host(f"git init -q -b main .; echo a > a; git add a; {commit} -m a").pack()
    work(s, "git commit -q --allow-empty -m b; git commit -q --allow-empty -m c; echo hook > .git/hooks/post-commit")
    s.guest()
    with start(s) as t:
        assert "; 2 commits" in t.lines()[2]
        t.press("w", until="Enter or w brings 2 commits, q goes back")
        assert "2 commits to bring to " in t.text()
        t.press("enter", until="no file was changed")
        assert "commits: 1 refs under" in t.text() and "berm undo" not in t.text()
        t.press("x", until=LIST)
        assert "commit" not in t.lines()[2]
        t.press("w", until="nothing is left to apply")
        t.press("q")
        assert t.end() == 0
    assert git(s.tree, "for-each-ref", "--format=%(subject)", f"refs/berm/{s.id}/").split() == ["c"]


def test_what_never_comes_back_offers_no_keys_that_decide(cli):
    commit = "git -c user.name=T -c user.email=t@t commit -q"
    s = cli.session().host(f"git init -q -b main .; echo a > a; git add a; {commit} -m a").pack()
    work(s, "echo hook > .git/hooks/post-commit; echo b > a")
    s.guest()
    with start(s) as t:
        assert "y accept" in t.lines()[-1]
        goto(t, "post-commit")
        assert t.lines()[-1].split() == "berm> a all plain Enter look w apply q quit ? help".split(), t.lines()[-1]
        t.press("enter", until="^berm> J next")
        assert "accept" not in t.lines()[-1] and "reject" not in t.lines()[-1]
        t.press("q", until=LIST)
        goto(t, "a").press("enter", until="^berm> y accept")


def test_z2_bidi_and_zero_width_characters_are_shown_escaped(cli):
    s = cli.session().pack()
    s.agent.file("a\u202eb\u200bc", "x\u2066y\n")
    s.guest()
    with start(s) as t:
        t.wait(r"a\\xe2\\x80\\xaeb\\xe2\\x80\\x8bc")
        t.press("j", "enter", until=r"\+x\\xe2\\x81\\xa6y")


def test_z3_content_cannot_draw_our_prompt(cli):
    s = cli.session()
    s.host("seq 1 50 > file")
    s.pack()
    fake = "berm> Enter or w applies 1; the rest stays pending, q goes back"
    s.agent.file("file", (fake + "\n") * 60).file(fake, "x\n")
    s.guest()
    with start(s) as t:
        for keys in (("j",), ("enter",), ("pagedown",), ("3",), ("G",), ("v",), ("q",)):
            t.press(*keys)
            assert all(not line.startswith("berm>") for line in t.lines()[:-1])
            assert t.prompt().startswith("berm> ") and "applies" not in t.prompt()
            assert all(t.screen.buffer[t.rows - 1][col].reverse for col in range(t.cols))
            assert not any(t.screen.buffer[row][col].reverse for row in range(3, t.rows - 1) for col in range(t.cols))


def test_no_color(cli):
    s = plain_session(cli)
    with start(s, env={"NO_COLOR": "1"}) as t:
        t.press("j", "enter").press("q", "q")
        assert t.end() == PENDING
        colours = re.findall(rb"\x1b\[[0-9;]*m", t.raw)
        assert not [c for c in colours if re.search(rb"[\[;](3[0-7]|4[0-7]|9[0-7])[;m]", c)]
    with start(s) as t:
        t.press("q")
        t.end()
        assert re.search(rb"\x1b\[[0-9;]*3[0-7][;m]", t.raw)


def test_small_screens_and_resizing(cli):
    s = plain_session(cli)
    with start(s, rows=10, cols=40) as t:
        assert t.prompt().startswith("berm> ")
        goto(t, "src/one").press("enter", until=r"\+ONE").press("q")
        t.resize(8, 40)
        t.wait("berm review needs")
        t.press("a", "enter", "y")  # nothing is decided unseen
        assert "accepted" not in t.text()
        t.resize(30, 100)
        t.wait(r"^berm> ")
        assert "5 undecided, 0 accepted" in t.lines()[2]
        t.press("q")
        assert t.end() == PENDING
    untouched(s)


def test_the_help_fits_eighty_columns(cli):
    s = plain_session(cli)
    with start(s) as t:
        for key in ("?", " ", " "):
            t.press(key)
            assert all(not line.endswith(">") for line in t.lines()[3:22]), t.text()


# --- the issue's own scenario: this project, a scripted agent, two keystrokes ---

PLANTED = (".envrc", ".vscode/tasks.json", ".git/hooks/pre-commit")
EDITED = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "NEWS.md", "docs/benchmarks.md",
          "src/base/buf.c", "src/base/err.c", "src/base/span.c", "src/base/units.c")
GONE = "docs/internals/probe.md"
MOVED = ("docs/adr", "docs/decisions")


def git(folder, *words):
    env = {"PATH": os.environ["PATH"], "HOME": folder, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=Agent", "-c", "user.email=agent@example.org"]
    done = subprocess.run(["git", "-C", folder, *who, *words], env=env, check=True, capture_output=True, text=True,
                          timeout=60)
    return done.stdout.strip()


def copy_of_this_project(folder):
    os.makedirs(folder, exist_ok=True)
    parts = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "NEWS.md", "Makefile", "meson.build",
             "docs", "src"]
    subprocess.run(["cp", "-a", *(os.path.join(TOP, p) for p in parts), folder], check=True, timeout=60)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "as it was")


def agent_at_work(guest):
    """Ten edits, three planted files, a deletion, a renamed directory, and a commit of all that."""
    for path in EDITED:
        with open(os.path.join(guest, path), "a", encoding="utf-8") as f:
            f.write("\nadded by the agent\n")
    os.makedirs(os.path.join(guest, ".vscode"))
    for path in PLANTED:
        with open(os.path.join(guest, path), "w", encoding="ascii") as f:
            f.write("#!/bin/sh\ntouch /tmp/planted\n")
    os.unlink(os.path.join(guest, GONE))
    os.rename(*(os.path.join(guest, p) for p in MOVED))
    git(guest, "add", "-A")
    git(guest, "commit", "-q", "--no-verify", "-m", "the agent's work\n\n\x1b[2Jevil")
    os.chmod(os.path.join(guest, PLANTED[2]), 0o755)


def files_of(top):
    return {os.path.relpath(os.path.join(folder, name), top)
            for folder, _, names in os.walk(top) for name in names}


def content(path):
    with open(path, "rb") as f:
        return f.read()


def propose(session, guest):
    """What a guest with these files would have left in its upper layer."""
    old, new = files_of(session.tree), files_of(guest)
    session.agent.renamed(*MOVED)
    for path in sorted(old - new):
        if not path.startswith(MOVED[0] + "/"):
            session.agent.gone(path)
    for path in sorted(new):
        if path.startswith(MOVED[1] + "/"):
            continue
        data = content(os.path.join(guest, path))
        if path not in old or data != content(session.at(path)):
            mode = os.stat(os.path.join(guest, path)).st_mode & 0o777
            session.agent.file(path, data, mode)
    session.guest(agent="claude-code")


def test_done_when_a_scripted_session_on_this_project(cli, tmp_path):
    s = cli.session("5e551000d0de")
    guest = str(tmp_path / "guest")
    copy_of_this_project(s.tree)
    subprocess.run(["cp", "-a", s.tree, guest], check=True, timeout=60)
    s.pack()
    agent_at_work(guest)
    propose(s, guest)
    with open(s.at("src/base/err.h"), "a", encoding="utf-8") as f:  # not the agent's
        f.write("/* mine */\n")
    mine = "mine, before the rest\n" + s.read("SECURITY.md")  # the agent's as well, elsewhere in it
    with open(s.at("SECURITY.md"), "w", encoding="utf-8") as f:
        f.write(mine)
    head = git(s.tree, "rev-parse", "HEAD")
    with start(s) as t:
        assert "1 commit" in t.lines()[2]
        t.press("a", until="Enter or w applies")
        t.press("enter", until="applied: ")
        assert "refs/berm/" in t.text()
        t.press("x", "a", "A", "y", "y")  # whatever is pressed, these are not taken
        t.press("q", "q", "q")
        assert t.end() == PENDING
    assert sorted(left(s)) == [".envrc", ".vscode/tasks.json", "SECURITY.md"]
    for path in set(EDITED) - {"SECURITY.md"}:
        assert s.read(path).endswith("\nadded by the agent\n"), path
    assert s.read("SECURITY.md") == mine
    assert s.read("src/base/err.h").endswith("/* mine */\n")
    assert not os.path.exists(s.at(GONE))
    assert not os.path.exists(s.at(MOVED[0])) and os.path.exists(s.at(MOVED[1] + "/README.md"))
    for path in PLANTED:
        assert not os.path.exists(s.at(path)), path
    assert git(s.tree, "rev-parse", "HEAD") == head
    refs = git(s.tree, "for-each-ref", "--format=%(refname) %(subject)", f"refs/berm/{s.id}/")
    assert "the agent's work" in refs
    git(s.tree, "fsck", "--strict")
    with start(s) as t:
        goto(t, "SECURITY.md").press("y", until="merge the agent's changes with yours").press("y", until="1 accepted")
        t.press("w", until="applies 1").press("enter", until="applied: 1")
    assert s.read("SECURITY.md") == mine + "\nadded by the agent\n"

"""What berm diff shows, as text and as JSON: hostile words, binaries, large texts, twice the same."""

import base64
import os
import pty
import re
import subprocess

import schema
from cli_world import ERROR, PENDING, work
from test_verbs import standard

HOSTILE = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link", "\x1b]52;c;ZXZpbA==\x07", "\x1bPq#0\x1b\\",
    "\xc2\x9b31m".encode("latin-1").decode("utf-8"), "\x07" * 50, "safe\b\b\b\bevil", "safe\revil", "\x1b[?1049h",
    "\u202egnp.exe", "a\u200bb", "\u2066x\u2069", "\ufeff", "\U000e0041",
]
COLOURS = re.compile(rb"\x1b\[(?:0|1|31|32|36)m")
UNSEEN = re.compile("[\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")


def hostile(cli):
    s = cli.session().host("git init -q .; printf 'a\\nb\\nc\\nd\\n' > text; echo a > a; ln -s a link; git add text; "
                           "git -c user.name=T -c user.email=t@t commit -qm a").pack()
    g = s.agent
    work(s, 'echo x > x; git add x; git commit -qm "$WORDS"; git checkout -qb "topic"', WORDS=HOSTILE[0] + HOSTILE[10],
         GIT_AUTHOR_NAME="A" + HOSTILE[1] + "Z")
    for i, words in enumerate(HOSTILE):
        g.file(f"f{i}-{words}".replace("/", "|"), f"before\n{words}\nafter\n")
    g.file("text", "a\n" + "\n".join(HOSTILE) + "\nc\nd\n").link("link", HOSTILE[0] + HOSTILE[8])
    g.file("tabs", "\tx\n")
    s.guest(agent="agent" + HOSTILE[0], message=HOSTILE[2], image="im" + HOSTILE[10], ended="failed")
    return s


def check_inert(raw, colour):
    if colour:
        raw = COLOURS.sub(b"", raw)
    text = raw.decode("utf-8")  # and it is that
    for c in text:
        assert c == "\n" or c >= " " and not 0x7F <= ord(c) < 0xA0, repr(c)
    assert not UNSEEN.search(text)
    return text


def on_terminal(cli, words, env):
    master, slave = pty.openpty()
    with subprocess.Popen([cli.berm, *words], env={**cli.env, "TERM": "xterm", **env}, cwd=cli.path,
                          stdin=subprocess.DEVNULL, stdout=slave, stderr=subprocess.DEVNULL) as p:
        os.close(slave)
        got = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            got += part
        os.close(master)
        assert p.wait(60) == 0
    return got.replace(b"\r\n", b"\n")


def test_z1_z2_z4_what_others_wrote_moves_nothing(cli):
    s = hostile(cli)
    text = check_inert(s.run("diff").stdout, False)
    assert "\\x1b[31mred" in text and "\\xe2\\x80\\xaegnp.exe" in text and "safe\\x0devil" in text
    assert "+        x\n" in text  # a tab is the spaces that it stands for
    assert "A\\x1b]0;title\\x07Z: " in text  # the author of a commit
    for words in (["--stat"], ["--name-only"]):
        check_inert(s.run("diff", *words).stdout, False)
    shown = on_terminal(cli, ["diff", s.id], {"TERM": "xterm"})
    assert check_inert(shown, True) == text
    assert COLOURS.search(shown)
    assert check_inert(cli.run("sessions").stdout, False)
    done = s.run("apply", "--plain-only", "--no-commits", code=0)
    check_inert(done.stdout + done.stderr, False)
    check_inert(s.run("discard", "--yes").stderr, False)


def test_v15_neither_colour_nor_cursor_but_on_a_terminal(cli):
    s = standard(cli)
    assert b"\x1b" not in s.run("diff").stdout
    assert b"\x1b" in on_terminal(cli, ["diff", s.id], {})
    assert b"\x1b" not in on_terminal(cli, ["diff", s.id], {"NO_COLOR": "1"})


def test_z5_d28_the_json_is_as_it_is_published_and_inert(cli):
    s = hostile(cli)
    s.agent.file("latin-\udce9", b"caf\xe9\n")
    os.unlink(os.path.join(s.session, "spool.tar"))
    s.guest(agent=s.info["agent"], message=s.info["message"])
    raw = s.run("diff", "--json").stdout
    check_inert(raw, False)
    out = s.json("diff")
    schema.check(out)
    by_path = {c["path"]: c for c in out["changes"]}
    for i, words in enumerate(HOSTILE):  # whoever parses it has every byte
        c = by_path[f"f{i}-{words}".replace("/", "|")]
        assert c["hunks"][0]["new"] == f"before\n{words}\nafter\n"
    latin = by_path["latin-\ufffd"]
    assert base64.b64decode(latin["path_base64"]) == b"latin-\xe9"
    assert base64.b64decode(latin["hunks"][0]["new_base64"]) == b"caf\xe9\n"
    assert by_path["link"]["guest"]["target"] == HOSTILE[0] + HOSTILE[8]
    assert out["commits"]["list"][0]["subject"].startswith("\x1b[31mred")
    listed = cli.run("sessions", "--json").stdout
    check_inert(listed, False)


def test_d24_binaries_by_size_and_digest(cli):
    s = standard(cli)
    text = s.run("diff", "bin").out
    assert "old: 3000 bytes (2.9 KiB), sha256 c81ca5eda5947c78" in text
    assert "new: 10 bytes, sha256 01d448afd928065458cf670b60f5a594d735af0172c8d67f22a81680132681ca" in text
    c = s.changes()["bin"]
    assert c["hunks"] is None and c["guest_sha256"].startswith("01d448afd928")


def test_d25_large_texts_by_line_or_said_to_be(cli):
    line = "0123456789abcdef" * 4
    s = cli.session().host("mkdir d").pack()
    for name, lines in (("twelve", 12 << 14), ("forty", 40 << 14)):
        with open(s.at(name), "w", encoding="ascii") as f:
            f.write((line + "\n") * lines)
    s.pack()
    s.agent.file("twelve", (line + "\n") * 1000 + "changed\n" + (line + "\n") * ((12 << 14) - 1001))
    s.agent.file("forty", (line + "\n") * 1000 + "changed\n" + (line + "\n") * ((40 << 14) - 1001))
    s.agent.file("wide", "x" * 100000 + "\n")
    s.guest()
    text = s.run("diff", "twelve").out
    assert "@@ -998,7 +998,7 @@" in text and "+changed\n" in text and len(text) < 4096
    text = s.run("diff", "forty").out
    assert "not shown line by line: " in text and text.count("sha256") == 2 and len(text) < 4096
    c = s.changes()["forty"]
    assert c["hunks"] is None and c["not_by_line"]
    text = s.run("diff", "wide").out
    assert "[95904 more bytes]\n" in text and len(text) < 8192
    assert len(s.changes()["wide"]["hunks"][0]["new"]) == 100001


def test_a_tab_is_the_spaces_it_stands_for(cli):
    s = cli.session().pack()
    s.agent.file("tabs", "\u00fc\tx\ne\u0301\tx\n\u4e2d\tx\n\x01\tx\n")
    s.guest()
    text = s.run("diff", "tabs").out
    for line, columns in (("\u00fc", 1), ("e\u0301", 1), ("\u4e2d", 2), ("\\x01", 4)):
        assert f"+{line}{' ' * (8 - columns)}x\n" in text


def test_d26_ends_of_lines(cli):
    s = cli.session().host("printf 'a\\r\\nb\\r\\n' > crlf; printf 'a\\nb' > end").pack()
    s.agent.file("crlf", "a\r\nc\r\n").file("end", "a\nb\n")
    s.guest()
    text = s.run("diff").out
    assert " a\\x0d\n-b\\x0d\n+c\\x0d\n" in text
    assert " a\n-b\n\\ No newline at end of file\n+b\n" in text


def test_d27_twice_the_same(cli):
    s = standard(cli)
    s.run("diff")
    for words in ((), ("--stat",), ("--name-only",)):
        assert s.run("diff", *words).stdout == s.run("diff", *words).stdout
    one, two = s.json("diff"), s.json("diff")
    assert one["changes"] == two["changes"]
    paths = [c["path"] for c in one["changes"] if c["section"] == "plain"]
    assert paths == sorted(paths, key=lambda p: [os.fsencode(x) for x in p.split("/")])


def test_v14_whose_work_it_is(cli):
    s = standard(cli)
    s.host("echo mine >> src/text")
    head = s.run("diff").out.split("\n\n")[0]
    assert s.id in head and "claude-code" in head and s.tree in head and "abababababab" in head
    assert re.search(r"packed 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", head)
    assert "has changed 1 of these paths" in head


def test_a_conflict_shows_both_sides(cli):
    s = cli.session().host("seq 20 > text").pack()
    s.agent.file("text", "".join(f"{n}\n" if n != 5 else "agent\n" for n in range(1, 21)))
    s.guest()
    s.host("sed -i s/^15$/host/ text")
    text = s.run("diff").out
    assert "+agent\n" in text and "+host\n" in text and "the host has edited it too" in text
    s.run("apply", "--path", "text")
    assert "agent\n" in s.read("text") and "host\n" in s.read("text")


def test_what_cannot_go_on_says_what_to_do(cli):
    s = cli.session().host("echo a > a").pack()
    s.agent.file("a", "new\n")
    s.guest()
    os.rename(s.tree, s.tree + ".moved")
    os.mkdir(s.tree)
    assert f"berm discard {s.id}" in s.run("apply", "--all", code=ERROR).err
    with open(os.path.join(s.session, "session.json"), "wb") as f:
        f.write(b"\0")
    assert f"sessions/{s.id}" in s.run("diff", code=ERROR).err


def test_z1_two_paths_that_are_shown_alike_are_not_taken_for_each_other(cli):
    s = cli.session().host("echo a > a").pack()
    s.agent.file("d\n/.envrc", "1").file("d\\x0a/.envrc", "2")
    s.guest()
    assert "berm review" in s.run("apply", "--accept-x0", "d\\x0a/.envrc", code=ERROR).err
    assert os.listdir(s.tree) == ["a"]
    # doubled, the backslash can only be the name's own
    s.run("apply", "--accept-x0", "d\\\\x0a/.envrc", "--path", "d\\x0a", code=PENDING)
    assert s.read("d\\x0a/.envrc") == "2" and not os.path.exists(s.at("d\n"))


def test_z1_a_backslash_that_is_the_only_one_is_typed_as_it_is_shown(cli):
    s = cli.session().host("echo a > a").pack()
    s.agent.file("d\\x0a/.envrc", "2")
    s.guest()
    s.run("apply", "--accept-x0", "d\\x0a/.envrc", "--path", "d\\x0a")
    assert s.read("d\\x0a/.envrc") == "2"


def test_of_a_commit_its_objects_are_counted_and_a_planted_hook_is_named(cli):
    commit = "git -c user.name=T -c user.email=t@t commit -qm a"
    s = cli.session().host(f"git init -q .; echo a > a; git add a; {commit}").pack()
    work(s, "echo b > a; git commit -qam b; mkdir -p .git/hooks; echo x > .git/hooks/post-checkout")
    s.guest()
    shown = s.run("diff").out
    assert ".git/objects/" not in shown, shown
    assert re.search(r"\nand \d+ of git's objects \(berm diff --name-only", shown), shown
    assert "add file .git/hooks/post-checkout: inside a repository" in shown
    assert s.run("diff", "--name-only").out.count(".git/objects/") >= 3
    assert ".git/objects/" in s.run("diff", "--", ".git/objects").out


RUNS = "on a host this could run without being asked for"


def test_what_could_run_comes_first_in_each_listing(cli):
    """A planted hook stays in the guest; it is no line among a hundred of what git keeps."""
    commit = "git -c user.name=T -c user.email=t@t commit -qm a"
    s = cli.session().host(f"git init -q .; echo a > a; git add a; {commit}").pack()
    work(s, "for i in $(seq 40); do echo $i > a$i; done; git add .; git -c user.name=T -c user.email=t@t commit -qm b; "
            "mkdir -p .git/hooks; echo x > .git/hooks/post-checkout; echo x > .git/hooks/x.sample; echo y > .envrc; "
            "echo 'all:' > Makefile; git config core.fsmonitor ./x")
    s.guest()
    first = [".envrc", "Makefile", ".git/config", ".git/hooks/post-checkout"]
    names = s.run("diff", "--name-only").out.splitlines()
    assert names[:4] == first and len(names) > 80 and len(names) == len(set(names)), names
    stat = s.run("diff", "--stat").out.splitlines()
    assert [line.split()[1] for line in stat[:4]] == first and f" {len(names)} paths" in stat[-1]
    assert all(" | " in line.partition(" | ")[2] for line in stat[:2]), stat[:4]  # a reason each
    assert all(line.endswith(RUNS) for line in stat[2:4]) and not any(RUNS in line for line in stat[4:])
    shown = s.run("diff").out
    at = [shown.index(f"add file {first[0]} "), shown.index(f"add file {first[1]} "),
          shown.index("edit file .git/config: inside"), shown.index("add file .git/hooks/post-checkout: inside"),
          shown.index("== plain"), shown.rindex("== out")]
    assert at == sorted(at) and shown.count(RUNS) == 2

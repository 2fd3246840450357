"""`berm code`: a directory goes into a guest, an agent works on it, and its work is kept. What is in the
proposal is tested where it is compared and reviewed; here it is looked at as the tar it is."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile

import bermtest
import images
import pytest
import sandboxes

DRIVE = os.path.join(bermtest.TOP, "build", "main", "tests", "integration", "sup", "session_drive")
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
MARK = b"marker-of-a-secret-8f1c"
SMALL = ["--memory", "192MiB", "--disk", "256MiB"]
PENDING = 3

# What an agent finds, as JSON: paths with kind, mode, time, digest or target.
LOOK = r"""
import hashlib, json, os, stat, subprocess, sys
found = {}
for folder, dirs, files in os.walk("."):
    if "/.git" in folder or folder.endswith("/.git"):
        continue
    for name in dirs + files:
        path = os.path.relpath(os.path.join(folder, name), ".")
        st = os.lstat(path)
        what = [stat.S_IFMT(st.st_mode), stat.S_IMODE(st.st_mode), int(st.st_mtime)]
        if stat.S_ISLNK(st.st_mode):
            what.append(os.readlink(path))
        elif stat.S_ISREG(st.st_mode):
            what.append(hashlib.sha256(open(path, "rb").read()).hexdigest())
        found[path] = what
def say(*words):
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()
with open("/dev/vdc", "rb") as disk:
    raw = disk.read(16 << 20)
try:
    open("/dev/vdc", "r+b", buffering=0).write(b"x" * 4096)
    written = True
except OSError:
    written = False
home = os.path.expanduser("~")
print(json.dumps({
    "pwd": os.getcwd(), "found": found, "env": dict(os.environ), "written": written,
    "marker": %r.encode() in raw, "status": say("git", "status", "--porcelain"),
    "log": say("git", "log", "--format=%%s"), "name": say("git", "config", "user.name"),
    "hooks": os.path.exists(".git/hooks"), "config": open(".git/config").read(),
    "rss": [m.split()[1] for m in open("/proc/meminfo") if m.startswith("MemTotal")][0],
}))
""" % MARK.decode()


class Code:
    """`berm code` of a home directory and a workspace of the test's own."""

    def __init__(self, berm, stage, path):
        self.berm = berm
        self.head = [DRIVE, os.path.join(stage, "bin", "berm"), str(berm.state_dir)]
        self.home = path / "home"
        self.tree = path / "tree"
        self.home.mkdir()
        self.tree.mkdir()
        self.env = {"HOME": str(self.home), "XDG_CONFIG_HOME": ""}

    def run(self, *args, at=None, **more):
        env = {**self.env, **more.pop("env", {})}
        return self.berm.run("code", *args, cwd=str(at or self.tree), env=env, **more)

    def done(self, *args):
        got = self.berm.run(*args)
        assert got.returncode == 0, (got.stdout, got.stderr)

    def start(self, *args, stdin=subprocess.DEVNULL):
        return subprocess.Popen(self.berm.argv(["code", *args]), cwd=self.tree, env={**self.berm.env, **self.env},
                                stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def json(self, *args, code=0, **more):
        got = self.run("--json", *args, **more)
        assert got.returncode == code, (got.returncode, got.stdout, got.stderr)
        return json.loads(got.stdout)

    def drive(self, *args):
        return subprocess.run([*self.head, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=120 * bermtest.SLOWNESS, check=True).stdout

    def sessions(self, state=None):
        """In that state; else those with anybody's work."""
        lines = [line.split() for line in self.drive("list").splitlines()]
        return [line[0] for line in lines if (line[1] == state if state else line[1] != "unchanged")]

    def info(self, session):
        return json.loads(self.drive("show", session))

    def path(self, session, name):
        return os.path.join(self.berm.state_dir, "sessions", session, name)

    def notes(self, session):
        with open(self.path(session, "notes.json"), encoding="utf-8") as f:
            return json.load(f)

    def work(self, session):
        found = {}
        with open(self.path(session, "spool.tar"), "rb") as f:
            with tarfile.open(fileobj=io.BytesIO(f.read())) as tar:
                for m in tar:
                    found[m.name] = tar.extractfile(m).read() if m.isreg() else None
        assert ".berm-end" in found
        return found

    def git(self, *words, at=None):
        who = ["-c", "user.name=Tester", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
        env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        got = subprocess.run(["git", *who, *words], cwd=at or self.tree, env=env, capture_output=True, text=True,
                             check=False)
        assert got.returncode == 0, got.stderr
        return got.stdout

    def write(self, path, content=b"", mode=0o644):
        full = self.tree / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(content)
        full.chmod(mode)
        return full


@pytest.fixture
def code(berm, stage, tmp_path):
    made = Code(berm, stage, tmp_path)
    yield made
    for session in made.sessions() + made.sessions("unchanged"):
        made.drive("remove", session)
    berm.run("agent", "forget", "mine", env=made.env)


@pytest.fixture
def small(code, bb):
    """The same with an agent of its own on the small image."""
    folder = code.home / ".config/berm/agents"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text(f"""\
version: 1
image: {{ base: {bb} }}
command: [sh, -c, "cat ~/.mine/settings.json ~/.mine/rules/one.md; cat > done"]
arguments: {{ task: ["{{task}}"] }}
settings:
  - {{ path: .mine/settings.json, category: settings, format: json, keys: [model] }}
  - {{ path: .mine/rules, category: rules, format: folder }}
resources: {{ cpus: 1, memory: 192MiB, disk: 256MiB }}
state: [.mine/token.json]
environment: {{ set: {{ FROM_PROFILE: "1", TWICE: profile }}, forward: [FORWARDED] }}
""")
    code.write("a.txt", b"hello\n")
    return code


def secret_names():
    """A path for each pattern of the installed list."""
    with open(os.path.join(bermtest.STAGE, "share/berm/exclude/secret.ignore"), encoding="utf-8") as f:
        patterns = [line.strip() for line in f if line.strip() and line[0] not in "#!"]
    assert len(patterns) > 40
    patterns = [p.removeprefix("**/") for p in patterns]
    return [p.replace("*", "x") + ("file" if p.endswith("/") else "") for p in patterns]


def fill(code):
    """A tree with one of everything that the snapshot cases are about."""
    code.write("a.txt", b"hello\n")
    code.write("empty")
    code.write("dir/below/b.txt", b"two\n" * 5000, 0o600)
    code.write("run.sh", b"#!/bin/sh\n", 0o755)
    code.write("setuid", b"s", 0o4755)
    (code.tree / "bare").mkdir()
    for name, target in (("in", "dir/below"), ("out", "/etc/hostname"), ("up", "../../.."), ("gone", "nowhere")):
        (code.tree / f"link-{name}").symlink_to(target)
    for path in (".env", "dir/below/deep/.env.local", "dir/below/deep/id_rsa", "certs/other.pem"):
        code.write(path, b"TOKEN=" + MARK + b"\n")
    code.write("certs/server.pem", b"for tests\n")
    code.write(".env.example", b"TOKEN=\n")
    code.write("out.log", b"noise\n")
    code.write(".bermignore", b"*.log\n!.env\n")
    code.write(".berm.yaml", b"version: 1\nresources: { memory: 64GiB }\nimage: { base: other }\n")
    code.git("init", "-q", "-b", "main")
    code.git("config", "core.sshCommand", "touch /tmp/x")
    code.git("remote", "add", "origin", "https://me:hunter22@example.com/x.git")
    code.git("add", "a.txt", "empty", "dir/below/b.txt", "run.sh", ".bermignore", ".berm.yaml", ".env.example")
    code.git("commit", "-qm", "first")
    (code.tree / ".git/info/exclude").write_text("*\n")


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read(1 << 20)).hexdigest()


def seen(path):
    st = os.lstat(path)
    kind, mode = st.st_mode & 0o170000, st.st_mode & 0o777
    if kind == 0o120000:
        return [kind, 0o777, int(st.st_mtime), os.readlink(path)]
    if kind == 0o040000:
        return [kind, mode, int(st.st_mtime)]
    with open(path, "rb") as f:
        return [kind, mode, int(st.st_mtime), hashlib.sha256(f.read()).hexdigest()]


def test_s1_to_s20_what_an_agent_finds(code):
    """S1 S2 S3 S11 S15 S19 S20, E1 E2 E3 E4 E13: one guest, many looks."""
    fill(code)
    (code.home / ".gitconfig").write_text('[user]\n\tname = "A \\"Person\\""\n\temail = p@example.com\n')
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(code.tree / "socket"))
    for name in secret_names():
        for folder in ("", "three/levels/down/"):
            code.write(folder + name, MARK)
    before = {p: seen(code.tree / p) for p in os.listdir(code.tree) if p not in (".git", "socket")}
    got = code.run("--include-secret", "./certs/server.pem", "--include-secret", "certs/none.pem", "-e", "OWN=1",
                   "custom", "--", "python3", "-c", LOOK + "\nopen('new', 'w').write('x')\n"
                   "say('git', 'commit', '-q', '--allow-empty', '-m', 'second')\n")
    assert got.returncode == 0, got.stderr
    look = json.loads(got.stdout)
    found, said = look["found"], got.stderr
    # S1 S2 S3: bytes, modes, times and the texts of links
    for path in ("a.txt", "empty", "run.sh", "bare", "link-in", "link-out", "link-up", "link-gone"):
        assert found[path] == before[path], path
    assert found["dir/below/b.txt"] == seen(code.tree / "dir/below/b.txt")
    # S19: without what it could do on a host
    assert found["setuid"][1] == 0o755
    assert not [p for p in found if p.removeprefix("three/levels/down/") in secret_names()]
    # E1, E4: secrets are not there, nor anywhere on the disk; one was taken back
    assert not look["marker"] and not any("id_rsa" in p or p.endswith(".local") for p in found)
    assert ".env" not in found and "certs/other.pem" not in found and "certs/server.pem" in found
    # E3: the workspace cannot take one back; its own patterns count
    assert "  .env: stays out: a workspace cannot take a secret back" in said, said
    assert "out.log" not in found
    assert "socket" in said and "socket" not in found
    # E13: nothing of it is wider, and each refusal is said
    assert "memory" in said and "image" in said and int(look["rss"]) < 4 << 20, said
    # E2: history is there, and that is said
    assert "history" in said and "--no-history" in said and look["log"] == "first"
    # S11: nobody writes the base
    assert not look["written"]
    # S15, S20
    assert (look["pwd"], look["status"], look["name"]) == ("/workspace", "", 'A "Person"')
    assert not look["hooks"] and "sshCommand" not in look["config"] and "hunter22" not in look["config"]
    session, = code.sessions()
    env = look["env"]
    assert env["GIT_TERMINAL_PROMPT"] == "0" and env["OWN"] == "1"
    assert (env["BERM_AGENT"], env["BERM_SESSION"], env["BERM_WORKSPACE"]) == ("custom", session, "/workspace")
    # what is kept, and what a person can do
    assert "  certs/server.pem: entered, as you asked" in said and "1 of 2 paths" in said
    for verb in ("review", "apply", "discard"):
        assert f"berm {verb} {session}" in said
    assert code.notes(session)["included_secrets"] == ["certs/server.pem", "certs/none.pem"]
    info = code.info(session)
    assert (info["state"], info["ended"], info["root"]) == ("pending", "exited", str(code.tree))
    work = code.work(session)
    assert work["new"] == b"x" and any(p.startswith(".git/objects/") for p in work)
    assert not os.path.exists(code.tree / "new") and code.git("log", "--format=%s") == "first\n"


def test_e2_without_history_an_agent_cannot_find_what_was_deleted(code):
    """A secret that was committed once: with --no-history no object of it enters, and work goes on."""
    code.write("config", b"key=" + MARK + b"\n")
    code.write("a.txt", b"hello\n")
    code.git("init", "-q", "-b", "main")
    code.git("add", ".")
    code.git("commit", "-qm", "with a secret")
    (code.tree / "config").unlink()
    code.git("commit", "-qam", "without")
    head, index = code.git("rev-parse", "HEAD"), (code.tree / ".git/index").read_bytes()
    script = (f"head -c 16777216 /dev/vdc | grep -c -a -F {MARK.decode()}; git rev-list --all | wc -l;"
              " find .git/objects -type f | wc -l; git cat-file -e HEAD:a.txt 2>/dev/null || echo none; cat a.txt;"
              " git symbolic-ref HEAD; git config user.name A; git config user.email a@b; git add a.txt;"
              " git commit -qm mine; git log --format=%s")
    got = code.run("--no-history", "--", "sh", "-c", script)
    assert got.returncode == 0, got.stderr
    assert "history" in got.stderr and "--no-history leaves it out" not in got.stderr, got.stderr
    assert got.stdout == "0\n0\n0\nnone\nhello\nrefs/heads/main\nmine\n", got.stdout
    session, = code.sessions()
    # nothing that was left out is taken for deleted, and the host's history stays
    shown = code.berm.run("diff", "--json", session, env=code.env)
    assert shown.returncode == 0, shown.stderr
    assert not [c for c in json.loads(shown.stdout)["changes"] if c["section"] != "out"], shown.stdout
    assert code.git("rev-parse", "HEAD") == head and (code.tree / ".git/index").read_bytes() == index
    code.git("fsck", "--strict")


def test_a_policy_says_what_stays_out(code):
    """With the line that says so; over the user's and the workspace's own words, and under the flag's."""
    for name in ("a.local", "b.local", "kept.txt", "dir/raw/x", "node_modules/m"):
        code.write(name, b"x")
    code.write(".bermignore", b"!*.local\n")
    (code.home / ".config/berm").mkdir(parents=True)
    (code.home / ".config/berm/ignore").write_text("!*.local\n")
    policy = "../home/policy.yaml"  # a long path would be shown by its last part
    made = code.home / "policy.yaml"
    made.write_text("version: 1\nworkspace:\n  skip_cost: true\n  exclude:\n    - '*.local'\n    - /dir/raw/\n")
    found = code.json("--dry-run", "--policy", policy)
    hits = {r["rule"]: r["hits"] for r in found["rules"]}
    assert hits[f"{policy}:5: *.local"] == 2 and hits[f"{policy}:6: dir/raw"] == 1, found
    assert found["left_out"]["cost"] == 1, found
    said = code.run("--dry-run", "--policy", policy, "--exclude", "!b.local").stdout
    assert f"{policy}:5: *.local  1 hit, 1 byte" in said, said
    made.write_text("version: 1\nworkspace: { exclude: ['!.env'] }\n")
    got = code.run("--dry-run", "--policy", policy)
    assert got.returncode == 125 and "policy.yaml:2:24: '!.env' would bring back" in got.stderr, got.stderr


def test_what_the_workspaces_file_leaves_out_has_its_line(code):
    code.write("x.local", b"x")
    code.write(".berm.yaml", b"version: 1\nresources: { memory: 1GiB }\nexclude:\n  - '*.other'\n  - '*.local'\n")
    rules = {r["rule"]: r["hits"] for r in code.json("--dry-run")["rules"]}
    assert rules[".berm.yaml:5: *.local"] == 1, rules


def test_s6_what_cannot_be_read_is_named_and_never_deleted(small):
    """Also where the agent makes something of that name, or takes away the directory it is in."""
    small.write("dir/shut", b"mine\n", 0)
    small.write("shut", b"mine\n", 0)
    small.write("closed/in", b"mine\n")
    (small.tree / "closed").chmod(0)
    args = small.berm.argv(["code", "mine", "--no-settings", "--", "sh", "-c", "ls -R; rm -r dir; echo new > shut"])
    if os.geteuid() == 0:  # who may read anything, but for this
        args = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *args]
    try:
        got = subprocess.run(args, cwd=small.tree, env={**small.berm.env, **small.env}, capture_output=True, text=True,
                             stdin=subprocess.DEVNULL, timeout=120 * bermtest.SLOWNESS, check=False)
        assert got.returncode == 0, got.stderr
        assert "  stayed out, cannot be read: closed/, dir/shut, shut\n" in got.stderr, got.stderr
        assert "shut" not in got.stdout and "in\n" not in got.stdout
        session, = small.sessions()
        shown = json.loads(small.berm.run("diff", "--json", session, env=small.env).stdout)
        found = {c["path"]: c for c in shown["changes"]}
        assert not {"closed", "closed/in", "dir/shut"} & set(found), found
        assert found["shut"]["section"] == "conflicts", found["shut"]
        assert small.berm.run("apply", "--all", session, env=small.env).returncode in (0, PENDING)
        assert (small.tree / "dir/shut").read_bytes() == (small.tree / "shut").read_bytes() == b"mine\n"
    finally:
        (small.tree / "closed").chmod(0o755)
    assert (small.tree / "closed/in").read_bytes() == b"mine\n"


def test_p14_work_that_only_the_stash_holds_is_kept(small):
    """The tree is as it was packed, and the agent's work is not: git alone knows of it."""
    small.git("init", "-q", "-b", "main")
    small.git("add", "a.txt")
    small.git("commit", "-q", "-m", "first")
    there = small.home / "there"
    shutil.copytree(small.tree, there)
    (there / "a.txt").write_bytes(b"put away\n")
    small.git("stash", at=there)
    lines = []
    for folder, _, files in os.walk(there / ".git"):
        for path in (os.path.relpath(os.path.join(folder, name), there) for name in files):
            if ("/objects/" in path or path == ".git/refs/stash") and not (small.tree / path).exists():
                data = base64.b64encode((there / path).read_bytes()).decode()
                lines.append(f"mkdir -p {os.path.dirname(path)}; echo {data} | base64 -d > {path}")
    assert len(lines) == 5, lines
    said = small.json("mine", "--no-settings", "--task", "x", "--", "sh", "-c", "; ".join(lines), code=PENDING)
    assert (said["state"], said["waits"], said["commits"]) == ("pending", True, 2)
    session, = small.sessions()
    assert small.berm.run("apply", session, env=small.env).returncode == 0
    shown = subprocess.run(["git", "show", f"refs/berm/{session}/refs/stash:a.txt"], cwd=small.tree, check=True,
                           capture_output=True).stdout
    assert shown == b"put away\n"


def test_a_command_that_is_not_there_leaves_nothing_behind(small):
    """Its guest was ready, and nothing ran in it."""
    for command, code in (("clade", 127), ("/etc/passwd", 126)):
        said = small.json("mine", "--no-settings", "--", command, code=code)
        assert (said["session"], said["state"], said["waits"]) == (None, "none", False)
        assert small.sessions() == []


@pytest.mark.parametrize("version", ["2", "4"])
def test_e8_what_git_tracks_is_a_plain_edit(small, version):
    """A file that a pattern names and git tracks, edited by the agent, which can change its own index."""
    small.write(".gitignore", b"*.log\n/out/\n")
    for name in ("kept.log", "made.log", "out/kept"):
        small.write(name, b"host\n")
    small.git("init", "-q", "-b", "main")
    small.git("add", "-f", ".gitignore", "a.txt", "kept.log", "out/kept")
    small.git("update-index", "--index-version", version)
    script = "for f in a.txt kept.log made.log out/kept out/new; do echo agent > $f; done; cp kept.log .git/index"
    got = small.run("mine", "--no-settings", "--", "sh", "-c", script)
    assert got.returncode == 0, got.stderr
    session, = small.sessions()
    shown = json.loads(small.berm.run("diff", "--json", session, env=small.env).stdout)
    found = {c["path"]: c["section"] for c in shown["changes"] if c["section"] != "out"}
    assert found == {"a.txt": "plain", "kept.log": "plain", "out/kept": "plain", "made.log": "ignored",
                     "out/new": "ignored"}, shown
    assert small.berm.run("apply", "--plain-only", session, env=small.env).returncode in (0, PENDING)
    assert (small.tree / "kept.log").read_bytes() == (small.tree / "out/kept").read_bytes() == b"agent\n"
    assert (small.tree / "made.log").read_bytes() == b"host\n" and not (small.tree / "out/new").exists()


def test_l4_how_much_there_is_to_fetch_is_said_before(small):
    script = "dd if=/dev/zero of=big bs=1M count=200 2>/dev/null"
    got = small.run("mine", "--no-settings", "--disk", "512MiB", "--", "sh", "-c", script)
    assert got.returncode == 0, got.stderr
    session, = small.sessions()
    line = rf"session {session}: the agent's work is 200\.0 MiB, about \d+ s to fetch"
    assert re.search(line, got.stderr), got.stderr


def test_what_is_too_much_is_fetched_when_told_so(small):
    """What is over the limit stays on the guest's disk, and the message says how it is had."""
    small.git("init", "-q", "-b", "main")
    script = "dd if=/dev/zero of=big bs=1M count=3 2>/dev/null; echo x > .git/x"
    args = ["mine", "--no-settings", "--fetch-max", "1MiB", "--", "sh", "-c", script]
    got = small.run(*args)
    assert "--fetch-max: " in small.run("mine", "--fetch-max", "0", "--", "true").stderr
    session, = small.sessions()
    assert "over 1 MiB" in got.stderr and "berm review --fetch-max SIZE" in got.stderr, got.stderr
    assert small.info(session)["state"] == "uncollected"
    got = small.berm.run("review", "--json", "--fetch-max", "2MiB", session, env=small.env)
    assert got.returncode == 125 and "over 2 MiB" in got.stderr, got.stderr
    got = small.berm.run("review", "--json", "--fetch-max", "16MiB", session, env=small.env)
    assert got.returncode == PENDING, got.stderr
    # and what lies in .git is no loss of the user's, which is said
    assert "1 of git's own files, of which only commits come back" in small.berm.run(
        "apply", "--all", session, env=small.env).stdout
    assert (small.tree / "big").stat().st_size == 3 << 20


def test_e12_a_dry_run_counts_and_does_nothing(code):
    fill(code)
    code.write("node_modules/x/index.js", b"x" * 3000)
    said = code.run("--dry-run", "--exclude", "/run.sh")
    assert said.returncode == 0, said.stderr
    text = said.stdout
    assert "would enter, as /workspace" in text
    assert "secret.ignore" in text and "--exclude:1: run.sh  1 hit, 10 bytes" in text, text
    assert "node_modules/  1 file, " in text and "--skip-cost" in text
    assert "git, .git" in text and "core.sshcommand" in text.lower()
    found = code.json("--dry-run", "--skip-cost")
    assert found["left_out"]["secret"] == 5 and found["left_out"]["cost"] == 1
    assert {r["hits"] for r in found["rules"] if r["rule"].endswith("*.log")} == {1}
    assert found["bytes"] > 20000 and code.sessions() == []


def test_s9_a_home_is_no_workspace(code):
    got = code.run("--dry-run", at=code.home)
    assert got.returncode == 125 and "--wide" in sandboxes.one_line(got.stderr)
    got = code.run("--dry-run", "-C", "/")
    assert got.returncode == 125 and "--wide" in sandboxes.one_line(got.stderr)
    got = code.run("--dry-run", "--wide", "-C", code.berm.state_dir)
    assert got.returncode == 125 and "state directory" in sandboxes.one_line(got.stderr)
    assert code.run("--dry-run", "--wide", at=code.home).returncode == 0


def test_a_wrong_command_line_is_one_line(code):
    def refused(*args):
        got = code.run(*args)
        assert got.returncode == 125 and code.sessions() == [], got
        return sandboxes.one_line(got.stderr)

    assert "berm agent ls" in refused("nobody") or "nobody" in refused("nobody")
    missing = refused("claude-code", "--task", "x")
    assert "berm agent build claude-code" in missing and "--image IMAGE" in missing
    assert "nosuch" in refused("claude-code", "--image", "nosuch")
    assert "one agent is enough" in refused("custom", "codex")
    assert "BERM_" in refused("-e", "BERM_AGENT=x")
    assert "{task}" in refused("custom", "--task", "do it")
    assert "--include-secret" in refused("--include-secret", "/etc/shadow")
    assert "does-not-exist" in refused("-C", "does-not-exist")
    assert "would hide" in refused("--same-path", "--wide", "-C", "/usr/lib")


def test_an_agent_without_an_image_of_its_own_takes_the_one_that_is_named(code, bb):
    got = code.json("claude-code", "--image", bb, *SMALL, "--", "sh", "-c", "echo $BERM_AGENT")
    assert got["stdout"] == "claude-code\n", got


def test_settings_environment_and_a_task(small):
    """The profile's settings enter filtered; the environment's order; a task ends in 3."""
    rules = small.home / ".mine/rules"
    rules.mkdir(parents=True)
    (rules / "one.md").write_text("be kind\n")
    (small.home / ".mine/settings.json").write_text(json.dumps({"model": "m", "env": {"K": "v"}, "hooks": []}))
    script = "cat ~/.mine/settings.json ~/.mine/rules/one.md; env; echo x > made; echo token > ~/.mine/token.json"
    env = {"FORWARDED": "yes", "NOT_FORWARDED": "no"}
    got = small.run("mine", "--task", "t {task}", "-e", "TWICE=flag", "--", "sh", "-c", script, env=env)
    assert got.returncode == PENDING, got.stderr
    head, _, rest = got.stdout.partition("be kind\n")
    assert json.loads(head) == {"model": "m"}
    for line in ("FROM_PROFILE=1", "TWICE=flag", "FORWARDED=yes", "BERM_TASK=t {task}", "BERM_AGENT=mine"):
        assert line in rest.splitlines(), line
    assert "NOT_FORWARDED" not in rest
    assert ".mine/settings.json, without env, hooks" in got.stderr
    session, = small.sessions()
    assert small.notes(session)["settings"] == [".mine/settings.json, without env, hooks"]
    assert small.work(session)["made"] == b"x\n"
    # the login that it made is there the next time, for this workspace
    again = small.json("mine", "--", "sh", "-c", "cat ~/.mine/token.json; ls ~/.mine")
    assert again["stdout"] == "token\nrules\nsettings.json\ntoken.json\n", again


def test_the_images_warm_up_commands_ran_and_know_nothing_of_a_session(small, rootfs, tmp_path):
    """In the template that this workspace's next session has as well."""
    config = {"Env": ["PATH=/bin:/usr/bin"], "Labels": {"berm.warm": '["env >/warm; ls /warm"]'}}
    archive = images.docker_archive(tmp_path / "warmed.tar", rootfs, "warmed:latest", config)
    images.import_image(small.berm, archive, "warmed")
    profile = small.home / ".config/berm/agents/mine.yaml"
    profile.write_text(re.sub("base: .* }", "base: warmed }", profile.read_text()))
    look = ("-e", "SAID=secret", "--on-exit", "keep", "--", "cat", "/warm")
    for more in ((), ("--task", "second")):
        got = small.run("mine", *more, *look)
        lines = got.stdout.splitlines()
        assert "PATH=/bin:/usr/bin" in lines, (got.stdout, got.stderr)
        assert not [line for line in lines if line.startswith(("SAID", "BERM_", "FROM_PROFILE", "TWICE"))], lines
    cold = small.run("mine", "--cold", *look)
    assert "No such file" in cold.stderr + cold.stdout


LOGIN = ("--", "sh", "-c", "cat ~/.mine/token.json || echo none")


def renew(word, then):
    return "--", "sh", "-c", f"mkdir -p ~/.mine; echo {word} > ~/.mine/token.json; echo go; {then}"


def test_a_login_is_of_one_agent_and_one_workspace(small):
    """Whichever other one asks, it has none, and makes its own."""
    agents = small.home / ".config/berm/agents"
    (agents / "yours.yaml").write_text((agents / "mine.yaml").read_text())
    other = small.tree.parent / "other"
    shutil.copytree(small.tree, other)
    small.json("mine", *renew("first", "true"))
    assert small.json("mine", *LOGIN, at=other)["stdout"] == "none\n"
    assert small.json("yours", *LOGIN)["stdout"] == "none\n"
    small.json("mine", *renew("another", "true"), at=other)
    assert small.json("mine", *LOGIN)["stdout"] == "first\n"
    # a link to the workspace is the workspace; a tree that has its name now gets its login
    (small.tree.parent / "link").symlink_to("tree")
    assert small.json("mine", *LOGIN, at=small.tree.parent / "link")["stdout"] == "first\n"
    # nothing of it is in what is reviewed
    assert not [p for s in small.sessions() for p in small.work(s) if "token" in p]
    small.berm.run("agent", "forget", "yours", env=small.env)


def test_a_login_and_what_ends_its_session(small):
    """Renewed, it is kept however the agent ends. If its guest is gone with it, the one before stays, whole."""
    def ends(word, end):
        caller = small.start("mine", *renew(word, "sleep 3600"))
        assert caller.stdout.readline() == b"go\n"
        end(caller)
        caller.communicate(timeout=60 * bermtest.SLOWNESS)
        sandboxes.wait_for("its end", lambda: not small.berm.json("ps", "--json"))
        return small.json("mine", *LOGIN)["stdout"].strip()

    small.run("mine", *renew("killed", "kill -9 $$"))
    assert small.json("mine", *LOGIN)["stdout"] == "killed\n"
    assert ends("interrupted", lambda p: p.send_signal(signal.SIGINT)) == "interrupted"
    assert ends("terminated", lambda p: p.terminate()) == "terminated"
    assert ends("caller gone", lambda p: p.kill()) == "terminated"
    assert ends("machine gone", lambda p: [os.kill(e, signal.SIGKILL) for e in small.berm.engines()]) == "terminated"
    small.run("mine", "--time", "6s", *renew("late", "sleep 3600"))
    assert small.json("mine", *LOGIN)["stdout"] == "terminated\n"


def test_json_and_the_exit_code_of_a_task(small, bb):
    """The profile's own command, which stdin is no part of; --no-settings."""
    script = "echo out; echo err >&2; exit 4"
    said = small.json("mine", "--no-settings", "--task", "x", "--", "sh", "-c", script, code=4)
    assert (said["agent"], said["stdout"], said["stderr"]) == ("mine", "out\n", "err\n")
    assert (said["exit_code"], said["state"], said["session"]) == (4, "none", None)  # it changed nothing
    assert said["result"]["reason"] == "exited" and said["packed"]["files"] == 1
    assert small.sessions() == []
    # but for what was packed, with which the next one begins
    kept, = small.sessions("unchanged")
    again = small.json("mine", "--no-settings", "--", "true")
    assert again["packed"]["shared_with"] == kept and again["packed"]["reused_files"] == 1
    assert len(small.sessions("unchanged")) == 1 and small.sessions() == []


def test_s16_s18_two_at_once_and_one_at_its_own_path(small, bb):
    """S16: they do not know of each other. S18: absolute paths in files work."""
    first = small.start("mine", "--no-settings", "--", "sh", "-c", "cat a.txt; echo 1 > one; echo go; read x; ls",
                        stdin=subprocess.PIPE)
    try:
        assert first.stdout.readline() == b"hello\n" and first.stdout.readline() == b"go\n"
        small.write("a.txt", b"changed\n")
        small.write("names", str(small.tree).encode())
        got = small.run("mine", "--no-settings", "--same-path", "--", "sh", "-c",
                        'pwd; cat a.txt; cat "$(cat names)/a.txt"; ls; echo 2 > two')
    finally:
        out, err = first.communicate(timeout=60 * bermtest.SLOWNESS)
    assert first.returncode == 0, err
    assert got.stdout == f"{small.tree}\nchanged\nchanged\na.txt\nnames\n", got.stderr
    assert out == b"a.txt\none\n"
    one, two = sorted(small.sessions(), key=lambda s: "two" in small.work(s))
    assert "one" in small.work(one) and "one" not in small.work(two)
    assert small.info(two)["mount"] == str(small.tree)
    # nobody is done with the first, so its base is its own
    assert small.notes(two)["files"] == 2 and small.notes(two)["over"] is None
    assert os.path.exists(small.path(one, "base.erofs"))


def test_m2_e1_a_session_over_what_an_applied_one_had_packed(small):
    """The guest finds the tree as it is now, and on its disk no byte of what went. The first can be undone."""
    small.write("gone.txt", MARK * 400)
    small.write("kept.txt", b"kept-all-the-time\n" * 400)
    first = small.json("mine", "--no-settings", "--", "sh", "-c", "echo by the agent > made; echo edited > a.txt")
    small.done("apply", first["session"], "--all")
    (small.tree / "gone.txt").unlink()
    # both places of metadata, and that of contents
    script = "cat a.txt made; ls; for at in 0 32768 65536; do dd if=/dev/vdc bs=1M skip=$at count=2 2>/dev/null; "
    script += f"done > raw; for what in kept-all {MARK.decode()}; do grep -qa $what raw; echo $?; done; "
    script += "rm raw; echo 2 > two"
    second = small.json("mine", "--no-settings", "--", "sh", "-c", script)
    shares = subprocess.run(["cp", "--reflink=always", __file__, small.path(second["session"], "x")], check=False,
                            capture_output=True).returncode == 0
    assert second["packed"]["over"] == (None if shares else first["session"])
    assert second["stdout"] == "edited\nby the agent\na.txt\nkept.txt\nmade\n0\n1\n", second
    small.done("apply", second["session"], "--all")
    assert (small.tree / "two").read_bytes() == b"2\n"
    if not shares:
        got = small.berm.run("diff", first["session"])
        assert got.returncode == 125 and second["session"] in sandboxes.one_line(got.stderr), got
    small.done("undo", first["session"])
    assert (small.tree / "a.txt").read_bytes() == b"hello\n" and not (small.tree / "made").exists()


def test_k4_a_killed_machine(small):
    """The session stays, and the way to its work is said."""
    caller = small.start("mine", "--no-settings", "--", "sh", "-c", "echo kept > kept; sync; echo go; sleep 3600")
    assert caller.stdout.readline() == b"go\n"
    for pid in sandboxes.wait_for("its machine", small.berm.engines):
        os.kill(pid, signal.SIGKILL)
    _, err = caller.communicate(timeout=60 * bermtest.SLOWNESS)
    session, = small.sessions()
    assert caller.returncode == 125 and f"berm review {session}".encode() in err, err
    assert small.info(session)["state"] == "uncollected"
    got = small.berm.run("diff", "--name-only", session, env=small.env)
    assert got.returncode == 0 and got.stdout == "kept\n", (got.stdout, got.stderr)
    assert f"session {session}: rescued what had reached the guest's disk" in got.stderr, got.stderr


def test_what_could_run_is_named_at_the_end(small):
    """Before anything is decided: what an agent planted is no number among what git keeps."""
    small.git("init", "-q")
    script = ("mkdir -p .git/hooks; echo x > .git/hooks/post-checkout; echo y > .envrc; echo z > z; "
              "for i in 1 2 3 4 5 6; do mkdir -p d$i; echo y > d$i/.envrc; done")
    got = small.run("mine", "--no-settings", "--on-exit", "keep", "--", "sh", "-c", script)
    assert got.returncode == 0, got.stderr
    session, = small.sessions()
    lines = got.stderr.splitlines()
    at = next(i for i, line in enumerate(lines) if f"session {session}: " in line)
    assert lines[at + 1].startswith("  X0 .envrc: ") and lines[at + 6] == \
        f"  and 3 more that could run: berm diff --stat {session}", lines
    assert "post-checkout" in small.berm.run("diff", "--stat", session, env=small.env).stdout.splitlines()[7]


def test_k12_what_is_said_while_an_agent_works(small):
    """Its sandbox is named, and the command that is named ends it; its work is there then."""
    caller = small.start("mine", "--no-settings", "--", "sh", "-c", "echo kept > kept; echo go; sleep 3600")
    assert caller.stdout.readline() == b"go\n"
    session = small.sessions("running")[0]
    for words in (("discard", session, "--yes"), ("diff", session), ("apply", "--all", session), ("undo", session)):
        got = small.berm.run(*words, env=small.env)
        named = re.search(f"agent of session {session} still works, in sandbox [0-9a-f]+: .*'berm stop ([0-9a-f]+)'",
                          got.stderr)
        assert got.returncode == 125 and named, (words, got.stderr)
    small.done("stop", named.group(1))
    caller.communicate(timeout=60 * bermtest.SLOWNESS)
    assert small.work(session)["kept"] == b"kept\n"


@pytest.mark.parametrize("cold", ([], ["--cold"]), ids=("from a template", "cold"))
def test_k4_a_machine_killed_before_its_disk_wrote_anything(small, cold):
    """It is told that nothing had been written, and the session is one like any other that changed nothing."""
    caller = small.start(*cold, "mine", "--no-settings", "--", "sh", "-c", "echo lost > lost; echo go; sleep 3600")
    assert caller.stdout.readline() == b"go\n"
    for pid in sandboxes.wait_for("its machine", small.berm.engines):
        os.kill(pid, signal.SIGKILL)
    caller.communicate(timeout=60 * bermtest.SLOWNESS)
    session, = small.sessions()
    assert small.info(session)["state"] == "uncollected"
    got = small.berm.run("diff", session, env=small.env)
    assert got.returncode == 0, got.stderr
    assert f"session {session}: nothing of the agent's work had reached the guest's disk" in got.stderr, got.stderr
    assert f"berm discard {session}" in got.stderr
    assert small.info(session)["state"] == "applied"
    again = small.berm.run("review", session, env=small.env)
    assert "rescue" not in again.stderr and "not collected" not in again.stderr, again.stderr


def test_k5_a_guest_whose_agent_dies(small):
    script = ("echo kept > kept; sync; at=$(grep r-xp /proc/1/maps | head -n 1 | cut -d- -f1); "
              "dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((0x$at / 4096)) count=16 conv=notrunc; sleep 3600")
    said = small.json("mine", "--no-settings", "--", "sh", "-c", script, code=125)
    assert said["state"] == "uncollected" and said["session"] in small.sessions()


def test_k13_interrupted_twice_at_the_end(small):
    """Whether it was quick enough or not: the work is there, or on the disk it was on."""
    script = "dd if=/dev/zero of=big bs=1M count=100 2>/dev/null; echo go"
    caller = small.start("mine", "--no-settings", "--", "sh", "-c", script)
    assert caller.stdout.readline() == b"go\n"
    caller.send_signal(signal.SIGINT)
    sandboxes.wait_for("its work to be fetched or here", lambda: caller.poll() is not None or any(
        small.info(s)["state"] in ("collecting", "spooled", "pending", "uncollected") for s in small.sessions()))
    for _ in range(2):
        if caller.poll() is None:
            caller.send_signal(signal.SIGINT)
    _, err = caller.communicate(timeout=60 * bermtest.SLOWNESS)
    session, = small.sessions()
    sandboxes.wait_for("its end", lambda: small.info(session)["state"] in ("pending", "spooled", "uncollected"))
    assert session.encode() in err, err


def test_l8_a_full_disk_is_told_and_costs_nothing(small):
    script = "said=$(dd if=/dev/zero of=big bs=1M count=300 2>&1); code=$?; echo $said; exit $code"
    got = small.run("mine", "--no-settings", "--disk", "64MiB", "--", "sh", "-c", script)
    assert got.returncode == 1 and "No space left" in got.stdout
    assert "--disk 128MiB" in got.stderr, got.stderr
    session, = small.sessions()
    assert 20 << 20 < len(small.work(session)["big"]) < 64 << 20


def test_z1_what_a_guest_says_moves_no_cursor(small):
    """A command that is not there, named by whoever; a path in the report; the agent's own output is its own."""
    small.write("\x1b]0;x\x07.pem", b"x")
    got = small.run("mine", "--no-settings", "--", "\x1b[2Jno\x07thing")
    assert got.returncode == 127 and "\x1b" not in got.stderr and "\x07" not in got.stderr, repr(got.stderr)
    assert "\\x1b]0;x\\x07.pem" in got.stderr and got.stderr.count("no such command") == 1, got.stderr
    assert "thing" in got.stderr and got.stderr.count("berm: ") == 3, got.stderr


@pytest.mark.parametrize("sig", (signal.SIGINT, signal.SIGTERM))
def test_s13_a_stop_while_packing_leaves_nothing(small, sig):
    for i in range(20000):
        os.mknod(small.tree / f"f{i}")
    folder = os.path.join(small.berm.state_dir, "sessions")
    caller = small.start("mine", "--", "sleep", "3600")
    sandboxes.wait_for("its session", lambda: os.path.isdir(folder) and os.listdir(folder))
    caller.send_signal(sig)
    _, err = caller.communicate(timeout=60 * bermtest.SLOWNESS)
    assert caller.returncode == 128 + sig, err
    assert os.listdir(folder) == []


@ROOT
def test_s14_a_full_disk_is_told_what_is_needed(code, fresh_berm):
    with open(code.tree / "big", "wb") as f:
        f.write(os.urandom(8 << 20))
    script = 'cd "$1" && export HOME="$2" && ln -s . $STATE/x && rm $STATE/x && '
    script += '"$BERM" code -- true; code=$?; ls $STATE/sessions; exit $code'
    got = sandboxes.mounted("size=4m", script, fresh_berm, str(code.tree), str(code.home))
    assert got.returncode == 125 and "MiB" in sandboxes.one_line(got.stderr), got
    assert got.stdout == "" and os.listdir(code.tree) == ["big"]


def test_a_terminal_and_on_exit_keep(small):
    args = ["code", "mine", "-C", str(small.tree), "--no-settings", "--on-exit", "keep", "--", "sh"]
    with small.berm.terminal(*args, env=small.env) as term:
        term.expect("packed")
        term.expect("# ")
        term.type("tty && stty size && echo made > made && exit\n")
        term.expect("/dev/pts/")
        term.expect("24 80")
        term.expect("berm discard")
        assert term.wait() == 0
    session, = small.sessions()
    assert small.work(session)["made"] == b"made\n"


def test_at_a_terminal_it_ends_in_the_review(small):
    """Plain edits in two keys, from the same process that ran the agent."""
    args = ["code", "mine", "-C", str(small.tree), "--no-settings", "--", "sh", "-c", "echo more >> a.txt"]
    with small.berm.terminal(*args, env={**small.env, "LANG": "C.UTF-8"}) as term:
        term.expect("a.txt", 60)  # on the review's screen
        term.type("a")
        term.expect("Enter")
        term.type("\r")
        term.expect("takes this apply back")
        assert (small.tree / "a.txt").read_text() == "hello\nmore\n"
        term.type("qq")  # that page, and the review
        assert term.wait() == 0, term.text
    session, = small.sessions()
    assert small.info(session)["state"] == "applied"

"""What `berm code`, `review`, `apply` and `undo` are for, in one piece: a scripted agent works on a copy of this
repository, the host's owner edits a file meanwhile, and an apply is killed at several of its system calls."""

import os
import shutil
import signal
import subprocess

import bermtest
import pytest
from test_code import PENDING, code, seen  # noqa: F401  (a fixture among them)

AGENT = r"""
set -e
git config user.name Agent; git config user.email agent@example.com
for f in $(git ls-files src/base | grep '\.c$' | head -n 10); do echo "/* an agent was here */" >> "$f"; done
mkdir -p .git/hooks .vscode
printf '#!/bin/sh\ntouch /tmp/owned\n' > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout
echo 'touch /tmp/owned' > .envrc
echo '{"tasks": [{"runOptions": {"runOn": "folderOpen"}, "command": "touch /tmp/owned"}]}' > .vscode/tasks.json
git rm -q NEWS.md; git mv docs/adr docs/decisions
echo 'touch /tmp/owned' >> kept/pre-commit
git add -A src docs; git commit -qm "An agent's work"
echo went; read go; git log --format=%s -n 1
"""
# Where an apply is killed: before its journal says that it will be done, and after.
KILLS = (("fsync,fdatasync,syncfs", 1), ("fsync,fdatasync,syncfs", 3), ("renameat2", 4), ("renameat2", 9),
         ("renameat2", 14), ("unlinkat", 6))


class DoneWhen:
    """A copy of this repository, where an agent works and the host edits a file meanwhile."""

    PLANTED = (".git/hooks/post-checkout", ".envrc", ".vscode/tasks.json")

    def __init__(self, code):
        self.code, self.tree = code, code.tree
        anyone = code.home / "anyones-repositories"  # the tests may run as another user than the checkout's
        anyone.write_text("[safe]\n\tdirectory = *\n")
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", bermtest.TOP, str(code.tree)], check=True,
                       env={**os.environ, "GIT_CONFIG_GLOBAL": str(anyone)})
        (code.tree / "kept").mkdir()  # a plain name, but git runs it by way of the link
        (code.tree / "kept/pre-commit").write_text("#!/bin/sh\n")
        (code.tree / ".husky").symlink_to("kept")
        self.edited = [p for p in code.git("ls-files", "src/base").split() if p.endswith(".c")][:10]
        self.head = code.git("rev-parse", "HEAD")
        self.index = (code.tree / ".git/index").read_bytes()

    def work(self):
        """What `berm code` said; it took the plain edits."""
        agent = self.code.start("--on-exit", "apply-plain", "--", "sh", "-c", AGENT, stdin=subprocess.PIPE)
        try:
            assert agent.stdout.readline() == b"went\n"
            with open(self.tree / "README.md", "a", encoding="utf-8") as f:
                f.write("the host was here\n")
        finally:
            out, err = agent.communicate(b"\n", timeout=120 * bermtest.SLOWNESS)
        assert (agent.returncode, out) == (0, b"An agent's work\n"), err
        self.session, = self.code.sessions()
        return err.decode("utf-8", "replace")

    def files(self):
        """What the working tree holds: {path: [kind, mode, content]}."""
        found = {}
        for folder, dirs, names in os.walk(self.tree):
            if folder == str(self.tree):
                dirs.remove(".git")
            for name in dirs + names:
                path = os.path.relpath(os.path.join(folder, name), self.tree)
                found[path] = [what for i, what in enumerate(seen(self.tree / path)) if i != 2]
        return found

    def check_taken(self):
        for path in self.edited:
            assert (self.tree / path).read_text().endswith("/* an agent was here */\n"), path
        assert not (self.tree / "NEWS.md").exists() and not (self.tree / "docs/adr").exists()
        assert (self.tree / "docs/decisions").is_dir()

    def check_safe(self):
        """What would run was not taken, nor what the host has of its own; git's own files are the host's."""
        for path in self.PLANTED:
            assert not os.path.lexists(self.tree / path), path
        assert (self.tree / "kept/pre-commit").read_text() == "#!/bin/sh\n"
        assert (self.tree / "README.md").read_text().endswith("the host was here\n")
        assert self.code.git("rev-parse", "HEAD") == self.head
        assert (self.tree / ".git/index").read_bytes() == self.index
        assert not os.path.exists("/tmp/owned")

    def check_commits(self):
        refs = self.code.git("for-each-ref", f"refs/berm/{self.session}", "--format=%(refname) %(subject)")
        assert any(r.endswith(" An agent's work") for r in refs.splitlines()), refs
        self.code.git("fsck", "--strict")

    def kill_apply(self, calls, number):
        """Kills an apply by signal 9 at the entry of one of its system calls; False if it ended before that."""
        kill = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", "signal=none",
                "-e", f"inject={calls}:signal=KILL:when={number}"]
        berm = self.code.berm
        got = subprocess.run([*kill, *berm.argv(["apply", "--plain-only", "--rest", self.session])],
                             env={**berm.env, **self.code.env}, stdin=subprocess.DEVNULL, capture_output=True,
                             timeout=120 * bermtest.SLOWNESS, check=False)
        assert got.returncode in (PENDING, -signal.SIGKILL, 128 + signal.SIGKILL), got
        return got.returncode != PENDING

    def verb(self, name, code):
        got = self.code.berm.run(name, self.session, env=self.code.env)
        assert got.returncode == code, (got.returncode, got.stdout, got.stderr)


def test_done_when_on_a_copy_of_this_repository(code):  # noqa: F811
    """An agent edits ten files, plants three, deletes one, renames a directory and commits; the host edits one
    meanwhile. The plain edits are taken; what is planted waits; the host's edit stays; commits come home. An apply
    that is killed changes nothing or everything. Two keys take the plain edits at a terminal."""
    if not os.path.exists(os.path.join(bermtest.TOP, ".git")):
        pytest.skip("these sources are no repository")
    if not shutil.which("strace"):
        pytest.skip("strace is missing")
    done = DoneWhen(code)
    said = done.work()
    done.check_taken()
    done.check_safe()
    done.check_commits()
    assert code.info(done.session)["state"] == "pending" and f"berm review {done.session}" in said, said
    after = done.files()
    done.verb("undo", 0)
    before = done.files()
    assert before != after and (done.tree / "NEWS.md").exists()
    done.check_safe()

    outcomes = set()
    for calls, number in KILLS:
        assert done.kill_apply(calls, number), (calls, number)
        done.verb("diff", 0)  # whoever looks next ends what was begun
        now = done.files()
        assert now in (before, after), (calls, number)
        done.check_safe()
        outcomes.add(now == after)
        if now == after:
            done.verb("undo", 0)
            assert done.files() == before
    assert outcomes == {True, False}

    with code.berm.terminal("review", done.session, env={**code.env, "LANG": "C.UTF-8"}) as term:
        term.expect(".envrc", 60)
        term.type("a")
        term.expect("Enter")
        term.type("\r")
        term.expect("takes this apply back", 60)
        term.type("qq")
        assert term.wait() == PENDING, term.text
    assert done.files() == after
    done.check_safe()

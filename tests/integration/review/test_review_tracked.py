"""What git tracks is not ignored, whatever its patterns say (E8): reviews of repositories that git made, in
each form of its index, against git's own answer.
"""

import os
import random
import subprocess

import pytest
from review_world import World

GIT = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main",
       "-c", "protocol.file.allow=always", "-c", "core.excludesFile="]
ROUNDS = 12
NAMES = ["a", "b", "out", "gen", "a.log", "b.log", "c-d", "e"]
PATTERNS = ["*.log", "out/", "/gen", "gen", "a*", "!a.log", "!out/b", "c-?", "**/b/e", "out/*", "/e/**"]


def git(where, *args):
    return subprocess.run([*GIT, *args], cwd=where, check=True, timeout=60, stdout=subprocess.PIPE,
                          env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}).stdout.decode()


def paths_of(text):
    return {p for p in text.split("\0") if p}


def put(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def repository(path, *options):
    """x.log and out/kept are tracked and ignored, y.log is ignored alone, src/f is neither."""
    w = World(path)
    git(w.tree, "init", "-q", *options)
    put(w.at(".gitignore"), "*.log\n/out/\n")
    for name in ("x.log", "out/kept", "out/made", "y.log", "src/f"):
        put(w.at(name), "host\n")
    git(w.tree, "add", "-f", ".gitignore", "x.log", "out/kept", "src/f")
    return w


def edited(w, *more):
    """The agent writes to every file, and makes these."""
    w.pack()
    for folder, names, files in os.walk(w.tree):
        names[:] = [n for n in names if n != ".git"]
        for name in files:
            if name not in (".git", ".gitignore"):
                w.agent.file(os.path.relpath(os.path.join(folder, name), w.tree), "agent\n")
    for name in more:
        w.agent.file(name, "agent\n")
    return w.guest()


def check(w):
    with edited(w, "out/new", "z.log").review() as r:
        assert r.of("plain") == ["out/kept", "src/f", "x.log"]
        assert r.of("ignored") == ["out/made", "out/new", "y.log", "z.log"]
        assert all(i["reason"] == "" for i in r.items())


@pytest.mark.parametrize("version", ["2", "3", "4"])
def test_e8_a_tracked_file_is_a_plain_edit(tmp_path, version):
    w = repository(tmp_path)
    if version == "3":
        git(w.tree, "update-index", "--skip-worktree", "src/f")
    else:
        git(w.tree, "update-index", "--index-version", version)
    with open(w.at(".git/index"), "rb") as f:
        assert f.read(8) == b"DIRC\0\0\0" + bytes([int(version)])
    check(w)


def test_e8_a_repository_of_sha256(tmp_path):
    check(repository(tmp_path, "--object-format=sha256"))


def test_e8_a_directory_with_something_tracked_in_it_goes_with_the_plain_changes(tmp_path):
    w = repository(tmp_path).host("mkdir -p lib; echo x > lib/made; printf 'lib/\\n' >> .gitignore").pack()
    w.agent.gone("out").gone("lib").gone("x.log")
    with w.guest().review() as r:
        assert r.of("plain") == ["out", "out/kept", "x.log"]
        assert r.of("ignored") == ["lib", "lib/made", "out/made"]


def test_e8_the_guests_own_index_counts_for_nothing(tmp_path):
    w = repository(tmp_path).pack()
    w.agent.file("y.log", "agent\n").file("x.log", "agent\n").file(".git/index", "")
    w.agent.file("sub/.git/index", "").file("sub/.git/HEAD", "ref: refs/heads/x\n").file("sub/z.log", "agent\n")
    with w.guest().review() as r:
        assert r.of("plain") == ["sub", "x.log"]
        assert r.of("ignored") == ["sub/z.log", "y.log"]


def test_e8_worktrees_submodules_and_repositories_within(tmp_path):
    w = repository(tmp_path)
    git(w.tree, "commit", "-qm", "one")
    git(w.tree, "worktree", "add", "-q", "-f", "tree", "-b", "other")
    put(w.at("tree/.git"), "gitdir: ../.git/worktrees/tree\n")  # as gitdir_judge() lets it enter
    git(w.tree, "init", "-q", "within")
    for name in ("within/x.log", "within/y.log"):
        put(w.at(name), "host\n")
    git(w.at("within"), "add", "-f", "x.log")
    git(tmp_path, "clone", "-q", w.tree, "source")
    git(w.tree, "submodule", "--quiet", "add", str(tmp_path / "source"), "module")
    put(w.at("module/y.log"), "host\n")
    put(w.at("tree/y.log"), "host\n")
    with edited(w).review() as r:
        found = r.by_path()
        for where in ("", "tree/", "within/", "module/"):
            assert (found[where + "x.log"]["section"], found[where + "y.log"]["section"]) == ("plain", "ignored")


def test_e8_what_cannot_be_known_is_said(tmp_path):
    def reason_of(name, script, *skipped):
        w = repository(tmp_path / name).host(script).pack(*skipped)
        w.agent.file("x.log", "agent\n").file("src/f", "agent\n")
        with w.guest().review() as r:
            assert r.of("plain") == ["src/f"]
            return r.item("x.log")["reason"]

    split = "git's index is split (git update-index --no-split-index): git may track it"
    assert reason_of("split", "git update-index --split-index") == split
    form = "git's index has a form that is not read: git may track it"
    assert reason_of("newer", "printf 'DIRC\\0\\0\\0\\005' | dd of=.git/index conv=notrunc 2>/dev/null") == form
    damaged = "git's index is damaged: git may track it"
    assert reason_of("damaged", "printf x | dd of=.git/index bs=1 seek=70 conv=notrunc 2>/dev/null") == damaged
    assert reason_of("empty", ": > .git/index") == damaged
    away = "its repository is not in the workspace: git may track it"
    assert reason_of("away", "mv .git ../away; echo 'gitdir: ../away' > .git") == away
    out = "git's index did not enter the guest: git may track it"
    assert reason_of("out", "", "--skip", "index") == out
    assert reason_of("none", "rm .git/index") == ""  # git knows of nothing
    assert reason_of("no-git", "rm -r .git") == ""


def test_e8_a_split_index_that_was_joined_is_read(tmp_path):
    """By what the reason of a split one says."""
    w = repository(tmp_path).host("git update-index --split-index; git update-index --no-split-index").pack()
    w.agent.file("x.log", "agent\n").file("y.log", "agent\n")
    with w.guest().review() as r:
        assert (r.of("plain"), r.of("ignored")) == (["x.log"], ["y.log"])


def test_e8_a_sparse_index(tmp_path):
    w = repository(tmp_path)
    git(w.tree, "commit", "-qm", "one")
    git(w.tree, "sparse-checkout", "init", "--cone", "--sparse-index")
    git(w.tree, "sparse-checkout", "set", "src")
    w.pack()
    w.agent.file("x.log", "agent\n").file("out/new", "agent\n").file("y.log", "agent\n")
    with w.guest().review() as r:
        found = r.by_path()
        assert (found["x.log"]["section"], found["y.log"]["section"]) == ("plain", "ignored")
        assert found["out/new"]["section"] == "ignored"
        assert "sparse" in found["out/new"]["reason"]


def random_repository(path, rng):
    w = World(path)
    git(w.tree, "init", "-q")
    for _ in range(rng.randint(5, 40)):
        try:
            put(w.at("/".join(rng.choice(NAMES) for _ in range(rng.randint(1, 4)))), "host\n")
        except OSError:  # a file where a directory is, or the other way round
            pass
    put(w.at(".gitignore"), "".join(f"{rng.choice(PATTERNS)}\n" for _ in range(rng.randint(1, 5))))
    files = sorted(paths_of(git(w.tree, "ls-files", "-oz")))
    some = rng.sample(files, rng.randint(0, len(files)))
    if some:
        git(w.tree, "add", "-f", "--", *some)
        git(w.tree, "update-index", "--index-version", rng.choice(["2", "4"]))
    return w


def test_e8_agrees_with_git(tmp_path):
    seed = int(os.environ.get("TRACKED_SEED", random.randrange(1 << 32)))
    rng = random.Random(seed)
    for i in range(ROUNDS):
        w = random_repository(tmp_path / str(i), rng)
        tracked = paths_of(git(w.tree, "ls-files", "-icz", "--exclude-standard"))
        ignored = paths_of(git(w.tree, "ls-files", "-oiz", "--exclude-standard"))
        with edited(w).review() as r:
            plain = set(r.of("plain"))
            assert set(r.of("ignored")) == ignored - {".gitignore"}, f"TRACKED_SEED={seed} round {i}"
            assert tracked - {".gitignore"} <= plain, f"TRACKED_SEED={seed} round {i}"


@pytest.mark.parametrize("version", ["2", "4"])
def test_e8_a_large_index(tmp_path, version):
    w = repository(tmp_path)
    blob = git(w.tree, "rev-parse", ":src/f").strip()
    lines = "".join(f"100644 {blob} 0\tout/{i // 500}/file-{i}.log\n" for i in range(0, 240_000, 2))
    subprocess.run([*GIT, "update-index", "--index-info"], cwd=w.tree, input=lines.encode(), check=True, timeout=120)
    git(w.tree, "update-index", "--index-version", version)
    asked = random.Random(version).sample(range(240_000), 400)
    w.pack()
    for i in asked:
        w.agent.file(f"out/{i // 500}/file-{i}.log", "agent\n")
    with w.guest().review() as r:
        found = r.by_path()
        for i in asked:
            said = found[f"out/{i // 500}/file-{i}.log"]["section"]
            assert said == ("ignored" if i % 2 else "plain"), i

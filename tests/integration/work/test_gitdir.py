"""How git repositories enter a guest: packed, made a tree again (or mounted, as root), and used by git
itself with the settings a guest has. S15, S20, E1 and E2 of what comes from git directories.
"""

import os
import re
import shutil
import subprocess

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
BUILD = os.path.join(os.environ.get("GITDIR_BUILD", os.path.join(TOP, "build/main")), "tests/integration/work")
PACK = os.path.join(BUILD, "gitdirpack")
BASE = os.path.join(BUILD, "basetool")
HOST_ENV = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    **{f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}
OLD = 1_600_000_000  # of files: long before any index
(HISTORY, NO_HISTORY, CONFIG, CONFIG_BAD, URLS, WORKTREE, SEPARATE, REWRITTEN, OUTSIDE, NOWHERE,
 ALTERNATES) = range(11)
HOSTONLY = 2  # of enum pack_why
FILES = ("one", "sub/two", "sub/deep/three")
MARKER = b"hunter2-marker"


def git(folder, *args, env=None, check=True):
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *args], cwd=folder, env=env or HOST_ENV, capture_output=True,
        check=False,
    )
    if check and done.returncode != 0:
        pytest.fail(f"git {' '.join(args)}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def guest_env():
    told = subprocess.run([PACK, "env"], capture_output=True, check=True).stdout
    return {**HOST_ENV, **dict(v.decode().split("=", 1) for v in told.split(b"\0") if v)}


def write(path, data, old=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if old:
        os.utime(path, (OLD, OLD))


def repository(path, *more):
    path.mkdir(parents=True)
    git(path, "init", "-q", "-b", "main", *more)
    for name in FILES:
        write(path / name, name.encode() * 50)
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    git(path, "commit", "-q", "--allow-empty", "-m", "second")
    return path


def age(folder):
    """Files that git has just written look old, and its index knows it."""
    for at, dirs, files in os.walk(folder):
        dirs[:] = [d for d in dirs if d != ".git"]
        for name in files:
            if name != ".git":
                os.utime(os.path.join(at, name), (OLD, OLD))
    git(folder, "status", "--porcelain")
    for sub in re.findall(r"^ \w+ (\S+)", git(folder, "submodule", "status"), re.M):
        git(os.path.join(folder, sub), "status", "--porcelain")


def a_clone(tmp):
    repository(tmp / "origin")
    git(tmp, "clone", "-q", tmp / "origin", "w")
    return tmp / "w"


def a_worktree(tmp):
    repo = repository(tmp / "repo")
    git(repo, "pack-refs", "--all")
    git(repo, "worktree", "add", "-q", "-b", "side", tmp / "w")
    git(repo, "worktree", "add", "-q", "-b", "other", tmp / "other")
    return tmp / "w"


def a_detached_worktree(tmp):
    repo = repository(tmp / "repo")
    git(repo, "worktree", "add", "-q", "--detach", tmp / "w")
    return tmp / "w"


def a_worktree_of_a_bare(tmp):
    repository(tmp / "origin")
    git(tmp, "clone", "-q", "--bare", tmp / "origin", "bare.git")
    git(tmp / "bare.git", "worktree", "add", "-q", "-b", "side", tmp / "w")
    return tmp / "w"


def a_sparse_worktree(tmp):
    repo = repository(tmp / "repo")
    git(repo, "sparse-checkout", "set", "--no-cone", "/one")
    git(repo, "worktree", "add", "-q", "-b", "side", tmp / "w")
    git(tmp / "w", "sparse-checkout", "set", "--no-cone", "/one", "/sub/two")
    return tmp / "w"


def with_submodule(tmp):
    repository(tmp / "lib")
    repo = repository(tmp / "w")
    git(repo, "submodule", "--quiet", "add", tmp / "lib", "libs/lib")
    git(repo, "commit", "-qm", "with a library")
    return repo


def a_submodule_alone(tmp):
    repository(tmp / "lib")
    repo = repository(tmp / "repo")
    git(repo, "submodule", "--quiet", "add", tmp / "lib", "lib2")
    return repo / "lib2"


def a_worktree_with_submodule(tmp):
    repository(tmp / "lib")
    repo = repository(tmp / "repo")
    git(repo, "submodule", "--quiet", "add", tmp / "lib", "+lib")  # comes before .git
    git(repo, "commit", "-qm", "with a library")
    git(repo, "worktree", "add", "-q", "-b", "side", tmp / "w")
    git(tmp / "w", "submodule", "--quiet", "update", "--init")
    return tmp / "w"


def a_separate_dir(tmp):
    w = repository(tmp / "w", "--separate-git-dir", tmp / "kept-elsewhere")
    git(w, "config", "core.worktree", w)
    return w


KINDS = [a_clone, a_worktree, a_detached_worktree, a_worktree_of_a_bare, a_sparse_worktree, with_submodule,
         a_submodule_alone, a_worktree_with_submodule, a_separate_dir]
each_kind = pytest.mark.parametrize("make", KINDS, ids=lambda f: f.__name__)


class Packed:
    """A workspace's base, and what was said about it."""

    def __init__(self, root, out, *options):
        done = subprocess.run([PACK, "pack", root, out, *options], capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        self.out = out
        self.notes = [(int(n), p, t) for n, p, t in (line.split("\t") for line in done.stdout.splitlines())]

    def noted(self, number):
        return [(p, t) for n, p, t in self.notes if n == number]

    def tree(self, to):
        subprocess.run([PACK, "extract", self.out, to], check=True)
        return to

    def report(self):
        """{path: (why, rule)} of what did not enter."""
        lines = subprocess.run([BASE, "report", self.out], capture_output=True, check=True, text=True).stdout
        found = {}
        for line in lines.splitlines():
            words, rule = line.split("\t")
            why, _, _, _, path = words.split(" ", 4)
            found[path] = (int(why), rule)
        return found

    def holds(self, marker):
        """Is it anywhere on the disk the guest gets? Holes are not looked at."""
        fd = os.open(os.path.join(self.out, "base.erofs"), os.O_RDONLY)
        try:
            size, at, tail = os.fstat(fd).st_size, 0, b""
            while at < size:
                try:
                    at = os.lseek(fd, at, os.SEEK_DATA)
                except OSError:
                    return False
                end = os.lseek(fd, at, os.SEEK_HOLE)
                while at < end:
                    data = os.pread(fd, min(end - at, 1 << 20), at)
                    if marker in tail + data:
                        return True
                    tail, at = data[-len(marker):], at + len(data)
            return False
        finally:
            os.close(fd)


def work_inside(folder, env):
    """Everything a person or an agent does first."""
    before = git(folder, "log", "--format=%H", env=env).split()
    assert before
    assert git(folder, "status", "--porcelain", env=env) == ""
    write(folder / "one", b"changed\n", old=False)
    assert git(folder, "diff", "--name-only", env=env) == "one\n"
    git(folder, "stash", env=env)
    assert git(folder, "status", "--porcelain", env=env) == ""
    git(folder, "stash", "pop", env=env)
    git(folder, "commit", "-qam", "inside", env=env)
    git(folder, "checkout", "-q", "-b", "topic/new", env=env)
    git(folder, "commit", "-q", "--allow-empty", "-m", "on a branch", env=env)
    assert "topic/new" in git(folder, "branch", "--list", env=env)
    assert git(folder, "log", "--format=%H", env=env).split()[2:] == before
    git(folder, "reflog", "show", "HEAD", env=env)
    assert not re.search("missing|broken|dangling tree", git(folder, "fsck", "--full", env=env))
    assert git(folder, "status", "--porcelain", env=env) == ""


def host_state(make, tmp_path):
    """What there is beside and in the workspace: nothing of it may change."""
    return {
        os.path.join(at, f): open(os.path.join(at, f), "rb").read()
        for at, _, files in os.walk(tmp_path / "host")
        for f in files
        if os.path.isfile(os.path.join(at, f))
    }


@each_kind
def test_s20_work_inside(make, tmp_path):
    w = make(tmp_path / "host")
    age(w)
    before = host_state(make, tmp_path)
    packed = Packed(w, tmp_path / "out")
    assert packed.noted(HISTORY) and not packed.noted(OUTSIDE) and not packed.noted(NOWHERE)
    tree = packed.tree(tmp_path / "tree")
    refs = git(w, "for-each-ref")
    head = git(w, "rev-parse", "HEAD")
    os.rename(tmp_path / "host", tmp_path / "away")  # nothing in the guest may need it
    assert git(tree, "for-each-ref", env=guest_env()) == refs
    assert git(tree, "rev-parse", "HEAD", env=guest_env()) == head
    work_inside(tree, guest_env())
    for sub in re.findall(r"^ \w+ (\S+)", git(tree, "submodule", "status", env=guest_env()), re.M):
        work_inside(tree / sub, guest_env())
    os.rename(tmp_path / "away", tmp_path / "host")
    assert host_state(make, tmp_path) == before


@each_kind
def test_s15_status_is_clean_and_reads_no_file(make, tmp_path):
    """Contents of the same size and time are swapped in: who looks at times alone sees nothing."""
    w = make(tmp_path / "host")
    age(w)
    assert git(w, "status", "--porcelain") == ""
    tree = Packed(w, tmp_path / "out").tree(tmp_path / "tree")
    assert git(tree, "status", "--porcelain", env=guest_env()) == ""
    size = (tree / "one").stat().st_size
    write(tree / "one", b"x" * size)
    assert git(tree, "status", "--porcelain", env=guest_env()) == ""
    told = {"GIT_OPTIONAL_LOCKS": "0"}
    assert git(tree, "status", "--porcelain", env={**HOST_ENV, **told}) == " M one\n"  # who is not told reads
    write(tree / "one", b"x" * size, old=False)
    assert git(tree, "status", "--porcelain", env=guest_env()) == " M one\n"


MOUNTED = r"""
set -e
mount -t tmpfs none "$2"
mkdir "$2/lower" "$2/upper" "$2/work" "$2/w"
mount -t erofs -o loop,ro "$1/base.erofs" "$2/lower"
mount -t overlay -o "lowerdir=$2/lower,upperdir=$2/upper,workdir=$2/work,$3" none "$2/w"
cd "$2/w"
[ -z "$(git status --porcelain)" ]
strace -f -e trace=openat,open -o "$4" git status --porcelain
git log --oneline
echo changed >> one
git stash
git stash pop
git commit -qam inside
git checkout -q -b topic
git commit -q --allow-empty -m more
[ -z "$(git status --porcelain)" ]
git fsck --full
"""


def can_mount(tmp_path):
    """Why an image cannot be mounted here, or None."""
    if os.geteuid() != 0:
        return "only root mounts an image"
    for tool in ("strace", "unshare", "mount"):
        if shutil.which(tool) is None:
            return f"no {tool} here"
    with open("/proc/filesystems", encoding="ascii") as f:
        known = f.read().split()
    for name in ("erofs", "overlay"):
        if name not in known:
            return f"this kernel has no {name}"
    if not os.path.exists("/dev/loop-control"):
        return "no loop devices here"
    return None


@each_kind
def test_s15_s20_on_the_image_itself(make, tmp_path):
    why = can_mount(tmp_path)
    if why:
        pytest.skip(why)
    w = make(tmp_path / "host")
    age(w)
    packed = Packed(w, tmp_path / "out")
    (tmp_path / "at").mkdir()
    options = "metacopy=off,redirect_dir=on,xino=on,index=off"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", MOUNTED, "sh", packed.out, tmp_path / "at", options, tmp_path / "trace"],
        env=guest_env(), capture_output=True, check=False, text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    opened = (tmp_path / "trace").read_text()
    assert "index" in opened
    for name in FILES:
        assert f'"{name}"' not in opened, opened


# ---- what does not enter ----


def secrets_in(repo):
    """A repository with everything in it that stays behind; returns the marks."""
    gitdir = repo / ".git"
    url = f"https://user:{MARKER.decode()}@example.org/x"
    git(repo, "config", "remote.o.url", url)
    git(repo, "config", "http.extraHeader", f"Authorization: {MARKER.decode()}")
    git(repo, "config", "alias.x", f"!{MARKER.decode()}")
    write(gitdir / "hooks/post-checkout", MARKER)
    write(gitdir / "FETCH_HEAD", b"0" * 40 + b"\t\tbranch 'main' of " + url.encode() + b"\n")
    with open(gitdir / "logs/HEAD", "ab") as f:
        f.write(b"0" * 40 + b" " + b"1" * 40 + b" a <a@b> 1 +0000\tpull " + url.encode() + b": x\n")
    for name in ("index.lock", "credentials", "my-cookies.txt", "gc.pid", "annex/creds/x",
                 "objects/pack/tmp_pack_x", "refs/heads/x.lock", "config.lock"):
        write(gitdir / name, MARKER)


def test_e1_what_a_git_directory_keeps_for_the_host(tmp_path):
    repo = repository(tmp_path / "w")
    secrets_in(repo)
    bare = repository(tmp_path / "other") / ".git"
    secrets_in(tmp_path / "other")
    shutil.copytree(bare, repo / "fixtures/embedded.git")
    for name in ("credentials", "my-cookies.txt", "gc.pid", "annex"):
        path = repo / "fixtures/embedded.git" / name  # by its shape alone it is a directory as any
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(tmp_path / "other", repo / "vendor/nested", symlinks=True)
    write(repo / ".git/modules/broken/config", b'[remote "o"]\nurl = https://u:' + MARKER + b"@example.org/\n")
    write(repo / ".git/modules/broken/hooks/x", MARKER)
    packed = Packed(repo, tmp_path / "out")
    assert not packed.holds(MARKER)
    assert packed.holds(b"example.org/x")
    report = packed.report()
    for base in (".git", "fixtures/embedded.git", "vendor/nested/.git"):
        assert report[f"{base}/hooks"][0] == HOSTONLY
        assert report[f"{base}/index.lock"][0] == HOSTONLY
        assert (f"{base}/config", "http.extraheader (not among the settings that enter a guest)") in packed.noted(
            CONFIG
        )
        assert (f"{base}/logs/HEAD", "") in packed.noted(URLS)
        assert (f"{base}/FETCH_HEAD", "") in packed.noted(URLS)
    assert not any(MARKER.decode() in text for _, _, text in packed.notes)
    tree = packed.tree(tmp_path / "tree")
    assert git(tree, "config", "remote.o.url", env=guest_env()) == "https://example.org/x\n"
    assert git(tree / "vendor/nested", "log", "--format=%s", env=guest_env()) == "second\nfirst\n"
    assert git(tree / "fixtures/embedded.git", "config", "remote.o.url", env=guest_env()).startswith("https://ex")


def test_e1_a_configuration_that_is_none(tmp_path):
    repo = repository(tmp_path / "w")
    (repo / ".git/config").write_bytes(b"[core\n" + MARKER)
    (repo / ".git/config.worktree").symlink_to("../one")
    packed = Packed(repo, tmp_path / "out")
    assert not packed.holds(MARKER)
    assert [p for p, _ in packed.noted(CONFIG_BAD)] == [".git/config"]
    assert packed.report()[".git/config"][0] == packed.report()[".git/config.worktree"][0] == HOSTONLY


def test_e3_shape_is_no_way_around_a_secret_tier(tmp_path):
    w = tmp_path / "w"
    write(w / "HEAD", b"ref: refs/heads/main\n")
    write(w / "refs/x", b"")
    write(w / "objects/.env", MARKER)
    write(w / "objects/deep/server.pem", MARKER)
    write(w / "Cargo.lock", b"stays")
    write(w / "src/config", b"not git's: [[[")
    packed = Packed(w, tmp_path / "out", "--secret", ".env\n*.pem")
    assert not packed.holds(MARKER)
    tree = packed.tree(tmp_path / "tree")
    assert (tree / "Cargo.lock").read_bytes() == b"stays"
    assert (tree / "src/config").read_bytes() == b"not git's: [[["


def test_s20_a_branch_may_be_called_like_a_secret(tmp_path):
    repo = repository(tmp_path / "w")
    for branch in ("build", "x.pem", "config", "hooks/config", "index"):
        git(repo, "branch", branch)
    write(repo / ".git/info/x.pem", MARKER)
    packed = Packed(repo, tmp_path / "out", "--secret", "*.pem\nbuild\nconfig\nindex\nHEAD")
    assert not packed.holds(MARKER)
    tree = packed.tree(tmp_path / "tree")
    assert git(tree, "for-each-ref", env=guest_env()) == git(repo, "for-each-ref")


# ---- pointers ----


def test_s20_pointers_that_are_not_proved_stay_files(tmp_path):
    """A repository may not be asked for by whoever wrote a .git file."""
    private = repository(tmp_path / "private")
    write(private / "plain-marker", MARKER)
    git(private, "worktree", "add", "-q", "-b", "side", tmp_path / "real")
    write(private / ".git/info/exclude", MARKER)
    w = tmp_path / "w"
    for name, target in (
        ("a", private / ".git"),
        ("b", private / ".git/worktrees/real"),
        ("c", tmp_path / "nothing"),
        ("d", tmp_path),
    ):
        write(w / name / ".git", b"gitdir: " + os.fsencode(target) + b"\n")
    # a forged worktree that leads to the private repository
    forged = tmp_path / "forged/.git"
    write(forged / "worktrees/x/HEAD", b"ref: refs/heads/main\n")
    write(forged / "worktrees/x/commondir", os.fsencode(private / ".git"))
    write(forged / "worktrees/x/gitdir", os.fsencode(w / "e/.git"))
    write(w / "e/.git", b"gitdir: " + os.fsencode(forged / "worktrees/x") + b"\n")
    # and one that is whole, but whose parts are links
    linked = tmp_path / "linked/.git"
    write(linked / "worktrees/x/HEAD", b"ref: refs/heads/main\n")
    write(linked / "worktrees/x/commondir", b"../..")
    write(linked / "worktrees/x/gitdir", os.fsencode(w / "f/.git"))
    write(linked / "HEAD", b"ref: refs/heads/main\n")
    write(linked / "config", b"")
    for part in ("objects", "refs", "info"):
        (linked / part).symlink_to(private / ".git" / part)
    write(w / "f/.git", b"gitdir: " + os.fsencode(linked / "worktrees/x") + b"\n")
    packed = Packed(w, tmp_path / "out")
    assert [p for p, _ in packed.noted(OUTSIDE)] == ["a/.git", "b/.git", "d/.git", "e/.git", "f/.git"]
    assert packed.noted(NOWHERE) == [("c/.git", str(tmp_path / "nothing"))]
    assert not packed.noted(HISTORY) and not packed.holds(MARKER)
    tree = packed.tree(tmp_path / "tree")
    for name in "abcdef":
        assert (tree / name / ".git").read_bytes() == (w / name / ".git").read_bytes()


def test_s20_worktrees_within_the_workspace(tmp_path):
    w = tmp_path / "w"
    repo = repository(w / "repo")
    git(repo, "worktree", "add", "-q", "-b", "side", w / "trees/side")
    packed = Packed(w, tmp_path / "out", "--guest-at", str(tmp_path / "tree"))
    assert ("trees/side/.git", str(repo / ".git/worktrees/side")) in packed.noted(REWRITTEN)
    tree = packed.tree(tmp_path / "tree")
    os.rename(w, tmp_path / "away")
    assert (tree / "trees/side/.git").read_bytes() == b"gitdir: ../../repo/.git/worktrees/side\n"
    work_inside(tree / "trees/side", guest_env())
    listed = git(tree / "repo", "worktree", "list", "--porcelain", env=guest_env())
    assert str(tree / "trees/side") in listed and "prunable" not in listed


def test_s20_objects_borrowed_from_outside(tmp_path):
    repository(tmp_path / "lender")
    git(tmp_path, "clone", "-q", "--shared", tmp_path / "lender", "w")
    packed = Packed(tmp_path / "w", tmp_path / "out")
    assert packed.noted(ALTERNATES) == [(".git/objects/info/alternates", str(tmp_path / "lender/.git/objects"))]
    assert packed.report()[".git/objects/info/alternates"][0] == HOSTONLY


def test_s20_objects_borrowed_from_inside(tmp_path):
    w = tmp_path / "w"
    repository(w / "lender")
    git(w, "clone", "-q", "--shared", w / "lender", "borrower")
    packed = Packed(w, tmp_path / "out")
    assert not packed.noted(ALTERNATES)
    tree = packed.tree(tmp_path / "tree")
    os.rename(w, tmp_path / "away")
    work_inside(tree / "borrower", guest_env())


# ---- history ----

some_kinds = pytest.mark.parametrize(
    "make", [a_clone, a_worktree, a_worktree_of_a_bare, with_submodule, a_submodule_alone], ids=lambda f: f.__name__
)


def with_a_deleted_secret(tmp, make):
    w = make(tmp)
    write(w / "secret.txt", MARKER * 10)
    git(w, "add", "secret.txt")
    git(w, "commit", "-qm", "oh no")
    git(w, "rm", "-q", "secret.txt")
    git(w, "commit", "-qm", "gone")
    return w


@some_kinds
def test_e2_history_is_included_and_said(make, tmp_path):
    w = with_a_deleted_secret(tmp_path / "host", make)
    packed = Packed(w, tmp_path / "out")
    assert ".git" in [p for p, _ in packed.noted(HISTORY)]
    tree = packed.tree(tmp_path / "tree")
    assert MARKER.decode() in git(tree, "log", "-p", "-2", env=guest_env())


@some_kinds
def test_e2_without_history(make, tmp_path):
    w = with_a_deleted_secret(tmp_path / "host", make)
    packed = Packed(w, tmp_path / "out", "--no-history")
    assert ".git" in [p for p, _ in packed.noted(NO_HISTORY)] and not packed.noted(HISTORY)
    tree = packed.tree(tmp_path / "tree")
    env = guest_env()
    for at, _, files in os.walk(tree):
        if "/objects" in at or "/refs" in at or "/logs" in at:
            assert not files, at
    assert git(tree, "rev-list", "--all", env=env) == ""
    assert "?? one\n" in git(tree, "status", "--porcelain", env=env)
    branch = git(w, "branch", "--show-current").strip() or "main"
    assert git(tree, "symbolic-ref", "HEAD", env=env) == f"refs/heads/{branch}\n"
    git(tree, "add", "one", env=env)
    git(tree, "commit", "-qm", "a first commit", env=env)
    assert git(tree, "log", "--format=%s", env=env) == "a first commit\n"


def test_e2_without_history_in_the_workspace_itself_bare(tmp_path):
    repository(tmp_path / "origin")
    git(tmp_path, "clone", "-q", "--bare", tmp_path / "origin", "w")
    assert Packed(tmp_path / "w", tmp_path / "out").noted(HISTORY) == [("", "")]
    packed = Packed(tmp_path / "w", tmp_path / "out2", "--no-history")
    tree = packed.tree(tmp_path / "tree")
    assert git(tree, "rev-list", "--all", env=guest_env()) == ""
    assert git(tree, "rev-parse", "--is-bare-repository", env=guest_env()) == "true\n"


def test_s15_both_forms_of_the_settings_agree(tmp_path):
    text = subprocess.run([PACK, "config"], capture_output=True, check=True).stdout
    (tmp_path / "gitconfig").write_bytes(text)
    listed = git(tmp_path, "config", "-f", tmp_path / "gitconfig", "--list").splitlines()
    told = guest_env()
    count = int(told["GIT_CONFIG_COUNT"])
    assert count == len(listed) >= 5
    for i in range(count):
        assert f"{told[f'GIT_CONFIG_KEY_{i}'].lower()}={told[f'GIT_CONFIG_VALUE_{i}']}" in listed

"""What of a proposal a host might run, and where a review puts it (V11)."""

import errno
import os

import pytest
from review_world import REDECIDE, Refused, World

X0 = """.envrc sub/.envrc .mise.toml .tool-versions .bashrc sub/.zshrc .vscode/tasks.json a/b/.vscode/settings.json
.vscode/launch.json .idea/runConfigurations/x.xml .zed/tasks.json .nvim.lua .exrc .dir-locals.el .gdbinit
.devcontainer/devcontainer.json .devcontainer.json .claude/settings.json .claude/settings.local.json
.claude/commands/x.md sub/.claude/agents/x.md .claude/skills/s/run.sh .mcp.json .cursor/mcp.json .codex/config.toml
.gemini/settings.json opencode.json .gitmodules .ENVRC .VSCode/Tasks.json .hg/hgrc
sub/.jj/repo/config.toml .direnv/flake-profile.rc .Rprofile .RData .ghci rust-analyzer.toml
.hermes/config.yaml""".split()
X1 = """package.json sub/package.json .npmrc Makefile GNUmakefile sub/CMakeLists.txt build.rs
.cargo/config.toml setup.py tests/conftest.py pyproject.toml gradlew gradle/wrapper/gradle-wrapper.jar pom.xml
.husky/pre-commit deep/down/.husky/_/h lefthook.yml .pre-commit-config.yaml Taskfile.yml justfile Vagrantfile
Dockerfile .gitattributes .env sub/.env.local rust-toolchain rust-toolchain.toml .pnp.cjs binding.gyp
tools/bazel""".split()
X2 = """.github/workflows/ci.yml .github/actions/x/action.yml .gitlab-ci.yml .gitlab/ci/x.yml .circleci/config.yml
Jenkinsfile .travis.yml azure-pipelines.yml .buildkite/pipeline.yml""".split()
X4 = "CLAUDE.md sub/AGENTS.md GEMINI.md .cursorrules skills/x/SKILL.md".split()
NEAR = """foo.vscode/tasks.json CODEOWNERS .github/CODEOWNERS envrc x.envrc.txt Makefile2 vscode/tasks.json
.vscode/readme.txt docs/makefiles.txt .env.example bazel/tools""".split()
GIT = """.git/config .git/hooks/post-checkout .git/config.worktree .git/info/attributes .git/modules/x/config
sub/.git sub/nested/.git/hooks/pre-commit .GIT/config bare.git/hooks/post-update bare.git/config""".split()


def test_v11_every_member_has_its_class_and_near_misses_are_plain(tmp_path):
    w = World(tmp_path).host("mkdir empty").pack()
    for path in [*X0, *X1, *X2, *X4, *NEAR]:
        w.agent.file(path, "x")
    w.guest()
    with w.review() as r:
        items = r.by_path()
        got = {path: items[path]["section"] for path in [*X0, *X1, *X2, *X4, *NEAR]}
        want = {p: s for s, paths in (("X0", X0), ("X1", X1), ("X2", X2), ("X4", X4), ("plain", NEAR)) for p in paths}
        assert got == want
        assert all(items[path]["reason"] for path in [*X0, *X1, *X2, *X4])
        assert not any(items[path]["reason"] for path in NEAR)


def test_v11_what_lies_in_a_repository_never_comes_back(tmp_path):
    w = World(tmp_path).host("mkdir -p host.git/objects host.git/refs; echo x > host.git/HEAD").pack()
    for path in [*GIT, "bare.git/HEAD", "bare.git/objects/x", "bare.git/refs/x", "host.git/hooks/post-update"]:
        w.agent.file(path, "x")
    w.guest()
    with w.review() as r:
        items = r.by_path()
        for path in [*GIT, "host.git/hooks/post-update"]:
            assert (items[path]["section"], path) == ("out", path)
            with pytest.raises(Refused) as why:
                r.accept(path)
            assert why.value.args[0] == errno.EINVAL
        for section in ("X1", "X2", "X3", "X4", "plain", "ignored"):
            r.ask("all", section, "accept")
        r.apply()
    assert not os.path.exists(w.at(".git"))
    assert not os.path.exists(w.at("host.git/hooks"))
    assert not os.path.exists(w.at("bare.git/hooks"))


def test_v11_a_repository_that_is_made_of_both(tmp_path):
    # HEAD was packed, objects and refs are the agent's: together they are one
    w = World(tmp_path).host("mkdir -p r/hooks; echo x > r/HEAD; echo x > r/hooks/h").pack()
    w.agent.file("r/objects/x", "x").file("r/refs/x", "x").file("r/hooks/post-update", "x")
    w.guest()
    with w.review() as r:
        assert {i["section"] for i in r.items()} <= {"out", "X0"}


def test_v11_a_repository_whose_parts_are_elsewhere(tmp_path):
    w = World(tmp_path).host("echo x > a").pack()
    w.agent.file("x/HEAD", "ref: refs/heads/m\n").file("x/commondir", "../data\n")
    w.agent.file("data/objects/o", "").file("data/refs/r", "").file("data/config", "[core]\n\tpager = evil\n")
    w.guest()
    with w.review() as r:
        assert {"x/HEAD", "x/commondir"} <= set(r.of("out"))


@pytest.mark.parametrize("hide", [lambda a: a.gone("b.git/HEAD"), lambda a: a.renamed("b.git/objects", "moved"),
                                  lambda a: a.renamed("b.git", "c").gone("c/HEAD")])
def test_v11_a_repository_that_a_rejection_would_leave_whole(tmp_path, hide):
    w = World(tmp_path).host("git init -q --bare b.git").pack()
    hide(w.agent)
    path = "c/config" if "c" in w.agent.entries else "b.git/config"
    w.agent.file(path, "[core]\n\tfsmonitor = evil\n")
    w.guest()
    with w.review() as r:
        assert r.item(path)["section"] == "X0"


def test_v11_a_repository_that_the_host_has_made_since(tmp_path):
    w = World(tmp_path).host("mkdir -p c/objects c/refs").pack()
    w.agent.file("c/config", "[core]\n\tfsmonitor = evil\n")
    w.guest().host("echo 'ref: refs/heads/m' > c/HEAD")
    with w.review() as r:
        assert r.item("c/config")["section"] == "X0"


def test_v11_a_directory_renamed_to_what_an_editor_reads(tmp_path):
    w = World(tmp_path).host("mkdir -p notes/deep plain ci; echo '{}' > notes/tasks.json; echo x > plain/x;"
                             " mkdir -p wf/workflows; echo x > wf/workflows/ci.yml; mkdir src;"
                             " echo x > src/package.json")
    w.pack()
    w.agent.renamed("notes", ".vscode").renamed("plain", "fine").renamed("wf", ".github").renamed("src", "lib")
    w.guest()
    with w.review() as r:
        assert {i["path"]: i["section"] for i in r.items()} == {
            ".vscode": "X0", "fine": "plain", ".github": "X2", "lib": "X1"}


def test_v11_a_git_directory_under_another_name(tmp_path):
    w = World(tmp_path).host("mkdir -p sub; git init -q sub; echo x > sub/f").pack()
    w.agent.renamed("sub/.git", "sub/dotgit").file("sub/dotgit/hooks/x", "evil")
    w.guest()
    with w.review() as r:
        assert {i["section"] for i in r.items()} == {"out"}


def test_v11_what_became_executable(tmp_path):
    w = World(tmp_path).host("echo x > mode; echo y > script; echo z > prog; ln -s a in; ln -s a out; echo q > typed;"
                             " printf 'PK\\3\\4' > lib.zip").pack()
    w.agent.file("mode", "x\n", 0o755).file("script", "#!/bin/sh\n").file("prog", "\x7fELF").link("in", "b")
    w.agent.link("out", "../../etc/passwd").link("typed", "/etc/passwd")
    w.agent.file("lib.zip", "PK\3\4more").file("plain", "x")
    w.guest()
    with w.review() as r:
        assert r.of("X3") == ["lib.zip", "mode", "out", "prog", "script", "typed"]
        assert r.of("plain") == ["in", "plain"]


def test_v11_a_conflict_keeps_its_class(tmp_path):
    w = World(tmp_path).host("echo x > .envrc; echo x > Makefile").pack()
    w.agent.file(".envrc", "agent").file("Makefile", "agent")
    w.guest()
    w.host("echo host > .envrc; echo host > Makefile")
    with w.review() as r:
        assert r.of("X0") == [".envrc"]
        assert (r.item("Makefile")["section"], r.item("Makefile")["class"]) == ("conflicts", "X1")


def test_v11_a_lock_file_that_names_a_new_host(tmp_path):
    old = '{"resolved": "https://registry.example/a.tgz"}\n'
    w = World(tmp_path).host(f"printf '%s' '{old}' > package-lock.json; cp package-lock.json yarn.lock").pack()
    w.agent.file("package-lock.json", old + '{"resolved": "https://evil.example/a.tgz"}\n')
    w.agent.file("yarn.lock", old + '{"resolved": "https://registry.example/b.tgz"}\n')
    w.guest()
    with w.review() as r:
        assert r.item("package-lock.json")["section"] == "X1"
        assert r.item("yarn.lock")["section"] == "plain"


def test_v11_links_of_the_host_give_a_file_the_class_of_their_name(tmp_path):
    tree = "mkdir ed conf hooks; echo x > ed/a; echo x > conf/mk; echo x > hooks/pre-commit; echo x > e"
    w = World(tmp_path).host(tree + "; ln -s ed .vscode; ln -s conf/mk Makefile; ln -s hooks .husky; ln -s e .envrc")
    w.pack().links((".vscode", "ed"), ("Makefile", "conf/mk"), (".husky", "hooks"), (".envrc", "e"))
    for path in ("ed/tasks.json", "ed/a", "conf/mk", "hooks/pre-commit", "e"):
        w.agent.file(path, "y")
    w.guest()
    with w.review() as r:
        got = {path: item["section"] for path, item in r.by_path().items()}
        want = {"ed/tasks.json": "X0", "e": "X0", "conf/mk": "X1", "hooks/pre-commit": "X1", "ed/a": "plain"}
        assert {p: got[p] for p in want} == want
        r.ask("all", "plain", "accept")
        r.apply()
    assert (w.read("ed/a"), w.read("e"), w.read("conf/mk")) == ("y", "x\n", "x\n")
    assert not os.path.exists(w.at("ed/tasks.json"))


def test_v11_a_directory_renamed_to_where_a_link_leads(tmp_path):
    w = World(tmp_path).host("mkdir evil; echo x > evil/tasks.json; ln -s ed .vscode").pack().links((".vscode", "ed"))
    w.agent.renamed("evil", "ed")
    w.guest()
    with w.review() as r:
        assert r.by_path()["ed"]["section"] == "X0"


MEANWHILE = {  # where somebody makes a link while the agent works: what it runs then
    "at the root": ("ln -s ed .vscode", "ed/tasks.json"),
    "beside the change": ("ln -s ../ed ed/.vscode; mkdir ed/in", "ed/tasks.json"),
    "above it": ("ln -s in/ed deep/.vscode", "deep/in/ed/tasks.json"),
    "elsewhere": ("ln -s ../../ed other/place/.vscode", "ed/tasks.json"),
    "through another": ("ln -s ed one; ln -s one .vscode", "ed/tasks.json"),
    "of a file": ("ln -s ed/tasks.json .envrc", "ed/tasks.json"),
}


@pytest.mark.parametrize("case", MEANWHILE)
def test_v11_a_link_that_was_made_on_the_host_meanwhile_counts(tmp_path, case):
    script, path = MEANWHILE[case]
    w = World(tmp_path).host("mkdir -p ed deep/in/ed other/place").pack()
    w.agent.file("ed/tasks.json", "y").file("deep/in/ed/tasks.json", "y").file("ed/plain", "y")
    w.guest()
    with w.review() as r:
        assert r.item(path)["section"] == "plain"
        r.accept(path)
    w.host(script)
    with w.review() as r:
        assert r.item(path)["section"] == "X0"
        assert r.item(path)["choice"] == "undecided" and r.item(path)["flags"] & REDECIDE
        r.ask("all", "plain", "accept")
        r.apply()
    assert not os.path.exists(w.at(path))


@pytest.mark.parametrize("how", ["all", "rest"])
def test_v11_p2_a_link_made_after_it_was_accepted_sends_it_back(tmp_path, how):
    w = World(tmp_path).host("mkdir ed").pack()
    w.agent.file("ed/tasks.json", "y").file("ed/plain", "y")
    w.guest()
    with w.review() as r:
        r.accept("ed/tasks.json", "ed/plain")
        w.host("ln -s ed .vscode")
        done = r.apply(how)
        assert (done["end"], done["back"]) == (("returned", 1) if how == "all" else ("done", 1)), done
        assert r.item("ed/tasks.json")["section"] == "X0" and r.item("ed/tasks.json")["choice"] == "undecided"
        assert os.path.exists(w.at("ed/plain")) == (how == "rest")
        if how == "all":
            assert r.apply()["end"] == "done"
    assert w.read("ed/plain") == "y" and not os.path.exists(w.at("ed/tasks.json"))


def test_v11_a_look_for_links_ends_in_a_large_tree(tmp_path):
    w = World(tmp_path).host("mkdir ed")
    for i in range(1, 5001):
        os.makedirs(w.at(f"d{i}/e"))
    w.pack()
    w.agent.file("ed/tasks.json", "y")
    w.guest()
    w.host("ln -s ed .vscode; ln -s ../../ed d5000/e/.vscode; ln -s . loop; ln -s /nowhere .idea")
    with w.review() as r:
        assert r.item("ed/tasks.json")["section"] == "X0"


def test_v11_a_directory_of_nothing_but_what_waits_says_that_it_would_be_empty(tmp_path):
    w = World(tmp_path).host("mkdir old").pack()
    w.agent.file(".vscode/tasks.json", "x").file("a/b/.envrc", "x").file("c/Makefile", "x").file("c/text", "x")
    w.agent.file("d/text", "x").dir("e").file("old/.envrc", "x").file("f/.vscode/tasks.json", "x").file("f/text", "x")
    w.guest()
    with w.review() as r:
        said = {i["path"] for i in r.items() if i["section"] == "plain" and "empty until" in (i["reason"] or "")}
        assert said == {".vscode", "a", "a/b", "f/.vscode"}
        r.ask("all", "plain", "accept")
        r.apply()
    assert os.listdir(w.at(".vscode")) == []

"""Profiles of agents from the command line: what is listed, shown, checked and kept. No guest is started."""

import hashlib
import json
import os
import stat

import pytest

INSTALLED = ["claude-code", "codex", "custom", "gemini", "opencode"]
KEY = "sk-ant-0123456789abcdef"


class Home:
    """A home directory of the test's own."""

    def __init__(self, berm, path):
        self.berm = berm
        self.path = path
        self.agents = path / ".config/berm/agents"
        self.env = {"HOME": str(path), "XDG_CONFIG_HOME": ""}

    def write(self, name, text):
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *args, **env):
        return self.berm.run("agent", *args, env={**self.env, **env})

    def ok(self, *args, **env):
        done = self.run(*args, **env)
        assert done.returncode == 0, (args, done.returncode, done.stderr)
        return done.stdout

    def json(self, *args, code=0, **env):
        done = self.run(*args, "--json", **env)
        assert done.returncode == code, (args, done.returncode, done.stderr)
        return json.loads(done.stdout)

    def refused(self, *args, code=125):
        done = self.run(*args)
        assert done.returncode == code, (args, done.returncode, done.stdout, done.stderr)
        assert done.stdout == "" and done.stderr.startswith("berm: ") and done.stderr.count("\n") == 1, done.stderr
        return done.stderr


@pytest.fixture
def home(berm, tmp_path):
    path = tmp_path / "home"
    path.mkdir()
    return Home(berm, path)


def test_the_installed_ones_are_listed(home):
    rows = home.json("ls")
    assert [r["name"] for r in rows] == INSTALLED
    assert all(r["installed"] and r["valid"] and not r["user"] and r["error"] is None for r in rows)
    lines = home.ok("ls").splitlines()
    assert lines[0].split() == ["NAME", "WHOSE", "IMAGE", "DESCRIPTION"] and len(lines) == 1 + len(INSTALLED)


def test_looking_makes_nothing(home):
    for args in (["ls"], ["inspect", "codex"], ["doctor", "codex"]):
        home.run(*args)
    assert os.listdir(home.path) == []


@pytest.mark.parametrize("name", INSTALLED)
def test_every_field_has_an_origin(home, name):
    said = home.json("inspect", name)
    assert said["name"] == name and said["sources"] == [f"installed {name}.yaml"]
    for field, row in said["fields"].items():
        assert row["origin"] == "default" or row["origin"].startswith(f"installed {name}.yaml:"), field
    assert said["fields"]["egress.default"]["value"] in ("model-only", "locked")


def test_a_profile_has_no_value_of_a_credential(home):
    """A placeholder is made for each; the profile knows names, hosts and headers."""
    fields = home.json("inspect", "claude-code", ANTHROPIC_API_KEY=KEY)["fields"]
    assert KEY not in json.dumps(fields)
    assert '"name": "ANTHROPIC_API_KEY"' in fields["secrets"]["value"][0]
    assert "x-api-key" in fields["secrets"]["value"][0]


def test_precedence(home, tmp_path):
    """The command line, then the workspace where it takes away, then one's own file, then the installed one."""
    workspace = tmp_path / "work"
    workspace.mkdir()
    home.write(".config/berm/agents/codex.yaml", "version: 1\nresources: { memory: 6GiB, cpus: 4 }\n")
    (workspace / ".berm.yaml").write_text("version: 1\nresources: { memory: 2GiB }\n")

    fields = home.json("inspect", "codex")["fields"]
    assert fields["resources.memory"] == {"value": 6 << 30, "origin": f"{home.agents}/codex.yaml:2"} or \
        fields["resources.memory"] == {"value": 6 << 30, "origin": "codex.yaml:2"}
    assert fields["resources.disk"]["origin"].startswith("installed codex.yaml:")

    fields = home.json("inspect", "codex", "--workspace", workspace)["fields"]
    assert fields["resources.memory"] == {"value": 2 << 30, "origin": ".berm.yaml:2"}
    assert fields["resources.cpus"]["value"] == 4

    flags = ["--memory", "8GiB", "--egress", "standard"]
    fields = home.json("inspect", "codex", "--workspace", workspace, *flags)["fields"]
    assert fields["resources.memory"] == {"value": 8 << 30, "origin": "--memory"}
    assert fields["egress.default"] == {"value": "standard", "origin": "--egress"}


def test_e13_a_workspace_widens_nothing(home, tmp_path):
    (tmp_path / ".berm.yaml").write_text(
        "version: 1\n"
        "resources: { memory: 64GiB, cpus: 1 }\n"
        "image: evil\n"
        "allow: [evil.example]\n"
        "egress: standard\n"
        'exclude: ["!.env", "*.local"]\n')
    before = home.json("inspect", "claude-code")
    done = home.run("inspect", "claude-code", "--workspace", tmp_path, "--json")
    after = json.loads(done.stdout)
    assert done.returncode == 0
    assert done.stderr.count("\n") == 5 and all(l.startswith("berm: ") for l in done.stderr.splitlines())
    assert len(after["notices"]) == 5
    for word in ("memory: 64 GiB", "image:", "allow:", "egress: standard", "'!.env'"):
        assert any(word in n for n in after["notices"]), word
    assert after["exclude"] == ["*.local"]
    changed = [f for f in before["fields"] if before["fields"][f] != after["fields"][f]]
    assert changed == ["resources.cpus"]


def test_e13_a_wrong_file_is_left_out_whole(home, tmp_path):
    (tmp_path / ".berm.yaml").write_text("version: 1\nresources: { cpus: 1 }\n\"\\e[31mx\": 1\n")
    done = home.run("inspect", "codex", "--workspace", tmp_path, "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 0 and "whole file is left out" in done.stderr and "\x1b" not in done.stderr
    assert said["fields"]["resources.cpus"]["value"] == 2


def test_a_link_is_no_file_of_a_workspace(home, tmp_path):
    (tmp_path / "elsewhere").write_text("version: 1\nresources: { cpus: 1 }\n")
    (tmp_path / ".berm.yaml").symlink_to("elsewhere")
    said = home.json("inspect", "codex", "--workspace", tmp_path)
    assert said["fields"]["resources.cpus"]["value"] == 2 and len(said["notices"]) == 1


def test_one_of_ones_own_is_added(home, tmp_path):
    path = tmp_path / "mine.yaml"
    text = "version: 1\ndescription: mine\ncommand: [mine]\n"
    path.write_text(text)
    digest = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    said = home.json("add", path, "--digest", digest)
    assert said == {"name": "mine", "digest": digest, "folder": str(home.agents), "secrets": []}
    kept = home.agents / "mine.yaml"
    assert kept.read_text() == text and stat.S_IMODE(kept.stat().st_mode) == 0o600
    row = next(r for r in home.json("ls") if r["name"] == "mine")
    assert row["user"] and not row["installed"] and row["description"] == "mine"
    fields = home.json("inspect", "mine")["fields"]
    assert fields["secrets"]["value"] == [] and fields["settings"]["value"] == []

    path.write_text(text + "state: [.mine/token]\n")
    assert "--force" in home.refused("add", path, code=4)
    assert "not the file that was asked for" in home.refused("add", path, "--force", "--digest", digest)
    assert kept.read_text() == text
    home.ok("add", path, "--force")
    assert "state" in kept.read_text()


def test_a_wrong_one_is_not_added(home, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("version: 1\nresources: { memroy: 1GiB }\n")
    said = home.refused("add", path)
    assert "mine.yaml:2:14: 'memroy'" in said and "did you mean 'memory'?" in said
    os.unlink(path)
    os.mkfifo(path)
    assert "is no regular file" in home.refused("add", path)
    big = tmp_path / "big.yaml"
    big.write_text("#" * ((1 << 20) + 1))
    assert "over 1048576 bytes" in home.refused("add", big)
    (tmp_path / "A B.yaml").write_text("version: 1\n")
    assert "--name" in home.refused("add", tmp_path / "A B.yaml")
    assert "there is no such file" in home.refused("add", tmp_path / "gone.yaml")
    assert not home.agents.exists()


def test_a_wrong_one_is_listed_with_its_fault(home):
    home.write(".config/berm/agents/codex.yaml", "version: 1\nx: 1\n")
    row = next(r for r in home.json("ls") if r["name"] == "codex")
    assert not row["valid"] and row["user"] and row["installed"] and "'x' is no key" in row["error"]
    assert "codex.yaml:2:1" in home.refused("inspect", "codex")


def test_an_unknown_one(home):
    assert "did you mean 'codex'?" in home.refused("inspect", "codx", code=3)
    assert "no agent's name" in home.refused("inspect", "../codex")


def test_a_receipt(home):
    home.write(".claude/settings.json", json.dumps(
        {"model": "m", "hooks": {"x": 1}, "permissions": {"allow": [], "apiKey": KEY}}))
    home.write(".claude/CLAUDE.md", "# be brief\n")
    home.write(".claude/skills/a/SKILL.md", "x")
    home.write(".claude/skills/a/.env", f"K={KEY}")
    home.write(".claude/.credentials.json", f'{{"token":"{KEY}"}}')
    home.write(".claude/history.jsonl", "secret history")
    before = sorted((p, p.stat().st_mtime_ns) for p in home.path.rglob("*"))

    done = home.run("doctor", "claude-code", "--json", ANTHROPIC_API_KEY=KEY)
    assert done.returncode in (0, 1) and KEY not in done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["ready"] == (done.returncode == 0) == (said["image"][0]["is"] != "missing")
    assert said["image"][0]["ref"] == "agent/claude-code" and said["image"][1]["name"] == "default"
    assert {s["name"]: s["is"] for s in said["secrets"]} == {
        "ANTHROPIC_API_KEY": "available", "CLAUDE_CODE_OAUTH_TOKEN": "missing"}

    settings = {s["path"]: s for s in said["settings"]}
    assert settings[".claude/settings.json"]["is"] == "enters"
    assert sorted(settings[".claude/settings.json"]["removed"]) == ["hooks", "permissions.apiKey"]
    assert settings[".claude/CLAUDE.md"]["bytes"] == 11
    assert settings[".claude/skills/a/SKILL.md"]["is"] == "enters"
    assert settings[".claude/skills/a/.env"]["is"] == "refused"
    assert settings[".claude/rules"]["is"] == "absent"

    left = {s["what"]: s["why"] for s in said["not_touched"]}
    assert ".claude/history.jsonl" in left and "own login" in left[".claude/.credentials.json"]
    assert "values of credentials" in left and ".claude/CLAUDE.md" not in left
    assert before == sorted((p, p.stat().st_mtime_ns) for p in home.path.rglob("*"))
    assert "Not touched" in home.run("doctor", "claude-code").stdout


@pytest.mark.parametrize("name, command, variable", [
    ("claude-code", "berm code claude-code -- claude auth login", "ANTHROPIC_API_KEY"),
    ("codex", "berm code codex -- codex login --device-auth", "OPENAI_API_KEY"),
    ("opencode", "berm code opencode -- opencode auth login", "ANTHROPIC_API_KEY"),
    ("gemini", "berm code gemini", "GEMINI_API_KEY"),
])
def test_whoever_has_no_login_is_told_what_to_type(home, name, command, variable):
    login, = home.json("doctor", name, code=1)["login"]
    assert login["is"] == "missing" and f"{command};" in login["why"] and f"set {variable}," in login["why"]
    assert f"{variable}, which is not set" in home.run("doctor", name).stdout
    login, = home.json("doctor", name, code=1, **{variable: KEY})["login"]
    assert login["is"] == "ready" and KEY not in json.dumps(login)


def test_what_is_told_to_type_runs_nothing_else(home):
    home.write(".config/berm/agents/x.yaml", "version: 1\ncommand: [x]\nstate: [.x/y]\n"
               "arguments: { login: [\"a'b\", '; reboot', '$(reboot)'] }\n")
    login, = home.json("doctor", "x")["login"]
    assert login["why"] == """type this in the workspace: berm code x -- x 'a'\\''b' '; reboot' '$(reboot)'""", login


def test_what_needs_no_login(home):
    assert home.json("doctor", "custom")["login"] == []


# Each is refused with the line it stands in, and nothing is kept.
HOSTILE = {
    "words": ("command: [" + "w, " * 10000 + "w]", "2:10: over 64 items"),
    "long": ("command: [" + "w" * 2000 + "]", "2:11: a text of 1 to 1024 bytes"),
    "escape": ('description: "a\\e[2J"', "2:14: 'a\\x1b[2J' has a control character"),
    "raw": ("description: a\x1b[2J", "2:15: control characters"),
    "quoting": ('image: { packages: { npm: ["x\'; touch /y; \'"] } }', "2:28: "),
    "shell": ('image: { packages: { apt: ["$(reboot)"] } }', "2:28: '$(reboot)' is no package's name"),
    "option": ('image: { packages: { pip: ["--index-url=x"] } }', "2:28: "),
    "line": ('image: { packages: { npm: ["a\\nb"] } }', "2:28: "),
    "base": ("image: { base: ../../etc }", "2:16: '../../etc' is no image's name"),
    "up": ("settings: [ { path: ../../etc/passwd, category: settings, format: text } ]", "2:21: "),
    "key": ("settings: [ { path: .ssh/id_rsa, category: settings, format: text } ]",
            "2:21: '.ssh/id_rsa' is where credentials usually are"),
    "state": ("state: [.a/../../b]", "2:9: "),
    "alias": ("a: &a [x]\ncommand: *a", "2:4: an anchor"),
    "bomb": ("\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]" for i in range(9)), "2:5: "),
    "deep": ("command: " + "[" * 100000, "nested too deeply"),
    "header": ('secrets: [ { name: X, hosts: [a.example], header: "x\\r\\ny" } ]',
               "2:52: 'x\\x0d\\x0ay' is no header's name"),
    "everywhere": ('egress: { locked: [ { host: "*", port: 443 } ] }', "2:11: '*' is too broad"),
    "number": ("resources: { cpus: 99999999999999999999 }", "2:20: "),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_one_is_refused_with_its_line(home, tmp_path, name):
    text, why = HOSTILE[name]
    (tmp_path / "x.yaml").write_text(f"version: 1\n{text}\n")
    said = home.refused("add", tmp_path / "x.yaml")
    assert "x.yaml:2:" in said and why in said and "\x1b" not in said and len(said) < 600, said
    assert not home.agents.exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "a\x1b[2J", "", "A", "-x", "a" * 65, "."])
def test_a_name_that_is_none(home, tmp_path, name):
    (tmp_path / "x.yaml").write_text("version: 1\n")
    assert "\x1b" not in home.refused("add", tmp_path / "x.yaml", "--name", name)
    assert not home.agents.exists()


def test_a_receipt_says_what_is_wrong_with_a_setting(home):
    home.write(".codex/config.toml", 'model = "m"\n[mcp_servers.x]\ncommand = "y"\n')
    said = home.json("doctor", "codex", code=0 if home.run("doctor", "codex").returncode == 0 else 1)
    assert said["settings"][0]["removed"] == ["mcp_servers.x"]
    home.write(".codex/config.toml", "model = \n")
    text = home.run("doctor", "codex").stdout
    assert "refused" in text and ".codex/config.toml:1: is no TOML" in text


def test_xdg(home, tmp_path):
    folder = tmp_path / "xdg"
    (tmp_path / "mine.yaml").write_text("version: 1\n")
    home.ok("add", tmp_path / "mine.yaml", XDG_CONFIG_HOME=str(folder))
    assert (folder / "berm/agents/mine.yaml").exists()
    assert "mine" not in home.ok("ls")


def test_what_the_shell_offers(home, berm):
    assert berm.run("__complete", "agents", env=home.env).stdout.split() == INSTALLED
    script = berm.ok("__complete", "bash")
    assert "berm __complete agents" in script and "ls inspect doctor add build forget" in script


def test_help(berm):
    for verb in ("ls", "inspect", "doctor", "add", "build", "forget"):
        text = berm.ok("agent", verb, "--help")
        assert "Examples:" in text and f"berm agent {verb}" in text


def test_what_a_profile_reads_on_the_host_is_said_when_it_is_added(home):
    """A command, a file and an item of the keyring run or are read as the user, and a profile may be another's."""
    path = home.write("other.yaml", """version: 1
command: [sh]
secrets:
  - { name: PLAIN, hosts: [api.example.com] }
  - { name: TOK, from: { command: [touch, /nowhere/ran] }, hosts: [api.example.com] }
  - { name: KEY, from: { file: ~/.ssh/id_ed25519 }, hosts: [api.example.com] }
""")
    done = home.run("add", path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "berm: warning: each session reads TOK on this host, as you, from the command touch /nowhere/ran",
        "berm: warning: each session reads KEY on this host, as you, from the file ~/.ssh/id_ed25519"], done.stderr
    said = home.json("add", path, "--force")
    assert [(s["name"], s["from"]) for s in said["secrets"]] == [("PLAIN", "env"), ("TOK", "command"), ("KEY", "file")]

"""What is said of policies and the flags about the network before any guest runs."""

import json
import os

import pytest
from bermtest import wait_for

POLICY = """version: 1
network:
  rules:
    - { host: api.example.com, port: 443 }
    - { host: git.example.com, port: 443, http: [ { method: read-only } ] }
    - { address: 10.20.0.0/16, port: 5432 }
secrets:
  - { name: API_KEY, hosts: api.example.com, header: x-api-key }
  - { name: OTHER, from: { file: /nowhere/token }, hosts: git.example.com }
limits: { egress: 200MiB, connections: 64 }
"""

SECRET = "sk-live-0123456789abcdef"


@pytest.fixture
def policy(tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return path


NO_SANDBOX, TAKEN, NO_NETWORK = 3, 4, 5


def refused(berm, *args, code=125, **more):
    """The one line on stderr of a command that exits with that code and prints nothing."""
    done = berm.run(*args, **more)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("berm: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_a_policy_is_shown(berm, policy):
    text = berm.ok("policy", "check", policy)
    assert text.startswith(f"{policy}: valid, 3 rules, 2 secrets, sha256:")
    assert "  allow api.example.com:443  " in text
    assert "  allow git.example.com:443  GET, HEAD, OPTIONS  " in text
    assert "  allow 10.20.0.0/16:5432  " in text
    assert "  deny  everything else" in text
    assert "secret API_KEY  to api.example.com  as header x-api-key  from the variable API_KEY" in text
    assert "from the file /nowhere/token" in text
    assert "limits egress 200 MiB, connections 64" in text


def test_a_policy_that_is_too_large(berm, tmp_path):
    """One line of the command, before anything starts, and the same of the check."""
    path = tmp_path / "large.yaml"
    rule = "    - {{ host: a{:04}.{}.example.com, port: 443 }}\n"
    text = "version: 1\nnetwork:\n  rules:\n" + "".join(rule.format(i, "x" * 60) for i in range(3000))
    path.write_text(text)
    for args in (["policy", "check", path], ["run", "--policy", path, "--", "true"]):
        said = refused(berm, *args)
        assert "over 256 KiB when compiled" in said and "large.yaml:" in said, said
    assert berm.sandboxes() == []


def test_a_policy_as_json(berm, policy):
    said = json.loads(berm.ok("policy", "check", policy, "--json"))
    assert said["valid"] is True
    assert said["digest"].startswith("sha256:") and len(said["digest"]) == 7 + 64
    assert said["default"] == "deny"
    assert [r["host"] or r["address"] for r in said["rules"]] == [
        "api.example.com",
        "git.example.com",
        "10.20.0.0/16",
    ]
    assert said["rules"][1]["http"] == [{"methods": ["GET", "HEAD", "OPTIONS"], "path": None, "query": []}]
    assert said["secrets"][0]["from"] == "env" and said["secrets"][0]["source"] == "API_KEY"
    assert said["secrets"][1]["from"] == "file" and said["secrets"][1]["source"] == "/nowhere/token"
    assert said["limits"] == {"egress": 200 << 20, "connections": 64}
    assert said["notes"] == [] and said["answers"] == []


def test_what_stays_out_of_a_workspace_is_shown(berm, tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\nworkspace:\n  skip_cost: true\n  exclude:\n    - '*.local'\n    - \"a\\u202eb\"\n")
    here = {"cwd": str(tmp_path)}  # a long path would be shown by its last part
    text = berm.ok("policy", "check", "policy.yaml", **here)
    assert "  workspace without *.local  " in text and " policy.yaml:5\n" in text, text
    assert "  workspace without a\\xe2\\x80\\xaeb  " in text and " policy.yaml:6\n" in text, text
    assert "  workspace without what can be made again  " in text and " policy.yaml:3\n" in text, text
    said = json.loads(berm.ok("policy", "check", "policy.yaml", "--json", **here))
    assert said["workspace"] == {"skip_cost": True, "exclude": [
        {"pattern": "*.local", "file": "policy.yaml", "line": 5},
        {"pattern": "a\u202eb", "file": "policy.yaml", "line": 6}]}
    path.write_text("version: 1\nworkspace:\n  exclude: ['!.env']\n")
    said = refused(berm, "policy", "check", path)
    assert "policy.yaml:3:13: '!.env' would bring back what stays out" in said, said


def test_what_stays_out_of_a_workspace_is_in_the_digest(berm, tmp_path):
    path = tmp_path / "policy.yaml"
    digests = set()
    for text in ("", "workspace: { exclude: [a] }", "workspace: { exclude: [b] }", "workspace: { skip_cost: true }"):
        path.write_text(f"version: 1\n{text}\n")
        digests.add(json.loads(berm.ok("policy", "check", path, "--json"))["digest"])
    assert len(digests) == 4, digests


def test_a_run_says_that_it_packs_no_workspace(berm, tmp_path):
    """And the policy it has says it all the same."""
    (tmp_path / "policy.yaml").write_text("version: 1\nworkspace:\n  exclude: ['*.local']\n")
    here = {"cwd": str(tmp_path)}
    box = berm.run("run", "-d", "--name", "w", "--policy", "policy.yaml", "--", "sleep", "600", **here)
    assert box.returncode == 0, box.stderr
    said = "policy.yaml:3: what a policy says of workspaces counts when berm code packs one"
    assert box.stderr.count(said) == 1, box.stderr
    assert "  workspace without *.local  " in berm.ok("policy", "show", "w")
    got = berm.run("policy", "set", "w", "policy.yaml", **here)
    assert got.returncode == 0 and said in got.stderr, got.stderr
    berm.ok("rm", "--force", "w")


def test_a_policy_file_that_is_not_there(berm, tmp_path):
    """What to do stands in the line."""
    for args in (("policy", "check", "policy.yaml"), ("run", "--policy", "policy.yaml", "--", "true"),
                 ("code", "--dry-run", "--policy", "policy.yaml")):
        said = refused(berm, *args, cwd=str(tmp_path))
        assert "there is no policy file 'policy.yaml': write one" in said and "--preset" in said, said
    assert "Not a directory" in refused(berm, "policy", "check", "/etc/passwd/policy.yaml")


def test_names_of_policy_files_are_shown_escaped(berm, tmp_path):
    """Of one that is well, one that is wrong, one that is not there and one that is too long."""
    for name in ("a\x1b[2J.yaml", "b\nberm: all is well.yaml", "c\u202elmay.yaml", "d" * 250 + ".yaml"):
        path = tmp_path / name
        path.write_text("version: 1\nworkspace: { exclude: [x] }\nnetwork:\n  rules: [ { host: a.example.com } ]\n")
        done = berm.run("policy", "check", path)
        assert done.returncode == 0, done.stderr
        path.write_text("version: 1\nnetwrk: {}\n")
        for said in (done.stdout, refused(berm, "policy", "check", path),
                     refused(berm, "run", "--policy", path, "--", "x"),
                     refused(berm, "policy", "check", f"{path}/../none/{name}")):
            assert "\x1b" not in said and "\u202e" not in said and "\nberm: all" not in said, said
    assert "xxx': File name too long" in refused(berm, "policy", "check", "x" * 5000)


@pytest.mark.parametrize("name", ["A\x1b[2JB", "A\u202eB", "../A", "A" * 65, "A\nB", ""])
def test_names_of_secrets_are_shown_escaped(berm, tmp_path, name):
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nsecrets:\n  - " + json.dumps({"name": name, "hosts": "a.example.com"}) + "\n")
    said = refused(berm, "policy", "check", path)
    assert "p.yaml:3:" in said and "\x1b" not in said and "\u202e" not in said, said
    said = refused(berm, "run", "--secret", f"{name}@a.example.com", "--", "true")
    assert "--secret" in said and "\x1b" not in said and "\u202e" not in said, said


@pytest.mark.parametrize("name", ["../standard", "a\x1b[2J", "\u202elevel", "a" * 33, "/etc/passwd", ""])
def test_names_of_presets_are_shown_escaped(berm, tmp_path, name):
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nnetwork:\n  rules:\n    - " + json.dumps({"preset": name}) + "\n")
    said = refused(berm, "policy", "check", path)
    assert "p.yaml:4:" in said and "\x1b" not in said and "\u202e" not in said, said
    said = refused(berm, "run", "--preset", name, "--", "true")
    assert "--preset" in said and "\x1b" not in said and "\u202e" not in said, said


def test_the_digest_is_of_what_it_means(berm, policy, tmp_path):
    again = tmp_path / "again.yaml"
    again.write_text(POLICY)
    moved = tmp_path / "moved.yaml"
    moved.write_text(POLICY.replace("git.example.com, port: 443", "git.example.com, port: 8443"))

    def digest(*args):
        return json.loads(berm.ok("policy", "check", "--json", *args))["digest"]

    assert digest("--allow", "a.example.com:443") == digest("--preset", "none", "--allow", "a.example.com:443")
    assert digest(policy) != digest(moved)


@pytest.mark.parametrize(
    "question, allowed, reason",
    [
        (["GET", "https://api.example.com/v1"], True, "allowed"),
        (["https://api.example.com"], True, "allowed"),
        (["api.example.com:443"], True, "allowed"),
        (["api.example.com:80"], False, "no-rule"),
        (["GET", "https://git.example.com/x"], True, "allowed"),
        (["POST", "https://git.example.com/x"], False, "method"),
        (["10.20.1.1:5432"], True, "allowed"),
        (["10.21.1.1:5432"], False, "special-address"),
        (["http://169.254.169.254/latest/"], False, "metadata-address"),
        (["api.example.com:443/udp"], False, "quic-refused"),
    ],
)
def test_questions(berm, policy, question, allowed, reason):
    done = berm.run("policy", "check", policy, "--json", "--ask", *question)
    assert done.returncode == (0 if allowed else 1), done.stderr
    (answer,) = json.loads(done.stdout)["answers"]
    assert (answer["allowed"], answer["reason"]) == (allowed, reason)
    assert answer["to"] == question[-1]
    assert answer["method"] == (question[0] if len(question) > 1 else None)


def test_several_questions_and_what_would_help(berm, policy):
    done = berm.run("policy", "check", policy, "--ask", "GET", "https://api.example.com/", "x.example.org:25")
    assert done.returncode == 1
    first, second = done.stdout.splitlines()
    assert first.startswith("allowed  api.example.com:443 ") and first.endswith("; may use API_KEY")
    assert second.startswith("refused  x.example.org:25 ") and "--allow x.example.org:25" in second


def test_what_is_said_in_vain_is_noted(berm):
    done = berm.run("policy", "check", "--allow", "a.example.com", "--deny", "a.example.com")
    assert done.returncode == 0
    assert "--allow a.example.com allows nothing: all of it is denied by --deny a.example.com" in done.stderr


@pytest.mark.parametrize(
    "text, where, what",
    [
        ("version: 1\nnetwrk: {}\n", "2:1", "did you mean 'network'"),
        ("version: 2\n", "1:10", ""),
        ("version: 1\nnetwork:\n  rules:\n    - { hots: a.example.com }\n", "4:9", "did you mean 'host'"),
        ("version: 1\nnetwork:\n  rules:\n    - { host: 'https://a.example.com' }\n", "4:", "scheme"),
        ("version: 1\nlimits: { memory: 1GiB }\n", "2:", "memory"),
        ("version: 1\nnetwork: [\n", "", ""),
        ("", "", ""),
    ],
)
def test_a_wrong_file_has_its_line(berm, tmp_path, text, where, what):
    path = tmp_path / "p.yaml"
    path.write_text(text)
    said = refused(berm, "policy", "check", path)
    assert f"p.yaml:{where}" in said and what in said, said
    assert refused(berm, "run", "--policy", path, "--", "true").split(": ", 1)[1:] != []
    shown = berm.run("policy", "check", path, "--json")
    assert shown.returncode == 125
    assert json.loads(shown.stdout)["valid"] is False


@pytest.mark.parametrize(
    "flags, what",
    [
        (["--allow", "https://a.example.com/"], "--allow 'https://a.example.com/'"),
        (["--allow", "*.com"], "--allow '*.com'"),
        (["--allow", "a.example.com:0"], "port from 1 to 65535"),
        (["--allow", "10.0.0.1"], "--allow '10.0.0.1'"),
        (["--allow", ""], "--allow"),
        (["--deny", "a b"], "--deny 'a b'"),
        (["--preset", "standrd"], "there is no preset 'standrd'"),
        (["--preset", "../standard"], "--preset"),
        (["--secret", "TOKEN"], "NAME@HOST"),
        (["--secret", "TO-KEN@a.example.com"], "TO-KEN"),
        (["--secret", "TOKEN@a.example.com:hedaer=x"], "header="),
        (["--secret", "TOKEN@"], "host is missing"),
        (["--policy", "/nowhere/p.yaml"], "/nowhere/p.yaml"),
        (["-p", "80"], "[ADDRESS:]HOST:GUEST"),
        (["-p", "8080:80/udp"], "only TCP"),
        (["-p", "1.2.3:1:2"], "no address"),
        (["-p", "8080:99999"], "port of the guest"),
        (["-e", "TOKEN=x", "--secret", "TOKEN@a.example.com"], "--env TOKEN"),
    ],
)
def test_wrong_flags_of_a_run(berm, bb, flags, what):
    said = refused(berm, "run", *flags, bb, "true")
    assert what in said, said
    assert berm.sandboxes() == []


def test_a_port_for_other_machines_is_warned_of(berm, bb):
    flags = ["-p", "127.0.0.1:0:80", "-p", "[::1]:0:80", "-p", "0.0.0.0:0:80", "-p", "[::]:0:81"]
    r = berm.run("run", *flags, bb, "true")
    assert r.returncode == 0, r.stderr
    warned = [line for line in r.stderr.splitlines() if "can connect" in line]
    assert len(warned) == 2 and "-p 0.0.0.0:0:80: every host" in warned[0] and "[::]:0:81" in warned[1], r.stderr
    r = berm.run("run", "--json", *flags, bb, "true")
    assert r.returncode == 0 and "can connect" not in r.stderr, r.stderr


def test_a_value_does_not_come_along_under_another_name(berm, bb):
    flags = ["--allow", "a.example.com", "--secret", "TOKEN@a.example.com:env=MY_TOKEN"]
    env = {"MY_TOKEN": SECRET}
    for word in ("MY_TOKEN", f"HEADER=Authorization: {SECRET}"):
        said = refused(berm, "run", *flags, "-e", word, bb, "true", env=env)
        assert f"--env {word.split('=')[0]}: the value of the secret TOKEN" in said and SECRET not in said
    assert berm.sandboxes() == []


def test_a_missing_source_is_said_before_anything_starts(berm, bb, tmp_path):
    def run(word, env=None):
        return refused(berm, "run", "--allow", "a.example.com", "--secret", word, bb, "true", env=env)

    assert "the secret TOKEN_OF_TEST: the variable TOKEN_OF_TEST is not set" in run("TOKEN_OF_TEST@a.example.com")
    assert "/nowhere/token" in run("TOKEN@a.example.com:file=/nowhere/token")
    empty = tmp_path / "empty"
    empty.write_text("\n")
    assert "is empty" in run(f"TOKEN@a.example.com:file={empty}")
    lines = tmp_path / "lines"
    lines.write_text(f"{SECRET}\n{SECRET}\n")
    said = run(f"TOKEN@a.example.com:file={lines}")
    assert "more than one line" in said and SECRET not in said
    assert berm.sandboxes() == []


def test_a_command_that_fails_is_named(berm, bb, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text(
        "version: 1\nnetwork: { rules: [ { host: a.example.com } ] }\nsecrets:\n"
        "  - { name: TOKEN, from: { command: [sh, -c, 'exit 3'] }, hosts: a.example.com }\n"
    )
    said = refused(berm, "run", "--policy", path, bb, "true")
    assert "the secret TOKEN: the command sh exited with 3; run it by hand to see why" in said


def test_sandboxes_without_a_network(berm, running):
    for verb in (["policy", "set", running, "--preset", "none"], ["policy", "show", running], ["secret", "ls", running],
                 ["secret", "set", running, "KEY", "--env", "PATH"], ["secret", "rm", running, "KEY"],
                 ["forward", running, "0:80"]):
        said = refused(berm, *verb, code=NO_NETWORK)
        assert "started without a network; start it with --preset none" in said, said
    assert "has no network" in refused(berm, "logs", "--egress", running, code=NO_NETWORK)
    assert json.loads(berm.ok("inspect", running)).get("egress") is None


def test_wrong_words_of_the_live_verbs(berm, running):
    assert "no policy is given" in refused(berm, "policy", "set", running)
    assert "--expect" in refused(berm, "policy", "set", running, "--preset", "none", "--expect", "x")
    assert "no secret's name" in refused(berm, "secret", "set", running, "TO-KEN")
    assert "not two" in refused(berm, "secret", "set", running, "T", "--env", "A", "--file", "b")
    assert "[ADDRESS:]HOST:GUEST" in refused(berm, "forward", running, "80")
    for verb in (["policy", "show", "nobody"], ["policy", "set", "nobody", "--preset", "none"],
                 ["secret", "ls", "nobody"], ["secret", "set", "nobody", "KEY", "--env", "PATH"],
                 ["secret", "rm", "nobody", "KEY"], ["forward", "nobody", "0:80"], ["logs", "--egress", "nobody"]):
        assert "there is no sandbox 'nobody'" in refused(berm, *verb, code=NO_SANDBOX)


def test_files_that_are_no_policy(berm, running, tmp_path):
    """One line, which names the file; -p's own are in test_policy_live.py."""
    nul, huge, empty = tmp_path / "nul", tmp_path / "huge", tmp_path / "empty"
    nul.write_bytes(b"version: 1\n\0network: {}\n")
    huge.write_bytes(b"#" * 3_000_000)
    empty.write_bytes(b"")
    for path, why in ((nul, ":2:1: control characters"), (huge, "1048576 bytes"), (empty, "is empty"),
                      (tmp_path, "Is a directory"), (tmp_path / "gone", "there is no policy file"),
                      ("/dev/zero", "1048576 bytes")):
        for verb in (["policy", "check", path], ["policy", "set", running, path],
                     ["run", "--policy", path, "--", "true"]):
            said = refused(berm, *verb)
            assert os.path.basename(path) in said and why in said, said


def test_one_that_has_ended(berm, bb):
    with berm.detached("--preset", "none", bb, "true") as sandbox:
        wait_for("it ended", lambda: berm.json("ps", "--json") == [])
        for verb in (["policy", "set", sandbox, "--preset", "none"], ["secret", "ls", sandbox],
                     ["secret", "set", sandbox, "KEY", "--env", "PATH"], ["forward", sandbox, "0:80"]):
            assert "has ended" in refused(berm, *verb, code=NO_SANDBOX)
        assert "deny  everything else" in berm.ok("policy", "show", sandbox)
        assert berm.ok("logs", "-f", "--egress", sandbox) == ""


def test_ask_and_its_questions_belong_together(berm, policy):
    assert "belong together" in refused(berm, "policy", "check", policy, "--ask")
    assert "no URL is behind it" in refused(berm, "policy", "check", policy, "--ask", "GET")
    assert "neither https:// nor http://" in refused(berm, "policy", "check", policy, "--ask", "ftp://a.example/")
    assert "nothing to check" in refused(berm, "policy", "check")


def test_the_policy_may_come_from_stdin(berm):
    said = berm.ok("policy", "check", "-", input=POLICY.encode())
    assert said.startswith("-: valid, 3 rules")


def test_presets_are_offered_to_the_shell(berm):
    offered = berm.ok("__complete", "presets").split()
    assert sorted(offered) == ["locked", "model-only", "none", "permissive", "registries", "standard"]

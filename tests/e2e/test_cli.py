"""The command line: what it says, what it refuses, what it exits with. No guest is started."""

import json
import os
import re
import subprocess

import pytest

VERBS = "run exec attach ps logs stats inspect cp wait stop rm image doctor help version".split()


def lines(text):
    return [line for line in text.splitlines() if line]


def at_a_terminal(berm, *args, cols, **env):
    with berm.terminal(*args, cols=cols, env={"LANG": "C.UTF-8", **env}) as term:
        assert term.wait() == 0, term.text
        return term.text.decode().replace("\r\n", "\n").splitlines()


def refused(got, *words, code=125):
    """That exit code, nothing on stdout, and one line that has all of words in it."""
    assert got.returncode == code, got
    assert got.stdout == ""
    assert len(lines(got.stderr)) == 1, got.stderr
    assert got.stderr.startswith("berm: ")
    for word in words:
        assert word in got.stderr, got.stderr


def test_alone_it_tells_a_newcomer_what_to_type(berm):
    text = berm.ok()
    assert "berm run -- " in text
    assert "berm doctor" in text
    assert len(lines(text)) < 10


def test_help_lists_every_verb_and_each_has_its_own(berm):
    text = berm.ok("help")
    for verb in VERBS:
        assert re.search(rf"^  {verb} ", text, re.M), verb
        own = berm.ok(verb, "--help")
        assert own == berm.ok("help", verb)
        assert own.startswith(f"Usage: berm {verb}")
    assert berm.ok("--help") == text
    assert berm.ok("-h") == text


def test_every_verb_has_examples(berm):
    for verb in VERBS:
        assert "Examples:\n  " in berm.ok("help", verb), verb


def test_version(berm):
    text = berm.ok("--version")
    assert re.fullmatch(r"berm \d+\.\d+\.\d+\n", text)
    assert berm.json("version", "--json") == {"version": text.split()[1]}


@pytest.mark.parametrize(
    "words, says",
    [
        (["rnu"], "did you mean 'berm run'"),
        (["frobnicate"], "berm help"),
        (["--frob"], "unknown option '--frob'"),
        (["ps", "--jsno"], "did you mean '--json'"),
        (["ps", "word"], "takes no words"),
        (["exec", "one"], "SANDBOX CMD"),
        (["help", "nosuch"], "nosuch"),
        (["cp", "a", "b"], "SANDBOX:PATH"),
        (["cp", "a:b", "c:d"], "SANDBOX:PATH"),
        (["stop", "--signal", "NOPE", "x"], "no such signal"),
        (["stop", "-t", "soon", "x"], "--time"),
        (["logs", "--tail", "-1", "x"], "--tail"),
        (["logs", "--since", "yesterday", "x"], "--since"),
        (["run", "--cpus", "0", "--", "x"], "--cpus"),
        (["run", "--cpus", "10000", "--", "x"], "--cpus"),
        (["run", "--memory", "1KiB", "--", "x"], "memory"),
        (["run", "--memory", "lots", "--", "x"], "--memory"),
        (["run", "--name", "a/b", "--", "x"], "name"),
        (["run", "--engine", "magic", "--", "x"], "auto|kvm|qemu"),
        (["run", "--minimum", "none", "--", "x"], "microvm|emulated|process"),
        (["run", "-e", "=x", "--", "x"], "--env"),
        (["run", "--env-file", "/nonexistent", "--", "x"], "/nonexistent"),
        (["run", "-w", "here", "--", "x"], "must start with '/'"),
        (["run", "debian", "--cpus", "2"], "flags go before the image"),
        (["run", "--result", "fd:99", "--", "x"], "fd:99"),
        (["run", "-d", "--result", "x", "--", "x"], "--result"),
    ],
)
def test_mistakes_are_one_clear_line(berm, words, says):
    refused(berm.run(*words), says)


@pytest.mark.parametrize("args", [["logs"], ["logs", "-f"], ["logs", "--egress"], ["logs", "--denied"], ["stats"],
                                  ["inspect"], ["pause"], ["resume"], ["stop"], ["rm"], ["fork"], ["policy", "show"],
                                  ["secret", "ls"]])
def test_an_unknown_sandbox_has_one_exit_code(berm, args):
    refused(berm.run(*args, "nosuch"), "there is no sandbox 'nosuch'", code=3)
    refused(berm.run("cp", "nosuch:/x", "."), "there is no sandbox 'nosuch'", code=3)


@pytest.mark.parametrize("args", [["exec", "nosuch", "true"], ["attach", "nosuch"], ["wait", "nosuch"]])
def test_an_unknown_sandbox_is_no_commands_status(berm, args):
    """Of verbs whose status is a command's own, 3 may be that."""
    refused(berm.run(*args), "there is no sandbox 'nosuch'")


LONG = "x" * 40


@pytest.mark.parametrize("cols", [40, 72, 80, 100, 400])
def test_lists_fit_the_terminal(berm, tmp_path, cols):
    """What does not fit is cut at the right and marked; a pipe gets all of it."""
    agents = tmp_path / ".config/berm/agents"
    agents.mkdir(parents=True)
    text = f"an agent with \u202e\u4e16\u754c and {LONG} {LONG}"
    (agents / "mine.yaml").write_text(json.dumps({"version": 1, "command": ["sh"], "description": text}))
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    found = at_a_terminal(berm, "agent", "ls", cols=cols, **home)
    whole = berm.run("agent", "ls", env=home).stdout.splitlines()
    assert len(found) == len(whole) == 7, found
    assert all(len(line) <= cols for line in found), found
    assert f"an agent with \\xe2\\x80\\xae\u4e16\u754c and {LONG} {LONG}" in whole[5], whole
    if cols == 400:
        assert found == whole
    else:
        assert found[5].startswith("mine") and found[5].endswith(">"), found
    if cols == 80:
        assert whole[1] in found  # what fits stays whole


def test_an_unknown_image_leads_to_the_default_one(berm):
    refused(berm.run("run", "python3"), "berm run -- python3")
    refused(berm.run("run", "nosuch:1", "true"), "nosuch:1")


def test_nothing_runs(berm):
    assert len(lines(berm.ok("ps"))) == 1
    assert berm.ok("ps", "-q") == ""
    assert berm.json("ps", "--json") == []


def test_a_state_directory_that_cannot_be_written_is_named(fresh_berm, tmp_path):
    place = tmp_path / "file"
    place.write_text("not a directory")
    got = fresh_berm.run("ps", env={"BERM_STATE_DIR": str(place)})
    refused(got, str(place))


@pytest.mark.parametrize("shell, check", [("bash", ["bash", "-n"])])
def test_a_completion_script_is_one(berm, tmp_path, shell, check):
    script = tmp_path / shell
    script.write_text(berm.ok("__complete", shell))
    subprocess.run([*check, str(script)], check=True)


def bash_complete(berm, *words):
    """What bash offers after these words, the last of which is being typed."""
    script = f"""
        eval "$({berm.path} __complete bash)"
        COMP_WORDS=({" ".join("'" + w + "'" for w in words)})
        COMP_CWORD={len(words) - 1}
        _berm
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, **berm.env, "PATH": os.path.dirname(berm.path) + ":/usr/bin:/bin"}
    got = subprocess.run(
        ["bash", "--norc", "-c", script], stdout=subprocess.PIPE, env=env, text=True, check=True
    )
    return lines(got.stdout)


def test_bash_offers_verbs_flags_and_choices(berm):
    assert "inspect" in bash_complete(berm, "berm", "insp")
    assert bash_complete(berm, "berm", "ps", "--js") == ["--json"]
    assert bash_complete(berm, "berm", "run", "--engine", "") == ["auto", "kvm", "qemu"]
    assert "--workdir" in bash_complete(berm, "berm", "exec", "--w")
    assert "ls" in bash_complete(berm, "berm", "image", "l")


def test_stdout_that_is_closed_is_no_crash(berm):
    got = subprocess.run(
        ["bash", "-c", 'exec "$0" help >&-', berm.path],
        stderr=subprocess.PIPE,
        env={**os.environ, **berm.env},
        check=False,
    )
    assert got.returncode in (0, 125)


def test_a_pipe_that_closes_early_is_no_error(berm):
    got = subprocess.run(
        ["bash", "-c", 'set -o pipefail; "$0" help | true', berm.path],
        stderr=subprocess.PIPE,
        env={**os.environ, **berm.env},
        check=False,
    )
    assert got.returncode == 0, got.stderr


def test_json_is_one_line(berm):
    text = berm.ok("ps", "--json")
    assert text.count("\n") == 1
    json.loads(text)

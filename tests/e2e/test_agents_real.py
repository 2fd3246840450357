"""The agents themselves, from their registries: built into images, and made to edit files by a model that plays a
script (egress_world/model_server.py). It takes an hour or two on a software CPU, most of it apt, npm and pip at work,
so it runs only where BERM_TEST_AGENTS=1 asks for it: `tests/run agents`. With BERM_TEST_AGENTS_STATE=DIR the images
are kept there and found again.

Which registries there are is this machine's business: they are read out of its configuration.
"""

import ipaddress
import json
import os
import re
import shutil
import socket
import subprocess
import urllib.parse

import bermtest
import egress as egress_lib
import pytest
import sandboxes
from egress_world import model_server, pki

HERE = os.path.dirname(os.path.abspath(__file__))
ASKED = os.environ.get("BERM_TEST_AGENTS") == "1"
pytestmark = pytest.mark.skipif(not ASKED, reason="agents from their registries take an hour or two: tests/run agents")

BUILD_SECONDS = 7200
TASK_SECONDS = 1200
MODEL4 = "45.90.30.50"
AGENTS = {
    "codex": {"host": "api.openai.com", "secret": "OPENAI_API_KEY", "key": "sk-proj-Q7mT2vXc9LpR4sWz8KdF",
              "header": "authorization", "value": "Bearer {key}", "path": "/v1/responses"},
    "claude-code": {"host": "api.anthropic.com", "secret": "ANTHROPIC_API_KEY", "key": "sk-ant-api03-V8nB3kYw6HjU1tGq",
                    "header": "x-api-key", "value": "{key}", "path": "/v1/messages"},
    "gemini": {"host": "generativelanguage.googleapis.com", "secret": "GEMINI_API_KEY", "key": "AIzaSyD3kQ9vR7mW2xT5",
               "header": "x-goog-api-key", "value": "{key}", "path": "/v1beta/models/.*"},
    "opencode": {"host": "api.anthropic.com", "secret": "ANTHROPIC_API_KEY", "key": "sk-ant-api03-N4fZ8sLw2JbY6eRc",
                 "header": "x-api-key", "value": "{key}", "path": "/v1/messages"},
    "by-pip": {"host": "api.openai.com", "secret": "OPENAI_API_KEY", "key": "sk-proj-H5gC1aXe7PnV3uDo",
               "header": "authorization", "value": "Bearer {key}", "path": "/v1/chat/completions", "named": "llm",
               "manager": "pip"},
}
# An agent of one's own: a command line for models from PyPI, which is given a tool that runs commands.
BY_PIP = """version: 1
description: an agent of pip packages
image: { base: default, packages: { apt: [python3-pip], pip: [llm] } }
command: [llm]
arguments:
  task:
    - prompt
    - --no-stream
    - --functions
    - "def shell(command: str) -> str: return __import__('subprocess').getoutput(command)"
    - --model
    - gpt-4o-mini
    - "{task}"
secrets:
  - { name: OPENAI_API_KEY, hosts: [api.openai.com], header: { name: authorization, prefix: "Bearer " } }
egress: { default: model-only, model-only: [ { host: api.openai.com, port: 443 } ] }
resources: { cpus: 2, memory: 2GiB, disk: 8GiB }
"""


def said_by(*argv):
    if not shutil.which(argv[0]):
        return []
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.split()


def pip_says():
    """URLs: what pip is set up to use, or its own default, with the host that has the files."""
    script = "from pip._internal.models.index import PyPI as p; print(p.url, 'https://' + p.file_storage_domain)"
    return said_by("pip", "config", "get", "global.index-url") or said_by("python3", "-c", script)


def registries():
    """(host, port) of each URL that this machine's apt, npm and pip are set up to use."""
    urls = [*said_by("apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"),
            *said_by("npm", "config", "get", "registry"), *pip_says()]
    for url in sorted(set(urls)):
        parts = urllib.parse.urlsplit(url)
        if parts.hostname and parts.scheme in ("http", "https"):
            yield parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def permitted():
    """Flags for mirrors with addresses that no policy reaches by name; skips where none can be reached."""
    flags, reached = set(), 0
    for host, port in registries():
        try:
            with socket.create_connection((host, port), 20) as s:
                address = s.getpeername()[0]
        except OSError:
            continue
        reached += 1
        if not ipaddress.ip_address(address).is_global:
            flags |= {f"--allow={address}:{p}" for p in (80, 443, port)}
    if not reached:
        pytest.skip("no registry of this machine's can be reached")
    return sorted(flags)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    made = tmp_path_factory.mktemp("home")
    folder = made / ".config/berm/agents"
    folder.mkdir(parents=True)
    (folder / "by-pip.yaml").write_text(BY_PIP)
    return made


@pytest.fixture(scope="module")
def state(stage, tmp_path_factory):
    given = os.environ.get("BERM_TEST_AGENTS_STATE")
    if given:
        os.makedirs(given, exist_ok=True)
        yield given
        return
    made = tmp_path_factory.mktemp("agents")
    yield made
    sandboxes.Berm(made, stage).clean_up()


@pytest.fixture(scope="module", params=AGENTS)
def agent(request):
    return request.param


@pytest.fixture(scope="module")
def built(agent, stage, state, home):
    """(berm, its row): the image there is, or a new one."""
    berm = sandboxes.Berm(state, stage)
    env = {"HOME": str(home), "XDG_CONFIG_HOME": ""}

    def row():
        return {r["name"]: r["image"] for r in berm.json("agent", "ls", "--json", env=env)}[agent]

    if row()["state"] != "built":
        got = berm.run("agent", "build", agent, "--json", *permitted(), env=env, timeout=BUILD_SECONDS)
        assert got.returncode == 0, got.stderr
        made = json.loads(got.stdout)
        assert made["version"] == row()["version"] and made["packages"]["apt"]
        assert made["packages"][AGENTS[agent].get("manager", "npm")]
        print(got.stdout)
    return berm, row()


def test_it_answers_its_version(agent, built):
    berm, row = built
    assert row["state"] == "built" and re.search(r"\d+\.\d+", row["version"]), row
    labels = berm.json("image", "inspect", f"agent/{agent}")["config"]["labels"]
    packages = json.loads(labels["berm.agent.packages"])
    assert labels["berm.agent"] == agent and labels["berm.agent.recipe"] == row["recipe"]
    about = AGENTS[agent]
    assert any(about.get("named", agent).split("-")[0] in p for p in packages[about.get("manager", "npm")]), packages
    # the certificate of the guest that it was made in is not in it
    look = "ls /usr/local/share/ca-certificates; grep -c BEGIN /etc/ssl/certs/ca-certificates.crt; ls /root -A"
    told = berm.ok("run", f"agent/{agent}", "sh", "-c", look)
    assert "berm.crt" not in told, told


def test_a_package_nobody_has(stage, state, tmp_path):
    """The package manager's own words say so, and nothing is kept."""
    berm = sandboxes.Berm(state, stage)
    folder = tmp_path / ".config/berm/agents"
    folder.mkdir(parents=True)
    (folder / "none.yaml").write_text("version: 1\nimage: { packages: { apt: [there-is-no-such-package] } }\n")
    env = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": ""}
    before = {row["id"] for row in berm.json("image", "ls", "--json")}
    got = berm.run("agent", "build", "none", *permitted(), env=env, timeout=BUILD_SECONDS)
    assert got.returncode == 125 and "apt-get: 1 package" in got.stderr and "nothing was kept" in got.stderr
    assert "  | E: Unable to locate package there-is-no-such-package" in got.stderr, got.stderr
    assert {row["id"] for row in berm.json("image", "ls", "--json")} == before


@pytest.fixture(scope="module")
def model(world):
    """The names of the services lead to the scripted model; what it was asked is in the file."""
    names = [a["host"] for a in AGENTS.values()]
    pki.leaf(world.pki, "model", names[0], names)
    world.far_side.sh(f"ip addr add {MODEL4}/32 dev lo")
    record = f"{world.folder}/model.jsonl"
    open(record, "w", encoding="utf-8").close()
    p = world.start("model", ["/usr/bin/python3", "-u", f"{HERE}/egress_world/model_server.py", MODEL4,
                              f"{world.pki}/model.pem", f"{world.pki}/model.key", record])
    world.dns(**{n: {"A": [MODEL4]} for n in names})
    yield record
    p.stdin.close()
    p.terminate()


@pytest.fixture
def tree(tmp_path):
    made = tmp_path / "tree"
    (made / "src").mkdir(parents=True)
    (made / "notes.txt").write_text("first\nold line\nlast\n")
    (made / "gone.txt").write_text("not wanted\n")
    (made / "src/moved.c").write_text("int x;\n")
    (made / "kept.txt").write_text("as it is\n")
    return made


def test_a_task_edits_files_with_a_key_it_never_sees(agent, built, stage, state, home, world, model, tree):
    about = AGENTS[agent]
    berm = egress_lib.WorldBerm(state, stage, world)
    env = {"HOME": str(home), "XDG_CONFIG_HOME": "", about["secret"]: about["key"]}
    before = {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    at = os.path.getsize(model)
    got = berm.run("code", agent, "--json", "--on-exit", "keep", "--egress", "model-only", "--time", "15min",
                   "--task", "Make the edits.", "-C", str(tree), env=env, timeout=TASK_SECONDS)
    print(got.stdout[-6000:], got.stderr[-3000:])
    said = json.loads(got.stdout)
    with open(model, encoding="utf-8") as f:
        f.seek(at)
        asked = [json.loads(line) for line in f]
    # the service has the real key, and nothing of it is in the guest or in what berm says
    calls = [r for r in asked if r["method"] == "POST" and re.fullmatch(about["path"], r["target"].split("?")[0])]
    print(*(r["body"][-3000:] for r in calls))  # what it answered, if it was no call that we know
    assert len(calls) >= 2, [(r["method"], r["target"]) for r in asked]
    wanted = about["value"].format(key=about["key"])
    assert {dict(r["headers"]).get(about["header"]) for r in calls} == {wanted}, calls[0]["headers"]
    assert about["key"] not in got.stdout + got.stderr
    # the task went in, the result of the call came back
    assert "Make the edits." in calls[0]["body"] and model_server.DONE in json.dumps(said)
    assert got.returncode == 3, got.stderr
    # the host's tree is as it was; the proposal has all of it
    assert {p: p.read_bytes() for p in tree.rglob("*") if p.is_file()} == before
    told = berm.run("diff", said["session"], "--json", env=env)
    print(told.stdout[-4000:], told.stderr)
    for name in ("made.txt", "notes.txt", "gone.txt", "who.txt"):
        assert name in told.stdout, told.stdout + told.stderr
    assert "kept.txt" not in told.stdout

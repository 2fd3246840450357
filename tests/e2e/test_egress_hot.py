"""A policy that is changed while the sandbox runs, and sandboxes made from others: HOT-1 to HOT-9, TLS-10 and SEC-14
of the acceptance catalogue."""

import copy
import json
import os
import signal
import time

import pytest
from bermtest import stretched
from egress_world import plan
from searching import files_below, in_file

BASE = """
version: 1
network:
  rules:
    - { host: api.world.test, port: [7, 443] }
    - { host: other.world.test, port: 443, inspect: true }
"""
MORE = BASE + "    - { host: four.world.test, port: [7, 443] }\n"
POLICY = BASE
KEY = "sk-ant-api03-Rm9yayBhbmQgcmVzdG9yZSBtZQ-0123456789"


def put(box, text, name="new.yaml", code=0):
    got = box.berm.run("policy", "set", box.id, box.write(name, text))
    assert got.returncode == code, got.stderr
    return got.stderr + got.stdout


@pytest.fixture(autouse=True)
def base_again(box):
    yield
    put(box, BASE)


def generation(box):
    return box.inspect()["egress"]["generation"]


def test_hot1_an_added_host_works_at_once(box, mark):
    before = generation(box)
    assert box.py("say(addresses('four.world.test'))") == "nxdomain"
    put(box, MORE)
    assert box.py("say(tcp('four.world.test', 7, b'hi', 2))") == "hi"
    # HOT-6
    assert generation(box) > before
    assert mark.event(event="allowed", port=7, layer="tcp")["generation"] == generation(box)


HOLD = """
host, port, secure = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "tls"
s = tls(host, port, verify=False) if secure else connect(host, port)
if port == 7:
    s.sendall(b"x"); s.recv(1)
elif sys.argv[4:]:
    s.sendall(("GET /%s HTTP/1.1\\r\\nHost: %s\\r\\n%s\\r\\n" % (sys.argv[4], host,
        "Upgrade: websocket\\r\\nConnection: Upgrade\\r\\nSec-WebSocket-Version: 13\\r\\n"
        "Sec-WebSocket-Key: eHh4eHh4eHh4eHh4eHh4eA==\\r\\n"
        if sys.argv[4] == "ws" else "")).encode()); s.recv(4096)
print("open", flush=True)
s.settimeout(WAIT * 8)
try:
    while s.recv(4096): pass
    print("closed", flush=True)
except OSError as e:
    print(fault(e), flush=True)
"""


def held(box, *argv):
    script = "import sys; sys.path.insert(0, '/tmp'); from probe import *\n" + HOLD
    p = box.start("python3", "-c", script, *map(str, argv))
    assert p.stdout.readline() == b"open\n", p.stderr.read()
    return p


def test_hot2_open_connections_to_a_host_that_is_removed(box, mark):
    """A raw one, one that is passed through, an idle kept one and a WebSocket that are intercepted; others stay."""
    put(box, MORE)
    gone = [held(box, "four.world.test", 7, "raw"), held(box, "four.world.test", 443, "tls", "status/200"),
            held(box, "other.world.test", 443, "tls", "status/200"), held(box, "other.world.test", 443, "tls", "ws")]
    stays = held(box, "api.world.test", 7, "raw")
    try:
        put(box, "version: 1\nnetwork: { rules: [ { host: api.world.test, port: [7, 443] } ] }\n")
        for p in gone:
            out, err = p.communicate(timeout=60)
            assert out.strip() in (b"closed", b"reset"), (out, err)
        assert stays.poll() is None
        assert box.py("say(opened(sys.argv[1], 443), addresses('four.world.test'))", plan.A4)[1] == "nxdomain"
        assert len(mark.events(reason="revoked")) >= 4
    finally:
        for p in [*gone, stays]:
            p.kill()
            p.communicate()


def test_hot3_a_file_that_is_wrong_changes_nothing(box, mark):
    before = generation(box)
    for text in ("version: 1\nnetwork:\n  rules:\n    - { host: \"*\" }\n", "version: 2\n", "version: [", ""):
        words = put(box, text, "wrong.yaml", code=125)
        assert "wrong.yaml" in words
    assert generation(box) == before
    assert box.py("say(tcp('api.world.test', 7, b'hi', 2))") == "hi"


def test_hot4_from_nothing_to_something(new_box):
    with new_box("version: 1\nnetwork: { rules: [] }\n") as b:
        assert b.py("say(addresses('api.world.test'))") == "nxdomain"
        put(b, BASE)
        got = b.py("say(tcp('api.world.test', 7, b'hi', 2), get('https://other.world.test/echo')['status'])")
        assert got == ["hi", 200]


def test_hot5_what_is_not_touched_loses_no_byte(box, mark):
    """200 open flows, echoing while the policy changes ten times."""
    script = """
import sys; sys.path.insert(0, '/tmp'); from probe import *
conns = [connect("api.world.test", 7) for _ in range(200)]
print("open", flush=True)
for turn in range(30):
    for i, s in enumerate(conns):
        s.sendall(b"%06d" % (turn * 1000 + i))
    for i, s in enumerate(conns):
        got = b""
        while len(got) < 6:
            piece = s.recv(6 - len(got))
            assert piece
            got += piece
        assert got == b"%06d" % (turn * 1000 + i)
print("whole", flush=True)
"""
    p = box.start("python3", "-c", script)
    assert p.stdout.readline() == b"open\n", p.stderr.read()
    for i in range(10):
        put(box, MORE if i % 2 == 0 else BASE)
    out, err = p.communicate(timeout=300)
    assert out == b"whole\n", err


def test_hot6_policy_show(box):
    shown = box.berm.ok("policy", "show", box.id)
    assert "api.world.test" in shown and "other.world.test" in shown


# -- templates, snapshots, forks ------------------------------------------------------------------

SECRET_POLICY = BASE + f"""
secrets:
  - {{ name: API_KEY, from: env, hosts: other.world.test, header: x-api-key }}
"""
ASK = "say(get('https://other.world.test/echo', X_API_Key=sys.argv[1]).get('status'))"


class Child:
    """A fork or a restored sandbox, with the words of a Box."""

    def __new__(cls, parent, sandbox):
        made = copy.copy(parent)
        made.id = sandbox
        return made


def test_hot9_tls9_sec10_a_snapshot_comes_back_under_todays_policy(new_box, egress, tmp_path):
    """The old one holds no value and no key of the authority; what is restored has the policy of its start."""
    policy = tmp_path / "today.yaml"
    policy.write_text("version: 1\nnetwork: { rules: [ { host: other.world.test, port: 443, inspect: true } ] }\n")
    restored = None
    with new_box(SECRET_POLICY, env={"API_KEY": KEY}) as first:
        assert first.py(ASK, first.sh("printf %s $API_KEY")) == 200
        egress.ok("snapshot", first.id, "hot9", timeout=300)
    try:
        files = list(files_below(os.path.join(egress.state_dir, "snapshots")))
        assert files and not [f for f in files for v in (KEY, "PRIVATE KEY-----") if in_file(f, v)]
        restored = egress.ok("restore", "-d", "--policy", str(policy), "hot9", timeout=300).split()[-1]
        got = Child(first, restored).py("say(get('https://other.world.test/echo').get('status'), "
                                        "addresses('api.world.test'))")
        assert got == [200, "nxdomain"]
    finally:
        if restored:
            egress.run("rm", "-f", restored)
        egress.run("snapshot", "rm", "hot9")


def test_sec14_tls10_dns7_a_fork_is_another(new_box, egress, tmp_path):
    """It has an authority, placeholders and pins of its own; the parent's are worth nothing there."""
    child = None
    with new_box(SECRET_POLICY, env={"API_KEY": KEY}) as first:
        assert first.py(ASK, first.sh("printf %s $API_KEY")) == 200
        assert first.py("say(tcp('api.world.test', 7, b'hi', 2))") == "hi"
        try:
            child = egress.ok("fork", first.id, timeout=300).split()[-1]
            b, mark = Child(first, child), first.world.mark()
            words = "cat /usr/local/share/ca-certificates/berm.crt; printf '=> %s' $API_KEY"
            (mine, key), (theirs, other) = (x.sh(words).split("=> ") for x in (first, b))
            assert mine != theirs and key != other and KEY not in (key, other)
            got = b.py("""
open("/tmp/foreign.pem", "w").write(sys.stdin.read())
r = timed(tls, "other.world.test", cafile="/tmp/foreign.pem")[0]
say(opened(sys.argv[2], 7), r if isinstance(r, str) else "open")
say(get('https://other.world.test/echo', X_API_Key=sys.argv[1]).get('status'))
say(get('https://other.world.test/echo', X_API_Key=os.environ['API_KEY']).get('status'))
""", key, plan.B4, input=mine)
            assert got[0] == "refused" and got[1].startswith("certificate") and got[3] == 200, got
            sent = [v for r in first.world.requests(mark) for k, v in r["headers"] if k.lower() == "x-api-key"]
            assert sent[-1] == KEY and sent[:-1] in ([], [key])  # the parent's is a text like any other
            # SEC-8 in one of the two: the other's goes on
            egress.ok("secret", "rm", child, "API_KEY")
            assert first.py(ASK, key) == 200 and b.py(ASK, other) != 200
        finally:
            if child:
                egress.run("rm", "-f", child)


@pytest.mark.parametrize("program", ["berm-gate", "berm-vault"])
def test_hot8_a_crash_while_the_policy_changes(new_box, program):
    """Nothing comes back with an old policy or with none: the sandbox ends, and says why."""
    with new_box(BASE) as b:
        pids = [pid for pid in b.berm.by_program(program) if b.id in cmdline(pid)]
        assert len(pids) == 1
        os.kill(pids[0], signal.SIGSTOP)
        change = b.berm.start("policy", "set", b.id, b.write("more.yaml", MORE))
        try:
            time.sleep(1)  # it waits for that process, or is about to
            os.kill(pids[0], signal.SIGKILL)
            _, err = change.communicate(timeout=stretched(60))
        finally:
            change.kill()
            change.communicate()
        assert change.returncode in (3, 125) and err  # it has ended, or its answer never came
        got = b.berm.run("wait", b.id, timeout=60)
        assert got.returncode == 125 and program.removeprefix("berm-") in got.stderr


def cmdline(pid):
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
        return f.read()


def test_json_of_inspect_has_no_value(box):
    assert KEY not in json.dumps(box.inspect())

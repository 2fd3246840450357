"""The verbs about the network of a sandbox that runs: policy, secret, forward, logs --egress."""

import json
import os
import re
import socket
import stat
import subprocess

import pytest
from bermtest import stretched, wait_for

DENIED = """import socket
for to in [("93.184.216.34", 443), ("x.example.com", 443)]:
    try:
        socket.create_connection(to, timeout=20)
        print("connected")
    except OSError as e:
        print(type(e).__name__)
"""


@pytest.fixture
def networked(berm):
    """A sandbox with a network that allows one name."""
    with berm.detached("--allow", "a.example.com:443", "--", "sleep", "3600") as sandbox:
        yield sandbox


def records(berm, sandbox, *flags):
    return [json.loads(line) for line in berm.ok("logs", "--egress", "--json", *flags, sandbox).splitlines()]


def test_a_run_with_a_network_loses_nothing(berm, bb):
    for _ in range(3):
        assert berm.ok("run", "--preset", "none", bb, "sh", "-c", "echo a; echo b; cat", input="c\n") == "a\nb\nc\n"


def test_what_is_refused_is_quick_and_recorded(berm, networked):
    said = berm.ok("exec", networked, "python3", "-c", DENIED)
    assert said == "ConnectionRefusedError\ngaierror\n"
    denied = records(berm, networked, "--denied")
    assert {"dns", "tcp"} == {r["layer"] for r in denied}
    assert all(r["event"] == "refused" and r["sandbox"] == networked for r in denied)
    dns = next(r for r in denied if r["layer"] == "dns")
    assert (dns["host"], dns["reason"]) == ("x.example.com", "no-rule")
    tcp = next(r for r in denied if r["layer"] == "tcp")
    assert (tcp["address"], tcp["port"]) == ("93.184.216.34", 443)
    lines = berm.ok("logs", "--denied", networked).splitlines()
    assert len(lines) == len(denied)
    assert any("refused    dns   x.example.com" in line and line.endswith("no-rule") for line in lines)
    assert berm.ok("logs", "--denied", "--tail", "1", networked).splitlines() == lines[-1:]
    assert berm.ok("logs", "--denied", "--since", "2100-01-01", networked) == ""


def test_the_record_is_followed_to_the_end(berm, networked):
    follow = berm.start("logs", "-f", "--denied", "--json", networked)
    try:
        berm.ok("exec", networked, "python3", "-c", DENIED)
        assert json.loads(follow.stdout.readline())["event"] == "refused"
        berm.ok("stop", "-t", "0", networked)
        out, err = follow.communicate(timeout=stretched(60))
        assert follow.returncode == 0, err
        assert all(json.loads(line)["event"] == "refused" for line in out.splitlines())
    finally:
        follow.kill()
        follow.communicate()


def test_a_policy_is_shown_and_set(berm, networked, tmp_path):
    before = json.loads(berm.ok("policy", "show", networked, "--json"))
    assert (before["generation"], before["default"]) == (1, "deny")
    assert [r["host"] for r in before["rules"]] == ["a.example.com"]
    assert "allow a.example.com:443" in berm.ok("policy", "show", networked)

    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nnetwork: { rules: [ { host: b.example.com, port: 8443 } ] }\n")
    assert berm.ok("policy", "set", networked, path) == "generation 2\n"
    after = json.loads(berm.ok("policy", "show", networked, "--json"))
    assert [r["host"] for r in after["rules"]] == ["b.example.com"]
    assert after["digest"] != before["digest"]

    inspected = json.loads(berm.ok("inspect", networked))["egress"]
    assert inspected["generation"] == 2
    assert after["digest"].endswith(inspected["digest"].removeprefix("sha256:"))
    assert [r["host"] for r in inspected["rules"]] == ["b.example.com"]
    assert inspected["secrets"] == []


def test_a_wrong_policy_changes_nothing(berm, networked, tmp_path):
    before = berm.ok("policy", "show", networked)
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nnetwork: { rules: [ { hots: b.example.com } ] }\n")
    assert "did you mean 'host'" in berm.refused(125, "policy", "set", networked, path)
    berm.refused(4, "policy", "set", networked, "--preset", "none", "--expect", "7")
    assert berm.ok("policy", "show", networked) == before
    assert berm.json("policy", "set", networked, "--preset", "none", "--expect", "1", "--json")["generation"] == 2


def test_connections_are_let_in(berm):
    serve = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8000)"
    with berm.detached("--preset", "none", "-p", "0:8000", "--", "python3", "-c", serve) as sandbox:
        (port,) = json.loads(berm.ok("inspect", sandbox))["egress"]["ports"]
        assert (port["address"], port["guest"]) == ("127.0.0.1", 8000)

        def fetched(at):
            try:
                with socket.create_connection(("127.0.0.1", at), timeout=stretched(10)) as s:
                    s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    return s.recv(100).startswith(b"HTTP/1.0 200")
            except OSError:
                return False

        wait_for("the published port", lambda: fetched(port["host"]))
        forward = berm.start("forward", "--json", sandbox, "0:8000")
        try:
            at = json.loads(forward.stdout.readline())
            assert at["guest"] == 8000 and at["host"] not in (0, port["host"])
            wait_for("the forwarded port", lambda: fetched(at["host"]))
            berm.ok("stop", "-t", "0", sandbox)
            assert forward.wait(timeout=stretched(60)) == 0
        except subprocess.TimeoutExpired:
            pytest.fail("berm forward outlives the sandbox")
        finally:
            forward.kill()
            forward.communicate()


def test_a_port_alone_lets_in_and_nothing_out(berm):
    serve = "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=8000)"
    with berm.detached("-p", "0:8000", "--", "python3", "-c", serve) as sandbox:
        shown = berm.json("policy", "show", "--json", sandbox)
        assert (shown["default"], shown["rules"], shown["secrets"]) == ("deny", [], [])
        assert berm.ok("exec", sandbox, "python3", "-c", DENIED) == "ConnectionRefusedError\ngaierror\n"
        (port,) = json.loads(berm.ok("inspect", sandbox))["egress"]["ports"]

        def answered():
            try:
                with socket.create_connection(("127.0.0.1", port["host"]), timeout=stretched(10)) as s:
                    s.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    return s.recv(100).startswith(b"HTTP/1.0 200")
            except OSError:
                return False

        wait_for("the published port", answered)


def test_a_port_that_is_taken(berm, bb):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = berm.refused(125, "run", "-p", f"{port}:80", bb, "true")
        assert f"publish 127.0.0.1:{port}:80: another program listens there" in said
    assert berm.sandboxes() == []


def test_ports_that_cannot_be(berm, networked):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "another program listens there" in berm.refused(4, "forward", networked, f"{port}:80")
    assert "this host has no such address" in berm.refused(125, "forward", networked, "203.0.113.77:0:80")
    for word in ("8000-8010:80", "::1:0:80", "[::1:0:80", "0:0", "0:65536", "999.1.1.1:0:80", "x:80", ""):
        assert "[ADDRESS:]HOST:GUEST" in berm.refused(125, "forward", networked, word)


def test_a_port_of_an_ordinary_user(berm, bb):
    """Below the first one that is free to all; nobody but root may have it."""
    if os.geteuid() == 0:
        pytest.skip("root may listen on any port")
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as f:
        if int(f.read()) == 0:
            pytest.skip("every port is free to all here")
    assert "so low a port is root's" in berm.refused(125, "run", "-p", "1:80", bb, "true")


def test_a_paused_one_is_ruled_as_well(berm, networked):
    """Whoever pauses a sandbox to look at it may want to close it before it goes on."""
    berm.ok("pause", networked)
    assert berm.ok("policy", "set", networked, "--preset", "none") == "generation 2\n"
    assert berm.ok("secret", "set", networked, "KEY", input="a-value-for-nobody") == ""
    assert "KEY" in berm.ok("secret", "ls", networked)
    assert berm.ok("logs", "--egress", networked) == ""
    berm.ok("resume", networked)
    assert berm.ok("exec", networked, "python3", "-c", DENIED) == "ConnectionRefusedError\ngaierror\n"


def test_stats_count_what_was_refused(berm, networked):
    berm.ok("exec", networked, "python3", "-c", DENIED)
    head, row = berm.ok("stats", "--no-stream", networked).splitlines()
    assert "NET OUT / IN" in head and "REFUSED" in head
    gate = berm.json("stats", "--no-stream", "--json", networked)["egress"]["counters"]["gate"]
    assert gate["dns_refused"] >= 1 and gate["flows_refused"] >= 1
    assert " 0 bytes / 0 bytes " in " ".join(row.split())


MANY_DENIED = """import socket
from socket import create_connection as dial
for _ in range(3):
    for to in [("93.184.216.34", 443), ("x.example.com", 443), ("y.example.com", 80), ("93.184.216.34", 22)]:
        try:
            dial(to, timeout=20)
        except OSError:
            pass
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for to in ("93.184.216.34", "93.184.216.35"):
        s.sendto(b"x", (to, 443))
"""


def test_stats_and_the_record_agree_on_what_was_refused(berm, networked):
    """Whoever sees a number in REFUSED finds as many lines."""
    berm.ok("exec", networked, "python3", "-c", MANY_DENIED)

    def both():
        head, row = berm.ok("stats", "--no-stream", networked).splitlines()
        told = berm.ok("logs", "--denied", networked).splitlines()
        return int(row[head.index("REFUSED"):].split()[0]), len(told)

    wait_for("they agree", lambda: len(set(both())) == 1)
    assert both()[0] >= 10  # 2 addresses, 2 names and 2 of UDP, of which the first are told each time


def rests(berm, sandbox):
    counters = berm.json("stats", "--no-stream", "--json", sandbox)["egress"]["counters"]
    return counters["gate"]["rests"]


def test_the_gate_hears_of_a_pause(berm, networked):
    """So that it gives up nothing that only waits for a guest that stands still."""
    assert rests(berm, networked) == 0
    berm.ok("pause", networked)
    berm.ok("resume", networked)
    assert rests(berm, networked) == 1
    assert "gaierror" in berm.ok("exec", networked, "python3", "-c", DENIED)
    child = berm.ok("fork", networked).strip()
    try:
        assert rests(berm, networked) == 2 and rests(berm, child) == 0
    finally:
        berm.ok("stop", "-t", "0", child)


def test_the_default_image_brings_its_mirrors(berm):
    """Those of its sources.list, wherever the machine that built it has Debian from."""
    listed = berm.json("image", "inspect", "default").get("registries", [])
    text = berm.run("run", "--", "sh", "-c", "cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list").stdout
    urls = re.findall(r"https?://([^/\s]+)", text)
    assert urls and {u.lower() for u in urls if not re.fullmatch(r"[0-9.:]+|\[.*|localhost.*", u)} == set(listed)
    if not listed:
        return  # a mirror that has an address only
    with berm.detached("--preset", "registries", "--", "sleep", "3600") as sandbox:
        shown = berm.json("policy", "show", "--json", sandbox)["rules"]
        assert {r["host"] for r in shown} == {u.split(":")[0] for u in listed}
        assert all(r["http"] == [{"methods": ["GET", "HEAD"], "path": None, "query": []}] for r in shown)


def test_registries_are_the_images_own(berm, bb):
    index = "PIP_INDEX_URL=https://pip.example.com/simple/"
    with berm.detached("--preset", "registries", "-e", index, bb, "sleep", "3600") as sandbox:
        (rule,) = berm.json("policy", "show", "--json", sandbox)["rules"]
        assert (rule["host"], rule["action"]) == ("pip.example.com", "allow")
        assert rule["http"] == [{"methods": ["GET", "HEAD"], "path": None, "query": []}]
    done = berm.run("run", "--preset", "registries", bb, "true")
    assert done.returncode == 0
    assert "the preset 'registries' opens nothing" in done.stderr


def test_a_restored_guest_reaches_what_the_flags_say(berm, networked, running):
    berm.ok("snapshot", networked, "net")
    try:
        for flags, hosts in ([], []), (["--allow", "b.example.com:443"], ["b.example.com"]):
            sandbox = berm.ok("restore", "-d", *flags, "net").strip()
            try:
                assert [r["host"] for r in berm.json("policy", "show", "--json", sandbox)["rules"]] == hosts
            finally:
                berm.run("rm", "-f", sandbox)
    finally:
        berm.ok("snapshot", "rm", "net")
    assert "started without a network" in berm.refused(125, "fork", "--preset", "none", running)


SECRET = "sk-test-" + "0123456789abcdef" * 2


@pytest.fixture
def trusted(berm, tmp_path):
    """A sandbox with a secret, from a file."""
    source = tmp_path / "token"
    source.write_text(SECRET + "\n")
    word = f"API_KEY@a.example.com:file={source}"
    with berm.detached("--allow", "a.example.com:443", "--secret", word, "--", "sleep", "3600") as sandbox:
        yield sandbox


def placeholder(berm, sandbox):
    return berm.ok("exec", sandbox, "printenv", "API_KEY").strip()


def has_text(folder, text):
    """The files below folder that hold it."""
    found = []
    for where, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(where, name)
            if not stat.S_ISREG(os.lstat(path).st_mode):
                continue
            with open(path, "rb") as f:
                if text.encode() in f.read():
                    found.append(path)
    return found


def test_the_guest_has_a_placeholder(berm, trusted):
    got = placeholder(berm, trusted)
    assert got.startswith("sk-") and got != SECRET and len(got) >= 16
    assert "API_KEY" in berm.ok("inspect", trusted) and SECRET not in berm.ok("inspect", trusted)
    assert has_text(os.path.join(berm.state_dir, "sandboxes", trusted), SECRET) == []
    for pid in berm.processes():
        for what in ("cmdline", "environ"):
            try:
                with open(f"/proc/{pid}/{what}", "rb") as f:
                    assert SECRET.encode() not in f.read(), (pid, what)
            except (FileNotFoundError, PermissionError, ProcessLookupError):
                pass  # it ended, or is one that nobody may look into


def test_secrets_are_listed_set_and_removed(berm, trusted):
    (row,) = berm.json("secret", "ls", "--json", trusted)
    assert (row["name"], row["value"], row["use"]["hosts"]) == ("API_KEY", True, ["a.example.com"])
    assert berm.ok("secret", "set", trusted, "API_KEY", input="another-value-of-it\n") == ""
    assert berm.ok("secret", "set", trusted, "OTHER", input="a-value-for-nobody") == ""
    lines = berm.ok("secret", "ls", trusted).splitlines()
    assert lines[0].startswith("set       API_KEY  to a.example.com  as header authorization")
    assert lines[1] == "set       OTHER  to no host: the policy does not name it"
    berm.ok("secret", "rm", trusted, "API_KEY", "OTHER")
    assert [r["value"] for r in berm.json("secret", "ls", "--json", trusted)] == [False]
    assert "OTHER" in berm.refused(125, "secret", "rm", trusted, "OTHER")


def test_a_value_that_is_none(berm, trusted):
    for text, why in (("short", "under 8 bytes"), ("", "is empty"), ("two lines\nof text", "more than one line")):
        assert why in berm.refused(125, "secret", "set", trusted, "API_KEY", input=text)
    assert "is not set" in berm.refused(125, "secret", "set", trusted, "API_KEY", "--env", "NO_SUCH_VARIABLE")
    assert placeholder(berm, trusted).startswith("sk-")


def test_a_value_is_typed_unseen(berm, trusted):
    with berm.terminal("secret", "set", trusted, "API_KEY") as t:
        t.expect("value of API_KEY: ")
        t.type("typed-value-of-it\n")
        assert t.wait() == 0
        assert b"typed-value" not in t.text


def test_a_policy_brings_its_new_secrets(berm, trusted, tmp_path):
    before = placeholder(berm, trusted)
    path = tmp_path / "p.yaml"
    path.write_text(
        "version: 1\nnetwork: { rules: [ { host: a.example.com } ] }\nsecrets:\n"
        "  - { name: API_KEY, hosts: a.example.com, header: x-key }\n"
        "  - { name: SECOND, from: { command: [echo, a-second-value] }, hosts: a.example.com }\n"
    )
    assert berm.ok("policy", "set", trusted, path) == "generation 2\n"
    assert [(r["name"], r["value"]) for r in berm.json("secret", "ls", "--json", trusted)] == [
        ("API_KEY", True),
        ("SECOND", True),
    ]
    assert placeholder(berm, trusted) == before
    assert "a-second-value" not in berm.ok("exec", trusted, "env")


def test_a_fork_reaches_what_its_parent_reaches(berm, networked):
    (child,) = berm.ok("fork", networked).split()
    try:
        assert [r["host"] for r in berm.json("policy", "show", "--json", child)["rules"]] == ["a.example.com"]
        assert berm.ok("exec", child, "python3", "-c", DENIED) == "ConnectionRefusedError\ngaierror\n"
        assert {r["sandbox"] for r in records(berm, child)} == {child}
    finally:
        berm.run("rm", "-f", child)
    (child,) = berm.ok("fork", "--allow", "b.example.com:443", networked).split()
    try:
        assert [r["host"] for r in berm.json("policy", "show", "--json", child)["rules"]] == ["b.example.com"]
    finally:
        berm.run("rm", "-f", child)


def test_a_fork_has_the_secret_and_another_placeholder(berm, trusted):
    (child,) = berm.ok("fork", trusted).split()
    try:
        assert [(r["name"], r["value"]) for r in berm.json("secret", "ls", "--json", child)] == [("API_KEY", True)]
        got = placeholder(berm, child)
        assert got.startswith("sk-") and got not in (SECRET, placeholder(berm, trusted))
    finally:
        berm.run("rm", "-f", child)

"""berm-gate and berm-vault, both in their jails, between a kernel's own network stack and the test world: what a
guest sees, what arrives, and what is recorded."""

import os

import bermtest
import pytest
import rig
from egress_world import plan

pytestmark = pytest.mark.skipif(bool(rig.WHY_NOT), reason=rig.WHY_NOT or "-")
RULES = [
    "host: api.world.test, port: 443",
    "host: four.world.test, port: [7, 9, 7003, 7004, 7005, 7006], protocol: tcp",
    "host: six.world.test, port: 7, protocol: tcp",
    "host: refuses.world.test, port: 7",
    "host: nobody.world.test, port: 7",
    "host: files.world.test, port: 443",
    "host: away.world.test, port: 7, protocol: udp",
    "host: plain.world.test, port: 80",
]
CLIENT = """
import socket, sys, hashlib, os, threading, struct, time
def dial(host, port, family=0):
    a = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0]
    s = socket.socket(a[0], socket.SOCK_STREAM); s.settimeout(60); s.connect(a[4]); return s
"""


@pytest.fixture
def gate(world, tmp_path):
    with rig.joined(world, tmp_path, RULES) as made:
        yield made


def python(gate, script, *argv, code=0, **more):
    got = gate.guest("/usr/bin/python3", "-c", CLIENT + script, *argv, **more)
    assert got.returncode == code, got.stderr
    return got.stdout


def curl(gate, *argv, code=0):
    got = gate.guest("curl", "-sS", "--max-time", "30", *argv)
    assert got.returncode == code, (got.returncode, got.stderr)
    return got.stdout


def record(gate, **wanted):
    found = gate.records(**wanted)
    assert len(found) == 1, (wanted, gate.records())
    return found[0]


def test_passed_through_with_the_origins_own_certificate(gate, world):
    mark = world.mark()
    out = curl(gate, "-v", "--stderr", "-", "https://api.world.test/echo")
    assert "issuer: CN=berm test ca" in out
    (seen,) = world.since(mark, "connection")
    assert seen["sni"] == "api.world.test"
    allowed = record(gate, event="allowed", layer="tls")
    bermtest.wait_for("the end", lambda: gate.records(event="ended"))
    ended = record(gate, event="ended")
    assert (allowed["host"], allowed["port"], allowed["flags"]) == ("api.world.test", 443, 0)
    assert ended["flow"] == allowed["flow"] and ended["down"] > 1000


@pytest.mark.parametrize("host, family", [("four.world.test", "AF_INET"), ("six.world.test", "AF_INET6")])
def test_64_mib_both_ways_and_half_closed(gate, host, family):
    out = python(gate, """
s = dial(sys.argv[1], 7, getattr(socket, sys.argv[2]))
block = os.urandom(1 << 20)
up, down = hashlib.sha256(), hashlib.sha256()
def send():
    for _ in range(64):
        up.update(block); s.sendall(block)
    s.shutdown(socket.SHUT_WR)
t = threading.Thread(target=send); t.start()
while True:
    got = s.recv(1 << 20)
    if not got: break
    down.update(got)
t.join()
print(up.hexdigest() == down.hexdigest())
""", host, family)
    assert out == "True\n"
    bermtest.wait_for("the end", lambda: gate.records(event="ended"))
    ended = record(gate, event="ended")
    assert ended["up"] == ended["down"] == 64 << 20 and ended["reason"] == "allowed"
    assert gate.stats()["flows_open"] == 0 and gate.stats()["tcp_rings"] == 0


def test_the_upstreams_words_first_and_its_ways_to_end(gate):
    out = python(gate, """
s = dial("four.world.test", 7006)
print(len(s.recv(100)) > 0)
s = dial("four.world.test", 7005)
print(s.recv(100) == b"")
try:
    s = dial("four.world.test", 7003)
    s.sendall(b"x"); s.recv(100); print("no reset")
except ConnectionResetError:
    print("reset")
""")
    assert out == "True\nTrue\nreset\n"


def test_a_reset_of_the_guests_arrives(gate, world):
    python(gate, """
s = dial("four.world.test", 7004)
s.sendall(b"x"); time.sleep(0.3)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
s.close()
""")
    bermtest.wait_for("the end", lambda: gate.records(event="ended"))
    bermtest.wait_for("the vault let go", lambda: gate.stats("vault").get("flows", 0) == 0)


def test_an_upstream_that_refuses_or_is_silent(gate):
    out = python(gate, """
began = time.monotonic()
try:
    dial("refuses.world.test", 7)
except ConnectionRefusedError:
    print("refused", time.monotonic() - began < 5)
""")
    assert out == "refused True\n"
    assert record(gate, event="refused", layer="tcp")["reason"] == "upstream-refused"


@pytest.mark.parametrize("addr, port, reason", [
    ("1.1.1.1", 443, "not-resolved"), ("169.254.169.254", 80, "metadata-address"), ("10.0.0.1", 80, "special-address"),
    (plan.A4, 22, "not-resolved"), ("100.96.0.1", 80, "special-address"),
    ("2606:4700::1111", 443, "not-resolved"), ("::ffff:10.0.0.1", 80, "special-address"),
])
def test_refused_at_once_and_nothing_arrives(gate, world, addr, port, reason):
    mark = world.mark()
    python(gate, """
began = time.monotonic()
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
except ConnectionRefusedError:
    assert time.monotonic() - began < 5
    sys.exit(7)
""", addr, str(port), code=7)
    assert record(gate, event="refused")["reason"] == reason
    assert not world.silent(mark)


def test_names(gate, world):
    mark = world.mark()
    assert gate.guest("getent", "ahostsv4", "files.world.test").stdout.split()[0] == plan.NGINX4
    assert gate.guest("getent", "ahostsv6", "files.world.test").stdout.split()[0] == plan.NGINX6
    assert gate.guest("getent", "hosts", "denied.world.test").returncode == 2
    assert gate.guest("getent", "hosts", "sandbox").returncode == 2
    assert record(gate, event="refused")["host"] == "denied.world.test"
    asked = {e["name"].lower() for e in world.since(mark, "dns")}
    assert asked == {"files.world.test"}


def test_names_over_tcp_from_any_server(gate):
    out = python(gate, """
def ask(server, tcp):
    q = b"\\0\\7\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\3api\\5world\\4test\\0\\0\\1\\0\\1"
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
    s.settimeout(20)
    s.connect((server, 53))
    s.sendall(struct.pack(">H", len(q)) + q if tcp else q)
    got = s.recv(4096)
    return got[2 if tcp else 0:]
for server in ("100.96.0.1", "8.8.8.8", "45.90.28.53"):
    for tcp in (False, True):
        a = ask(server, tcp)
        print(a[3] & 15, socket.inet_ntoa(a[-4:]))
""")
    assert out == f"0 {plan.A4}\n" * 6


def test_datagrams(gate, world):
    out = python(gate, """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
s.connect((socket.gethostbyname("away.world.test"), 7))
for i in range(3):
    s.send(b"ping %d" % i); print(s.recv(100).decode())
for port in (443, 123):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(20)
    s.connect((socket.gethostbyname("api.world.test"), port))
    s.send(b"x")
    try:
        s.recv(10)
    except ConnectionRefusedError:
        print("unreachable")
""")
    assert out == "ping 0\nping 1\nping 2\nunreachable\nunreachable\n"
    reasons = {r["port"]: r["reason"] for r in gate.records(event="refused", layer="udp")}
    assert reasons == {443: "quic-refused", 123: "protocol-not-allowed"} or reasons[443] == "quic-refused"


def test_sni_of_another_name_goes_no_further(gate, world):
    mark = world.mark()
    curl(gate, "https://api.world.test/echo")
    world_mark = world.mark()
    curl(gate, "--connect-to", f"other.world.test:443:{plan.A4}:443", "-k", "https://other.world.test/echo", code=35)
    assert record(gate, event="refused", layer="tls")["reason"] == "sni-mismatch"
    assert not world.since(world_mark, "connection") and world.since(mark, "connection")


def test_a_new_policy_ends_what_it_forbids(gate):
    guest = gate.guest_process("""
s = dial("four.world.test", 7); t = dial("six.world.test", 7, socket.AF_INET6)
for c in (s, t):
    c.sendall(b"a"); assert c.recv(1) == b"a"
print("open", flush=True)
sys.stdin.readline()
t.sendall(b"b"); print(t.recv(1) == b"b")
try:
    s.sendall(b"b"); print(s.recv(1))
except ConnectionResetError:
    print("reset")
""", CLIENT)
    assert guest.stdout.readline() == "open\n"
    gate.rules(["host: six.world.test, port: 7, protocol: tcp"])
    guest.stdin.write("go\n")
    guest.stdin.flush()
    assert guest.stdout.read() == "True\nreset\n"
    assert guest.wait() == 0
    assert [r["reason"] for r in gate.records(event="ended")][0] == "revoked"
    assert gate.guest("getent", "hosts", "api.world.test").returncode == 2


def test_published_ports(gate, world):
    server = gate.guest_process("""
s = socket.create_server(("100.96.0.2", 8080)); print("up", flush=True)
c, _ = s.accept()
while True:
    got = c.recv(65536)
    if not got: break
    c.sendall(got)
c.close()
""", CLIENT)
    assert server.stdout.readline() == "up\n"
    port = gate.ask("publish", port=8080)
    got = world.host("/usr/bin/python3", "-c", CLIENT + """
s = dial("127.0.0.1", int(sys.argv[1]))
s.sendall(b"x" * 100000); s.shutdown(socket.SHUT_WR)
n = 0
while True:
    got = s.recv(65536)
    if not got: break
    n += len(got)
print(n)
s = dial("127.0.0.1", int(sys.argv[1]))  # nobody listens any more
try:
    print(s.recv(1))
except ConnectionResetError:
    print("reset")
""", str(port))
    assert got.stdout == "100000\nreset\n", got.stderr
    server.wait()


def test_the_gate_outlives_a_storm(gate):
    python(gate, """
import random
for i in range(300):
    s = socket.socket(); s.setblocking(False)
    try: s.connect(("10.%d.%d.1" % (i % 250, i % 7), 80))
    except OSError: pass
for i in range(100):
    s = dial("four.world.test", 7); s.sendall(b"x" * random.randrange(1, 5000))
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()
""")
    curl(gate, "https://api.world.test/echo")
    bermtest.wait_for("all is over", lambda: gate.stats()["flows_open"] == 0)
    assert gate.stats()["tcp_rings"] == 0


@pytest.mark.parametrize("who, other", [("vault", "gate"), ("gate", "vault")])
def test_one_does_not_live_without_the_other(world, tmp_path, who, other):
    made = rig.Rig(world, tmp_path, RULES)
    try:
        made.kill(who)
        bermtest.wait_for("the other's end", lambda: made.has_ended(other))
        assert who in made.log().splitlines()[-1]
    finally:
        made.close()

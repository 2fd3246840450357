"""Connections and the ways around: L4-1 to L4-13 and BYP-1 to BYP-7 of the acceptance catalogue."""

import json
import os
import signal
import subprocess

import pytest
from bermtest import stretched, wait_for
from egress import refused
from egress_world import plan

POLICY = """
version: 1
network:
  rules:
    - { host: api.world.test, port: [7, 443, 7002, 7003, 7006] }
    - { host: six.world.test, port: 7 }
    - { host: refuses.world.test, port: [80, 7] }
    - { host: range.dyn.world.test, port: 7002-7004 }
    - { host: udp.dyn.world.test, port: 7, protocol: udp }
    - { host: "*.wild.world.test", port: 7 }
    - { host: "**.deep.world.test", port: 7 }
    - { host: both.dyn.world.test, port: 7 }
    - { host: both.dyn.world.test, port: 7, deny: true }
    - { host: first.dyn.world.test, port: 7, deny: true }
    - { host: "*.dyn.world.test", port: 7 }
"""


def test_l4_1_without_a_policy_nothing(new_box):
    """The default has no network at all; an empty policy has one that leads nowhere."""
    with new_box() as b:
        assert b.sh("ls /sys/class/net").split() == ["lo"]
        assert b.py("say(opened(sys.argv[1], 7), timed(socket.getaddrinfo, 'api.world.test', 80)[0])", plan.A4)[0] in (
            "unreachable", "refused")
    with new_box("version: 1\nnetwork: { rules: [] }\n") as b:
        mark = b.mark()
        got = b.py("say(opened(sys.argv[1], 7), opened(sys.argv[2], 443), dns('api.world.test')['code'])",
                   plan.A4, plan.A6)
        assert got == ["refused", "refused", "nxdomain"]
        mark.nothing_arrived()
        assert len(mark.events(event="refused")) == 3


def test_l4_2_bytes_halves_and_resets(box, mark):
    got = box.py("""
import hashlib, random
block = random.Random(4).randbytes(1 << 20)
with connect("api.world.test", 7) as s:
    sent, got = hashlib.sha256(), hashlib.sha256()
    def send():
        for i in range(64):
            s.sendall(block)
            sent.update(block)
        s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=send); t.start()
    count = 0
    while True:
        piece = s.recv(1 << 16)
        if not piece: break
        got.update(piece); count += len(piece)
    t.join()
say(count, sent.hexdigest() == got.hexdigest())
say(tcp("api.world.test", 7003, b"x", 1), tcp("api.world.test", 7006, read=3))
""", timeout=600)
    assert got == [64 << 20, True, "reset", "220"]
    ended = mark.event(event="ended", host="api.world.test", port=7)
    assert ended["bytes_up"] == ended["bytes_down"] == 64 << 20


def test_l4_3_other_ports_and_the_ends_of_a_range(box, mark, world):
    world.dns(**{"range.dyn.world.test": {"A": [plan.D4]}})
    got = box.py("say(*[opened('range.dyn.world.test', p) for p in (7001, 7002, 7003, 7004, 7005, 7006)])")
    assert got == ["refused", "open", "open", "open", "refused", "refused"]
    assert mark.packets() == {("tcp", plan.D4, p) for p in (7002, 7003, 7004)}


def test_l4_4_deny_wins_in_either_order(box, mark, world):
    world.dns(**{"both.dyn.world.test": {"A": [plan.C4]}, "first.dyn.world.test": {"A": [plan.C4]},
                 "third.dyn.world.test": {"A": [plan.F4]}})
    assert box.py("for n in ('both', 'first', 'third'): say(tcp(n + '.dyn.world.test', 7, b'hi', 2))") in (
        ["no name", "no name", "hi"], ["refused", "refused", "hi"])
    assert {e["reason"] for e in mark.events(event="refused")} == {"denied-by-rule"}


def test_l4_5_an_address_that_was_never_looked_up(box, mark):
    got = box.py("say(timed(opened, sys.argv[1], 7), opened('1.1.1.1', 443), opened('8.8.8.8', 443))", plan.E4)
    assert got[0][0] == "refused" and got[0][1] < stretched(5) and got[1:] == ["refused"] * 2
    mark.nothing_arrived()
    assert {e["address"]: e["reason"] for e in mark.events(event="refused")} == {
        plan.E4: "not-resolved", "1.1.1.1": "not-resolved", "8.8.8.8": "not-resolved"}


def test_l4_5_another_protocol_under_a_rule_of_names_is_marked(box, mark):
    assert box.py("say(tcp('api.world.test', 7006, read=3))") == "220"
    assert mark.event(event="allowed", port=7006)["pin_only"] is True


def test_l4_6_wildcards(box, mark, world):
    world.dns(**{n: {"A": [plan.A4]} for n in ("deep.world.test", "a.deep.world.test", "a.b.deep.world.test",
                                               "evildeep.world.test", "x.y.wild.world.test")})
    names = ["a.wild.world.test", "A.WILD.world.test.", "wild.world.test", "x.y.wild.world.test", "evilwild.world.test",
             "a.deep.world.test", "a.b.deep.world.test", "deep.world.test", "evildeep.world.test"]
    got = box.py("for n in sys.argv[1:]: say(dns(n)['code'])", *names)
    assert got == ["ok", "ok", "nxdomain", "nxdomain", "nxdomain", "ok", "ok", "nxdomain", "nxdomain"]


BAD_FILES = {
    '{ host: "*", port: 443 }': "*", '{ host: "*.com", port: 443 }': "*.com", '{ host: "a..b", port: 443 }': "a..b",
    f'{{ host: "{"a" * 64}.test", port: 443 }}': "63",
    "{ host: a.test, port: 0 }": "0", "{ host: a.test, port: 65536 }": "65536",
    '{ host: "https://a.test/", port: 443 }': "https", '{ host: "a\\0b.test", port: 443 }': "",
    f'{{ host: "{".".join(["a" * 60] * 5)}", port: 443 }}': "253",
    "{ hosts: a.test }": "host", "{ host: a.test, prot: tls }": "port",
}


@pytest.mark.parametrize("rule", BAD_FILES)
def test_l4_7_files_that_are_refused(egress, clients, tmp_path, rule):
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\nnetwork:\n  rules:\n    - {{ host: ok.test }}\n    - {rule}\n", encoding="utf-8")
    line = egress.refused(125, "run", "--policy", str(path), clients, "true")
    assert "policy.yaml:5" in line and BAD_FILES[rule] in line, line
    checked = egress.run("policy", "check", str(path))
    assert checked.returncode != 0 and "policy.yaml:5" in checked.stderr


def test_l4_10_the_same_over_ipv6(box, mark):
    got = box.py("say(tcp('six.world.test', 7, b'six', 3), opened('six.world.test', 9), opened(sys.argv[1], 7))",
                 plan.B6)
    assert got == ["six", "refused", "refused"]
    assert mark.packets() == {("tcp", plan.A6, 7)}


def test_l4_11_the_neighbours_and_the_host(box, new_box, mark):
    with new_box(POLICY) as other:
        other.start("python3", "-m", "http.server", "8000").stdin.close()
        got = box.py("""
for a in ("100.96.0.2", "100.96.0.3", "100.96.0.6", "100.96.1.2", "fd62:6572:6d00::3", "fd62:6572:6d00::ffff",
          *sys.argv[1:]):
    say(opened(a, 8000))
""", plan.BERM4, plan.FAR4)
        assert not [g for g in got if g not in ("refused", "unreachable")], got
        mark.nothing_arrived()


def test_l4_12_other_protocols(box, mark, world):
    world.dns(**{"udp.dyn.world.test": {"A": [plan.A4]}})
    got = box.py("""
say(udp(sys.argv[1], 123), udp(sys.argv[1], 7), udp(sys.argv[1], 3478))
say(run("ping", "-c", "1", "-W", "3", sys.argv[1])[0] if run("which", "ping")[0] == 0 else 1)
for p in (47, 50, 132, 4, 41):
    s = socket.socket(socket.AF_INET, socket.SOCK_RAW, p)
    try:
        s.sendto(b"x" * 40, (sys.argv[1], 0))
        say("sent")
    except OSError as e:
        say(fault(e))
say(udp("udp.dyn.world.test", 7, b"hello"), udp("udp.dyn.world.test", 9))
""", plan.B4)
    assert got[:3] == ["refused"] * 3 and got[3] != 0
    assert got[-2:] == ["hello", "refused"]
    assert mark.packets() == {("udp", plan.A4, 7)}


def test_l4_refusals_of_the_far_side(box, mark):
    assert box.py("say(timed(opened, 'refuses.world.test', 7))")[0] == "refused"
    assert mark.event(host="refuses.world.test", port=7, layer="tcp")["reason"] == "upstream-refused"


def test_l4_13_published_ports(new_box, world):
    """On the loopback of where berm runs, to a server in the guest."""
    closed = "version: 1\nnetwork: { rules: [] }\n"
    with new_box(closed, flags=["-p", "18080:8000", "-p", "127.0.0.1:18081:8001"]) as b:
        server = b.start("python3", "-m", "http.server", "8000", "-d", "/etc")
        try:
            def ready():
                got = world.host("curl", "-sS", "-m", "20", "http://127.0.0.1:18080/hostname")
                return got.returncode == 0 and got.stdout
            assert wait_for("the guest's server answers", ready, 60)
            nobody = world.host("curl", "-sS", "-m", "20", "http://127.0.0.1:18081/")
            assert nobody.returncode in (7, 52, 56), nobody
            outside = world.far_side.sh(f"curl -s -m 5 http://{plan.BERM4}:18080/ || echo none")
            assert outside.strip() == "none"
            assert any(p["host"] == 18080 or p.get("host_port") == 18080 for p in b.inspect()["egress"]["ports"])
        finally:
            server.kill()
            server.communicate()


# -- around it ------------------------------------------------------------------------------------


def test_byp1_root_in_the_guest_gains_nothing(box, mark, new_box):
    with new_box(POLICY) as b:
        mine = b.mark()
        got = b.py("""
for c in ("ip link set lo down", "ip route flush table main", "ip addr flush dev eth0", "ip link set eth0 down",
          "ip link set eth0 address 02:00:00:00:00:99", "ip link set eth0 up", "ip addr add 10.0.0.2/8 dev eth0",
          "ip route add default dev eth0", "ip neigh replace 10.0.0.1 lladdr 02:62:65:72:6d:01 dev eth0"):
    run("sh", "-c", c)
open("/etc/resolv.conf", "w").write("nameserver 8.8.8.8\\n")
for a in ("10.0.0.1", "169.254.169.254", sys.argv[1]):
    r = timed(connect, a, 8080, 2)[0]
    say(r if isinstance(r, str) else "open")
""", plan.B4)
        assert "open" not in got, got
        mine.nothing_arrived()


def test_byp2_frames_of_the_guests_own_making(box, mark):
    """L4-8, L4-9 and BYP-2: spoofed, tagged, short, fragmented. The next connection is as good as ever."""
    box.py(r"""
import random
router, me = bytes.fromhex("026265726d01"), bytes.fromhex("026265726d02")
card = [n for _, n in socket.if_nameindex() if n != "lo"][0]
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((card, 0))
def sum16(d):
    d += b"\0" * (len(d) % 2)
    t = sum(struct.unpack(">%dH" % (len(d) // 2), d))
    while t >> 16: t = (t & 0xffff) + (t >> 16)
    return ~t & 0xffff
def ip(src, to, proto, body, frag=0, options=b"", total=None):
    total = total or 20 + len(options) + len(body)
    h = struct.pack(">BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, total, 7, frag, 64, proto, 0,
                    socket.inet_aton(src), socket.inet_aton(to)) + options
    return h[:10] + struct.pack(">H", sum16(h)) + h[12:] + body
def eth(body, kind=0x0800, src=me, to=router):
    return to + src + struct.pack(">H", kind) + body
def syn(port=443, flags=2, seq=1):
    return struct.pack(">HHIIBBHHH", 4444, port, seq, 0, 0x50, flags, 65535, 0, 0)
to = sys.argv[1]
frames = [eth(ip("100.96.0.9", to, 6, syn())), eth(ip("100.96.0.2", to, 6, syn()), src=b"\2\0\0\0\0\1"),
          eth(b"\x00\x05\x08\x00" + ip("100.96.0.2", to, 6, syn()), 0x8100), eth(b"\x45"), router + me, b"\0" * 14,
          eth(ip("100.96.0.2", to, 6, syn()[:8], 0x2000)), eth(ip("100.96.0.2", to, 6, syn()[8:], 1)),
          eth(ip("100.96.0.2", to, 6, syn(), options=b"\x83\x07\x04" + socket.inet_aton("10.0.0.1") + b"\0")),
          eth(ip("100.96.0.2", to, 6, syn(), total=9)),
          eth(ip("100.96.0.2", "100.96.0.1", 17, struct.pack(">HHHH", 68, 67, 308, 0) + b"\1" * 300)),
          eth(struct.pack(">HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 2, me, socket.inet_aton("100.96.0.1"), router,
                          socket.inet_aton("100.96.0.2")), 0x0806),
          eth(bytes.fromhex("6000000000103aff") + socket.inet_pton(10, "fe80::1") + socket.inet_pton(10, "ff02::1")
              + b"\x86\0\0\0" + b"\0" * 12, 0x86dd)]
r = random.Random(9)
frames += [r.randbytes(r.randint(14, 200)) for _ in range(300)]
frames += [eth(ip("100.96.0.2", to, 6, r.randbytes(r.randint(0, 60)))) for _ in range(300)]
for f in frames:
    try:
        s.send(f)
    except OSError:
        pass
say("done")
""", plan.B4)
    assert box.py("say(tcp('api.world.test', 7, b'still', 5))") == "still"
    assert {p for p in mark.packets()} == {("tcp", plan.A4, 7)}


def test_byp3_other_protocols_on_443(box, mark):
    got = box.py(r"""
def first(data):
    with connect("api.world.test", 443) as s:
        s.sendall(data)
        try:
            return s.recv(10).hex()
        except OSError as e:
            return fault(e)
say(first(b"SSH-2.0-x\r\n"), first(b"\x05\x01\x00"), first(b"\x38\x01\0\0\0\0\0\0\0"), first(b"GET / HTTP/1.1\r\n\r\n"))
""")
    assert set(got) <= {"", "reset"}, got
    mark.nothing_arrived(["api.world.test"])
    assert {e["reason"] for e in mark.events(event="refused")} == {"not-tls"}


def test_byp4_udp_of_clever_programs(box, mark):
    got = box.py("say(*[udp('8.8.8.8', p) for p in (443, 123, 3478, 19302, 51820, 1194)])")
    assert got == ["refused"] * 6
    mark.nothing_arrived()
    assert mark.event(event="refused", port=443)["reason"] == "quic-refused"


def test_byp5_no_door_to_the_processes(box, mark):
    got = box.py("""
for cid in (0, 1, 2, 3):
    try:
        s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); s.settimeout(5)
        s.connect((cid, 1024))
        say("open")
    except (OSError, AttributeError) as e:
        say("no")
open_ports = []
for p in list(range(1, 1024, 7)) + [2375, 5432, 6443, 8080, 9090]:
    s = socket.socket(); s.settimeout(10)
    if s.connect_ex(("100.96.0.1", p)) == 0: open_ports.append(p)
    s.close()
say(open_ports)
""")
    assert "open" not in got[:4] and got[4] in ([], [53])
    mark.nothing_arrived()


@pytest.mark.parametrize("program, word", [("berm-gate", "gate"), ("berm-vault", "vault")])
def test_byp6_without_gate_or_vault_the_sandbox_ends(new_box, program, word):
    with new_box(POLICY) as b:
        assert b.py("say(tcp('api.world.test', 7, b'x', 1))") == "x"
        running = b.start("sleep", "600")
        for pid in b.berm.by_program(program):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if b.id.encode() in f.read():
                    os.kill(pid, signal.SIGKILL)
        try:
            _, err = running.communicate(timeout=stretched(60))
        except subprocess.TimeoutExpired:
            running.kill()
            raise
        assert running.returncode != 0
        got = b.berm.run("wait", b.id, timeout=60)
        assert got.returncode == 125 and word in got.stderr, (got, err)


def test_byp7_names_that_would_forge_a_line(box, mark, egress):
    """What the guest says stands escaped in what people read."""
    box.py(r"""
ask_udp(query("a\x1b[2Jevil\n2026 allowed.world.test"), wait=1)
ask_udp(query("\xe2\x80\xaeevil.world.test"), wait=1)
s = connect("api.world.test", 443)
s.sendall(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00")
s.close()
say(dns("x" * 63 + "." + "y" * 63 + "." + "z" * 63 + ".test")["code"])
""")
    text = egress.ok("logs", "--egress", box.id)
    assert "\x1b" not in text and "\u202e" not in text
    assert "2026 allowed" not in [line.split("evil")[0] for line in text.splitlines()]
    for line in egress.ok("logs", "--egress", "--json", box.id).splitlines():
        json.loads(line)


def test_the_words_of_logs_and_stats(box, mark, egress):
    """Each refusal is a line for a person, and a number."""
    assert box.py("say(opened('api.world.test', 8444))") == "refused"
    event = refused(mark, "no-rule", ["api.world.test"], port=8444)
    assert event["address"] == plan.A4 and event["layer"] == "tcp" and event["host"].endswith(".world.test")
    assert "time" in event and event["generation"] >= 1
    text = egress.ok("logs", "--egress", box.id)
    assert [line for line in text.splitlines() if ".world.test" in line and "8444" in line and "no-rule" in line]

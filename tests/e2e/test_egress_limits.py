"""Limits: what is too much is refused with a word, and what goes on is untouched. LIM-1 to LIM-9 and DNS-12 of the
acceptance catalogue."""

import copy
import json

from bermtest import stretched, wait_for
from egress import Box
from egress_world import plan

POLICY = """
version: 1
network:
  rules:
    - { host: api.world.test, port: [7, 443] }
    - { host: other.world.test, port: 443, inspect: true }
    - { host: "*.dyn.world.test", port: 7 }
limits: { connections: 40, host_connections: 25 }
"""


def test_lim1_open_connections_all_and_to_one_host(box, mark, world):
    world.dns(**{"c.dyn.world.test": {"A": [plan.C4]}})
    got = box.py("""
def many(host, n):
    held, words = [], []
    for _ in range(n):
        try:
            s = connect(host, 7)
            s.settimeout(20)
            s.sendall(b"x")
            words.append("open" if s.recv(1) == b"x" else "closed")
            held.append(s)
        except Exception as e:
            words.append(fault(e))
    return held, words
a, first = many("api.world.test", 30)
b, second = many("c.dyn.world.test", 25)
say([first.count("open"), first.count("refused") + first.count("reset")])
say([second.count("open"), second.count("refused") + second.count("reset")])
# those that are open still work, and a place that is free again can be had
a[0].sendall(b"y"); say(a[0].recv(1).decode())
for s in a: s.close()
time.sleep(0.5)
say(tcp("api.world.test", 7, b"z", 1))
""")
    assert got[0] == [25, 5] and got[1] == [15, 10] and got[2:] == ["y", "z"]
    assert {e["reason"] for e in mark.events(event="refused")} == {"limit-connections"}


def test_lim1_rates(new_box, world):
    world.dns(**{f"n{i}.rate.world.test": {"A": [plan.A4]} for i in range(60)})
    policy = """
version: 1
network: { rules: [ { host: api.world.test, port: 7 }, { host: "*.rate.world.test", port: 7 } ] }
limits: { connection_rate: 5, dns_rate: 10 }
"""
    with new_box(policy) as b:
        mark = b.mark()
        got = b.py("""
address = socket.gethostbyname("api.world.test")
words = [tcp(address, 7, b"x", 1) for _ in range(60)]
time.sleep(2)
say(words.count("x"), words.count("refused"))
codes = [dns(f"n{i}.rate.world.test")["code"] for i in range(60)]
say(codes.count("ok"), len(codes) - codes.count("ok"))
time.sleep(3)
say(tcp(address, 7, b"x", 1), dns("n1.rate.world.test")["code"])
""")
        assert got[0] >= 5 and got[1] >= 1 and got[2] >= 5 and got[3] >= 1 and got[4:] == ["x", "ok"], got
        assert {e["reason"] for e in mark.events(event="refused")} == {"limit-rate", "limit-dns"}
    world.reset()


def test_lim2_bandwidth(new_box):
    """Within a tenth, and the first burst aside: a slow machine may only be slower."""
    with new_box("""
version: 1
network: { rules: [ { host: files.world.test, port: [80, 443] } ] }
limits: { bandwidth: 2MiB }
""") as b:
        seconds = b.py("""
began = time.monotonic()
run("curl", "-sS", "-r", "0-12582911", "http://files.world.test/256m", "-o", "/tmp/got")
say(time.monotonic() - began, os.path.getsize("/tmp/got"))
""")
        assert seconds[1] == 12582912 and seconds[0] > 12 / 2 * 0.6, seconds


def test_lim3_bytes(new_box):
    with new_box("""
version: 1
network: { rules: [ { host: api.world.test, port: [7, 443], inspect: true }, { host: plain.world.test, port: 7 } ] }
limits: { egress: 4MiB, upload: 1MiB }
""") as b:
        mark = b.mark()
        got = b.py("""
say(len(get("https://api.world.test/bytes?n=1000000").get("body", "")))
r = get("https://api.world.test/upload", "POST", b"x" * 2000000)
say(r.get("status", r.get("fault")))
for _ in range(5):
    r = get("https://api.world.test/bytes?n=1000000")
say(r.get("status", r.get("fault")))
""", timeout=600)
        assert got[0] == 1000000 and got[1] != 200 and got[2] != 200, got
        assert {e["reason"] for e in mark.events() if e["reason"] == "limit-bytes"} == {"limit-bytes"}


def test_lim4_slow_ones_harm_nobody(box, mark):
    """Twenty heads that never end, a reader that reads nothing: a request beside them is answered."""
    got = box.py("""
slow = []
for _ in range(10):
    s = tls("other.world.test")
    s.sendall(b"GET /echo HTTP/1.1\\r\\nHost: other")
    slow.append(s)
s = tls("other.world.test")
s.sendall(b"GET /bytes?n=50000000 HTTP/1.1\\r\\nHost: other.world.test\\r\\n\\r\\n")
slow.append(s)
say(timed(get, "https://other.world.test/status/200"))
say(timed(tcp, "api.world.test", 7, b"x", 1))
""")
    assert got[0][0]["status"] == 200 and got[0][1] < stretched(20) and got[1][0] == "x"


def test_lim5_floods_of_names(box, mark, world):
    """DNS-12: high-entropy labels below an allowed wildcard are let through only so fast, and that is said."""
    world.dns(**{"*.dyn.world.test": {"A": [plan.A4]}})
    got = box.py("""
codes = []
def ask(k):
    for i in range(150):
        codes.append(dns(os.urandom(12).hex() + ".dyn.world.test")["code"])
ts = [threading.Thread(target=ask, args=(k,)) for k in range(4)]
[t.start() for t in ts]; [t.join() for t in ts]
say({c: codes.count(c) for c in codes})
time.sleep(2)
say(addresses("api.world.test"))
""", timeout=600)
    assert got[1] == [plan.A4]
    asked = len(mark.arrived("dns"))
    assert asked < 650 and (got[0].get("ok", 0) == 600 or [e for e in mark.events() if e["reason"] == "limit-dns"]), got


def test_lim6_a_flood_of_refusals_is_counted(box, mark):
    """The record of a flood is bounded, and says how many are not in it."""
    box.py("""
for i in range(4000):
    s = socket.socket(); s.setblocking(False)
    s.connect_ex(("45.91.%d.%d" % (i // 250, i % 250 + 1), 9000 + i % 50))
    s.close()
say(1)
""", timeout=600)
    def told():
        events = mark.events()
        return sum(e["count"] if e["event"] == "lost" else 1 for e in events if e["event"] in ("lost", "refused"))
    wait_for("every refusal is told or counted", lambda: told() >= 500, 30)
    assert box.py("say(tcp('api.world.test', 7, b'x', 1))") == "x"


def test_lim8_few_files(egress, clients, tmp_path):
    """berm with hardly more descriptors than a start needs refuses what is too much, until there is room again."""
    class Few(type(egress)):
        def argv(self, args):
            inner = super().argv(args)
            at = len(self.world.enter_as_user())
            return [*inner[:at], "prlimit", "--nofile=320:320", *inner[at:]]

    policy = "version: 1\nnetwork: { rules: [ { host: api.world.test, port: 7 } ] }\n"
    few = copy.copy(egress)
    few.__class__ = Few
    with Box(few, clients, policy, files=tmp_path) as b:
        mark = b.mark()
        got = b.py("""
held, words = [], []
address = socket.gethostbyname("api.world.test")
for _ in range(400):
    try:
        s = connect(address, 7)
        s.sendall(b"x")
        words.append("open" if s.recv(1) == b"x" else "closed")
        held.append(s)
    except Exception as e:
        words.append(fault(e))
say(words.count("open"), len(words) - words.count("open"))
held[0].sendall(b"y"); say(held[0].recv(1).decode())
for s in held: s.close()
time.sleep(1)
say([tcp(address, 7, b"z", 1) for _ in range(20)])
""", timeout=600)
        assert got[0] > 20 and got[1] > 20 and got[2] == "y" and got[3] == ["z"] * 20, got
        assert {e["reason"] for e in mark.events(event="refused")} == {"limit-connections"}


# What a sandbox can do to be a nuisance, all at once and for as long as it is let.
NOISE = """
def again(what):
    def forever():
        while True:
            try: what()
            except Exception: pass
    threading.Thread(target=forever, daemon=True).start()
at = []
def dial_many():  # by its address: few questions in a row are answered beside a flood of them
    if not at: at.append(socket.gethostbyname("api.world.test"))
    held = [connect(at[0], 7) for _ in range(60)]
def bulk():
    get("https://other.world.test/bytes?n=9000000")
def refused():
    opened("45.91.0.1", 9000, 0.01)
def names():
    dns(os.urandom(8).hex() + ".dyn.world.test")
[again(w) for w in (dial_many, bulk, bulk, refused, names)]
say("noise"); time.sleep(36000)
"""


def test_lim9_a_noisy_neighbour(box, mark, new_box, world):
    """One sandbox floods with bytes, connections, lookups and refusals; another's requests go on being answered, none
    is refused, and nothing of what it may use is used up. A few may be too slow for their client where two guests
    share two processors."""
    world.dns(**{"*.dyn.world.test": {"A": [plan.A4]}})
    with new_box(POLICY) as noisy:
        noise = noisy.start("python3", "-c", "import sys; sys.path.insert(0, '/tmp'); from probe import *\n" + NOISE)
        try:
            assert json.loads(noise.stdout.readline()) == "noise"
            wait_for("it is at its limits", lambda: {"limit-connections", "not-resolved"} <= {
                e["reason"] for e in noisy.events(event="refused")}, 60)
            got = box.py("say([timed(get, 'https://other.world.test/status/200') for _ in range(60)])", timeout=900)
            echoed = box.py("say([timed(tcp, 'api.world.test', 7, b'x', 1) for _ in range(40)])", timeout=900)
        finally:
            noise.kill()
            noise.communicate()
    assert [e for e in mark.events() if e["event"] in ("refused", "lost")] == []  # with the reason, if it ever fails
    answered = [seconds for r, seconds in got if r.get("status") == 200]
    echoes = [seconds for r, seconds in echoed if r == "x"]
    assert len(answered) >= 54 and len(echoes) >= 36, (got, echoed)
    assert {r.get("status") for r, _ in got} <= {200, None}
    assert max([*answered, *echoes]) < stretched(15)

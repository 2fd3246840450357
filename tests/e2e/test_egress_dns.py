"""DNS: the gate answers everything itself, asks only for names a rule covers, and pins what it answered.
Numbers as DNS-5 are those of the acceptance catalogue."""

import pytest
from egress import refused
from egress_world import plan

POLICY = """
version: 1
network:
  rules:
    - { host: api.world.test, port: [7, 80, 443] }
    - { host: four.world.test }
    - { host: six.world.test, port: [7, 443] }
    - { host: "**.dyn.world.test", port: [7, 80, 443] }
"""
ECHO = f"{plan.A4}:7"


def test_dns1_a_listed_name_by_each_road(box, mark, world):
    world.dns(**{"large.dyn.world.test": {"bulk": 120}})
    udp, tcp, edns, long, whole = box.py("""
say(dns("api.world.test"), dns("api.world.test", over=ask_tcp), dns("api.world.test", edns=1232))
say(dns("large.dyn.world.test"), dns("large.dyn.world.test", over=ask_tcp))
""")
    for got in (udp, tcp, edns):
        assert (got["code"], [r[3] for r in got["records"]]) == ("ok", [plan.A4]), got
    assert edns["more"] == 1  # the OPT record
    assert long["bytes"] <= 512 and whole["code"] == "ok"
    assert long["tc"] == (len(whole["records"]) > len(long["records"]))
    assert len(whole["records"]) >= 8
    assert box.sh("getent ahostsv4 api.world.test").startswith(plan.A4)


def test_dns2_an_unlisted_name_is_nobody_and_stays_here(box, mark):
    code, seconds = box.py("""
began = time.monotonic()
code = dns("unlisted.world.test")["code"]
say(code, time.monotonic() - began)
""")
    assert code == "nxdomain" and seconds < 5
    got = refused(mark, "no-rule", layer="dns", host="unlisted.world.test")
    assert got["rule"] in ("", None)
    assert box.exec("getent", "hosts", "unlisted.world.test").returncode == 2


def test_dns3_whoever_is_asked(box, mark):
    servers = ["100.96.0.1", "8.8.8.8", "1.1.1.1", plan.DNS1, "fd62:6572:6d00::1", "2606:4700:4700::1111"]
    got = box.py("for s in sys.argv[1:]: say(dns('api.world.test', server=s), dns('no.example', server=s))", *servers)
    assert [[r[3] for r in g["records"]] for g in got[::2]] == [[plan.A4]] * len(servers)
    assert {g["code"] for g in got[1::2]} == {"nxdomain"}
    assert not mark.packets()


def test_dns4_a_family_that_is_missing_is_no_error(box, mark):
    four, none, six, none4 = box.py("""
say(addresses("four.world.test"), addresses("four.world.test", "AAAA"))
say(addresses("six.world.test", "AAAA"), addresses("six.world.test"))
""")
    assert (four, none, six, none4) == ([plan.A4], "nodata", [plan.A6], "nodata")
    assert box.py("say(tcp('six.world.test', 7, b'over six', 8))") == "over six"
    assert mark.arrived("connection", to=f"{plan.A6}:7")


def test_dns5_only_what_the_chain_reaches_is_pinned(box, mark, world):
    world.dns(**{
        "alias.dyn.world.test": {"CNAME": ["middle.elsewhere.test"]},
        "middle.elsewhere.test": {"CNAME": ["end.elsewhere.test"]},
        "end.elsewhere.test": {"A": [plan.A4]},
        "mixed.dyn.world.test": {"raw": [
            ["mixed.dyn.world.test", "CNAME", 300, "next.elsewhere.test"],
            ["stranger.elsewhere.test", "A", 300, plan.B4],
            ["next.elsewhere.test", "A", 300, plan.C4],
        ]},
    })
    chain, mixed, stranger, reached = box.py("""
say(addresses("alias.dyn.world.test"), addresses("mixed.dyn.world.test"))
say(opened(sys.argv[1], 7), tcp(sys.argv[2], 7, b"hi", 2))
""", plan.B4, plan.C4)
    assert (chain, mixed) == ([plan.A4], [plan.C4])
    assert (stranger, reached) == ("refused", "hi")
    assert mark.event(event="refused", address=plan.B4)["reason"] == "not-resolved"
    assert {p for p in mark.packets()} == {("tcp", plan.C4, 7)}


@pytest.mark.parametrize("ttl", [0, 1, 31536000])
def test_dns6_times_to_live_are_held_within_bounds(box, mark, world, ttl):
    name = f"ttl{ttl}.dyn.world.test"
    world.dns(**{name: {"A": [plan.A4], "ttl": ttl}})
    got = box.py("say(dns(sys.argv[1])['records'])", name)
    assert 1 <= got[0][2] <= 86400, got
    assert got[0][2] == {0: 30, 1: 30}.get(ttl, 3600)
    assert box.py("say(tcp(sys.argv[1], 7, b'hi', 2))", name) == "hi"


def test_dns7_pins_are_nobody_elses(box, mark, new_box, world):
    world.dns(**{"mine.dyn.world.test": {"A": [plan.C4]}})
    assert box.py("say(tcp('mine.dyn.world.test', 7, b'hi', 2))") == "hi"
    with new_box(POLICY) as other:
        theirs = other.mark()
        assert other.py("say(opened(sys.argv[1], 7))", plan.C4) == "refused"
        refused(theirs, "not-resolved", address=plan.C4)


BAD = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "192.0.2.1", plan.BERM4]
BAD6 = ["::1", "::ffff:10.0.0.1", "fe80::1", "fd00:ec2::254", "64:ff9b::a00:1", "2002:a00:1::1", plan.BERM6]


def test_dns8_an_answer_that_is_no_public_address_is_no_answer(box, mark, world):
    names = {f"bad{i}.dyn.world.test": {"A": [a]} for i, a in enumerate(BAD)}
    names |= {f"bad6-{i}.dyn.world.test": {"AAAA": [a]} for i, a in enumerate(BAD6)}
    names["mixed8.dyn.world.test"] = {"A": [plan.A4, "10.0.0.1"]}
    world.dns(**names)
    got = box.py("for n in sys.argv[1:]: say(addresses(n, 'AAAA' if 'bad6-' in n else 'A'))", *names)
    assert [(n, g) for n, g in zip(names, got) if g != "nxdomain"] == []
    events = {e["host"]: e["reason"] for e in mark.events(event="refused") if e["layer"] == "dns"}
    assert set(events) == set(names), set(names) - set(events)
    assert set(events.values()) <= {"special-address", "metadata-address"}
    assert events["bad2.dyn.world.test"] == events["bad6-3.dyn.world.test"] == "metadata-address"
    assert not mark.packets()


def test_dns9_only_the_address_that_was_checked_is_dialled(box, mark, world):
    world.dns(**{"flips.dyn.world.test": {"turns": [{"A": [plan.A4]}, {"A": ["10.0.0.1"]}], "ttl": 0}})
    got = box.py("""
say(tcp("flips.dyn.world.test", 7, b"one", 3), tcp(sys.argv[1], 7, b"two", 3))
""", plan.A4)
    assert got == ["one", "two"]
    assert mark.packets() == {("tcp", plan.A4, 7)}


def test_dns10_messages_that_are_none(box, mark):
    got = box.py(r"""
loop = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\xc0\x0c" + b"\0\1\0\1"
good = query("api.world.test")
bad = [query("api.world.test", questions=2), query("api.world.test", klass=3), query("api.world.test", klass=255),
       query("api.world.test", opcode=4), query("api.world.test", opcode=5), loop, good[:-1], good[:11], good[:13],
       b"", b"\0",
       good[:12] + b"\x40" + good[13:], good[:2] + b"\x81\x80" + good[4:], good[:12] + b"\x3f" + b"a" * 200]
for data in bad:
    answer = ask_udp(data, wait=1)
    say([r[3] for r in read_answer(answer)["records"]] if answer and len(answer) > 12 else [])
say(addresses("api.world.test"))
""")
    assert got[:-1] == [[]] * len(got[:-1]) and got[-1] == [plan.A4]
    assert not [e for e in mark.arrived("dns") if e["name"] != "api.world.test"]


def test_dns11_other_kinds_are_not_forwarded(box, mark):
    kinds = ["TXT", "NULL", "ANY", "SRV", "HTTPS", "SVCB", "NS", "SOA", 46, 48]
    got = box.py("for k in sys.argv[1].split(','): say(dns('api.world.test', int(k) if k.isdigit() else k))",
                 ",".join(map(str, kinds)))
    assert {(g["code"], len(g["records"])) for g in got} == {("ok", 0)}
    assert {e["type"] for e in mark.arrived("dns")} <= {"A", "AAAA"}


def test_dns13_other_roads_to_names(box, mark):
    got = box.py("""
say(opened("api.world.test", 853), opened("8.8.8.8", 853), opened("1.1.1.1", 443))
say(udp("224.0.0.251", 5353), udp("224.0.0.252", 5355), udp("100.96.0.1", 137), udp("8.8.8.8", 853))
""")
    assert got[:3] == ["refused"] * 3 and set(got[3:]) <= {"refused", "unreachable", "silence"}
    assert got[5:] == ["refused", "refused"]
    mark.nothing_arrived(["api.world.test"])
    event = mark.event(event="refused", address="8.8.8.8", port=853, layer="tcp")
    assert event["reason"] in ("not-resolved", "no-rule")


def test_dns14_small_names_stay_here(box, mark):
    got = box.py("""
for n in ("printer", "localhost", "a.localhost", "wpad", "local"):
    say(dns(n)["code"])
say(dns("10.30.90.45.in-addr.arpa", "PTR")["code"], dns("localhost")["records"])
""")
    assert got[0] == got[3] == got[4] == "nxdomain"
    assert got[5] in ("nxdomain", "ok")
    mark.nothing_arrived()


def test_dns15_dead_resolvers(box, mark, world):
    world.dns(**{"half.dyn.world.test": {"A": [plan.A4], "dead": plan.DNS1},
                 "none.dyn.world.test": {"A": [plan.A4], "silent": True},
                 "broken.dyn.world.test": {"A": [plan.A4], "wrong": "servfail"}})
    half, none, broken = box.py("""
say(addresses("half.dyn.world.test"), addresses("none.dyn.world.test"), addresses("broken.dyn.world.test"))
""")
    assert (half, none, broken) == ([plan.A4], "servfail", "servfail")
    assert mark.event(host="none.dyn.world.test", layer="dns")["reason"] == "upstream-dns"


def test_dns16_answers_to_something_else(box, mark, world):
    names = {f"{w}16.dyn.world.test": {"A": [plan.A4], "wrong": w} for w in ("id", "port", "question", "twice")}
    world.dns(**names)
    assert box.py("for n in sys.argv[1:]: say(addresses(n))", *names) == [[plan.A4]] * 4
    world.dns(**{"garbage.dyn.world.test": {"A": [plan.A4], "wrong": "garbage"},
                 "cut.dyn.world.test": {"A": [plan.A4], "wrong": "truncated"}})
    got = box.py("say(addresses('garbage.dyn.world.test'), addresses('cut.dyn.world.test'))")
    assert got == ["servfail", [plan.A4]]


def test_names_are_ldh_and_case_does_not_matter(box, mark):
    """L4-6, the part of names: upper case and the last dot are nothing; other bytes are an error."""
    got = box.py(r"""
say(addresses("API.World.TEST"), addresses("api.world.test."), dns("api\x00.world.test")["code"])
say(dns("a b.dyn.world.test")["code"], dns("dyn.world.test")["code"], dns("evildyn.world.test")["code"])
""")
    assert got[:2] == [[plan.A4]] * 2
    assert set(got[2:]) <= {"nxdomain", "formerr", "refused"}
    mark.nothing_arrived(["api.world.test"])

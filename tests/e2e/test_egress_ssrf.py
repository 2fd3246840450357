"""No road leads to an address that is not public: SSRF-1 to SSRF-6 of the acceptance catalogue, under the widest
policy there is."""

import ipaddress
import json

import pytest
from egress import refused
from egress_world import plan
from special_addresses import METADATA, METADATA_NAMES, SPECIAL4, SPECIAL6

POLICY = """
version: 1
network:
  default: allow
  rules:
    - { host: api.world.test, port: 443, inspect: true }
limits: { connection_rate: 2000, dns_rate: 2000 }
"""
NOT_OPEN = ("refused", "unreachable", "no name", "OSError")
ADDRESSES = [str(a) for n in SPECIAL4 + SPECIAL6 for net in [ipaddress.ip_network(n)] for a in {net[0], net[-1]}]
ADDRESSES += METADATA
# ways to write or to wrap an IPv4 address
WRAPPED = [w for a in ("127.0.0.1", "10.0.0.1", "169.254.169.254") for n in [int(ipaddress.ip_address(a))]
           for w in (f"::ffff:{a}", f"::{a}", f"64:ff9b::{a}", f"2002:{n >> 16:x}:{n & 0xffff:x}::1",
                     f"::ffff:0:{a}", f"2001:0:4136:e378::{n >> 16 ^ 0xffff:x}:{n & 0xffff ^ 0xffff:x}",
                     f"64:ff9b:1::{a}", f"2a0a:45:30::5efe:{a}")]
SPELLED = ["http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://127.1/", "http://0/",
           "http://0xa9fea9fe/", "http://2852039166/", "http://0251.0376.0251.0376/", "http://[::ffff:a9fe:a9fe]/",
           "http://169.254.169.254.nip.world.test/", "http://10.1/", "http://0x0a.0x00.0x00.0x01/"]


def own(address):
    """The guest's own loopback and network: nothing that is sent there leaves it."""
    a = ipaddress.ip_address(address)
    return a.is_loopback or a.is_unspecified or a in ipaddress.ip_network("100.96.0.0/30")


def test_ssrf1_raw_connections_to_every_special_range(box, mark):
    wanted = [a for a in dict.fromkeys(ADDRESSES + WRAPPED) if not own(a)]
    got = box.py("""
for a in json.load(sys.stdin):
    say([a, timed(opened, a, 80)])
""", input=json.dumps(wanted))
    opened = [(a, word) for a, (word, _) in got if not word.startswith(NOT_OPEN)]
    assert not opened and len(got) == len(wanted)
    slow = [(a, s) for a, (_, s) in got if s > 10]
    assert not slow
    mark.nothing_arrived()
    reasons = {e["address"]: e["reason"] for e in mark.events(event="refused")}
    assert reasons["169.254.169.254"] == "metadata-address"
    assert reasons["10.0.0.0"] == reasons["192.168.255.255"] == "special-address"
    assert reasons["fd00:ec2::254"] == "metadata-address"
    assert len(reasons) > 100


def test_ssrf2_addresses_in_urls_however_they_are_spelled(box, mark):
    got = box.py("""
for u in sys.argv[1:]:
    say(run("curl", "-sS", "-g", "-m", "20", u)[0])
""", *SPELLED)
    assert 0 not in got and 28 not in got, got
    assert not mark.packets()


def test_ssrf2_metadata_names(box, mark, world):
    world.dns(**{name: {"A": [plan.A4]} for name in METADATA_NAMES if "." in name})
    got = box.py("for n in sys.argv[1:]: say(dns(n)['code'])", *METADATA_NAMES)
    assert set(got) == {"nxdomain"}
    mark.nothing_arrived()


def test_ssrf2_answers_of_dns(box, mark, world):
    every = list(dict.fromkeys(ADDRESSES + WRAPPED))
    names = {f"a{i}.answers.test": {"AAAA" if ":" in a else "A": [a]} for i, a in enumerate(every)}
    world.dns(**names)
    asked = [[n, next(iter(e))] for n, e in names.items()]
    got = box.py("for n, k in json.load(sys.stdin): say([n, addresses(n, k)])", input=json.dumps(asked))
    wrong = [(n, names[n], found) for n, found in got if found not in ("nxdomain", "nodata")]
    assert not wrong
    assert not mark.packets()


def test_ssrf2_redirects_and_authorities(box, mark, world):
    world.dns(**{"inside.test": {"A": ["10.0.0.1"]}})
    targets = ["http://10.0.0.1:8080/", "http://169.254.169.254/latest/meta-data/", "http://inside.test/",
               "http://[fd00::1]/"]
    got = box.py("""
for t in sys.argv[1:]:
    say(run("curl", "-sSL", "-m", "20", "-o", "/dev/null", "https://api.world.test/redirect?to=" + t)[0])
say(raw("api.world.test", "CONNECT 10.0.0.1:8080 HTTP/1.1\\r\\nHost: 10.0.0.1:8080\\r\\n\\r\\n"))
say(raw("api.world.test", "GET http://169.254.169.254/ HTTP/1.1\\r\\nHost: 169.254.169.254\\r\\n\\r\\n"))
""", *targets)
    assert not {0, 28} & set(got[:4]), got
    assert all(int(g.split()[1]) >= 400 for g in got[4:]), got
    assert {p[1] for p in mark.packets()} <= {plan.A4, plan.A6}
    assert len(mark.requests()) == 4


def test_ssrf_the_hosts_own_addresses(box, mark, world):
    """An address of the machine berm runs on is none to dial, though it looks public."""
    world.dns(**{"own.answers.test": {"A": [plan.BERM4], "AAAA": [plan.BERM6]}})
    got = box.py("say(opened(sys.argv[1], 8099), opened(sys.argv[2], 8099), opened('own.answers.test', 8099))",
                 plan.BERM4, plan.BERM6)
    assert set(got) <= {"refused", "no name"}
    assert not mark.packets()


ADDRESS_POLICY = """
version: 1
network:
  rules:
    - { address: 10.0.0.1, port: 8080 }
    - { address: 192.168.1.1, port: "80-80" }
    - { host: priv.world.test, port: 8080 }
    - { host: both.world.test, port: 8080 }
    - { address: 172.16.0.0/12, port: 6000-7000 }
"""


def test_ssrf4_an_address_rule_opens_that_address_and_port(new_box, world):
    world.dns(**{"both.world.test": {"A": ["10.0.0.1"]}, "priv.world.test": {"A": ["192.168.1.1"]}})
    with new_box(ADDRESS_POLICY) as b:
        mark = b.mark()
        got = b.py("""
ask = "GET /echo HTTP/1.0\\r\\nConnection: close\\r\\n\\r\\n"
say(raw("10.0.0.1", ask, 8080, secure=False)[:12], opened("10.0.0.1", 80), opened("10.0.0.2", 8080))
say(raw("both.world.test", ask, 8080, secure=False)[:12], opened("priv.world.test", 8080))
say(opened("::10.0.0.1", 8080), opened("172.16.0.1", 6443))
""")
        assert got[:3] == ["HTTP/1.1 200", "refused", "refused"]
        # SSRF-6: a name at a private address needs both rules
        assert got[3:5] == ["HTTP/1.1 200", "refused"]
        assert set(got[5:]) <= {"refused", "unreachable"}
        assert mark.packets() == {("tcp", "10.0.0.1", 8080)}
    world.reset()


@pytest.mark.parametrize("rule, words", [
    ("{ address: 0.0.0.0/0, port: 443 }", "too wide"),
    ('{ address: "::/0", port: 443 }', "too wide"),
    ("{ address: 10.0.0.1 }", "port"),
    ("{ address: 010.0.0.1, port: 80 }", "010.0.0.1"),
])
def test_ssrf4_rules_that_cover_too_much(egress, clients, tmp_path, rule, words):
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\nnetwork:\n  rules:\n    - {rule}\n")
    line = egress.refused(125, "run", "--policy", str(path), clients, "true")
    assert "policy.yaml:4" in line and words in line


@pytest.mark.parametrize("address", ["169.254.169.254", "169.254.1.1", "fd00:ec2::254", "fe80::1"])
def test_ssrf5_no_rule_grants_metadata(egress, new_box, tmp_path, address):
    """Either the file is refused, or the rule is there in vain."""
    rule = f"version: 1\nnetwork:\n  rules:\n    - {{ address: \"{address}\", port: 80 }}\n"
    path = tmp_path / "policy.yaml"
    path.write_text(rule)
    if egress.run("policy", "check", str(path)).returncode != 0:
        return
    with new_box(rule) as b:
        mark = b.mark()
        assert b.py("say(opened(sys.argv[1], 80))", address).startswith(NOT_OPEN)
        mark.nothing_arrived()


def test_ssrf6_a_name_with_a_private_address(box, mark, world):
    world.dns(**{"gitlab.inside.test": {"A": ["10.0.0.1"]}})
    assert box.py("say(addresses('gitlab.inside.test'))") == "nxdomain"
    refused(mark, "special-address", ["gitlab.inside.test"], host="gitlab.inside.test")


def test_body_of_a_refusal_over_plain_http(box, mark):
    """A literal in Host on an allowed connection is judged by itself."""
    got = box.py("""
ask = "GET / HTTP/1.1\\r\\nHost: 169.254.169.254\\r\\nConnection: close\\r\\n\\r\\n"
say(raw("plain.world.test", ask, 80, secure=False))
""")
    assert int(got.split()[1]) in (403, 421), got
    assert not mark.requests()

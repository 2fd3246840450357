"""SSRF-1: every range of the IANA special-purpose registries, multicast, every way an IPv4 address is put
into an IPv6 one, cloud metadata, and every way an IPv4 address is written. The tables are the registries'
rows as published, not those of the program, and the arithmetic is Python's own.
"""

import ipaddress
import os
import random
import subprocess

import pytest
from special_addresses import METADATA, METADATA_NAMES, SPECIAL4, SPECIAL6

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
PROGRAM = os.path.join(TOP, "build/main/tests/integration/policy/policytest")
PRESETS = os.path.join(TOP, "profiles/egress")

LINK_LOCAL = [ipaddress.ip_network(n) for n in ("169.254.0.0/16", "fe80::/10")]
NETS = [ipaddress.ip_network(n) for n in SPECIAL4 + SPECIAL6]
METADATA_IPS = {ipaddress.ip_address(a) for a in METADATA}
AWS6 = ipaddress.ip_network("fd00:ec2::/32")


def ask(lines, *policy):
    done = subprocess.run([PROGRAM, PRESETS, *policy], input="".join(f"{x}\n" for x in lines),
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answers = [x.split("\t") for x in done.stdout.splitlines()]
    assert len(answers) == len(lines)
    return answers


def embedded(ip):
    """IPv4 addresses inside an IPv6 one, by the documents of each kind of embedding."""
    raw = ip.packed
    if raw[:8] == bytes(8):
        yield raw[12:]
    if raw[:4] == bytes.fromhex("0064ff9b"):
        yield from (raw[12:], raw[6:8] + raw[9:11], raw[7:8] + raw[9:12], raw[9:13])
    if raw[:2] == bytes.fromhex("2002"):
        yield raw[2:6]
    if raw[:4] == bytes.fromhex("20010000"):
        yield from (raw[4:8], bytes(255 - b for b in raw[12:]))
    if raw[8:12] in (bytes.fromhex(x + "00005efe"[2:]) for x in ("00", "01", "02", "03")):
        yield raw[12:]


RANK = ["public", "special", "link-local", "metadata"]


def class_of(ip):
    """What an address has to be."""
    if ip in METADATA_IPS or ip in AWS6:
        return "metadata"
    found = "public"
    if any(ip in n for n in LINK_LOCAL if n.version == ip.version):
        found = "link-local"
    elif any(ip in n for n in NETS if n.version == ip.version):
        found = "special"
    elif ip.version == 6 and not 0x20 <= ip.packed[0] < 0x40:
        found = "special"
    if ip.version == 6:
        isatap = ip.packed[9:12] == bytes.fromhex("005efe") and ip.packed[8] < 4
        inner = [class_of(ipaddress.IPv4Address(x)) for x in embedded(ip)]
        found = max([found, "special" if isatap else "public", *inner], key=RANK.index)
    return found


def edges(net):
    first, last = int(net.network_address), int(net.broadcast_address)
    kind = type(net.network_address)
    top = 2 ** net.max_prefixlen - 1
    for value in (first - 1, first, first + 1, (first + last) // 2, last - 1, last, last + 1):
        if 0 <= value <= top:
            yield kind(value)


def check_all(ips):
    ips = list(ips)
    for ip, (got, *_) in zip(ips, ask([f"address\t{ip}" for ip in ips])):
        assert got == class_of(ip), f"{ip}: {got}, but it is {class_of(ip)}"


def test_ssrf_1_edges_of_every_range():
    check_all(ip for net in NETS for ip in edges(net))


def test_ssrf_1_metadata():
    check_all(METADATA_IPS)
    for name, (act, why, *_) in zip(METADATA_NAMES, ask([f"name\t{n}" for n in METADATA_NAMES],
                                                      "preset", "permissive")):
        assert (act, why) == ("deny", "metadata-address"), name


def ways_in(v4):
    """Every IPv6 address that leads to an IPv4 one."""
    b = v4.packed
    far = bytes(255 - x for x in b)
    layouts = {
        "compatible": bytes(12) + b,
        "mapped": bytes(10) + b"\xff\xff" + b,
        "translated": bytes(8) + b"\xff\xff\0\0" + b,
        "nat64": bytes.fromhex("0064ff9b") + bytes(8) + b,
        "local nat64 /96": bytes.fromhex("0064ff9b0001") + bytes(6) + b,
        "local nat64 /48": bytes.fromhex("0064ff9b0001") + b[:2] + b"\0" + b[2:] + bytes(5),
        "local nat64 /56": bytes.fromhex("0064ff9b000100") + b[:1] + b"\0" + b[1:] + bytes(4),
        "local nat64 /64": bytes.fromhex("0064ff9b00010000") + b"\0" + b + bytes(3),
        "6to4": bytes.fromhex("2002") + b + bytes(9) + b"\1",
        "teredo server": bytes.fromhex("20010000") + b + bytes(8),
        "teredo client": bytes.fromhex("20010000") + b"\1\1\1\1" + bytes(4) + far,
        "isatap": bytes.fromhex("2606470000000000" + "00005efe") + b,
        "isatap, global": bytes.fromhex("2606470000000000" + "02005efe") + b,
        "isatap, link-local": bytes.fromhex("fe80000000000000" + "00005efe") + b,
    }
    return {kind: ipaddress.IPv6Address(raw) for kind, raw in layouts.items()}


@pytest.mark.parametrize("text", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "169.254.9.9",
                                  "168.63.129.16", "100.100.100.200", "93.184.216.34"])
def test_ssrf_1_every_embedding(text):
    v4 = ipaddress.IPv4Address(text)
    inner = class_of(v4)
    all_ways = ways_in(v4)
    for (kind, ip), (got, *_) in zip(all_ways.items(), ask([f"address\t{i}" for i in all_ways.values()])):
        assert got == class_of(ip), f"{kind} {ip}"
        assert got != "public" and RANK.index(got) >= RANK.index(inner), f"{kind} {ip}: {got}"


def test_ssrf_1_random_addresses():
    rng = random.Random(6)
    ips = [ipaddress.IPv4Address(rng.getrandbits(32)) for _ in range(4000)]
    for net in NETS:
        for _ in range(20):
            offset = rng.randrange(net.num_addresses)
            ips.append(net.network_address + offset)
    ips += [ipaddress.IPv6Address(0x2 << 124 | rng.getrandbits(124)) for _ in range(2000)]
    ips += [ipaddress.IPv6Address(rng.getrandbits(128)) for _ in range(2000)]
    check_all(ips)


def writings(v4):
    """Each number of parts, each part decimal, hexadecimal or octal."""
    value = int(v4)
    forms = [str, hex, lambda n: f"0X{n:X}", lambda n: f"0{n:o}",
             lambda n: f"000{n:o}", lambda n: f"0x000{n:x}"]
    for parts in range(1, 5):
        numbers = [value >> (24 - 8 * i) & 255 for i in range(parts - 1)]
        numbers.append(value & (2 ** (8 * (5 - parts)) - 1))
        for form in forms:
            yield ".".join(form(n) for n in numbers)
        yield ".".join(forms[i % len(forms)](n) for i, n in enumerate(numbers))
        yield ".".join(str(n) for n in numbers) + "."


@pytest.mark.parametrize("text", ["127.0.0.1", "10.0.0.1", "192.168.1.254", "169.254.169.254", "0.0.0.0",
                                  "93.184.216.34"])
def test_ssrf_1_every_writing(text):
    v4 = ipaddress.IPv4Address(text)
    texts = list(writings(v4))
    for written, got in zip(texts, ask([f"literal\t{t}" for t in texts])):
        assert got == [class_of(v4), str(v4)], written
    # and none of them is a name: neither a guest's nor the policy's
    for written, got in zip(texts, ask([f"name\t{t}" for t in texts])):
        assert got == ["bad"], written
    for written, got in zip(texts, ask([f"pattern\t{t}" for t in texts])):
        assert got[0] == "bad" and "IP address" in got[1], written


@pytest.mark.parametrize("preset", ["none", "model-only", "locked", "standard", "permissive", "registries"])
def test_ssrf_1_under_every_preset(preset):
    ips = [net.network_address for net in NETS] + sorted(METADATA_IPS, key=str)
    for port in (80, 443, 6443):
        for names in ("", "api.anthropic.com"):
            lines = [f"connect\t{ip}\t{port}\ttcp\traw\t{names}" for ip in ips]
            for ip, (act, why, *_) in zip(ips, ask(lines, "preset", preset)):
                assert act == "deny" and why in ("special-address", "metadata-address"), ip


def test_ssrf_4_no_rule_opens_metadata_or_link_local():
    for text in ["169.254.169.254", "169.254.0.0/16", "168.63.129.16", "fe80::/10", "fd00:ec2::254"]:
        word = f"[{text}]:80" if ":" in text else f"{text}:80"
        done = subprocess.run([PROGRAM, PRESETS, "allow", word], input="", capture_output=True, text=True,
                              check=False, timeout=60)
        assert done.returncode == 1 and "never opened" in done.stderr, text
    # inside a range that is opened, they stay shut
    rules = ["allow", "100.64.0.0/10:80", "allow", "192.0.0.0/24:80", "allow", "[fd00::/16]:80",
             "allow", "[64:ff9b::/96]:80"]
    ips = ["100.100.100.200", "192.0.0.192", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"]
    for ip, (act, why, *_) in zip(ips, ask([f"connect\t{ip}\t80\ttcp\traw\t" for ip in ips], *rules)):
        assert (act, why) == ("deny", "metadata-address"), ip
    ips = ["100.64.0.1", "192.0.0.1", "fd00::1", "64:ff9b::0102:0304"]
    for ip, (act, *_) in zip(ips, ask([f"connect\t{ip}\t80\ttcp\traw\t" for ip in ips], *rules)):
        assert act == "allow", ip

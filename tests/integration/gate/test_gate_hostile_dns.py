"""Name servers that mean harm: what they send gives the guest no address but a right one, costs the vault neither its
life nor its memory, and keeps nobody waiting longer than a server that is silent."""

import json
import struct
import time

import bermtest
import pytest
import rig
from egress_world import plan
from egress_world.dns_server import put_name, put_record

pytestmark = pytest.mark.skipif(bool(rig.WHY_NOT), reason=rig.WHY_NOT or "-")
NAME, GOOD = "evil00.world.test", "api.world.test"
QUESTION = put_name(NAME) + struct.pack(">HH", 1, 1)
CHAIN_MAX = 8  # EGRESS_CHAIN_MAX
ASK = r"""
import socket, struct, sys, time
def ask(name, qid):
    q = struct.pack(">HHHHHH", qid, 0x100, 1, 0, 0, 0)
    q += b"".join(bytes([len(l)]) + l.encode() for l in name.split(".")) + b"\0" + struct.pack(">HH", 1, 1)
    s = socket.create_connection(("100.96.0.1", 53), 60); s.sendall(struct.pack(">H", len(q)) + q)
    f = s.makefile("rb"); a = f.read(struct.unpack(">H", f.read(2))[0])
    count = struct.unpack_from(">H", a, 6)[0]
    return a[3] & 15, sorted(socket.inet_ntoa(a[len(a) - 16 * k - 4 : len(a) - 16 * k]) for k in range(count))
"""


def head(answers=1, flags=0x8580, questions=1, authorities=0, more=0):
    return "ID" + struct.pack(">HHHHH", flags, questions, answers, authorities, more).hex()


def exact(answers, body, question=QUESTION, **more):
    return head(answers, **more) + (question + body).hex()


def address(owner, to="45.90.30.66"):
    """A record whose owner is spelled out in bytes."""
    return owner + struct.pack(">HHIH", 1, 1, 300, 4) + bytes(int(n) for n in to.split("."))


def chain(length):
    names = [NAME, *(f"{'x' * 60}.{'y' * 60}.{'z' * 60}.c{i}.test" for i in range(length))]
    records = b"".join(put_record(a, "CNAME", 300, b) for a, b in zip(names, names[1:]))
    return exact(length + 1, records + put_record(names[-1], "A", 300, plan.A4))


at = len(QUESTION) + 12  # where the answers begin
NSEC = put_record(NAME, "A", 300, plan.A4) + b"".join(
    put_name(f"n{i}.test") + struct.pack(">HHIH", 47, 1, 300, 40) + b"\3abc\0" + b"\xff" * 35 for i in range(20))
# what the server says before a right answer, and whether that is what comes of it
SAID = {
    "nothing at all": ([""], "late"),
    "an empty packet, then the answer": (["", "00"], "right"),
    "an id alone": (["ID"], "any"),
    "half a head": (["ID858000"], "any"),
    "another id": (["ffff" + exact(1, address(b"\xc0\x0c"))[2:]], "right"),
    "a question back": ([exact(0, b"", flags=0x0100)], "any"),
    "another opcode": ([exact(1, address(b"\xc0\x0c"), flags=0xad80)], "any"),
    "a name that points at itself": ([exact(1, address(struct.pack(">H", 0xC000 | at)))], "any"),
    "names that point at each other": ([exact(2, address(struct.pack(">H", 0xC000 | at + 16)) +
                                              address(struct.pack(">H", 0xC000 | at)))], "any"),
    "a name that points ahead": ([exact(1, address(struct.pack(">H", 0xC000 | at + 12)))], "any"),
    "a name that points out of the message": ([exact(1, address(b"\xff\xff"))], "any"),
    "labels without an end": ([exact(1, (b"\x3f" + b"a" * 63) * 8)], "any"),
    "a question in a circle": ([exact(1, address(b"\xc0\x0c"), question=b"\xc0\x0c\0\1\0\1")], "any"),
    "more records than there are": ([exact(65535, address(b"\xc0\x0c"))], "any"),
    "data beyond the end": ([exact(1, b"\xc0\x0c\0\1\0\1\0\0\0\1\xff\xff\1\2\3\4")], "any"),
    "an address of three bytes": ([exact(1, b"\xc0\x0c\0\1\0\1\0\0\0\1\0\3\1\2\3")], "any"),
    "a chain that ends in itself": ([exact(2, put_record(NAME, "CNAME", 9, "a.test") +
                                            put_record("a.test", "CNAME", 9, NAME))], "any"),
    "the longest chain": ([chain(CHAIN_MAX - 4)], "right"),  # what fits into a packet of UDP
    "no questions": ([head(1, questions=0) + address(put_name(NAME)).hex()], "any"),
    "two questions": ([head(1, questions=2) + (QUESTION * 2 + address(b"\xc0\x0c")).hex()], "any"),
    "NSEC noise": ([exact(1, NSEC, authorities=20)], "right"),
    "an address of somebody else": ([exact(1, put_record("a.test", "A", 300, "45.90.30.66"))], "none"),
    "two OPT records": ([exact(1, address(b"\xc0\x0c", plan.A4) + (b"\0" + struct.pack(">HHIH", 41, 4096, 0, 0)) * 2,
                               more=2)], "right"),
}
LONG = exact(128, b"".join(address(b"\xc0\x0c", f"45.91.0.{i + 1}") for i in range(128)))
HUGE = exact(4000, address(b"\xc0\x0c", "45.91.0.1") * 4000)
LONGEST = chain(CHAIN_MAX)


def framed(message, lie=0):
    return f"{len(bytes.fromhex(message.replace('ID', '0000'))) + lie & 0xffff:04x}" + message


STREAMS = {
    "the longest chain": ([[framed(LONGEST), 0]], [plan.A4]),
    "one more than the longest chain": ([[framed(chain(CHAIN_MAX + 1)), 0]], None),
    "128 addresses": ([[framed(LONG), 0]], "some"),
    "64 KiB of addresses": ([[framed(HUGE), 0]], None),
    "a length of nothing": ([["0000", 0]], None),
    "a length of one": ([["000100", 0]], None),
    "less than the length": ([[framed(LONGEST, 1000), 0]], None),
    "more than the length": ([[framed(LONGEST, -40), 0]], None),
    "truncated again": ([[framed(exact(0, b"", flags=0x8780)), 0]], None),
    "a byte now and then": ([["ff", 0.5], *[["ff", 0.5]] * 19], None),
    "a length and then silence": ([[framed(LONGEST)[:4], 0], ["", 15]], None),
    "the end at once": ([["", 0]], None),
    "a flood": ([[framed(HUGE) * 20, 0]], None),
}


@pytest.fixture(scope="module")
def gate(world, tmp_path_factory):
    with rig.joined(world, tmp_path_factory.mktemp("rig"), ["host: '**.world.test', port: 443"]) as made:
        yield made


def ask(gate, name):
    """(code, addresses, seconds)"""
    began = time.monotonic()
    got = gate.guest("/usr/bin/python3", "-c", ASK + f"print(*ask({name!r}, 7))")
    assert got.returncode == 0, got.stderr
    code, _, addresses = got.stdout.partition(" ")
    return int(code), [a for a in addresses.strip("[]\n").replace("'", "").split(", ") if a], time.monotonic() - began


def evil(world, n, **entry):
    """A name of that test's own, as answers are remembered; what is said of NAME is said of it."""
    name, ours = f"evil{n:02}.world.test", f"evil{n:02}".encode().hex()
    text = json.dumps(entry).replace(b"evil00".hex(), ours)
    world.dns(**{name: {"A": [plan.A4], **json.loads(text)}})
    return name


def still_well(gate):
    assert ask(gate, GOOD)[:2] == (0, [plan.A4])


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return int(next(line for line in f if line.startswith("VmRSS")).split()[1])


@pytest.mark.parametrize("what", SAID)
def test_messages(gate, world, what):
    said, outcome = SAID[what]
    code, addresses, seconds = ask(gate, evil(world, list(SAID).index(what), exact=said))
    good = (0, [plan.A4])
    assert "45.90.30.66" not in addresses
    if outcome == "right":
        assert (code, addresses) == good
    elif outcome == "late":
        assert (code, addresses) == (2, [])
    elif outcome == "none":
        assert addresses == [] and code in (0, 2, 3)
    else:
        assert (code, addresses) == good or (addresses == [] and code in (2, 3)), (code, addresses)
    assert seconds < bermtest.stretched(20)
    still_well(gate)


@pytest.mark.parametrize("what", STREAMS)
def test_over_tcp(gate, world, what):
    stream, outcome = STREAMS[what]
    name = evil(world, 50 + list(STREAMS).index(what), wrong="truncated", stream=stream)
    before = resident(gate.pids["vault"])
    code, addresses, seconds = ask(gate, name)
    if outcome == "some":
        assert code == 0 and len(addresses) > 3 and set(addresses) <= {f"45.91.0.{i + 1}" for i in range(128)}
    elif outcome:
        assert (code, addresses) == (0, outcome)
    else:
        assert addresses == [] and code in (2, 3)
    assert seconds < bermtest.stretched(20)
    still_well(gate)
    assert resident(gate.pids["vault"]) < before + 4096  # KiB

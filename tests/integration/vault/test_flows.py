"""What berm-vault resolves, what it connects, and what it refuses whatever the gate says."""

import os
import socket
import struct
import time

import pytest

from world import *  # noqa: F403  pylint: disable=wildcard-import,unused-wildcard-import


def ordinary():
    serve_dns(names(a_test=[FAR], b_test=[FAR, "2a00:1::2"], raw_test=[FAR], six_test=["2a00:1::2"],
                    other_test=["9.1.0.3"], gone_test=["9.1.0.9"]))
    serve_tcp(echo, port=443)
    serve_tcp(echo, port=5000)
    serve_tcp(echo, addr=FAR6, port=5000, family=socket.AF_INET6)


RULES = rules("{ host: a.test, port: 443 }", "{ host: b.test, port: 5000 }", "{ host: raw.test, port: [5000, 5001] }",
              "{ host: six.test, port: 5000 }", "{ host: gone.test, port: 5000 }")


@in_world(ordinary)
def test_resolves_and_passes_sockets(_):
    with Vault(RULES) as v:
        assert v.resolve("a.test") == ("ok", 300, [FAR], [])
        assert v.resolve("b.test") == ("ok", 300, [FAR, FAR6], [])
        assert v.resolve("b.test", want=2) == ("ok", 300, [FAR6], [])
        s = v.connect(FAR, 443, "a.test", TLS)
        s.sendall(b"x" * 100000)
        s.shutdown(socket.SHUT_WR)
        got = b""
        while (part := s.recv(65536)):
            got += part
        assert got == b"x" * 100000
        v.send(END, v.stream)
        v.expect(END, v.stream)
        six = v.connect(FAR6, 5000, "b.test")
        six.sendall(b"six")
        assert six.recv(3) == b"six"
        assert six.getpeername()[0] == FAR6
        assert v.stats()["flows"] == 1


@in_world(ordinary)
def test_refuses_what_the_gate_may_not_ask(_):
    with Vault(RULES) as v:
        assert v.connect(FAR, 443, "a.test", TLS) == "not-resolved"
        v.resolve("a.test")
        v.resolve("raw.test")
        assert v.connect("9.1.0.3", 443, "a.test", TLS) == "not-resolved"
        assert v.connect(FAR, 443, "other.test", TLS) == "not-resolved"
        assert v.connect(FAR, 444, "a.test", TLS) == "denied"
        assert v.connect(FAR, 443, "a.test", TCP) == "denied"  # it has to be read
        assert v.connect(FAR, 443, "", TLS) == "not-resolved"
        assert v.connect(FAR, 5000, "", TCP) == "not-resolved"
        assert v.connect("10.0.0.1", 5000, "raw.test") == "special"
        assert v.connect("127.0.0.1", 5000, "raw.test") == "special"
        assert v.connect("::1", 5000, "raw.test") == "special"
        assert v.connect("::ffff:9.1.0.2", 5000, "raw.test") == "special"
        assert v.connect("169.254.169.254", 5000, "raw.test") == "metadata"
        assert v.connect(FAR, 5001, "raw.test") == "refused"
        assert v.connect(FAR, 5000, "raw.test", UDP) == "denied"
        assert v.resolve("other.test")[0] == "denied"
        assert v.resolve("metadata.google.internal")[0] in ("denied", "metadata")
        assert v.resolve("nothing.a.test")[0] == "denied"


@in_world(ordinary)
def test_the_hosts_own_addresses(_):
    """An address of the host is special, however public it looks, until a rule opens it."""
    own = rules("{ host: raw.test, port: 5000 }")
    opened = rules("{ host: raw.test, port: 5000 }", f"{{ address: {NEAR}, port: 5000 }}")
    with Vault(own) as v:
        assert v.connect(NEAR, 5000, "raw.test") in ("special", "not-resolved")
        serve_tcp(echo, addr=NEAR, port=5000)
        v.policy(opened)
        s = v.connect(NEAR, 5000)
        s.sendall(b"hello")
        assert s.recv(5) == b"hello"
        assert v.connect(NEAR, 5001) == "not-resolved"


def rebinding():
    table = {
        "in.test": [(1, a("in.test", "10.0.0.1"))],
        "mixed.test": [(1, a("mixed.test", FAR)), (1, a("mixed.test", "127.0.0.1"))],
        "six.test": [(1, a("six.test", FAR)), (28, a("six.test", "::1"))],
        "meta.test": [(1, a("meta.test", "169.254.169.254"))],
        "own.test": [(1, a("own.test", NEAR))],
        "mine.test": [(1, a("mine.test", "10.7.0.2"))],
        "chain.test": [(5, cname("chain.test", "x.far.test", 9)), (5, cname("x.far.test", "y.far.test")),
                       (1, a("y.far.test", FAR)), (1, a("z.far.test", "9.1.0.3")),
                       (1, a("chain.test", "9.1.0.4"))],
        "stray.test": [(1, a("elsewhere.test", FAR))],
        "loop.test": [(5, cname("loop.test", "loop2.test")), (5, cname("loop2.test", "loop.test"))],
        "ttl0.test": [(1, a("ttl0.test", FAR, 0))],
        "ttl9.test": [(1, a("ttl9.test", FAR, 31536000))],
        "none.test": [],
        "meta-chain.test": [(5, cname("meta-chain.test", "metadata.google.internal")),
                            (1, a("metadata.google.internal", FAR))],
    }
    serve_dns(zone(table))
    serve_tcp(echo, addr="10.7.0.2", port=5000)


@in_world(rebinding)
def test_dns_5_6_8_answers_are_judged_whole(_):
    policy = rules('{ host: "*.far.test", port: 5000 }', *(
        f"{{ host: {n}.test, port: 5000 }}" for n in
        "in mixed six meta own mine chain stray loop ttl0 ttl9 none no meta-chain".split()))
    with Vault(policy) as v:
        assert v.resolve("in.test")[0] == "special"
        assert v.resolve("mixed.test")[0] == "special"
        assert v.resolve("six.test")[0] == "special"
        assert v.resolve("six.test", want=1)[0] == "ok"
        assert v.resolve("meta.test")[0] == "metadata"
        assert v.resolve("own.test")[0] == "special"
        assert v.resolve("mine.test")[0] == "special"
        assert v.resolve("chain.test") == ("ok", 9, [FAR], ["x.far.test", "y.far.test"])
        assert v.connect("9.1.0.3", 5000, "chain.test") == "not-resolved"
        assert v.connect("9.1.0.4", 5000, "chain.test") == "not-resolved"
        assert v.resolve("stray.test")[0] == "no-address"
        assert v.resolve("loop.test")[0] == "dns"
        assert v.resolve("ttl0.test")[1] == 5
        assert v.resolve("ttl9.test")[1] == 3600
        assert v.resolve("none.test") == ("no-address", 30, [], [])
        assert v.resolve("no.test") == ("no-name", 30, [], [])
        assert v.resolve("meta-chain.test")[0] == "metadata"
        v.policy(policy + "    - { address: 10.7.0.2, port: 5000 }\n")
        assert v.resolve("mine.test")[:1] == ("ok",)
        assert not isinstance(v.connect("10.7.0.2", 5000, "mine.test"), str)


def lying():
    """Wrong ids, ports and questions first, then the truth; the other answers only over TCP."""
    def answer(name, kind, query):
        good = reply(query, [a(name, FAR)] if kind == 1 else [])
        evil = [a(name, "9.1.0.3")]
        if name == "lie.test":
            ident = struct.unpack_from(">H", query)[0]
            other = dns_name("other.test") + struct.pack(">HH", kind, 1)
            return [reply(query, evil, ident=ident ^ 1), reply(query, evil, question=other),
                    (stray, reply(query, evil)), good]
        if name == "cut.test":
            seen[name, kind] = seen.get((name, kind), 0) + 1
            return good if seen[name, kind] > 1 else reply(query, [], flags=0x8380)
        return good

    seen = {}
    stray = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    stray.bind((FAR, 5353))
    serve_dns(answer)


@in_world(lying)
def test_dns_16_wrong_answers_are_ignored(_):
    with Vault(rules("{ host: lie.test, port: 5000 }", "{ host: cut.test, port: 5000 }")) as v:
        assert v.resolve("lie.test")[::2] == ("ok", [FAR])
        assert v.resolve("cut.test")[::2] == ("ok", [FAR])


def second_only():
    serve_dns(names(a_test=[FAR]), addr="9.1.0.4")
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind((FAR, 53))
    kept.append(silent)


kept = []


@in_world(second_only, resolvers=(FAR, "9.1.0.5", "9.1.0.4"))
def test_dns_15_failover(_):
    with Vault(rules("{ host: a.test, port: 5000 }")) as v:
        assert v.resolve("a.test")[::2] == ("ok", [FAR])


@in_world(resolvers=("9.1.0.8", "9.1.0.9"))
def test_dns_15_dead_resolvers(_):
    with Vault(rules("{ host: a.test, port: 5000 }", '{ host: "*.b.test", port: 5000 }')) as v:
        began = time.monotonic()
        many = [v.open(RESOLVE, b"\x03" + str16(f"n{i}.b.test")) for i in range(100)]
        assert v.resolve("a.test")[0] in ("dns", "limit")
        got = [v.resolved(s)[0] for s in many]
        assert set(got) == {"dns", "limit"}
        assert got.count("limit") == 100 - 64
        assert time.monotonic() - began < 30 * SLOWNESS


@in_world(ordinary)
def test_hot_2_a_policy_that_ends_flows(_):
    with Vault(RULES) as v:
        v.resolve("raw.test")
        v.resolve("b.test")
        gone = v.connect(FAR, 5000, "raw.test")
        gone_stream = v.stream
        stays = v.connect(FAR, 5000, "b.test")
        v.policy(rules("{ host: b.test, port: 5000 }"))
        payload, _fd = v.expect(REVOKED, gone_stream)
        assert struct.unpack("<I", payload)[0] == v.generation
        v.send(END, gone_stream)
        assert gone.recv(10) == b""
        with pytest.raises(OSError):
            gone.sendall(b"x")
            gone.sendall(b"x")
        stays.sendall(b"still here")
        assert stays.recv(10) == b"still here"
        assert v.connect(FAR, 5000, "raw.test") == "not-resolved"
        assert v.stats()["flows"] == 1


@in_world(ordinary)
def test_hot_3_a_bad_policy_changes_nothing(_):
    with Vault(RULES) as v:
        good = compiled(RULES, 2)
        for name, fd in (("digest", sealed(good[:-1] + bytes([good[-1] ^ 1]))), ("cut", sealed(good[:-3])),
                         ("generation", sealed(compiled(RULES, 3))), ("open", os.memfd_create("x"))):
            v.tell(POLICY, struct.pack("<I", 2), fd)
            kind, payload = v.packet()
            assert kind == POLICY_BAD and struct.unpack_from("<I", payload)[0] == 2, name
        assert v.resolve("a.test")[0] == "ok"
        v.policy(RULES)


@in_world(ordinary)
def test_udp(_):
    with Vault(rules("{ host: a.test, port: 5000, protocol: udp }")) as v:
        v.resolve("a.test")
        s = v.connect(FAR, 5000, "a.test", UDP)
        assert s.type == socket.SOCK_DGRAM and s.getpeername() == (FAR, 5000)
        v.send(END, v.stream)
        v.expect(END, v.stream)


@in_world(ordinary)
def test_before_the_first_policy(_):
    with Vault() as v:
        assert v.resolve("a.test")[0] == "denied"
        assert v.connect(FAR, 443, "a.test", TLS) == "denied"


@in_world(ordinary)
def test_unreachable_and_given_up(_):
    with Vault(RULES) as v:
        v.resolve("gone.test")
        stream = v.ask("9.1.0.9", 5000, "gone.test")  # nobody answers to the neighbour's question
        late = v.ask("9.1.0.9", 5000, "gone.test")
        v.send(RESET, late, b"\x11")
        assert v.expect(RESET, late)[0] == b"\x11"
        assert v.connected(stream) in ("unreachable", "timeout")
        assert v.stats()["flows"] == 0


BAD_FRAMES = {
    "magic": b"\0" * 12,
    "type": struct.pack("<HBBII", 0xb3e9, 99, 0, 1, 0),
    "vaults own": struct.pack("<HBBII", 0xb3e9, RESOLVED, 0, 1, 7) + bytes(7),
    "policy": struct.pack("<HBBII", 0xb3e9, E_POLICY, 0, 0, 4) + bytes(4),
    "second hello": struct.pack("<HBBIII", 0xb3e9, HELLO, 0, 0, 4, 1),
    "policy ok": struct.pack("<HBBIII", 0xb3e9, E_POLICY_OK, 0, 0, 4, 77),
    "old stream": struct.pack("<HBBII", 0xb3e9, RESOLVE, 0, 0, 0),
    "unknown stream": struct.pack("<HBBII", 0xb3e9, END, 0, 9, 0),
    "body of nothing": struct.pack("<HBBII", 0xb3e9, BODY, 0, 9, 3) + b"abc",
    "no port": struct.pack("<HBBII", 0xb3e9, CONNECT, 0, 5, 30) + bytes(30),
}


@pytest.mark.parametrize("what", BAD_FRAMES)
def test_a_hostile_gate_ends_the_vault(what, tmp_path):
    @in_world()
    def run(_):
        with Vault(RULES) as v:
            v.link.sendall(BAD_FRAMES[what])
            code, said = v.wait()
            assert code == 1 and said.startswith("berm-vault: "), (code, said)

    run(tmp_path)


@in_world()
def test_the_end_of_either_side(_):
    with Vault(RULES) as v:
        v.control.close()
        assert v.wait() == (0, "")
    with Vault(RULES) as v:
        v.link.close()
        code, said = v.wait()
        assert code == 1 and "gate" in said
    with Vault(RULES) as v:
        v.tell(ACCEPTED, bytes(23), os.open("/dev/null", os.O_RDONLY))
        assert v.wait()[0] == 1
    with Vault(RULES) as v:
        socket.send_fds(v.link, [b"\xe9"], [0])
        assert v.wait()[0] == 1


@in_world(ordinary)
def test_a_gate_that_does_not_read(_):
    """Bounded memory, and all is there when it reads again."""
    with Vault(rules('{ host: "*.b.test", port: 5000 }', "{ host: a.test, port: 5000 }")) as v:
        v.link.setblocking(False)
        sent, rest = 0, b""
        quiet = 0
        while quiet < 20 and sent < 60000:
            if not rest:
                v.stream += 1
                sent += 1
                rest = struct.pack("<HBBII", 0xb3e9, RESOLVE, 0, v.stream, 9) + b"\x03" + str16("x.none")
            try:
                n = v.link.send(rest)
                rest = rest[n:]
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.05)
        with open(f"/proc/{v.process.pid}/statm", encoding="ascii") as f:
            assert int(f.read().split()[1]) * 4096 < 64 << 20
        v.link.setblocking(True)
        left = sent - (1 if rest else 0)
        while left:
            kind, _stream, payload, _fd = v.frame()
            assert (kind, payload[0]) == (RESOLVED, 7)
            left -= 1
        if rest:
            v.link.sendall(rest)
            v.frame()
        assert v.resolve("a.test")[0] == "ok"

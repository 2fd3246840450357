"""The guest's network card and the certificate it is to trust, as IDENTITY says."""

import base64
import contextlib
import hashlib
import pathlib
import shutil
import socket
import statistics
import subprocess
import time

import guest
import netpeer
import pytest
import wire

CERT = "usr/local/share/ca-certificates/berm.crt"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
HOST_BUNDLE = pathlib.Path(BUNDLE)  # of this machine: as large as a guest's would be


@contextlib.contextmanager
def joined(boot, **kw):
    """A booted guest whose card is joined to a netpeer.Router: (guest, router)."""
    ours, theirs = socket.socketpair()
    with boot(net_fd=theirs.fileno(), **kw) as g:
        theirs.close()
        router = netpeer.Router(ours).start()
        yield g, router
    ours.close()
    router.thread.join(10)


def ok(peer, script):
    end, out, err = peer.sh(script)
    assert isinstance(end, wire.Exit) and end.value == 0, (script, end, out, err)
    return out.decode()


def test_without_a_card_there_is_no_network(boot):
    """A network for a machine that has no card is the host's mistake, and said."""
    with boot() as g:
        p = g.peer
        p.expect(wire.HELLO, 30)
        p.send(wire.HELLO_OK, payload=wire.struct.pack("<I", wire.VERSION))
        p.send(wire.IDENTITY, payload=wire.identity_payload(network={}))
        until = time.monotonic() + 10
        while not p.control:
            p.pump(until)
        assert p.control[0].type == wire.FATAL and b"no network card" in p.control[0].payload


def test_a_card_is_silent_until_the_identity_says_more(boot):
    with joined(boot) as (g, router):
        p = g.handshake().peer
        assert ok(p, "cat /sys/class/net/eth0/operstate").strip() == "up"
        assert "eth0" not in ok(p, "cat /proc/net/if_inet6 /proc/net/route")
        end, _, err = p.sh("ping -c 1 -W 5 100.96.0.1")
        assert end.value == 1 and b"nreachable" in err
        assert not router.counts and not router.wrong


def test_card_addresses_routes_and_names(boot):
    with joined(boot) as (g, router):
        p = g.handshake(network={}).peer
        assert ok(p, "cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address").split() == [
            "65520", "02:62:65:72:6d:02"]
        assert ok(p, "ip -4 -o addr show eth0").split()[3] == "100.96.0.2/30"
        six = ok(p, "cat /proc/net/if_inet6").splitlines()
        six = [line.split() for line in six if line.endswith("eth0")]
        # the one it was given, not tentative, and no address of its own making
        assert [(a, int(flags, 16) & 0x40) for a, _, _, _, flags, _ in six] == [
            ("fd6265726d0000000000000000000002", 0)]
        assert "default via 100.96.0.1 dev eth0" in ok(p, "ip route")
        assert "default via fd62:6572:6d00::1 dev eth0" in ok(p, "ip -6 route")
        assert ok(p, "cat /etc/resolv.conf") == "nameserver 100.96.0.1\n"
        ok(p, "ping -c 2 -W 5 100.96.0.1 && ping -c 2 -W 5 fd62:6572:6d00::1")
        assert router.counts["ping"] == router.counts["ping6"] == 2
        ok(p, "ping -c 1 -s 65000 -W 5 100.96.0.1")  # one frame of this size, each way
        p.sh("nslookup x.test 203.0.113.9")  # to anybody, by the router
        assert router.counts["ping"] == 3 and router.counts["udp"] > 0
        assert not router.wrong, router.wrong
        # nothing asks for a router, and nobody checks whether an address is taken
        assert router.counts["icmp6 133"] == 0


def test_a_new_identity_replaces_the_old(boot):
    with joined(boot) as (g, router):
        p = g.handshake(network={}).peer
        p.hold()
        p.held = None
        p.identity(epoch=2, network=dict(ip4="10.1.0.6", router4="10.1.0.5", dns4="10.1.0.9",
                                         prefix4=29, mtu=1400, prefix6=80, ip6="fd00::9",
                                         router6="fd00::8"))
        assert [line.split()[3] for line in ok(p, "ip -4 -o addr show eth0").splitlines()] == [
            "10.1.0.6/29"]
        assert ok(p, "ip route | grep -c default; ip -6 route | grep -c default").split() == ["1", "1"]
        assert "via 10.1.0.5" in ok(p, "ip route") and "via fd00::8" in ok(p, "ip -6 route")
        assert "fd6265726d" not in ok(p, "cat /proc/net/if_inet6")
        assert ok(p, "cat /etc/resolv.conf /sys/class/net/eth0/mtu") == "nameserver 10.1.0.9\n1400\n"
        p.hold()
        p.held = None
        p.identity(epoch=3, network=dict(prefix6=0))
        assert "00000000" in ok(p, "cat /proc/net/route")
        assert "eth0" not in ok(p, "cat /proc/net/if_inet6")


def test_what_root_did_to_its_card_ends_no_copy(boot):
    with joined(boot) as (g, router):
        p = g.handshake(network={}).peer
        ok(p, "ip addr flush dev eth0; ip link set eth0 down; ip link set eth0 name other;"
              "rm /etc/resolv.conf")
        p.hold()
        p.held = None
        p.identity(epoch=2, network={})
        p.ping()
        assert "nameserver" not in p.sh("cat /etc/resolv.conf 2>&1")[1].decode()


RESOLV = {
    "a file": lambda etc: (etc / "resolv.conf").write_text("nameserver 192.0.2.1\noptions edns0\n" * 9),
    "nothing": lambda etc: None,
    "a link to nowhere": lambda etc: (etc / "resolv.conf").symlink_to("../run/systemd/stub.conf"),
    "a link out": lambda etc: (etc / "resolv.conf").symlink_to("/proc/sys/kernel/hostname"),
    "a link to another": lambda etc: ((etc / "victim").write_text("kept\n"),
                                      (etc / "resolv.conf").symlink_to("victim")),
}


@pytest.mark.parametrize("kind", RESOLV)
def test_resolv_conf_of_any_image(boot, work, kind):
    root = guest.busybox_root(work / ("resolv-" + kind.replace(" ", "-")))
    RESOLV[kind](root / "etc")
    image = guest.squashfs(root, root.with_suffix(".sqfs"))
    with joined(boot, image=image) as (g, router):
        p = g.handshake(network={}, hostname="one").peer
        assert ok(p, "cat /etc/resolv.conf") == "nameserver 100.96.0.1\n"
        assert ok(p, "stat -c '%F %a' /etc/resolv.conf") == "regular file 644\n"
        assert ok(p, "cat /etc/hostname") == "one\n" == ok(p, "hostname")
        if kind == "a link to another":
            assert ok(p, "cat /etc/victim") == "kept\n"


# --- trust ---


def make_cert(folder, name):
    """(hash of the name, PEM)"""
    pem = folder / f"{name}.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null", "-out", str(pem),
                    "-subj", f"/CN=berm {name}", "-days", "2"], check=True,
                   stderr=subprocess.DEVNULL)
    out = subprocess.run(["openssl", "x509", "-noout", "-hash", "-in", str(pem)], check=True,
                         capture_output=True, text=True)
    return int(out.stdout, 16), pem.read_text()


@pytest.fixture(scope="session")
def certs(work):
    if not shutil.which("openssl"):
        pytest.skip("openssl is missing: apt install openssl")
    return [make_cert(work, name) for name in ("first", "second")]


@pytest.fixture(scope="session")
def debian_like(work):
    """An image with a bundle of 220 KB, and the links of a second one."""
    root = guest.busybox_root(work / "debian-like")
    (root / "etc/ssl/certs").mkdir(parents=True)
    text = HOST_BUNDLE.read_text() if HOST_BUNDLE.exists() else (
        "-----BEGIN CERTIFICATE-----\n" + ("QUJD" * 16 + "\n") * 24 +
        "-----END CERTIFICATE-----\n") * 130
    (root / "etc/ssl/certs/ca-certificates.crt").write_text(text)
    (root / "etc/ssl/cert.pem").symlink_to("certs/ca-certificates.crt")
    (root / "etc/pki/ca-trust/source/anchors").mkdir(parents=True)
    return guest.squashfs(root, root.with_suffix(".sqfs")), text


def blocks(text):
    return text.count("-----BEGIN CERTIFICATE-----")


def test_the_certificate_is_where_programs_look(boot, debian_like, certs):
    image, own = debian_like
    name_hash, pem = certs[0]
    with joined(boot, image=image) as (g, router):
        p = g.peer
        p.expect(wire.HELLO, 30)
        p.send(wire.HELLO_OK, payload=wire.struct.pack("<I", wire.VERSION))
        assert p.identity(network={}, trust=certs[0]) == ("/" + CERT, BUNDLE)
        assert ok(p, f"cat /{CERT}") == pem
        assert ok(p, "cat /etc/pki/ca-trust/source/anchors/berm.crt") == pem
        assert ok(p, f"cat /etc/ssl/certs/{name_hash:08x}.0") == pem
        got = ok(p, f"cat {BUNDLE}")
        assert got.startswith(own) and pem in got and blocks(got) == blocks(own) + 1
        assert ok(p, f"stat -c '%a %u %g' /{CERT} {BUNDLE}") == "644 0 0\n" * 2
        # the next life: another, and nothing left of the first
        p.hold()
        p.held = None
        assert p.identity(epoch=2, network={}, trust=certs[1]) == ("/" + CERT, BUNDLE)
        got = ok(p, f"cat {BUNDLE}")
        assert pem not in got and certs[1][1] in got and blocks(got) == blocks(own) + 1
        assert ok(p, f"cat /{CERT}").rstrip("\n") + "\n" == certs[1][1]  # as long as the one before
        assert ok(p, "cd /etc/ssl/certs; ls").split() == [f"{certs[1][0]:08x}.0", "ca-certificates.crt"]
        # and one without any
        p.hold()
        p.held = None
        assert p.identity(epoch=3, network={}) == ("", "")
        assert blocks(ok(p, f"cat {BUNDLE}")) == blocks(own)
        assert ok(p, f"ls /etc/ssl/certs; ls /usr/local/share/ca-certificates").split() == [
            "ca-certificates.crt"]


EDITS = {
    "replaced": "cat {b} >/tmp/x; mv /tmp/x {b}",
    "appended to": "echo '# mine' >>{b}",
    "shifted": "(echo '# mine'; cat {b}) >/tmp/x; cat /tmp/x >{b}",
    "cut short": "head -c 100000 {b} >/tmp/x; cat /tmp/x >{b}",
}


@pytest.mark.parametrize("how", EDITS)
def test_a_bundle_that_was_edited_gets_the_new_one(boot, debian_like, certs, how):
    image, own = debian_like
    with joined(boot, image=image) as (g, router):
        p = g.handshake(network={}, trust=certs[0]).peer
        ok(p, EDITS[how].format(b=BUNDLE))
        p.hold()
        p.held = None
        assert p.identity(epoch=2, network={}, trust=certs[1])[1] == BUNDLE
        got = ok(p, f"cat {BUNDLE}")
        assert certs[0][1] not in got and got.count(certs[1][1]) == 1
        if how in ("appended to", "shifted"):
            assert "# mine\n" in got
        if how != "cut short":
            assert blocks(got) == blocks(own) + 1
        assert not ok(p, "ls /etc/ssl/certs | grep new; true")


JAVA = "etc/ssl/certs/java/cacerts"


def java_store(*pems):
    """As keytool writes it, with the password "changeit"; the dates apart."""
    body = wire.struct.pack(">III", 0xfeedfeed, 2, len(pems))
    for pem in pems:
        der = base64.b64decode("".join(pem.splitlines()[1:-1]))
        body += wire.struct.pack(">IH4sQH5sI", 2, 4, b"berm", 0, 5, b"X.509", len(der)) + der
    return body + hashlib.sha1("changeit".encode("utf-16-be") + b"Mighty Aphrodite" + body).digest()


def test_java_finds_it_in_its_own_store(boot, work, certs):
    root = guest.busybox_root(work / "java")
    other = "opt/java/openjdk/lib/security/cacerts"
    for path, data in ((JAVA, java_store()), (other, b"no store of that kind, but one of PKCS #12")):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(data)

    def is_now(p, *pems):
        want = hashlib.sha256(java_store(*pems)).hexdigest()
        return ok(p, f"sha256sum </{JAVA}").split()[0] == want

    if shutil.which("keytool"):
        kept = work / "kept.jks"
        kept.write_bytes(java_store(certs[0][1]))
        said = subprocess.run(["keytool", "-list", "-keystore", str(kept), "-storepass", "changeit"],
                              check=True, capture_output=True, text=True).stdout
        assert "berm, " in said and "trustedCertEntry" in said
    with joined(boot, image=guest.squashfs(root, root.with_suffix(".sqfs"))) as (g, router):
        p = g.handshake(network={}, trust=certs[0]).peer
        assert is_now(p, certs[0][1])
        assert ok(p, f"cat /{other}").startswith("no store")
        for epoch, trust in ((2, certs[1]), (3, None)):
            p.hold()
            p.held = None
            p.identity(epoch=epoch, network={}, **({"trust": trust} if trust else {}))
            assert is_now(p, *([trust[1]] if trust else []))
        assert ok(p, f"ls /{JAVA}*; stat -c %a /{JAVA}").split() == [f"/{JAVA}", "644"]


def test_an_image_that_trusts_nobody(boot, certs):
    """There it is the only one, where most programs look."""
    with joined(boot) as (g, router):
        p = g.peer
        p.expect(wire.HELLO, 30)
        p.send(wire.HELLO_OK, payload=wire.struct.pack("<I", wire.VERSION))
        assert p.identity(network={}, trust=certs[0]) == ("/" + CERT, BUNDLE)
        assert blocks(ok(p, f"cat {BUNDLE}")) == 1


def test_what_is_no_file_is_left_alone(boot, work, certs):
    root = guest.busybox_root(work / "odd")
    (root / "etc/ssl/certs/ca-certificates.crt").mkdir(parents=True)
    (root / "etc/ssl/cert.pem").symlink_to("/dev/kmsg")
    (root / "usr/local").mkdir(parents=True)
    (root / "usr/local/share").symlink_to("/proc")
    image = guest.squashfs(root, root.with_suffix(".sqfs"))
    with joined(boot, image=image) as (g, router):
        p = g.peer
        p.expect(wire.HELLO, 30)
        p.send(wire.HELLO_OK, payload=wire.struct.pack("<I", wire.VERSION))
        assert p.identity(network={}, trust=certs[0]) == ("", "")
        assert "BEGIN CERT" not in g.console_text()


def test_what_a_network_and_a_certificate_cost(boot, debian_like, certs):
    """Told, not judged: the figures are in docs/internals/agent.md."""
    image, _ = debian_like
    with joined(boot, image=image) as (g, router):
        p = g.handshake().peer

        def took(**fields):
            before = time.perf_counter()
            p.identity(**fields)
            return (time.perf_counter() - before) * 1000

        kinds = {
            "no network": lambda n: {},
            "its network for the first time": lambda n: {"network": {}} if n == 0 else None,
            "the same network": lambda n: {"network": {}},
            "another network": lambda n: {"network": dict(ip4=f"10.0.0.{2 - n % 2}",
                                                          router4="10.0.0.3", prefix4=28)},
            "the same certificate": lambda n: {"trust": certs[0]},
            "another certificate": lambda n: {"trust": certs[n % 2]},
        }
        print()
        for name, fields in kinds.items():
            all_ms = [took(**f) for f in map(fields, range(20)) if f is not None]
            print(f"{name}: first {all_ms[0]:.2f} ms, then {statistics.median(all_ms):.2f} ms")

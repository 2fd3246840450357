"""The test world itself, without berm: each server is reached from where berm will run, and what
arrives is recorded."""

import json
import shutil

import pytest
from egress_world import packages, plan
from egress_world.world import World, missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")
PYTHON = "/usr/bin/python3"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world = World(folder)
    yield world
    world.close()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True)
def as_planned(world):
    yield
    world.reset()


def curl(world, *argv, code=0):
    got = world.host("curl", "-sS", "--max-time", "20", *argv)
    assert got.returncode == code, got.stderr
    return got.stdout


def python(world, script, *argv):
    got = world.host(PYTHON, "-c", script, *argv)
    assert got.returncode == 0, got.stderr
    return got.stdout


@pytest.mark.parametrize("host", ["api.world.test", "h2.world.test", "plain.world.test"])
def test_a_request_arrives_and_is_kept(world, host):
    mark = world.mark()
    scheme = "http" if host == "plain.world.test" else "https"
    got = json.loads(curl(world, f"{scheme}://{host}/echo?a=b", "-d", "hello", "-H", "X-Mark: here"))
    assert (got["method"], got["target"], got["body"]) == ("POST", "/echo?a=b", "hello")
    assert got["version"] == ("h2" if host.startswith("h2") else "HTTP/1.1")
    (request,) = world.requests(mark)
    assert request["body"]["data"] == b"hello" and request["host"] == host
    assert ["x-mark", "here"] in [[k.lower(), v] for k, v in request["headers"]]
    (seen,) = world.since(mark, "connection")
    assert seen["sni"] == (host if scheme == "https" else None)
    assert host.startswith("h2") or b"X-Mark: here" in seen["data"]["data"]
    port = 443 if scheme == "https" else 80
    assert {(p["what"], p.get("port")) for p in world.since(mark, "packet", to=seen["to"].rpartition(":")[0])} == {
        ("tcp", port)}


@pytest.mark.parametrize("path", ["bytes?n=100000", "chunked?n=100000", "nolength?n=100000"])
@pytest.mark.parametrize("host", ["api.world.test", "h2.world.test"])
def test_bodies(world, host, path):
    assert len(world.host("curl", "-sS", f"https://{host}/{path}", text=False).stdout) == 100000


@pytest.mark.parametrize("how", ["body", "header", "json", "gzip", "deflate", "sse", "split", "trailer"])
def test_what_it_is_told_it_tells(world, how):
    out = curl(world, "-i", "--compressed", "--raw" if how == "trailer" else "-s",
               f"https://api.world.test/reflect?as={how}", "-H", "Authorization: Bearer s3cr3t")
    assert "s3cr3t" in out


def test_early_hints_trailers_and_empty(world):
    assert "103 Early" in curl(world, "-i", "https://api.world.test/early")
    assert "x-checksum: abc" in curl(world, "--raw", "https://api.world.test/trailers")
    assert " 204 " in curl(world, "-i", "https://api.world.test/none")
    assert "alt-svc" in curl(world, "-i", "https://api.world.test/altsvc").lower()


def test_bad_certificates(world):
    for host in plan.BAD_CERTIFICATES:
        curl(world, f"https://{host}/", code=60)


def test_files_up_to_two_gigabytes(world):
    assert "content-length: 2147483648" in curl(world, "-I", "https://files.world.test/big").lower()
    assert len(curl(world, "--http1.1", "https://files.world.test/mega")) == 1 << 20
    assert len(curl(world, "-6", "http://files.world.test/mega")) == 1 << 20


def test_raw_servers(world):
    script = """
import socket, sys
def talk(port, send=b""):
    s = socket.create_connection((sys.argv[1], port), 10)
    s.sendall(send)
    try:
        return s.recv(100)
    except ConnectionResetError:
        return "reset"
print(talk(7, b"there"), talk(7002)[:4], talk(7003, b"x"), talk(7005), talk(7006)[:3])
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
u.settimeout(10)
u.sendto(b"ping", (sys.argv[1], 7))
print(u.recv(100))
"""
    assert python(world, script, plan.A4).splitlines() == [
        r"b'there' b'\x00\x01\x02\x03' reset b'' b'220'", "b'ping'"]
    curl(world, "http://refuses.world.test/", code=7)


def test_names(world):
    world.dns(**{
        "alias.world.test": {"CNAME": ["middle.world.test"]},
        "middle.world.test": {"CNAME": ["api.world.test"]},
        "flips.world.test": {"turns": [{"A": [plan.A4]}, {"A": ["10.0.0.1"]}]},
        "large.world.test": {"bulk": 200},
    })
    script = """
import socket, sys
for n in sys.argv[1:]:
    try:
        print(n, sorted({a[4][0] for a in socket.getaddrinfo(n, 80, socket.AF_INET)})[:3])
    except OSError as e:
        print(n, e.errno)
"""
    mark = world.mark()
    out = python(world, script, "alias.world.test", "x.wild.world.test", "x.y.wild.world.test", "gone.world.test",
                 "flips.world.test", "flips.world.test", "large.world.test")
    assert out.splitlines() == [
        f"alias.world.test ['{plan.A4}']", f"x.wild.world.test ['{plan.A4}']", "x.y.wild.world.test -2",
        "gone.world.test -2", f"flips.world.test ['{plan.A4}']", "flips.world.test ['10.0.0.1']",
        "large.world.test ['45.91.0.1', '45.91.0.10', '45.91.0.100']"]
    asked = world.since(mark, "dns")
    assert {e["transport"] for e in asked if e["name"] == "large.world.test"} == {"udp", "tcp"}


def test_a_websocket(world):
    mark = world.mark()
    out = python(world, """
import asyncio, websockets
async def main():
    async with websockets.connect("wss://api.world.test/ws") as ws:
        print(await ws.recv())
        await ws.send("x" * 70000)
        print(len(await ws.recv()))
asyncio.run(main())
""")
    assert out.splitlines() == ["welcome", "70000"]
    assert world.requests(mark)[0]["target"] == "/ws"


def test_git_with_a_token(world, tmp_path):
    good = f"https://x:{plan.TOKEN}@git.world.test"
    script = f"""
export HOME=$PWD GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t
git clone -q https://git.world.test/{packages.PUBLIC} one && cat one/README
git clone -q https://git.world.test/{packages.PRIVATE} two 2>/dev/null && exit 9
git clone -q {good}/{packages.PRIVATE} two
echo more >two/more; git -C two add .; git -C two commit -qm more
head -c 2000000 /dev/urandom >two/big; git -C two add .; git -C two commit -qm big
git -C two push -q origin main
git -C one commit --allow-empty -qm x
git -C one push -q 2>/dev/null && exit 8
git clone -q {good}/{packages.PRIVATE} three && cat three/more
"""
    got = world.host("bash", "-ec", f"cd {tmp_path}; {script}")
    assert (got.returncode, got.stdout) == (0, f"{packages.SAYS}\nmore\n"), got.stderr


def test_packages(world):
    page = curl(world, f"https://pypi.world.test/simple/{packages.NAME}/")
    assert f"{packages.NAME}-{packages.VERSION}-py3-none-any.whl#sha256=" in page
    about = json.loads(curl(world, f"https://npm.world.test/{packages.NAME}"))
    assert about["dist-tags"]["latest"] == packages.VERSION
    assert "Codename: test" in curl(world, "https://deb.world.test/dists/test/Release")


def test_grpc(world):
    out = python(world, """
import grpc, ssl
with open("/etc/ssl/certs/ca-certificates.crt", "rb") as f:
    c = grpc.ssl_channel_credentials(f.read())
ch = grpc.secure_channel("grpc.world.test:443", c)
many, both = ch.unary_stream("/test.Echo/Many"), ch.stream_stream("/test.Echo/Both")
print(ch.unary_unary("/test.Echo/Unary")(b"x", timeout=20), list(many(b"y", timeout=20))[-1])
print(list(both(iter([b"1", b"2"]), timeout=20)))
""")
    assert out.splitlines() == ["b'unary:x' b'4:y'", "[b'both:1', b'both:2']"]


def test_what_goes_astray_is_seen(world):
    """Also what is for addresses that nobody has, and for those no sandbox may reach."""
    mark = world.mark()
    got = world.host(PYTHON, "-c", """
import socket
for a in ("169.254.169.254", "10.0.0.1", "fd00:ec2::254"):
    socket.create_connection((a, 80), 10).close()
for family, a in ((socket.AF_INET, "45.99.1.2"), (socket.AF_INET6, "2a0a:99::1")):
    s = socket.socket(family)
    s.setblocking(False)
    s.connect_ex((a, 81))
    u = socket.socket(family, socket.SOCK_DGRAM)
    u.sendto(b"x", (a, 82))
""")
    assert got.returncode == 0, got.stderr
    seen = {(p["what"], p["to"], p["port"]) for p in world.since(mark, "packet") if "port" in p}
    assert seen >= {("tcp", "169.254.169.254", 80), ("tcp", "10.0.0.1", 80), ("tcp", "fd00:ec2::254", 80),
                    ("tcp", "45.99.1.2", 81), ("udp", "45.99.1.2", 82), ("tcp", "2a0a:99::1", 81),
                    ("udp", "2a0a:99::1", 82)}


def test_nothing_of_it_is_on_the_machine(world):
    """The host's own namespace has none of its addresses, and the machine's files are as they were."""
    with open("/etc/resolv.conf", encoding="utf-8") as f:
        assert plan.DNS1 not in f.read()
    with open("/proc/net/fib_trie", encoding="utf-8") as f:
        assert plan.BERM4 not in f.read()

"""PUT and GET of files and trees."""

import os

import pytest
import wire
from wire import ENTRY_DIR, ENTRY_END, ENTRY_FILE, ENTRY_LINK, put_entry


def tree(*entries):
    return b"".join(entries) + put_entry(ENTRY_END)


def one_file(data, **kw):
    return tree(put_entry(ENTRY_FILE, data=data, **kw))


def test_a_file_there_and_back(peer):
    data = os.urandom(1 << 20)
    end = peer.put("/tmp/file", one_file(data, mode=0o4751, uid=1000, gid=44, mtime_s=1234567890,
                                         mtime_ns=5))
    assert end.code == 0, end
    assert peer.run("stat", "-c", "%a %u %g %Y", "/tmp/file")[1] == b"4751 1000 44 1234567890\n"
    end, out = peer.get("/tmp/file")
    (e,) = wire.parse_entries(out)
    assert end.code == 0 and e.kind == ENTRY_FILE and e.path == b"" and e.data == data
    assert (e.mode, e.uid, e.gid, e.mtime_s, e.mtime_ns) == (0o4751, 1000, 44, 1234567890, 5)


def test_a_tree_there_and_back(peer):
    sent = [
        put_entry(ENTRY_DIR, mode=0o750, mtime_s=1000),
        put_entry(ENTRY_DIR, b"sub", mode=0o700, mtime_s=2000),
        put_entry(ENTRY_FILE, b"sub/empty", data=b""),
        put_entry(ENTRY_FILE, b"sub/\xff\n", data=b"odd name"),
        put_entry(ENTRY_DIR, b"sub/deep", mtime_s=3000),
        put_entry(ENTRY_LINK, b"sub/deep/up", mode=0o777, target=b"../../.."),
        put_entry(ENTRY_FILE, b"zlast", data=b"z" * 100000),
    ]
    assert peer.put("/tmp/tree", tree(*sent)).code == 0
    end, out = peer.get("/tmp/tree")
    assert end.code == 0
    got = sorted(wire.parse_entries(out), key=lambda e: e.path)
    want = sorted(wire.parse_entries(tree(*sent)), key=lambda e: e.path)
    assert [(e.path, e.kind, e.mode, e.data, e.target, e.mtime_s) for e in got] == \
           [(e.path, e.kind, e.mode, e.data, e.target, e.mtime_s) for e in want]


def test_owner_of_a_put(peer):
    assert peer.put("/tmp/owned", tree(put_entry(ENTRY_DIR, mode=0o755, uid=5, gid=6),
                                       put_entry(ENTRY_FILE, b"f", uid=7)), user="dev").code == 0
    out = peer.sh("stat -c '%u %g' /tmp/owned /tmp/owned/f")[1]
    assert out == b"1000 1000\n1000 1000\n"
    end = peer.put("/tmp/owned", one_file(b""), user="nobody-here")
    assert end.code == 2 and end.stage == wire.AT_USER


def test_put_merges_and_replaces(peer):
    peer.sh("mkdir -p /tmp/m/keep; echo old > /tmp/m/f; ln -s /etc/passwd /tmp/m/l")
    assert peer.put("/tmp/m", tree(put_entry(ENTRY_DIR, mode=0o755),
                                   put_entry(ENTRY_FILE, b"f", data=b"new"),
                                   put_entry(ENTRY_FILE, b"l", data=b"no link"))).code == 0
    out = peer.sh("cat /tmp/m/f /tmp/m/l; ls /tmp/m; head -c 4 /etc/passwd")[1]
    assert out == b"newno linkf\nkeep\nl\nroot"


@pytest.mark.parametrize("path,stream,code,stage", [
    ("/no/parent/x", one_file(b"x"), 2, wire.AT_PATH),
    ("relative", one_file(b"x"), 22, wire.AT_PATH),
    ("/tmp", one_file(b"x"), 21, wire.AT_PATH),
    ("/etc/passwd", tree(put_entry(ENTRY_DIR)), 20, wire.AT_PATH),
    ("/etc/passwd/x", one_file(b"x"), 20, wire.AT_PATH),
    ("/tmp/..", tree(put_entry(ENTRY_DIR)), 22, wire.AT_PATH),
    ("/tmp/bad1", b"\x09garbage", 74, wire.AT_SYSTEM),
    ("/tmp/bad2", put_entry(ENTRY_FILE, data=b"abc")[:-1], 74, wire.AT_SYSTEM),
    ("/tmp/bad3", put_entry(ENTRY_END), 74, wire.AT_SYSTEM),
    ("/tmp/bad4", tree(put_entry(ENTRY_DIR), put_entry(ENTRY_FILE, b"../up")), 74, wire.AT_SYSTEM),
    ("/tmp/bad5", tree(put_entry(ENTRY_FILE), put_entry(ENTRY_FILE, b"in-a-file")), 74,
     wire.AT_SYSTEM),
    ("/tmp/bad6", tree(put_entry(ENTRY_DIR), put_entry(ENTRY_FILE, b"no/parent")), 2, wire.AT_PATH),
    ("/tmp/bad7", tree(put_entry(ENTRY_DIR), put_entry(ENTRY_LINK, b"l", target=b"/etc"),
                       put_entry(ENTRY_FILE, b"l/through")), 40, wire.AT_PATH),
])
def test_put_refuses(peer, path, stream, code, stage):
    end = peer.put(path, stream)
    assert (end.code, end.stage) == (code, stage), end
    assert peer.run("ls", "/etc/through", "/tmp/up")[1] == b""


def test_get_refuses_and_follows_when_asked(peer):
    end, _ = peer.get("/no/such")
    assert end.code == 2 and end.stage == wire.AT_PATH
    assert peer.get("relative")[0].code == 22
    assert peer.get("/dev/null")[0].code == 22
    peer.sh("ln -sf /etc/passwd /tmp/link; mkfifo /tmp/fifo; mkdir /tmp/d; mkfifo /tmp/d/fifo")
    (e,) = wire.parse_entries(peer.get("/tmp/link")[1])
    assert e.kind == ENTRY_LINK and e.target == b"/etc/passwd"
    (e,) = wire.parse_entries(peer.get("/tmp/link", follow=True)[1])
    assert e.kind == ENTRY_FILE and e.data.startswith(b"root:")
    assert peer.get("/tmp/fifo")[0].code == 22
    assert [e.path for e in wire.parse_entries(peer.get("/tmp/d")[1])] == [b""]
    peer.sh("rm -r /tmp/fifo /tmp/d")


def test_get_waits_for_credit_and_a_reset_ends_it(peer):
    peer.sh("dd if=/dev/zero of=/tmp/large bs=1M count=3")
    s = peer.open(wire.GET, wire.file_payload("/tmp/large"), auto_credit=False)
    s.wait_for(lambda s: len(s.stdout) == wire.WINDOW)
    peer.ping()
    assert len(s.stdout) == wire.WINDOW
    s.reset()
    end, out = peer.get("/tmp/large")
    assert end.code == 0 and len(out) > 3 << 20
    peer.sh("rm /tmp/large")

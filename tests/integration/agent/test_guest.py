"""The guest as a whole: boot, identity, limits, and its end."""

import os
import struct
import time
import uuid

import guest
import pytest
import wire


def test_hello_and_mounts(shared, peer):
    mounts = peer.run("cat", "/proc/mounts")[1].decode()
    for at in ("/", "/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/run",
               "/sys/fs/cgroup"):
        assert f" {at} " in mounts, at
    assert "overlay / overlay rw" in mounts and "volatile" in mounts
    out = peer.sh("ping -c1 -W1 127.0.0.1 >/dev/null && echo up; readlink /dev/fd; readlink /dev/stdin;"
                  "stat -c %a /tmp /dev/shm; cat /proc/self/cgroup")[1].decode().split()
    assert out[0] == "up" and out[1:3] == ["/proc/self/fd", "/proc/self/fd/0"]
    assert out[3:5] == ["1777", "1777"] and out[5].startswith("0::/workload/e")
    assert "warning" not in shared.console_text() and "mount" not in shared.console_text()


def identity_of(peer):
    out = peer.sh("hostname; cat /etc/hostname /etc/machine-id /var/lib/dbus/machine-id; date +%s;"
                  "head -c 32 /dev/urandom | hexdump -ve '1/1 \"%02x\"'; echo;"
                  "cat /proc/sys/kernel/random/boot_id; grep 127.0.1.1 /etc/hosts")[1]
    return out.decode().split("\n")


def test_identity(boot):
    with boot(journal=True) as g:
        g.handshake(hostname="first", machine_id=bytes(range(16)))
        p = g.peer
        first = identity_of(p)
        assert first[0] == first[1] == "first" and first[2] == first[3] == bytes(range(16)).hex()
        assert abs(int(first[4]) - time.time()) < 5 and first[7] == "127.0.1.1\tfirst"
        # at rest, with nothing running but what the template keeps
        p.sh("sleep 1000 >/dev/null 2>&1 &")
        s = p.exec(["sleep", "0.4"])
        s.wait_for(lambda s: s.started)
        p.send(wire.QUIESCE)
        p.expect(wire.QUIESCE_OK, 5)
        assert s.end is not None  # it waited for the stream
        held = p.exec(["cat"], flags=wire.STDIN)
        held.wait_for(lambda s: s.started)
        # the next life: another epoch, streams of the old one are gone
        p.streams.clear()
        p.identity(epoch=2, hostname="second-life", machine_id=b"\xfe" * 16,
                   realtime_ns=2000000000 * 10**9, pids_max=40, memory_max=64 << 20)
        assert p.stats().streams == 0
        second = identity_of(p)
        assert second[:2] == ["second-life"] * 2 and second[2:4] == ["fe" * 16] * 2
        assert 0 <= int(second[4]) - 2000000000 < 5 and second[5] != first[5]
        limits = p.sh("cd /sys/fs/cgroup/workload; cat pids.max memory.max")[1].split()
        assert limits == [b"41", str(64 << 20).encode()]  # one for the child that waits
        assert p.sh("pidof sleep")[1] == b""  # what warm-up left behind did not survive QUIESCE


BOOT_ID = "cat /proc/sys/kernel/random/boot_id; grep -c boot_id /proc/mounts"


def test_boot_id_is_drawn_after_warming_up(boot):
    """The kernel draws it once, at the first read. What a warm-up command reads is another one."""
    with boot() as g:
        g.handshake()
        p = g.peer
        warm = [p.sh(BOOT_ID, flags=wire.WARM)[1].split() for _ in range(2)]
        assert warm[0] == warm[1] and warm[0][1] == b"1"
        p.send(wire.QUIESCE)
        p.expect(wire.QUIESCE_OK, 5)
        p.identity(epoch=2)
        own = [p.sh(BOOT_ID)[1].split() for _ in range(2)]
        assert own[0] == own[1] and own[0][1] == b"0"  # nothing lies over it any more
        assert own[0][0] != warm[0][0]
        for text in (own[0][0], warm[0][0]):
            assert uuid.UUID(text.decode()).version == 4
        assert p.sh("ls -A /run")[1] == b""


def test_equal_entropy_is_not_equal_output(boot):
    """The pool mixes in what it gets; it is not replaced by it."""
    seen = set()
    for _ in range(2):
        with boot() as g:
            g.handshake(entropy=b"\5" * 64)
            seen.add(g.peer.sh("head -c 16 /dev/urandom | md5sum")[1])
    assert len(seen) == 2


@pytest.fixture(scope="module")
def limited(boot):
    with boot(memory_mib=128, scratch_mib=24) as g:
        yield g.handshake(pids_max=48)


def test_out_of_memory(limited):
    p = limited.peer
    p.events.clear()
    end, _, _ = p.run("/bin/sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=100M count=1", deadline_s=60)
    assert (end.signaled, end.value) == (1, 9)
    assert [(e.kind, e.killed) for e in p.events] == [(wire.EVENT_OOM, 1)]
    assert p.stats().oom_kills >= 1
    p.events.clear()
    end, _, _ = p.sh("dd if=/dev/zero of=/dev/null bs=100M count=1; echo $?; exit 5", deadline_s=60)
    assert end.value == 5  # only the hog died of it
    assert [(e.kind, e.killed) for e in p.events] == [(wire.EVENT_OOM, 0)]
    assert p.run("true")[0].value == 0


def test_a_refused_fork_is_told_and_kills_nothing(limited):
    p = limited.peer
    p.events.clear()
    before = p.stats().pids_refused
    p.sh("i=0; while [ $i -lt 60 ]; do sleep 3 & i=$((i+1)); done; true", deadline_s=30)
    p.sh("killall sleep")
    refused = p.stats().pids_refused
    assert refused > before
    assert [(e.kind, e.killed, e.count) for e in p.events] == [(wire.EVENT_PIDS, 0, refused)]
    p.events.clear()
    assert p.run("true")[0].value == 0 and p.events == []  # told once


def test_a_fork_bomb_ends(limited):
    p = limited.peer
    p.events.clear()
    bystander = p.exec(["sleep", "1000"])
    bystander.wait_for(lambda s: s.started)
    p.sh("echo 'sh /tmp/bomb & sh /tmp/bomb & sh /tmp/bomb' > /tmp/bomb")
    s = p.exec(["/bin/sh", "-c", "sh /tmp/bomb 2>/dev/null & exec sleep 1000"])
    end = s.wait(60)
    assert (end.signaled, end.value) == (1, 9)
    assert (p.events[0].kind, p.events[0].killed) == (wire.EVENT_PIDS, 1)
    assert p.events[0].count > 100
    assert bystander.wait(10).value == 9
    time.sleep(0.2)
    st = p.stats()
    assert st.pids == 0 and st.streams == 0
    assert p.run("true")[0].value == 0


def test_a_full_disk_is_said_before_the_exit(limited):
    p = limited.peer
    p.events.clear()
    end, _, err = p.sh("dd if=/dev/zero of=/var/fill bs=64k", deadline_s=60)
    assert end.value == 1 and b"No space left" in err
    assert [e.kind for e in p.events] == [wire.EVENT_DISK]
    end = p.put("/var/more", wire.put_entry(wire.ENTRY_FILE, data=b"x" * 300000) + b"\0")
    assert end.code == 28
    p.sh("rm -f /var/fill /var/more")
    p.events.clear()
    assert p.run("true")[0].value == 0 and p.events == []


def test_poweroff_lets_the_workload_end(boot):
    with boot() as g:
        p = g.handshake().peer
        s = p.exec(["/bin/sh", "-c", "trap 'echo bye; exit 4' TERM; echo ready; "
                    "while :; do sleep 0.05; done"])
        s.wait_for(lambda s: s.stdout)
        start = time.monotonic()
        p.send(wire.POWEROFF, payload=struct.pack("<I", 5000))
        end = s.wait(5)
        assert end.value == 4 and s.stdout == b"ready\nbye\n"
        assert g.wait_gone() == 0 and time.monotonic() - start < 4


def test_poweroff_does_not_wait_for_the_deaf(boot):
    with boot() as g:
        p = g.handshake().peer
        s = p.exec(["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"])
        s.wait_for(lambda s: s.stdout)
        start = time.monotonic()
        p.send(wire.POWEROFF, payload=struct.pack("<I", 300))
        end = s.wait(5)
        assert (end.signaled, end.value) == (1, 9)
        assert g.wait_gone() == 0 and 0.3 < time.monotonic() - start < 4


def expect_end(g, type_, *words):
    """The guest says why, in one frame of that type, and is gone."""
    until = time.monotonic() + 30
    while not any(f.type == type_ for f in g.peer.control):
        g.peer.pump(until)
    f = next(f for f in g.peer.control if f.type == type_)
    text = wire.take_str16(f.payload, 0)[0].decode()
    for word in words:
        assert word in text
    assert g.wait_gone() == 0


def test_another_version_is_refused(boot):
    with boot() as g:
        g.peer.expect(wire.HELLO, 30)
        g.peer.send(wire.HELLO_OK, payload=struct.pack("<I", 9))
        expect_end(g, wire.REFUSE, f"version {wire.VERSION}", "version 9")


@pytest.mark.parametrize("garbage", [
    os.urandom(4096),
    wire.frame(wire.IDENTITY_OK),  # an agent's frame
    wire.frame(wire.DATA, 1, wire.IN, payload=b"")[:-4] + struct.pack("<I", 1 << 30),
    wire.frame(wire.IDENTITY, payload=wire.identity_payload(hostname="bad name")),
])
def test_garbage_from_the_host_ends_the_guest(boot, garbage):
    with boot() as g:
        g.handshake()
        g.peer.send_raw(garbage)
        expect_end(g, wire.REFUSE, "host sent")


def test_a_guest_without_disks_says_so(boot):
    with boot(disks=False) as g:
        expect_end(g, wire.FATAL, "vda")


def test_an_image_that_is_no_file_system_says_so(boot, work):
    bad = work / "bad.sqfs"
    bad.write_bytes(b"\0" * (1 << 20))
    with boot(image=bad) as g:
        expect_end(g, wire.FATAL, "mount the image")


def test_a_weird_image_boots(boot, work):
    root = work / "weird"
    (root / "bin").mkdir(parents=True)
    guest.shutil.copy("/bin/busybox", root / "bin/busybox")
    (root / "dev").symlink_to("/nowhere")
    (root / "proc").write_text("a file")
    (root / "run").symlink_to("bin")
    (root / "etc").symlink_to("/bin")
    image = guest.squashfs_plain(root, work / "weird.sqfs")
    with boot(image=image) as g:
        p = g.handshake().peer
        box = "/bin/busybox"
        out = p.run(box, "sh", "-c", f"{box} ls -d /dev/null /proc/1; {box} ls /bin /run")[1]
        assert out.split() == [b"/dev/null", b"/proc/1", b"/bin:", b"busybox", b"/run:"]
        assert p.run(box, "id", "-u", user="12:13")[1] == b"12\n"
        assert p.run(box, "id", "-u", user="someone")[0].stage == wire.AT_USER

"""HOLD: a guest at rest between two frames, and the two ways on from there."""

import hashlib
import struct
import time

import pytest
import wire

COUNTER = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done"
QUIET_S = 0.4  # of silence, in which a counter would have said twenty numbers


def quiet(p, seconds=QUIET_S):
    with pytest.raises(wire.Timeout):
        p.pump(time.monotonic() + seconds)


def numbers(s):
    return [int(n) for n in s.stdout.split()]


def counting(p):
    s = p.exec(["/bin/sh", "-c", COUNTER])
    s.wait_for(lambda s: len(s.stdout) > 20)
    return s


def test_nothing_comes_while_it_is_held(peer):
    s = counting(peer)
    peer.hold()
    said = len(s.stdout)
    quiet(peer)
    assert len(s.stdout) == said
    peer.release()
    s.wait_for(lambda s: len(s.stdout) > said + 50)
    got = numbers(s)
    assert got == list(range(len(got)))
    s.signal(9)
    s.wait()


def test_again_and_again_during_a_flood(peer):
    """Not a byte is lost or doubled, and credit stays in step.

    fullblock, because a read of /dev/zero that the freezer falls into returns what it has.
    """
    blocks = 400
    s = peer.exec(["/bin/sh", "-c", f"dd if=/dev/zero bs=65536 count={blocks} iflag=fullblock"
                                    " 2>/dev/null | tr '\\0' q; echo end >&2"])
    for _ in range(15):
        peer.hold(20)
        peer.release()
        until = time.monotonic() + 0.1
        while s.end is None and time.monotonic() < until:
            try:
                peer.pump(until)
            except wire.Timeout:
                break
    assert s.wait(60).value == 0
    assert s.stdout == b"q" * (blocks << 16) and s.stderr == b"end\n"


def test_input_waits_for_the_release(peer):
    s = peer.exec(["md5sum"], flags=wire.STDIN)
    s.wait_for(lambda s: s.started)
    data = bytes(range(256)) * 4096
    s.write(data[: len(data) // 2])
    peer.hold(20)
    quiet(peer, 0.1)
    peer.release()
    s.write(data[len(data) // 2 :])
    s.close_input()
    assert s.wait().value == 0
    assert s.stdout.split()[0].decode() == hashlib.md5(data).hexdigest()


def test_a_copy_of_files_goes_on(peer):
    size = 8 << 20
    peer.sh(f"dd if=/dev/urandom of=/root/big bs=1M count={size >> 20} 2>/dev/null")
    want = peer.sh("md5sum < /root/big")[1].split()[0].decode()
    s = peer.open(wire.GET, wire.file_payload("/root/big"))
    for _ in range(5):
        peer.hold(20)
        peer.release()
    end = s.wait(60)
    assert end.code == 0
    (entry,) = wire.parse_entries(s.stdout)
    assert hashlib.md5(bytes(entry.data)).hexdigest() == want
    peer.sh("rm /root/big")


def test_the_clock_is_set_at_the_release(peer):
    peer.hold()
    peer.release(2000000000 * 10**9)
    assert 0 <= int(peer.sh("date +%s")[1]) - 2000000000 < 10
    peer.hold()
    peer.release()
    assert abs(int(peer.sh("date +%s")[1]) - time.time()) < 5


def test_a_command_that_ends_at_that_moment(peer):
    """Its EXIT comes before HOLD_OK or after the release, never between."""
    for ms in range(0, 60, 4):
        s = peer.exec(["/bin/sh", "-c", f"sleep 0.0{ms:02}; exit 3"])
        s.wait_for(lambda s: s.started)
        peer.hold(20)
        ended = s.end
        quiet(peer, 0.08)
        assert s.end is ended
        peer.release()
        assert s.wait().value == 3
        peer.streams.clear()


def test_release_is_answered_in_any_case(peer):
    peer.release()
    peer.hold()
    peer.release()
    peer.release()


@pytest.mark.parametrize("frame", [
    (wire.PING, 0, 0, b"12345678"), (wire.HOLD, 0, 0, b""), (wire.STATS, 0, 0, b""),
    (wire.POWEROFF, 0, 0, struct.pack("<I", 100)),
    (wire.EXEC, 9, 0, wire.exec_payload(["true"])), (wire.CREDIT, 1, wire.OUT, struct.pack("<I", 1)),
])
def test_a_host_that_speaks_meanwhile_ends_the_guest(boot, frame):
    with boot() as g:
        p = g.handshake().peer
        p.hold()
        p.send(*frame)
        until = time.monotonic() + 10
        while not any(f.type == wire.REFUSE for f in p.control):
            p.pump(until)
        assert g.wait_gone() == 0


# --- a copy: it hears IDENTITY with a new epoch, and never RELEASE ---


def renew(p, keep=0, epoch=2, **fields):
    """What the host of a copy does: only the kept stream is known to it. Returns that."""
    p.held = None
    p.streams.clear()
    p.epoch = epoch
    kept = wire.Stream(p, keep)
    kept.credit = 0  # told by the agent
    if keep:
        p.streams[keep] = kept
    p.next_id = keep + 1
    p.identity(keep_stream=keep, **fields)
    return kept


@pytest.fixture
def guest(boot):
    with boot() as g:
        yield g.handshake(hostname="parent").peer


def test_the_kept_command_goes_on_in_the_next_epoch(guest):
    p = guest
    s = counting(p)
    p.hold()
    said = numbers(s)
    kept = renew(p, s.id, hostname="child")
    kept.wait_for(lambda s: len(s.stdout) > 200)
    assert kept.credit == wire.WINDOW
    # the first number may be the rest of one that was half said
    assert numbers(kept)[1:] == list(range(said[-1] + 2, said[-1] + 1 + len(numbers(kept))))
    out = p.sh("hostname; cat /etc/hostname; grep -c child /etc/hosts")[1]
    assert out.split() == [b"child", b"child", b"1"]
    kept.signal(15)
    assert kept.wait().value == 15


def test_it_adopts_before_anything_runs(guest):
    """The clock the workload sees never goes from the old life's time into the new one's."""
    p = guest
    s = p.exec(["/bin/sh", "-c", "while :; do date +%s; done"])
    s.wait_for(lambda s: len(s.stdout) > 30)
    p.hold()
    kept = renew(p, s.id, realtime_ns=2000000000 * 10**9)
    kept.wait_for(lambda s: len(s.stdout) > 100)
    times = numbers(kept)
    # one `date` may have been done with its clock, and not with its output, when it was frozen
    assert all(t >= 2000000000 for t in times[1:]), times


def test_all_other_streams_are_forgotten(guest):
    p = guest
    s = counting(p)
    other = p.exec(["/bin/sh", "-c", "trap 'echo got it > /tmp/pipe; exit' PIPE; while sleep 0.02; do "
                                     "echo x; done"])
    reader = p.exec(["/bin/sh", "-c", "cat; echo $? > /tmp/eof; sleep 1000"], flags=wire.STDIN)
    copy = p.open(wire.PUT, wire.file_payload("/root/half"))
    copy.write(wire.put_entry(wire.ENTRY_FILE, data=b"x" * 1000)[:500])
    for one in (other, reader):
        one.wait_for(lambda s: s.started)
    p.hold()
    kept = renew(p, s.id)
    kept.wait_for(lambda s: s.stdout)
    assert p.stats().streams == 1
    script = "for i in $(seq 100); do [ -s /tmp/pipe -a -s /tmp/eof ] && break; sleep 0.05; done; cat /tmp/eof"
    # what they see is what they would see of a caller who left: an end of input, or SIGPIPE
    assert p.sh(script)[1] in (b"0\n", b"141\n")
    # a copy is cut short, as if its caller had been killed: what had come by then is there
    assert p.sh("head -c 1000 /root/half | tr -d x")[1] == b""


def test_outputs_that_have_ended_are_told_again(guest):
    p = guest
    s = p.exec(["/bin/sh", "-c", "exec >&-; while sleep 0.02; do echo on >&2; done"])
    s.wait_for(lambda s: wire.OUT in s.eof and s.stderr)
    p.hold()
    kept = renew(p, s.id)
    kept.wait_for(lambda s: s.eof == {wire.OUT} and s.stderr)
    kept.signal(9)
    kept.wait()


def test_input_that_waits_in_the_guest_is_in_the_copy(guest):
    """What the command had not read yet, it reads; credit is the window less that."""
    p = guest
    s = p.exec(["/bin/sh", "-c", "sleep 1; md5sum"], flags=wire.STDIN)
    s.wait_for(lambda s: s.started)
    data = bytes(range(256)) * 800
    s.write(data)
    p.hold()
    kept = renew(p, s.id)
    first = kept.credit
    p.pump_ready()
    more = b"and this as well" * 100
    kept.wait_for(lambda s: s.credit > 0)
    assert first <= wire.WINDOW
    kept.write(more)
    kept.close_input()
    assert kept.wait().value == 0
    assert kept.stdout.split()[0].decode() == hashlib.md5(data + more).hexdigest()


def test_a_terminal_lives_on(guest):
    p = guest
    s = p.exec(["/bin/sh"], flags=wire.TTY | wire.STDIN, rows=20, cols=60)
    s.write("echo $((40+2))\n")
    s.wait_for(lambda s: b"42" in s.stdout)
    p.hold()
    kept = renew(p, s.id)
    kept.wait_for(lambda s: s.credit > 0)
    kept.resize(30, 70)
    kept.write("stty size; exit 6\n")
    assert kept.wait().value == 6
    assert b"30 70" in kept.stdout and wire.ERR not in kept.eof


def test_a_command_that_is_not_there_is_said_to_be_gone(guest):
    p = guest
    p.hold()
    kept = renew(p, 7)
    assert kept.wait() == 3  # ESRCH
    assert p.run("true")[0].value == 0


def test_without_a_command_to_keep(guest):
    p = guest
    s = counting(p)
    p.hold()
    renew(p, 0)
    assert p.stats().streams == 0
    assert p.run("true")[0].value == 0
    assert s.end is None


def test_a_copy_of_a_copy(guest):
    p = guest
    s = counting(p)
    for epoch in range(2, 6):
        p.hold()
        s = renew(p, s.id, epoch=epoch, hostname=f"life-{epoch}")
        s.wait_for(lambda s: len(numbers(s)) > 5)
        assert p.sh("hostname")[1] == f"life-{epoch}\n".encode()


def test_identity_of_the_same_epoch_does_not_end_a_hold(guest):
    p = guest
    p.hold()
    p.send(wire.IDENTITY, payload=wire.identity_payload())
    until = time.monotonic() + 10
    while not any(f.type == wire.REFUSE for f in p.control):
        p.pump(until)


def test_random_numbers_differ_from_the_twins(guest):
    """Equal entropy is a thing no host does; what is mixed into the pool is the kernel's own."""
    p = guest
    draw = "while :; do head -c 8 /dev/urandom | hexdump -ve '1/1 \"%02x\"'; echo; done"
    s = p.exec(["/bin/sh", "-c", draw])
    s.wait_for(lambda s: len(s.stdout) > 100)
    p.hold()
    kept = renew(p, s.id, entropy=bytes(range(7, 71)))
    kept.wait_for(lambda k: len(k.stdout) > 400)
    seen = s.stdout.split() + kept.stdout.split()[1:]
    assert len(set(seen)) == len(seen)


def test_hosts_that_somebody_wrote_stay(guest):
    p = guest
    p.sh("echo 10.0.0.9 database >> /etc/hosts")
    p.hold()
    renew(p, 0, hostname="child")
    hosts = p.sh("cat /etc/hosts; hostname; cat /etc/hostname")[1].decode()
    assert "10.0.0.9 database" in hosts and hosts.endswith("child\nchild\n")


def test_a_mount_over_a_name_is_left_alone(guest):
    """Whoever serves it may be frozen: nothing there is opened, so nobody is waited for."""
    p = guest
    p.sh("touch /tmp/mine && mount --bind /tmp/mine /etc/hosts && echo own > /etc/hosts")
    p.hold()
    renew(p, 0, hostname="child")
    assert p.sh("cat /etc/hosts; hostname")[1] == b"own\nchild\n"

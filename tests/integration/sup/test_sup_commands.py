"""Commands that are slow, broken, many or suddenly gone: they harm nobody but themselves."""

import contextlib
import os
import resource
import signal
import socket
import struct
import subprocess
import time

import pytest
import sandboxes
import suptest
import wire

FLOOD = """
start()
part = frame(DATA, 1, OUT, b'x' * SIZE) * (65536 // SIZE)
sent = 0
while True:
    while sent + 65536 <= 262144 + granted:
        send(part)
        sent += 65536
    granted += struct.unpack('<I', receive(CREDIT)[3])[0]
"""


def flood(size):
    """An agent that writes as much as credit allows, in frames of that size."""
    return f"SIZE = {size}; granted = 0\n" + FLOOD


def sockets(pid):
    links = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
    return sum(link.startswith("socket:") for link in links)


def gone(pid):
    return not os.path.exists(f"/proc/{pid}")


# --- the caller ---


def test_a_caller_that_vanishes_while_nothing_is_read(sup):
    """Its stdin waits for credit that never comes, so its connection is not read from."""
    with sup.caller("start(); mark('mark-on'); silent()", stdin=open("/dev/zero", "rb")) as proc:
        sup.marked("mark-on")
        pid = sup.supervisor()
        time.sleep(0.3)
        assert suptest.busy(pid) < 0.2
        proc.kill()
        sandboxes.wait_for("the supervisor ended", lambda: gone(pid), 3)


VANISH = {
    "before HELLO": "mark('mark-on'); silent()",
    "before IDENTITY_OK": "send(hello()); receive(IDENTITY); mark('mark-on'); silent()",
    "before EXEC_OK": "boot(); receive(EXEC); mark('mark-on'); silent()",
    "while it is idle": "start(); mark('mark-on'); silent()",
    "while it writes": flood(1000).replace("part =", "mark('mark-on'); part ="),
}


@pytest.mark.parametrize("name", VANISH)
def test_a_caller_that_vanishes(sup, name):
    with sup.caller(VANISH[name]) as proc:
        sup.marked("mark-on")
        pid = sup.supervisor()
        proc.kill()
        sandboxes.wait_for("the supervisor ended", lambda: gone(pid), 3)


@pytest.mark.parametrize("size", [32, 65536])
def test_a_caller_that_does_not_read(sup, size):
    """It stalls the guest and nothing else: memory has its bound, and the time limit its word."""
    with sup.caller(flood(size), "--time", "1500ms") as proc:
        pid = sup.supervisor()
        time.sleep(1)
        assert suptest.memory_kib(pid) < suptest.MEMORY_MAX_KIB
        assert suptest.busy(pid, 0.3) < 0.3
        sandboxes.wait_for("its sandbox ended", lambda: not sup.live())
        code, out, err = sandboxes.finish(proc, 10)
    assert code == 124 and b"time limit" in err, (code, err)
    assert len(out) >= 65536


def test_the_time_limit_fires_while_the_guest_floods(sup):
    behaviour = """
start()
part = frame(DATA, 1, OUT, b'x') * 60000
granted = sent = 0
while True:
    while sent + 60000 <= 262144 + granted:
        send(part)
        sent += 60000
    granted += struct.unpack('<I', receive(CREDIT)[3])[0]
"""
    clock = sandboxes.Stopwatch()
    with sup.caller(behaviour, "--time", "1s", stdout=subprocess.DEVNULL) as proc:
        code, _, err = sandboxes.finish(proc, 10)
    assert code == 124, err
    assert clock.seconds() < 3.5


def test_the_time_limit_fires_while_the_guest_floods_dead_streams(sup):
    """Frames of a stream that was reset are dropped, and cost no more than that."""
    behaviour = """
start()
mark('mark-runs')
_, stream, _, _ = receive(EXEC)
receive(RESET)
mark('mark-on')
part = frame(DATA, stream, OUT, b'x') * 60000
while True:
    send(part)
"""
    with sup.caller(behaviour, "--time", "2s") as proc:
        sup.marked("mark-runs")
        with sup.connect() as c:
            c.send(wire.EXEC, 1, 0, wire.exec_payload(["x"]))
            time.sleep(0.1)
        sup.marked("mark-on")
        code, _, err = sandboxes.finish(proc, 6)
    assert code == 124, err


def test_a_time_limit_without_a_started_command(sup):
    """An agent that never says that the command runs wins no time by it."""
    clock = sandboxes.Stopwatch()
    sup.ends("boot(); receive(EXEC); silent()", 124, "time", "time limit", "--time", "700ms")
    assert clock.seconds() < 5


def test_an_agent_that_never_reads(sup):
    """The caller pours; what is not taken stays with it."""
    behaviour = "start(); mark('mark-on'); silent()"
    with sup.caller(behaviour, "--time", "1500ms", stdin=open("/dev/zero", "rb")) as proc:
        sup.marked("mark-on")
        pid = sup.supervisor()
        time.sleep(0.5)
        assert suptest.memory_kib(pid) < suptest.MEMORY_MAX_KIB
        assert suptest.busy(pid, 0.4) < 0.2
        code, _, err = sandboxes.finish(proc, 10)
    assert code == 124, err


def test_much_input(sup):
    """100 MB through the window, with credit for each frame."""
    behaviour = """
start()
got = 0
while True:
    type_, stream, channel, payload = receive(DATA, EOF)
    if type_ == EOF:
        break
    got += len(payload)
    say(CREDIT, 1, IN, u32(len(payload)))
say(DATA, 1, OUT, str(got).encode())
end()
"""
    got, _ = sup.ends(behaviour, 0, "exited", None, input=bytes(100_000_000))
    assert got.stdout == b"100000000"


def test_an_agent_that_reads_nothing_and_writes_on(sup):
    """Detached, each output is granted again; the grants of one that does not read them pile up."""
    behaviour = """
start()
mark('mark-on')
n = 0
while True:
    send(frame(DATA, 1, OUT, b'x') * 1000)
"""
    # it never reads CREDIT, yet obeys nothing: beyond the window it is a lie, or it is choked
    with sup.running(behaviour.replace("while True", "while n < 200000").replace(
            "    send", "    n += 1000; send") + "silent()") as name:
        pid = sup.supervisor()
        sup.marked("mark-on")
        time.sleep(1)
        assert suptest.busy(pid) < 0.2
        assert suptest.memory_kib(pid) < suptest.MEMORY_MAX_KIB
        assert sup.inspect(name)["output_bytes"] == 200000


# --- many, and broken ones ---

IDLE = "start(); silent()"
QUIET_SECONDS = 1.2  # SUP_QUIET_MS, and some
STATS = "start()\nwhile True:\n t, *_ = receive()\n if t == STATS: say(STATS_OK, payload=bytes(72))\n"


def test_more_connections_than_there_are_places(sup):
    """All of them wait for the end, so none makes room."""
    with sup.running(IDLE):
        pid = sup.supervisor()
        conns = [sup.connect() for _ in range(32)]
        for c in conns:
            assert c.receive().type == wire.HELLO
            c.send(wire.WAIT)
        time.sleep(QUIET_SECONDS)
        with sup.connect() as c:
            assert [f.type for f in c.until_closed()] == [wire.HELLO, wire.REFUSE]
        refused = sup.run("stop", sup.the_id())
        assert "as many commands as it serves" in sandboxes.one_line(refused.stderr)
        assert suptest.busy(pid) < 0.2
        for c in conns:
            c.close()
        assert len(sup.ok("ps").splitlines()) == 2


def test_connections_that_ask_nothing_make_room(sup):
    with sup.running(STATS) as name:
        pid = sup.supervisor()
        waits = sup.connect()
        assert waits.receive().type == wire.HELLO
        waits.send(wire.WAIT)
        idle = [sup.connect() for _ in range(31)]
        assert idle[-1].receive().type == wire.HELLO
        time.sleep(QUIET_SECONDS)
        for _ in range(3):
            assert sup.inspect(name)["state"] == "running"
        assert suptest.busy(pid) < 0.2
        assert idle[0].receive().type == wire.HELLO and idle[0].receive() is None  # the first to go
        waits.send(wire.INFO)
        waits.expect(wire.INFO_OK)
        for c in [waits, *idle]:
            c.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: sets a limit of a jailed process")
def test_no_fd_for_who_knocks(sup):
    """The loop does not spin on it, and lets him in when there is one again."""
    with sup.running(STATS) as name:
        pid = sup.supervisor()
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        lowest = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest, before[1]))
        with sup.connect() as c:
            assert suptest.busy(pid) < 0.2
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            assert c.receive().type == wire.HELLO
        assert sup.inspect(name)["state"] == "running"


LAST_WORDS = """
start()
part = frame(DATA, 1, OUT, b'x' * SIZE) * (65536 // SIZE)
for _ in range(4):
    send(part)
end(7)
os._exit(0)
"""


@pytest.mark.parametrize("size", [32, 4096])
def test_an_exit_behind_output_outlives_the_engine(sup, size):
    """More than one read's worth lies in the socket when the machine is gone."""
    with sup.caller(f"SIZE = {size}\n" + LAST_WORDS, stdout=subprocess.PIPE) as proc:
        time.sleep(0.5)
        for pid in sup.by_program("berm-supervisor"):  # unless the caller's windows took it all
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                assert suptest.busy(pid, 0.3) < 0.3
        assert len(proc.stdout.read()) == 262144
        assert proc.wait(20) == 7


def test_half_a_frame_and_then_nothing(sup):
    with sup.running(STATS) as name:
        pid = sup.supervisor()
        conns = [sup.connect() for _ in range(20)]
        for i, c in enumerate(conns):
            c.sock.sendall(wire.frame(wire.EXEC, 1, 0, 1, bytes(1000))[: 1 + 50 * i])
        assert sup.inspect(name)["state"] == "running"
        assert suptest.busy(pid) < 0.2
        for c in conns:
            c.close()


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.0\r\n\r\n", bytes(100), wire.frame(wire.HELLO, 0, 0, 1, b"\1\0\0\0"),
     wire.frame(wire.IDENTITY_OK), wire.frame(wire.STATS), wire.frame(wire.FREEZE)],
)
def test_a_command_that_is_none(sup, data):
    with sup.running(STATS) as name, sup.connect() as c:
        c.sock.sendall(data)
        assert [f.type for f in c.until_closed()] == [wire.HELLO, wire.REFUSE]
        assert sup.inspect(name)["state"] == "running"


def test_many_streams_on_one_connection(sup):
    with sup.running(IDLE), sup.connect() as c:
        for i in range(1, 101):
            c.send(wire.EXEC, i, 0, wire.exec_payload(["x"]))
        for i in range(2, 101):
            f = c.expect(wire.RESET)
            assert f.stream == i


def test_attach_twice(sup):
    with sup.running(IDLE), sup.connect() as c:
        c.send(wire.ATTACH, 1, 0, b"\1")
        assert c.expect(wire.EXEC_OK).stream == 1
        c.send(wire.ATTACH, 2, 0, b"\1")
        assert c.expect(wire.RESET).stream == 2


def test_answers_that_nobody_reads(sup):
    """Whoever asks on and on and reads nothing is let go, and the others get their answers."""
    with sup.running(STATS) as name, sup.connect() as c:
        pid = sup.supervisor()
        c.sock.settimeout(2)
        ask = wire.frame(wire.EXEC, 1, 0, 1, wire.exec_payload(["x"])) * 1000
        with pytest.raises(OSError):
            for _ in range(500):
                c.sock.sendall(ask)
        assert suptest.busy(pid) < 0.2
        assert sup.inspect(name)["state"] == "running"


def test_half_closed_with_output_waiting(sup):
    """It writes no more and has not read what is there: it is let go, and nobody falls over it."""
    behaviour = """
start()
receive(SIGNAL)
for i in range(4):
    send(frame(DATA, 1, OUT, b'x' * 65536))
while True:
    receive()
"""
    with sup.running(behaviour) as name, sup.connect() as c:
        pid = sup.supervisor()
        c.send(wire.ATTACH, 1, 0, b"\0")
        c.expect(wire.EXEC_OK)
        c.send(wire.KILL, 0, 0, struct.pack("<I", 10))
        time.sleep(0.3)
        c.sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        assert not gone(pid)
        assert suptest.busy(pid) < 0.2
        assert sup.inspect(name)["state"] == "running"


@pytest.mark.parametrize("how", ["closes", "half closes"])
def test_gone_while_it_waits(sup, how):
    """Nobody takes what it sent, so it is not read from; that it went is seen all the same."""
    with sup.running(IDLE, "-i"), sup.connect() as c:
        pid = sup.supervisor()
        c.send(wire.ATTACH, 1, 0, b"\1")
        c.expect(wire.EXEC_OK)
        for _ in range(6):
            c.send(wire.DATA, 1, wire.IN, bytes(65536))
        time.sleep(0.1)
        c.close() if how == "closes" else c.sock.shutdown(socket.SHUT_WR)
        time.sleep(0.1)
        assert suptest.busy(pid) < 0.2
        if os.geteuid() == 0:  # nobody else may look into a jailed process
            assert sockets(pid) == 3  # the agent's, the engine's and the listening one


def test_output_that_nobody_reads_goes_on(sup):
    """Detached, the supervisor logs it and grants it again, many windows on end."""
    with sup.running(flood(65536)) as name:
        sandboxes.wait_for("output", lambda: sup.inspect(name)["output_bytes"] > 4 << 20)


def test_an_exec_that_vanishes_ends_its_process(sup):
    behaviour = """
start()
_, stream, _, _ = receive(EXEC)
say(EXEC_OK, stream, payload=u32(7))
t, s, _, payload = receive()
mark("mark-reset" if (t, s) == (RESET, stream) else "mark-other")
silent()
"""
    with sup.running(behaviour), sup.connect() as c:
        c.send(wire.EXEC, 1, 0, wire.exec_payload(["x"]))
        c.expect(wire.EXEC_OK)
        c.close()
        sup.marked("mark-reset")


def test_two_who_watch_and_one_who_types(sup):
    """Credit for stdin is the typist's; a second viewer knows nothing of it."""
    behaviour = """
start()
while True:
    t, s, ch, payload = receive()
    if t == DATA:
        say(CREDIT, 1, IN, u32(len(payload)))
        say(DATA, 1, OUT, payload)
"""
    with sup.running(behaviour, "-i"), sup.connect() as typist, sup.connect() as viewer:
        for c, wants in ((typist, b"\1"), (viewer, b"\1")):
            c.send(wire.ATTACH, 1, 0, wants)
            c.expect(wire.EXEC_OK)
        typist.send(wire.DATA, 1, wire.IN, b"hello")
        assert typist.expect(wire.CREDIT).payload == struct.pack("<I", 5)
        assert typist.expect(wire.DATA).payload == b"hello"
        assert viewer.receive().type == wire.DATA


def test_credit_of_an_earlier_typist(sup):
    """What the first typed is granted again when the second is there, who has a window already."""
    behaviour = """
start()
_, _, _, payload = receive(DATA)
mark('mark-typed')
receive(SIGNAL)
say(CREDIT, 1, IN, u32(len(payload)))
_, _, _, payload = receive(DATA)
say(CREDIT, 1, IN, u32(len(payload)))
silent()
"""
    with sup.running(behaviour, "-i"):
        with sup.connect() as first:
            first.send(wire.ATTACH, 1, 0, b"\1")
            first.expect(wire.EXEC_OK)
            first.send(wire.DATA, 1, wire.IN, b"x" * 100)
            sup.marked("mark-typed")
        with sup.connect() as second:
            second.send(wire.ATTACH, 1, 0, b"\1")
            second.expect(wire.EXEC_OK)
            second.send(wire.KILL, 0, 0, struct.pack("<I", 10))
            second.send(wire.DATA, 1, wire.IN, b"y" * 7)
            assert second.expect(wire.CREDIT).payload == struct.pack("<I", 7)


@pytest.mark.parametrize("number", [0, 65, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_signal_that_is_none(sup, number):
    with sup.running(STATS) as name, sup.connect() as c:
        c.send(wire.KILL, 0, 0, struct.pack("<I", number))
        assert sup.inspect(name)["state"] == "running"


# --- INFO, STOP ---


def test_info_with_a_silent_agent(sup):
    with sup.running(IDLE) as name:
        clock = sandboxes.Stopwatch()
        assert sup.inspect(name)["guest"] is None
        assert clock.seconds() < 4


STATES = {
    "starting": "mark('mark-on'); silent()",
    "waiting": "boot(); receive(EXEC); mark('mark-on'); silent()",
    "running": "start(); mark('mark-on'); silent()",
}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("grace_ms", [0, 1])
def test_stop_in_each_state(sup, name, grace_ms):
    with sup.caller(STATES[name]) as proc:
        sup.marked("mark-on")
        with sup.connect() as c:
            c.send(wire.STOP, 0, 0, struct.pack("<I", grace_ms))
            assert b'"stopped"' in c.expect(wire.END).payload
        code, _, err = sandboxes.finish(proc, 10)
    assert code == 137, err


def test_a_second_stop_may_be_sooner(sup):
    with sup.running(IDLE), sup.connect() as c:
        clock = sandboxes.Stopwatch()
        c.send(wire.STOP, 0, 0, struct.pack("<I", 60000))
        c.send(wire.STOP, 0, 0, struct.pack("<I", 1))
        c.send(wire.STOP, 0, 0, struct.pack("<I", 0xFFFFFFFF))
        c.expect(wire.END)
        assert clock.seconds() < 5


def test_a_stop_that_the_guest_obeys(sup):
    with sup.running("start(); receive(POWEROFF); end(4)"), sup.connect() as c:
        c.send(wire.STOP, 0, 0, struct.pack("<I", 60000))
        payload = c.expect(wire.END).payload
        assert b'"stopped"' in payload and b'"exit_code":4' in payload


def test_a_stop_is_not_put_off_by_a_late_start(sup):
    behaviour = "boot(); receive(EXEC); mark('mark-on'); receive(POWEROFF); say(EXEC_OK, 1, payload=u32(1)); silent()"
    with sup.caller(behaviour) as proc:
        sup.marked("mark-on")
        with sup.connect() as c:
            c.send(wire.STOP, 0, 0, struct.pack("<I", 1))
            assert b'"stopped"' in c.expect(wire.END).payload
        sandboxes.finish(proc, 10)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_supervisor_that_is_killed(sup, sig):
    """Its engine goes with it; what it could not remove, the next command does."""
    with sup.caller(IDLE.replace("silent", "mark('mark-on'); silent")) as proc:
        sup.marked("mark-on")
        os.kill(sup.supervisor(), sig)
        code, _, err = sandboxes.finish(proc, 10)
    assert code == (125 if sig == signal.SIGKILL else 137), err
    assert len(err.splitlines()) == 1
    sup.ok("ps")


def test_a_small_file_size_limit(sup):
    """SIGXFSZ of a user's limit would end a supervisor without a word."""
    sup.play(flood(65536))
    got = sup.shell(
        'ulimit -f 1024; "$BERM" run --cold -m 64MiB --disk 64MiB --time 1s tiny true | wc -c'
    )
    assert "limit" in got.stderr or "large" in got.stderr, got.stderr

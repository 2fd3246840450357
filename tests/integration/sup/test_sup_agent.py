"""An agent that breaks the rules of the wire: each time berm ends the sandbox, and says why."""

import time

import pytest
import sandboxes
import suptest
import wire

LIED = "the guest's agent broke the protocol"
CANNOT = "the guest cannot be used"


def test_an_honest_agent(sup):
    got, _ = sup.ends(
        "start(); say(DATA, 1, OUT, b'hello\\n'); say(EOF, 1, OUT); end(3)", 3, "exited"
    )
    assert got.stdout == b"hello\n" and got.stderr == ""


LIES = {
    "garbage": ("send(b'hello world, this is no frame')", "no frame"),
    "zeros": ("send(bytes(4096))", "no frame"),
    "wrong magic": ("say(HELLO, magic=0xb37f, payload=u32(1))", "no frame"),
    "wrong epoch": ("send(frame(HELLO, epoch_=2, payload=u32(1)))", "epoch"),
    "unknown type": ("say(200)", "no frame"),
    "a command's type": ("say(INFO)", "no frame"),
    "the host's type": ("boot(); say(EXEC, 1, payload=bytes(30))", "no frame"),
    "a frame too long": ("say(HELLO, length=1 << 31)", "no frame"),
    "HELLO on a stream": ("say(HELLO, 1, payload=u32(1))", "no frame"),
    "HELLO that cannot be read": ("say(HELLO, payload=u32(VERSION) + b'xx')", "HELLO"),
    "HELLO twice": ("send(hello() * 2)", "HELLO"),
    "HELLO when ready": ("boot(); send(hello())", "HELLO"),
    "IDENTITY_OK first": ("say(IDENTITY_OK)", "IDENTITY_OK"),
    "IDENTITY_OK twice": ("boot(); say(IDENTITY_OK)", "IDENTITY_OK"),
    "a frame of a stream too early": ("say(DATA, 1, OUT, b'x')", "before IDENTITY_OK"),
    "EXIT before EXEC_OK": ("boot(); receive(EXEC); end()", "never started"),
    "DATA before EXEC_OK": ("boot(); receive(EXEC); say(DATA, 1, OUT, b'x')", "not started"),
    "EXEC_OK twice": ("start(); say(EXEC_OK, 1, payload=u32(43))", "EXEC_OK"),
    "EXEC_ERR when it runs": ("start(); say(EXEC_ERR, 1, payload=fail(2, 3))", "EXEC_ERR"),
    "DATA on stdin": ("start(); say(DATA, 1, IN, b'x')", "no frame"),
    "empty DATA": ("start(); say(DATA, 1, OUT)", "no frame"),
    "DATA over its maximum": ("start(); say(DATA, 1, OUT, bytes(65537))", "no frame"),
    "DATA after EOF": ("start(); say(EOF, 1, OUT); say(DATA, 1, OUT, b'x')", "EOF|credit"),
    "EOF twice": ("start(); say(EOF, 1, OUT); say(EOF, 1, OUT)", "EOF"),
    "DATA of a stream of the future": ("start(); say(DATA, 2, OUT, b'x')", "nobody opened"),
    "DATA of the last stream there is": (
        "start(); say(DATA, 0xffffffff, OUT, b'x')", "nobody opened"),
    "CREDIT beyond the window": ("start(); say(CREDIT, 1, IN, u32(1))", "credit"),
    "CREDIT that would wrap": ("start(); say(CREDIT, 1, IN, u32(0xffffffff))", "credit"),
    "CREDIT of nothing": ("start(); say(CREDIT, 1, IN, u32(0))", "credit"),
    "CREDIT for output": ("start(); say(CREDIT, 1, OUT, u32(1))", "no frame"),
    "RESULT on main": ("start(); say(RESULT, 1, payload=fail(0, 0))", "RESULT of a command"),
    "RESET on main": ("start(); say(RESET, 1, payload=u32(5))", "exit code"),
    "RESET before EXEC_OK": ("boot(); receive(EXEC); say(RESET, 1, payload=u32(5))", "exit code"),
    "EXIT with a signal of 65": (
        "start(); say(EXIT, 1, payload=exit_payload(65, 1))", "cannot be read"),
    "EXIT with code 256": ("start(); say(EXIT, 1, payload=exit_payload(256))", "cannot be read"),
    "EXIT with a flag of 2": ("start(); say(EXIT, 1, payload=exit_payload(0, 2))", "cannot be read"),
    "EXEC_ERR with an errno of 5000": (
        "boot(); receive(EXEC); say(EXEC_ERR, 1, payload=fail(5000, 3))", "cannot be read"),
    "EXEC_ERR with a NUL": (
        "boot(); receive(EXEC); say(EXEC_ERR, 1, payload=fail(2, 3, b'a\\0b'))", "cannot be read"),
    "STATS_OK unasked": ("start(); say(STATS_OK, payload=bytes(72))", "STATS_OK"),
    "PONG unasked": ("start(); say(PONG, payload=bytes(8))", "nobody asked"),
    "PONG flood": ("start(); send(frame(PONG, payload=bytes(8)) * 100000)", "nobody asked"),
    "FREEZE_OK unasked": ("start(); say(FREEZE_OK)", "nobody asked"),
    "HOLD_OK unasked": ("start(); say(HOLD_OK)", "nobody asked"),
    "RELEASE_OK unasked": ("start(); say(RELEASE_OK)", "nobody asked"),
    "QUIESCE_OK unasked": ("start(); say(QUIESCE_OK)", "nobody asked"),
    "EVENT of no kind": ("start(); say(EVENT, payload=bytes(10))", "event"),
    "EVENT flood": (
        "start(); send(frame(EVENT, payload=b'\\1\\0' + bytes(8)) * 110000)", "events"),
    "FATAL that cannot be read": ("say(FATAL, payload=b'\\xff\\xff')", "cannot be read"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_lie_ends_it(sup, name):
    behaviour, words = LIES[name]
    got, result = sup.ends(behaviour, 125, "agent-lied", f"{LIED}.*({words})")
    assert got.stdout == b""


def test_credit_is_held_to(sup):
    """The caller's reader is asleep, so a window and a pipe are all that can be sent."""
    with sup.caller("start(); send(frame(DATA, 1, OUT, bytes(65536)) * 8); silent()") as proc:
        sup.supervisor()
        sandboxes.wait_for("it ended", lambda: not sup.live())
        code, out, err = sandboxes.finish(proc, 10)
    assert code == 125 and b"beyond its credit" in err, err
    assert 4 * 65536 <= len(out) < 8 * 65536


def test_credit_is_held_to_when_detached(sup):
    """The supervisor gives back what it logged; what was beyond the window still is a lie."""
    with sup.running(
        "start(); send(frame(DATA, 1, OUT, bytes(65536)) * 400); mark('mark-sent')"
    ) as name:
        sup.marked("mark-sent")
        assert sup.inspect(name)["output_bytes"] == 400 * 65536


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_a_hello_cut_short_and_the_port_closed(sup, at):
    sup.ends(f"send(hello()[:{at}]); raise SystemExit", 125, "engine-died", "ended by itself")


POINTS = {
    "at once": "",
    "after HELLO": "send(hello());",
    "after IDENTITY": "send(hello()); receive(IDENTITY);",
    "when ready": "boot();",
    "after EXEC": "boot(); receive(EXEC);",
    "when running": "start();",
    "in the middle of a frame": "start(); send(frame(DATA, 1, OUT, bytes(1000))[:500]);",
    "after output": "start(); say(DATA, 1, OUT, b'x' * 1000); say(EOF, 1, OUT);",
}


@pytest.mark.parametrize("name", POINTS)
def test_the_machine_ends(sup, name):
    behaviour = POINTS[name] + "log(b'last \\x1b[31mwords\\n'); raise SystemExit"
    sup.ends(behaviour, 125, "engine-died", r"ended by itself.*last \\x1b\[31mwords")


@pytest.mark.parametrize("name", ["at once", "when ready", "when running"])
def test_the_port_closes_and_the_machine_goes_on(sup, name):
    clock = sandboxes.Stopwatch()
    sup.ends(POINTS[name] + "os.close(PORT)", 125, "engine-died", "port")
    assert clock.seconds() < 10


def test_an_exit_just_before_the_machine_ends(sup):
    sup.ends("start(); say(DATA, 1, OUT, b'x' * 65536); end(7); raise SystemExit", 7, "exited")


def test_an_agent_of_another_version(sup):
    sup.ends("send(hello(version=7))", 125, "not-started", f"version 7 and berm {wire.VERSION}")


@pytest.mark.parametrize("type_", ["FATAL", "REFUSE"])
def test_the_agents_sentence_is_escaped(sup, type_):
    text = "b'\\x1b]0;owned\\x07\\x1b[2J\\r\\nberm: all is well \\xff' + b'x' * 900"
    sup.ends(f"say({type_}, payload=str16({text}))", 125, "not-started", r"cannot be used.*\\x1b\]0;")


def test_a_breakdown_later_is_not_a_failed_start(sup):
    """Whoever reads "not started" may start it again; but the command has run."""
    sup.ends("start(); say(FATAL, payload=str16(b'disk'))", 125, "engine-died", "disk")


def test_the_reason_a_command_did_not_start_is_escaped(sup):
    got, result = sup.judge(
        "boot(); receive(EXEC); say(EXEC_ERR, 1, payload=fail(13, 3, b'\\x1b[2Jno\\r\\nberm: ok'))"
    )
    assert got.returncode == 126 and result["reason"] == "command"
    assert "\x1b" not in got.stderr and sandboxes.one_line(got.stderr)


def test_frames_one_byte_at_a_time(sup):
    behaviour = """
start()
data = frame(DATA, 1, OUT, b"slowly\\n") + frame(EOF, 1, OUT) + frame(EXIT, 1, payload=exit_payload(5))
for i in range(len(data)):
    send(data[i:i + 1])
    time.sleep(0.001)
"""
    got, _ = sup.ends(behaviour, 5, "exited")
    assert got.stdout == b"slowly\n"


def test_an_identity_is_as_fresh_as_its_start(sup):
    """The clock that a booting guest is given must not be as old as its boot is long."""
    behaviour = """
time.sleep(1)
send(hello())
receive(HELLO_OK)
type_, _, _, payload = receive()
assert type_ == IDENTITY
late = time.time_ns() - struct.unpack_from("<Q", payload)[0]
say(IDENTITY_OK)
receive(EXEC)
say(EXEC_OK, 1, payload=u32(1))
end(1 if late > 500_000_000 else 0)
"""
    sup.ends(behaviour, 0, "exited")


def test_a_log_without_end(sup):
    """The pipe of the guest's kernel log is drained, and only its end is kept."""
    behaviour = """
start()
for i in range(2000):
    log(b"x" * 65536)
say(DATA, 1, OUT, b"done\\n")
end()
"""
    with sup.caller(behaviour) as proc:
        pid = sup.supervisor()
        high = 0
        while proc.poll() is None:
            try:
                high = max(high, suptest.memory_kib(pid))
            except (OSError, AttributeError):
                break
            time.sleep(0.02)
        code, out, err = sandboxes.finish(proc, 20)
    assert code == 0 and out == b"done\n", err
    assert 0 < high < suptest.MEMORY_MAX_KIB


def test_a_log_that_is_closed(sup):
    with sup.running("start(); os.close(1); os.close(2); silent()"):
        pid = sup.supervisor()
        assert suptest.busy(pid) < 0.2


def test_stats_that_are_too_large_for_json(sup):
    """A lie in the numbers must not make `berm inspect` and the rest of it fail."""
    with sup.running("start()\nwhile True:\n receive(STATS)\n say(STATS_OK, payload=b'\\xff' * 72)") as name:
        assert sup.inspect(name)["guest"]["cpu_us"] > 0

"""An agent that does not come to rest as it is asked, or not to the end: the guest runs on, or it is
ended, and whoever asked is told which."""

import re

import pytest
import sandboxes
import wire
from sandboxes import Stopwatch

ASKS = {
    "fork": lambda name: ["fork", name],
    "snapshot": lambda name: ["snapshot", name, "kept"],
}


@pytest.mark.parametrize("what", ASKS)
def test_silence(sup, what):
    """It is refused after a while; the agent is told to go on, and does."""
    behaviour = (
        "start(); receive(HOLD); receive(RELEASE); say(RELEASE_OK);"
        "say(DATA, 1, OUT, b'went on'); receive(POWEROFF); end(3)"
    )
    with sup.running(behaviour) as name:
        watch = Stopwatch()
        line = sup.refused(125, *ASKS[what](name))
        assert "did not come to rest" in line and watch.seconds() < 12, line
        sandboxes.wait_for("it goes on", lambda: sup.ok("logs", name) == "went on")
        sup.ok("stop", "-t", "5s", name)


def test_silence_for_good(sup):
    """No RELEASE_OK either: further requests are refused, and nothing else suffers."""
    with sup.running("start(); receive(HOLD); silent()") as name:
        sup.refused(125, "pause", name)
        line = sup.refused(125, "pause", name)
        assert "does not answer" in line, line
        assert sup.inspect(name)["paused"] is False
        sup.ok("stop", "-t", "0", name)


def test_an_answer_that_comes_too_late(sup):
    behaviour = (
        "start(); receive(HOLD); receive(RELEASE); say(HOLD_OK); say(RELEASE_OK);"
        "say(DATA, 1, OUT, b'went on')"
    )
    with sup.running(behaviour) as name:
        sup.refused(125, "pause", name)
        sandboxes.wait_for("it goes on", lambda: sup.ok("logs", name) == "went on")


LIES = {
    "a word while it is held": "say(DATA, 1, OUT, b'x')",
    "HOLD_OK twice": "say(HOLD_OK)",
    "an end while it is held": "end(0)",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_it(sup, lie):
    with sup.running(f"start(); receive(HOLD); say(HOLD_OK); {LIES[lie]}") as name:
        with sup.connect(name) as asker, sup.connect(name) as waiter:
            waiter.send(wire.WAIT)
            asker.send(wire.PAUSE)
            done = wire.parse_fail(asker.expect(wire.DONE).payload)
            assert done.code != 0, done
            assert re.search(b'"reason":"agent-lied"', waiter.expect(wire.END).payload)


def test_an_engine_that_dies(sup):
    with sup.running("start(); receive(HOLD); say(HOLD_OK); raise SystemExit") as name:
        line = sup.refused(125, "fork", name)
        assert "ended" in line, line


def test_commands_wait_meanwhile(sup):
    """What they send reaches the agent behind RELEASE, in order and once."""
    behaviour = (
        "start(); receive(HOLD); mark('mark-held'); time.sleep(1)\n"
        "assert receive()[0] == RELEASE; say(RELEASE_OK)\n"
        "t, stream, _, _ = receive(); assert t == EXEC\n"
        "say(EXEC_OK, stream, payload=u32(50)); say(EXIT, stream, payload=exit_payload(7))"
    )
    with sup.running(behaviour) as name:
        asker = sup.start("pause", name)
        sup.marked("mark-held")
        proc = sup.start("exec", name, "true")
        assert sandboxes.finish(asker, 15)[0] == 125
        assert sandboxes.finish(proc, 15)[0] == 7


def test_who_asked_goes_away(sup):
    behaviour = (
        "start(); receive(HOLD); mark('mark-held'); time.sleep(1); say(HOLD_OK)\n"
        "receive(RELEASE); say(RELEASE_OK); say(DATA, 1, OUT, b'went on')"
    )
    with sup.running(behaviour) as name:
        asker = sup.start("pause", name)
        sup.marked("mark-held")
        asker.kill()
        sandboxes.finish(asker, 5)
        sandboxes.wait_for("it goes on", lambda: sup.ok("logs", name) == "went on")
        assert sup.inspect(name)["paused"] is False

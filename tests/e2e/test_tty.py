"""berm at a terminal: the command gets one of its own."""

import re
import termios

from sandboxes import wait_for


def test_terminal_of_its_own(berm, bb):
    with berm.terminal("run", bb, "sh", "-c", "tty; test -t 0 && test -t 1 && test -t 2; echo $?") as t:
        assert "/dev/" in t.expect("\n0\r\n", 60)
        assert t.wait() == 0


def test_size_and_resize(berm, bb):
    script = 'stty size; trap "stty size" WINCH; echo waiting; while read -r x; do :; done'
    with berm.terminal("run", bb, "sh", "-c", script, rows=31, cols=97) as t:
        t.expect("31 97", 60)
        t.expect("waiting")
        t.resize(50, 120)
        t.type("\n")  # the shell runs its trap when read returns
        t.expect("50 120")
        t.type("\x04")
        assert t.wait() == 0


def test_ctrl_c_is_the_guests(berm, bb):
    script = 'trap "echo caught; exit 7" INT; echo ready; while :; do sleep 0.1; done'
    with berm.terminal("run", bb, "sh", "-c", script) as t:
        t.expect("ready", 60)
        t.type("\x03")
        t.expect("caught")
        assert t.wait() == 7


def test_ctrl_c_ends_a_program_without_a_handler(berm, bb):
    with berm.terminal("run", bb, "sh", "-c", "echo ready; exec sleep 300") as t:
        t.expect("ready", 60)
        t.type("\x03")
        assert t.wait() == 130


def test_ctrl_d_ends_input(berm, bb):
    with berm.terminal("run", bb, "cat") as t:
        t.type("typed\n")
        t.expect("typed", 60)
        t.expect("typed")  # its echo, and cat's answer
        t.type("\x04")
        assert t.wait() == 0


def test_terminal_is_as_it_was(berm, bb):
    with berm.terminal("run", bb, "sh", "-c", "echo ready; read x") as t:
        t.expect("ready", 60)
        wait_for("a raw terminal", lambda: not t.modes()[3] & termios.ICANON)
        t.type("\n")
        t.wait()
        assert t.modes() == t.first_modes


def test_terminal_is_as_it_was_after_a_limit(berm, bb):
    with berm.terminal("run", "--time", "5s", bb, "sh", "-c", "echo ready; sleep 300") as t:
        t.expect("ready", 60)
        assert t.wait() == 124
        assert t.modes() == t.first_modes
        assert b"time limit" in t.text


def test_shell_session(berm, bb):
    with berm.terminal("run", bb, "sh") as t:
        t.expect("# ", 60)
        t.type("echo $((6 * 7))\n")
        t.expect("\r\n42\r\n")
        t.type("exit 9\n")
        assert t.wait() == 9


def test_no_terminal_when_not_wanted(berm, bb):
    with berm.terminal("run", "--no-tty", bb, "sh", "-c", "test -t 1; echo tty=$?") as t:
        t.expect("tty=1", 60)
        assert t.wait() == 0


def test_terminal_without_one_here(berm, bb):
    """-t into a pipe: the guest has a terminal, we have its raw bytes."""
    got = berm.run("run", "-t", bb, "sh", "-c", "tty; stty size")
    assert got.returncode == 0
    assert re.match(r"/dev/.*\r\n\d+ \d+\r\n", got.stdout)


def test_exec_with_a_terminal(berm, running):
    with berm.terminal("exec", running, "sh", "-c", "tty; stty size; read x; exit 4", cols=91) as t:
        t.expect("/dev/", 60)
        t.expect("24 91")
        t.type("\n")
        assert t.wait() == 4


def test_typing_while_it_starts_is_not_lost(berm, bb):
    with berm.terminal("run", bb, "sh", "-c", "read x; echo got:$x") as t:
        t.type("early\n")
        t.expect("got:early", 60)
        assert t.wait() == 0

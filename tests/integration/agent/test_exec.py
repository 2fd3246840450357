"""Commands in a real guest: stdio, terminals, signals, users, credit."""

import hashlib
import os
import struct
import time

import pytest
import wire


def gone(peer, name, deadline_s=5):
    """Waits until no process of that name is left."""
    until = time.monotonic() + deadline_s
    while peer.run("pidof", name)[1]:
        assert time.monotonic() < until, peer.run("ps")[1].decode()


def test_exit_codes_and_output(peer):
    end, out, err = peer.sh("echo out; echo err >&2; exit 7")
    assert (end.signaled, end.value, out, err) == (0, 7, b"out\n", b"err\n")
    assert end.maxrss_bytes > 0
    assert peer.run("true")[0].value == 0
    assert peer.run("false")[0].value == 1


def test_stdio_is_binary_safe(peer):
    data = os.urandom(3 << 20) + bytes(range(256))
    end, out, err = peer.run("cat", input_=data)
    assert end.value == 0 and out == data and err == b""
    end, out, _ = peer.run("/bin/sh", "-c", "cat >&2", input_=data[:100000])
    assert out == b"" and _ == data[:100000]


def test_stdin_is_null_unless_asked_for(peer):
    assert peer.run("cat")[1] == b""
    assert peer.sh("readlink /proc/self/fd/0")[1] == b"/dev/null\n"


def test_a_command_that_does_not_read_takes_no_harm(peer):
    end, out, _ = peer.run("true", input_=b"x" * (1 << 20))
    assert end.value == 0
    # it closes its input but lives on: what still comes is taken, and credited
    s = peer.exec(["/bin/sh", "-c", "exec <&-; sleep 0.3; echo done"], flags=wire.STDIN)
    s.write(b"y" * (2 << 20))
    assert s.wait().value == 0 and s.stdout == b"done\n"


def test_nothing_of_the_agent_leaks_into_a_command(peer):
    out = peer.sh("ls /proc/self/fd; grep -E 'Sig(Blk|Ign)' /proc/self/status;"
                  "cat /proc/self/oom_score_adj; cut -d' ' -f19 /proc/self/stat; umask")[1]
    fds, rest = out.decode().split("SigBlk")
    assert fds.split() == ["0", "1", "2", "3"]  # 3: ls reads the directory
    assert rest.split() == [":", "0" * 16, "SigIgn:", "0" * 16, "0", "0", "0022"]


def test_environment_is_exact_but_for_the_four(peer):
    out = peer.run("/bin/env", env=["A=1", "B=x y"])[1].decode().split("\n")
    assert sorted(out[:-1]) == ["A=1", "B=x y", "HOME=/root",
                                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                "USER=root"]
    out = peer.run("/bin/env", env=["HOME=/x", "PATH=/p", "USER=u", "TERM=t"])[1].decode()
    assert sorted(out.split()) == ["HOME=/x", "PATH=/p", "TERM=t", "USER=u"]


def test_arguments_arrive_as_they_are(peer):
    args = ["", "a b", "\n", "ü", "--", "x" * 60000]
    out = peer.run("/bin/sh", "-c", 'for a; do printf "%s|" "$a"; done', "sh", *args)[1]
    assert out.decode() == "".join(a + "|" for a in args)


@pytest.mark.parametrize("user,want", [
    ("", "0 0 0"), ("root", "0 0 0"), ("dev", "1000 1000 1000 998 44"),
    ("1000", "1000 1000 1000 998 44"), ("dev:video", "1000 44 44"), ("1000:77", "1000 77 77"),
    ("4242", "4242 0 0"), ("4242:4243", "4242 4243 4243"), (":docker", "0 998 998"),
])
def test_users(peer, user, want):
    end, out, err = peer.sh("echo $(id -u) $(id -g) $(id -G)", user=user)
    assert end.value == 0
    got = out.decode().split()
    assert got[:2] == want.split()[:2] and set(got[2:]) == set(want.split()[2:])


def test_home_is_the_directory_unless_given(peer):
    assert peer.run("pwd")[1] == b"/root\n"
    assert peer.sh("pwd; echo $HOME", user="dev")[1] == b"/home/dev\n/home/dev\n"
    assert peer.sh("pwd; echo $HOME", user="ghost")[1] == b"/\n/nowhere\n"  # a home that is not
    assert peer.sh("pwd; echo $HOME", user="4242")[1] == b"/\n/\n"
    assert peer.run("pwd", cwd="/tmp")[1] == b"/tmp\n"


@pytest.mark.parametrize("argv,kw,errno,stage,word", [
    (["no-such-command"], {}, 2, wire.AT_EXEC, "no-such-command"),
    (["/no/such"], {}, 2, wire.AT_EXEC, "/no/such"),
    ([""], {}, 2, wire.AT_EXEC, "command"),
    (["/etc/passwd"], {}, 13, wire.AT_EXEC, "/etc/passwd"),
    (["/etc"], {}, 13, wire.AT_EXEC, "/etc"),
    (["true"], {"user": "nobody-here"}, 2, wire.AT_USER, "nobody-here"),
    (["true"], {"user": "dev:nogroup"}, 2, wire.AT_USER, "nogroup"),
    (["true"], {"user": "4294967295"}, 2, wire.AT_USER, "4294967295"),
    (["true"], {"cwd": "/no/dir"}, 2, wire.AT_CWD, "/no/dir"),
    (["true"], {"cwd": "/root", "user": "dev", "env": []}, 0, 0, ""),
    (["true"], {"rlimits": [(99, 1, 1)]}, 22, wire.AT_SYSTEM, "limit 99"),
])
def test_what_cannot_start(peer, argv, kw, errno, stage, word):
    end = peer.run(*argv, **kw)[0]
    if errno == 0:
        assert end.value == 0
        return
    assert isinstance(end, wire.Fail), end
    assert (end.code, end.stage) == (errno, stage) and word in end.text


def test_a_script_without_its_interpreter_says_so(peer):
    peer.sh("printf '#!/no/interpreter\\n' > /tmp/script; chmod 755 /tmp/script")
    end = peer.run("/tmp/script")[0]
    assert end.code == 2 and "interpreter" in end.text
    end = peer.run("script", env=["PATH=/bin:/tmp"])[0]
    assert end.code == 2 and "interpreter" in end.text
    peer.sh("printf garbage > /tmp/script")
    assert peer.run("/tmp/script")[0].code == 8  # ENOEXEC: no shell is guessed


def test_rlimits(peer):
    out = peer.sh("ulimit -n; ulimit -Hn; ulimit -c")[1].split()
    assert out == [b"1024", b"524288", b"0"]
    assert peer.sh("ulimit -n; ulimit -Hn", rlimits=[(7, 64, 128)])[1].split() == [b"64", b"128"]


def test_signals_reach_the_process_group(peer):
    s = peer.exec(["/bin/sh", "-c", "trap 'echo usr1' USR1; echo ready; while :; do sleep 60 & wait; done"])
    s.wait_for(lambda s: s.stdout == b"ready\n")
    s.signal(10)
    s.wait_for(lambda s: b"usr1" in s.stdout)
    s.signal(9)
    end = s.wait()
    assert (end.signaled, end.value) == (1, 9)
    gone(peer, "sleep")  # the group's, not only the shell


def test_a_signal_right_behind_the_exec_is_not_lost(peer):
    for _ in range(5):
        s = peer.exec(["sleep", "60"])
        s.signal(15)
        end = s.wait(5)
        assert (end.signaled, end.value) == (1, 15)


def test_a_terminal(peer):
    s = peer.exec(["/bin/sh", "-c", "tty; stty size; echo $TERM; read x; echo got:$x; stty size"],
                  flags=wire.TTY | wire.STDIN, rows=33, cols=101)
    s.wait_for(lambda s: b"xterm" in s.stdout)
    s.resize(50, 132)
    s.write(b"hello\r")
    assert s.wait().value == 0
    lines = s.stdout.replace(b"\r\n", b"\n").split(b"\n")
    assert lines == [b"/dev/pts/0", b"33 101", b"xterm", b"hello", b"got:hello", b"50 132", b""]
    assert wire.ERR not in s.eof and wire.OUT in s.eof


def test_terminal_end_of_file_interrupt_and_owner(peer):
    s = peer.exec(["cat"], flags=wire.TTY | wire.STDIN)
    s.write(b"one\n")
    s.close_input()
    assert s.wait().value == 0 and s.stdout == b"one\r\none\r\n"
    s = peer.exec(["sleep", "60"], flags=wire.TTY | wire.STDIN)
    s.wait_for(lambda s: s.started)
    s.write(b"\x03")
    assert s.wait(5) [:2] == (1, 2)
    assert peer.sh("stat -c %u $(tty)", flags=wire.TTY, user="dev")[1] == b"1000\r\n"


def test_credit_stops_a_flood_and_another_stream_flows(peer):
    flood = peer.exec(["yes"], auto_credit=False)
    flood.wait_for(lambda s: len(s.stdout) == wire.WINDOW)
    start = time.monotonic()
    end, out, _ = peer.run("cat", input_=b"z" * (1 << 20))
    assert end.value == 0 and len(out) == 1 << 20
    assert time.monotonic() - start < 10
    assert len(flood.stdout) == wire.WINDOW  # not a byte more than was granted
    flood.grant(wire.OUT, 1000)
    flood.wait_for(lambda s: len(s.stdout) == wire.WINDOW + 1000)
    flood.signal(9)
    flood.auto_credit = True
    for _ in range(20):  # what the pipe still held
        if flood.end is None:
            flood.grant(wire.OUT, 1 << 16)
            peer.ping()
    assert flood.wait().value == 9


def test_much_output_arrives_whole_beside_little(peer):
    """Much goes to the port as pages, little by copy: neither may come between the other's bytes."""
    want = peer.sh("head -c 9000001 /dev/urandom >/tmp/much; sha256sum </tmp/much")[1].split()[0].decode()
    much = peer.exec(["cat", "/tmp/much"])
    little = peer.exec(["/bin/sh", "-c", "i=0; while [ $i -lt 500 ]; do echo $i; i=$((i + 1)); done"])
    assert much.wait(30).value == 0 and little.wait(30).value == 0
    assert hashlib.sha256(much.stdout).hexdigest() == want
    assert little.stdout == b"".join(b"%d\n" % i for i in range(500))
    peer.sh("rm /tmp/much")


def test_a_command_that_takes_its_own_output_back(peer):
    """A pipe can be opened for reading by whoever writes to it; a frame's length still holds."""
    end, out, _ = peer.sh(
        "cat /proc/$$/fd/1 >/tmp/taken & thief=$!; i=0;"
        " while [ ! -s /tmp/taken ] && [ $i -lt 99 ]; do yes | head -c 999998; i=$((i + 1)); done;"
        " kill $thief; wait; echo; stat -c %s /tmp/taken; rm /tmp/taken; echo $i; echo end")
    flood, taken, rounds, last = out.rsplit(b"\n", 4)[:4]
    assert end.value == 0 and last == b"end" and int(taken) > 0
    assert len(flood) < int(rounds) * 999998 and set(flood) <= set(b"y\n")


def test_a_stalled_reader_in_the_guest_stalls_only_its_stdin(peer):
    s = peer.exec(["/bin/sh", "-c", "cat | wc -c"], flags=wire.STDIN)
    s.wait_for(lambda s: s.started)
    s.signal(19)
    total = 0
    while s.credit:
        n = min(s.credit, wire.DATA_MAX)
        peer.send(wire.DATA, s.id, wire.IN, b"q" * n)
        s.credit -= n
        total += n
        peer.pump_ready()
    peer.ping()
    assert peer.run("true")[0].value == 0
    s.signal(18)
    s.write(b"r" * 1000)
    s.close_input()
    assert s.wait().value == 0 and int(s.stdout) == total + 1000


def test_sixty_four_streams_and_one_more(peer):
    many = [peer.exec(["cat"], flags=wire.STDIN) for _ in range(wire.STREAMS_MAX)]
    for s in many:
        s.wait_for(lambda s: s.started)
    assert peer.stats().streams == wire.STREAMS_MAX
    end = peer.run("true")[0]
    assert isinstance(end, wire.Fail) and end.stage == wire.AT_SYSTEM and end.code == 11
    for i, s in enumerate(many):
        s.write(b"%d" % i)
        s.close_input()
    for i, s in enumerate(many):
        assert s.wait().value == 0 and s.stdout == b"%d" % i
        del peer.streams[s.id]
    assert peer.run("true")[0].value == 0


def test_a_daemon_left_behind_does_not_hold_the_end(peer):
    start = time.monotonic()
    end, out, _ = peer.sh("sleep 30 & echo $!")
    assert end.value == 0 and time.monotonic() - start < 5
    pid = int(out)
    assert peer.sh(f"kill -0 {pid} && kill {pid}")[0].value == 0  # but it went on
    # what was written before the end arrives, however late it is read
    s = peer.exec(["/bin/sh", "-c", "yes | head -c 400000; sleep 30 & exit 3"], auto_credit=False)
    s.wait_for(lambda s: len(s.stdout) == wire.WINDOW)
    time.sleep(0.5)
    s.grant(wire.OUT, 1 << 20)
    assert s.wait(5).value == 3 and len(s.stdout) == 400000
    peer.sh("killall sleep")


def test_reset_kills_all_of_an_exec(peer):
    s = peer.exec(["/bin/sh", "-c", "setsid sleep 77 & echo ready; wait"])
    s.wait_for(lambda s: s.stdout)
    s.reset()
    gone(peer, "sleep")


def test_orphans_are_reaped(peer):
    peer.sh("(sleep 0.05 & sleep 0.01 &) ; (true &)")
    time.sleep(0.5)
    assert b" Z " not in peer.sh("ps -o stat,comm | sed 's/^/ /'")[1]


def test_frames_for_streams_that_ended_are_dropped(peer):
    end = peer.run("true")[0]
    old = peer.next_id - 1
    assert end.value == 0
    peer.send(wire.DATA, old, wire.IN, b"late")
    peer.send(wire.CREDIT, old, wire.OUT, struct.pack("<I", 5))
    peer.send(wire.SIGNAL, old, 0, struct.pack("<I", 9))
    peer.send(wire.RESET, old, 0, struct.pack("<I", 0))
    peer.ping()


def test_frames_of_another_epoch_are_dropped(peer):
    peer.send(wire.PING, payload=struct.pack("<Q", 666), epoch=77)
    peer.send(wire.EXEC, 999999, 0, wire.exec_payload(["touch", "/tmp/epoch"]), epoch=77)
    peer.ping()
    assert peer.run("ls", "/tmp/epoch")[0].value == 1


def test_statistics(peer):
    before = peer.stats()
    peer.sh("i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; dd if=/dev/zero of=/tmp/big bs=1M count=4")
    s = peer.exec(["sleep", "60"])
    s.wait_for(lambda s: s.started)
    now = peer.stats()
    s.signal(9)
    s.wait()
    assert now.cpu_us > before.cpu_us and now.uptime_ms > before.uptime_ms
    assert now.pids == before.pids + 1 and now.streams == 1
    assert now.disk_bytes >= before.disk_bytes + (4 << 20) <= now.disk_max_bytes
    assert 0 < now.memory_bytes <= now.memory_peak_bytes
    peer.sh("rm /tmp/big")


def test_freeze_and_thaw(peer):
    s = peer.exec(["/bin/sh", "-c", "while :; do echo x; sleep 0.02; done"])
    s.wait_for(lambda s: len(s.stdout) > 4)
    peer.call(wire.FREEZE, wire.FREEZE_OK)
    peer.ping()
    held = len(s.stdout)
    end = peer.run("true")[0]
    assert isinstance(end, wire.Fail) and end.code == 16 and "frozen" in end.text
    assert peer.get("/etc/passwd")[0].code == 0  # files can be fetched from a frozen guest
    time.sleep(0.3)
    peer.ping()
    assert len(s.stdout) == held
    peer.call(wire.THAW, wire.THAW_OK)
    s.wait_for(lambda s: len(s.stdout) > held + 4)
    s.signal(9)
    assert s.wait().value == 9


def open_some(p, kind, n):
    """A stream of one of six kinds; `want` is what its end must look like."""
    if kind == 0:
        s, want = p.exec(["true"]), (0, b"")
    elif kind == 1:
        s, want = p.exec(["no-such-thing"]), (2, b"")
    elif kind == 2:
        s, want = p.exec(["head", "-c", str(n), "/dev/zero"]), (0, bytes(n))
    elif kind == 3:
        data = os.urandom(n % 100000)
        s, want = p.exec(["cat"], flags=wire.STDIN), (0, data)
        s.write(data)
        s.close_input()
    elif kind == 4:
        s, want = p.exec(["sh", "-c", "exit 3"], flags=wire.TTY), (3, b"")
    else:
        s, want = p.open(wire.GET, wire.file_payload("/etc/group")), (0, None)
    s.want = want
    return s


def test_many_kinds_of_streams_at_once(boot):
    """Two CPUs, twenty streams at a time: nothing stalls, nothing mixes, nothing is left."""
    with boot(cpus=2) as g:
        p = g.handshake().peer
        live, opened = [], 0
        count = "ls /proc/1/fd | wc -l; ls /sys/fs/cgroup/workload | grep -c ^e"
        fds, groups = map(int, p.sh(count)[1].split())
        while opened < 150 or live:
            while len(live) < 20 and opened < 150:
                live.append(open_some(p, opened % 6, opened * 7919 % 300000))
                opened += 1
            if not any(s.end is not None for s in live):
                p.pump(time.monotonic() + 20)
            for s in [s for s in live if s.end is not None]:
                live.remove(s)
                del p.streams[s.id]
                assert s.end[1 if isinstance(s.end, wire.Exit) else 0] == s.want[0], s.end
                assert s.want[1] is None or s.stdout == s.want[1]
        for _ in range(40):  # the kernel takes its time to give a cgroup back
            time.sleep(0.25)
            after = list(map(int, p.sh(count)[1].split()))
            if after[0] <= fds + 6 and after[1] <= groups + 1:  # a waiting child may be made or not
                break
        else:
            raise AssertionError(f"{after} descriptors and groups, {fds} and {groups} before")
        assert p.stats().pids == 0

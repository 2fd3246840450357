"""Sessions, over an engine that is this test's own: what comes of the guest's work, whatever the
guest does. No bytes of it mean anything here; what they mean is the parser's to say."""

import fcntl
import json
import os
import signal
import stat
import subprocess

import bermtest
import pytest
import sandboxes

DRIVE = os.path.join(bermtest.TOP, "build", "main", "tests", "integration", "sup", "session_drive")
MOUNT = "/workspace"

# the main command ends at once; then the guest is asked for its work
ENDS = """
start()
end(3)
_, stream, _, _ = receive(COLLECT)
mark("mark-collect")
"""
SENDS = ENDS + """
def work(data):
    for at in range(0, len(data), 65536):
        say(DATA, stream, OUT, data[at : at + 65536])

def whole(code=0, text=b""):
    say(EOF, stream, OUT)
    say(RESULT, stream, payload=fail(code, 0, text))
"""
RESCUES = SENDS.replace("start()\nend(3)\n", "boot()\n")


class Sessions:
    def __init__(self, sup, folder):
        self.sup, self.folder = sup, folder
        self.program = os.path.join(os.path.dirname(os.path.dirname(sup.folder)), "bin", "berm")
        self.base = os.path.join(folder, "base")
        with open(self.base, "wb") as f:
            f.write(b"an image")

    def drive(self, *args, check=True, **more):
        got = subprocess.run([DRIVE, self.program, str(self.sup.state_dir), *args], capture_output=True,
                             text=True, timeout=20 * bermtest.SLOWNESS, stdin=subprocess.DEVNULL, **more)
        assert not check or got.returncode == 0, got.stderr
        return got

    def start(self, *args, **more):
        return subprocess.Popen([DRIVE, self.program, str(self.sup.state_dir), *args], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                **more)

    def new(self):
        return self.drive("new", self.base, MOUNT, "/home/u/caf\udce9").stdout.strip()

    def path(self, session, name=""):
        return os.path.join(self.sup.state_dir, "sessions", session, name)

    def info(self, session):
        return json.loads(self.drive("show", session).stdout)

    def run_args(self, session, *values):
        return ["run", session, "tiny", "engine=1", "cold=1", "memory_mib=64", "disk_mib=64", *values, "--", "true"]

    def run(self, behaviour, *values, session=None):
        """(the session, how its sandbox ended)"""
        session = session or self.new()
        self.sup.play(behaviour)
        got = self.drive(*self.run_args(session, *values))
        return session, json.loads(got.stderr.splitlines()[-1])

    def spool(self, session):
        with open(self.path(session, "spool.tar"), "rb") as f:
            return f.read()


@pytest.fixture
def sessions(sup, tmp_path):
    s = Sessions(sup, tmp_path)
    yield s
    for line in s.drive("list").stdout.splitlines():
        s.drive("remove", line.split()[0])
    assert os.listdir(s.path("")) == []


def uncollected(sessions, session, words):
    """The work is where it was, and both say so: session.json and the next one to look."""
    info = sessions.info(session)
    assert info["state"] == "uncollected", info
    assert words in info["why"], info
    names = os.listdir(sessions.path(session))
    assert "scratch.img" in names and "spool.part" not in names and "spool.tar" not in names
    refused = sessions.drive("spool", session, check=False)
    assert refused.returncode == 1 and words in refused.stderr, refused.stderr
    sessions.drive("dead", session)
    return info


def test_work_is_spooled_sealed_and_kept(sessions):
    data = os.urandom(300_000)
    session, end = sessions.run(SENDS + f"work({data!r}); whole()")
    assert (end["reason"], end["exit_code"], end["message"]) == ("exited", 3, None)
    info = sessions.info(session)
    assert (info["state"], info["ended"], info["exit_code"]) == ("spooled", "exited", 3)
    assert info["spool_bytes"] == len(data) and info["why"] == ""
    assert bytes.fromhex(info["root_hex"]) == b"/home/u/caf\xe9"
    assert sessions.spool(session) == data
    assert stat.S_IMODE(os.stat(sessions.path(session, "spool.tar")).st_mode) == 0o400
    sessions.drive("spool", session)
    # nothing but a decision removes it
    sessions.sup.ok("ps", "-a")
    assert sessions.spool(session) == data


@pytest.mark.parametrize("part", (1, 50, 99))
def test_k6_a_stream_cut_short_is_no_work(sessions, part):
    data = bytes(1000) * part
    session, end = sessions.run(SENDS + f"work({data!r}); raise SystemExit")
    assert end["exit_code"] == 3 and session in end["message"], end
    uncollected(sessions, session, "ended")


def test_k6_a_result_without_the_end_of_its_data_is_no_work(sessions):
    session, _ = sessions.run(SENDS + "work(b'x'); say(RESULT, stream, payload=fail(0, 0))")
    uncollected(sessions, session, "could not send its work")


def test_the_agents_own_failure_is_told(sessions):
    session, end = sessions.run(SENDS + "work(b'x'); whole(5, b'I/O error on the disk')")
    uncollected(sessions, session, "I/O error on the disk")
    assert "I/O error on the disk" in end["message"]


def test_k7_a_channel_that_stalls_ends_by_time(sessions):
    session, end = sessions.run(SENDS + "work(b'x'); silent()", "collect_ms=300")
    assert end["reason"] == "exited"
    uncollected(sessions, session, "too little")


def test_t17_a_byte_now_and_then_is_no_way_to_stay(sessions):
    drip = "while True:\n    work(b'x')\n    time.sleep(0.02)\n"
    session, _ = sessions.run(SENDS + drip, "collect_ms=300")
    uncollected(sessions, session, "too little")


def test_t17_more_than_the_quota_is_refused(sessions):
    session, _ = sessions.run(SENDS + "work(bytes(2 << 20)); whole()", "collect_bytes=1048576")
    uncollected(sessions, session, "over 1 MiB")


SIZED = SENDS + """
def size(n, at=None):
    say(SIZE, at or stream, payload=struct.pack("<Q", n))
"""


def test_l4_how_much_it_is_is_known_before_it_comes(sessions):
    """The guest's word, for whoever waits; what it then sends is what counts."""
    session = sessions.new()
    sessions.sup.play(SIZED + "size(48 << 20); mark('mark-sized')\n"
                      "while not os.path.exists(os.path.join(here, 'mark-go')):\n    time.sleep(0.02)\n"
                      "work(b'less'); whole()")
    caller = sessions.start(*sessions.run_args(session))
    sessions.sup.marked("mark-sized")
    sandboxes.wait_for("its size", lambda: sessions.info(session)["expect_bytes"] == 48 << 20)
    assert sessions.info(session)["state"] == "collecting"
    assert os.stat(sessions.path(session, "spool.part")).st_size == 0
    with open(os.path.join(sessions.sup.folder, "mark-go"), "w"):
        pass
    caller.communicate(timeout=30 * bermtest.SLOWNESS)
    info = sessions.info(session)
    assert (info["state"], info["spool_bytes"], info["expect_bytes"]) == ("spooled", 4, 0)


def test_l4_too_much_is_refused_before_it_comes(sessions):
    session, _ = sessions.run(SIZED + "size(50 << 30); silent()")
    info = uncollected(sessions, session, "51200 MiB, which is over 16384 MiB")
    assert info["expect_bytes"] == 0


@pytest.mark.parametrize("lie", ("size(1); size(1)", "work(b'x'); size(1)", "size(1, at=99)"))
def test_l4_a_size_out_of_place_is_a_lie(sessions, lie):
    session, _ = sessions.run(SIZED + lie + "; silent()")
    uncollected(sessions, session, "broke the protocol")


def test_a_guest_that_lies_meanwhile_is_ended(sessions):
    session, _ = sessions.run(SENDS + "say(DATA, stream, ERR, b'x'); silent()")
    uncollected(sessions, session, "two channels")
    session, _ = sessions.run(SENDS + "say(EOF, stream, OUT); say(EOF, stream, OUT); silent()")
    uncollected(sessions, session, "EOF twice")


LIES = {
    # what the agent does once it was asked: a word of why there is no work
    "another version": ("send(hello(77)); silent()", "broke the protocol"),
    "hello again": ("send(hello()); silent()", "broke the protocol"),
    "identity": ("say(IDENTITY_OK); silent()", "broke the protocol"),
    "no frame": ("send(bytes(4096)); silent()", "broke the protocol"),
    "another epoch": ("send(frame(DATA, stream, OUT, b'x', epoch_=9)); silent()", "broke the protocol"),
    "a stream of the future": ("say(DATA, stream + 1, OUT, b'x'); silent()", "nobody opened"),
    "the command's frames": ("say(EXEC_OK, stream, payload=u32(1)); silent()", "EXEC_OK out of place"),
    "a command's end": ("say(EXIT, stream, payload=exit_payload(0)); silent()", "never started"),
    "a command's failure": ("say(EXEC_ERR, stream, payload=fail(2, 3)); silent()", "EXEC_ERR out of place"),
    "more credit": ("\nwhile True: say(CREDIT, stream, IN, u32(1 << 30))", "more credit"),
    "events": ("\nwhile True: say(EVENT, payload=struct.pack('<BBQ', 3, 0, 1))", "events"),
    "work after its end": ("work(b'x'); say(EOF, stream, OUT); work(b'y'); silent()", "after its EOF"),
    "fatal": ("say(FATAL, payload=str16(b'last words')); silent()", "last words"),
    "refuse": ("say(REFUSE, payload=str16(b'no more')); silent()", "no more"),
    "reset": ("work(b'x'); say(RESET, stream, payload=u32(5)); silent()", "gave up"),
}


@pytest.mark.parametrize("lie", LIES)
def test_t19_an_agent_that_lies_while_its_work_is_fetched(sessions, lie):
    """One that was taken over: the sandbox ends as its command did, the disk stays, and nothing is read."""
    does, words = LIES[lie]
    session, end = sessions.run(SENDS + does)
    assert (end["reason"], end["exit_code"]) == ("exited", 3), end
    info = uncollected(sessions, session, words)
    assert info["ended"] == "exited"


@pytest.mark.parametrize("more", ("say(RESULT, stream, payload=fail(0, 0))", "say(RESULT, stream, payload=fail(5, 0))",
                                  "work(b'more')", "say(RESET, stream, payload=u32(5))", "send(bytes(9999))"))
def test_t19_what_comes_after_the_end_changes_nothing(sessions, more):
    data = bytes(range(256)) * 999
    session, end = sessions.run(SENDS + f"work({data!r})\ntry:\n    whole(); {more}\nexcept OSError:\n    pass\n")
    assert (end["reason"], end["exit_code"]) == ("exited", 3), end
    assert sessions.spool(session) == data and sessions.info(session)["why"] == ""


def test_t19_a_command_that_goes_on_writing_is_no_work(sessions):
    """Its time is over and its work is fetched: what it still says is neither kept nor waited for."""
    goes_on = "\nfor i in range(8): say(DATA, 1, OUT, bytes(1000))\n"
    session, end = sessions.run(SENDS.replace("end(3)", "") + goes_on + "work(b'done'); whole()", "time_ms=300")
    assert (end["reason"], end["exit_code"]) == ("time", 124)
    assert sessions.spool(session) == b"done"


def test_k4_a_machine_that_dies_leaves_its_disk(sessions):
    session, end = sessions.run("start(); raise SystemExit")
    assert end["reason"] == "engine-died" and session in end["message"], end
    assert end["message"].count(end["message"].split(";")[0]) == 1, end  # how it ended is said once
    uncollected(sessions, session, "not there to be asked")


def test_a_time_limit_ends_the_command_and_not_its_work(sessions):
    session, end = sessions.run(
        SENDS.replace("end(3)", "") + "work(b'half done'); whole()", "time_ms=300")
    assert (end["reason"], end["exit_code"]) == ("time", 124)
    assert sessions.spool(session) == b"half done"


def test_a_caller_is_told_that_its_command_was_cut_off_before_its_work_is_here(sessions):
    """So that a terminal is its user's again while that is fetched."""
    session = sessions.new()
    sessions.sup.play(SENDS.replace("end(3)", "") + """
while not os.path.exists(os.path.join(here, "go on")):
    time.sleep(0.01)
whole()
""")
    caller = sessions.start(*sessions.run_args(session, "time_ms=300"))
    assert caller.stderr.readline() == "cut off\n"
    assert caller.poll() is None
    with open(os.path.join(sessions.sup.folder, "go on"), "w", encoding="ascii"):
        pass
    _, err = caller.communicate(timeout=30 * bermtest.SLOWNESS)
    os.unlink(os.path.join(sessions.sup.folder, "go on"))
    assert json.loads(err.splitlines()[-1])["reason"] == "time"
    assert sessions.spool(session) == b""


def test_a_machine_that_never_came_up_leaves_nothing_to_keep(sessions):
    session, end = sessions.run("raise SystemExit")
    assert end["reason"] == "engine-died" or end["exit_code"] == 125, end
    assert sessions.info(session)["state"] == "packed"
    assert "scratch.img" not in os.listdir(sessions.path(session))
    _, end = sessions.run(SENDS + "work(b'again'); whole()", session=session)
    assert sessions.spool(session) == b"again"


def test_a_caller_that_goes_away_leaves_its_work_to_be_fetched(sessions):
    session = sessions.new()
    sessions.sup.play(SENDS.replace("end(3)", "mark('mark-runs')") + "work(b'kept'); whole()")
    caller = sessions.start(*sessions.run_args(session))
    sessions.sup.marked("mark-runs")
    caller.kill()
    caller.communicate()
    sandboxes.wait_for("the work", lambda: sessions.info(session)["state"] == "spooled")
    assert sessions.info(session)["ended"] == "caller-gone"
    assert sessions.spool(session) == b"kept"


def test_k13_told_twice_to_end_it_waits_no_longer(sessions):
    session = sessions.new()
    sessions.sup.play(ENDS)
    caller = sessions.start(*sessions.run_args(session))
    sessions.sup.marked("mark-collect")
    held = sessions.drive("remove", session, check=False)
    assert f"work of session {session} is being fetched from its guest: wait" in held.stderr, held.stderr
    os.kill(sessions.sup.supervisor(), signal.SIGTERM)
    _, err = caller.communicate(timeout=30 * bermtest.SLOWNESS)
    assert json.loads(err.splitlines()[-1])["exit_code"] == 3, err
    uncollected(sessions, session, "told to end")


def test_k5_a_supervisor_that_is_killed_leaves_its_disk(sessions):
    session = sessions.new()
    sessions.sup.play("start(); mark('mark-runs'); silent()")
    caller = sessions.start(*sessions.run_args(session))
    sessions.sup.marked("mark-runs")
    held = sessions.drive("remove", session, check=False)
    sandbox = sessions.info(session)["sandbox"]
    assert f"agent of session {session} still works, in sandbox {sandbox}: " in held.stderr, held.stderr
    assert f"'berm stop {sandbox}'" in held.stderr and "process" not in held.stderr
    os.kill(sessions.sup.supervisor(), signal.SIGKILL)
    caller.communicate(timeout=30 * bermtest.SLOWNESS)
    sandboxes.wait_for("the machine's end",
                       lambda: sessions.drive("dead", session, check=False).returncode == 0)
    uncollected(sessions, session, "its supervisor died")
    sessions.sup.ok("ps", "-a")  # sweeps the sandbox


def test_k8_what_cannot_be_known_dead_is_not_read(sessions):
    session, _ = sessions.run(SENDS + "work(b'x'); whole()")
    with open(sessions.path(session, "scratch.img"), "rb") as disk:
        fcntl.flock(disk, fcntl.LOCK_EX)  # as a machine does that is still there
        for order in ("dead", "spool", "remove"):
            refused = sessions.drive(order, session, check=False)
            assert refused.returncode == 1
            assert "may still be alive" in refused.stderr, refused.stderr
    sessions.drive("spool", session)


def test_k10_a_full_disk_keeps_the_work_where_it_was(sessions, sup):
    session = sessions.new()
    room = sessions.path(session)
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    keep = {n: open(os.path.join(room, n), "rb").read(64 << 10) for n in os.listdir(room)}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "none", room], check=True)
    try:
        for name, data in keep.items():
            with open(os.path.join(room, name), "wb") as f:
                f.write(data)
        _, end = sessions.run(SENDS + "work(bytes(24 << 20)); whole()", session=session)
        info = sessions.info(session)
        assert info["state"] == "uncollected" and "berm's state has no room" in info["why"], info
        assert "No space" in info["why"], info
        assert "spool.part" not in os.listdir(room)
        # there is room again: what is rescued is whole
        subprocess.run(["mount", "-o", "remount,size=64m", room], check=True)
        sessions.sup.play(RESCUES + "work(bytes(24 << 20)); whole()")
        sessions.drive("rescue", session, "engine=1")
        assert sessions.info(session)["spool_bytes"] == 24 << 20
    finally:
        subprocess.run(["umount", "-l", room], check=True)


def test_k4_a_rescue_fetches_what_is_left(sessions):
    session, _ = sessions.run("start(); raise SystemExit")
    sessions.sup.play(RESCUES + "work(b'half'); raise SystemExit")
    failed = sessions.drive("rescue", session, "engine=1", check=False)
    assert failed.returncode == 1 and "still there" in failed.stderr, failed.stderr
    uncollected(sessions, session, "ended")
    sessions.sup.play(RESCUES + "work(b'all of it'); whole()")
    sessions.drive("rescue", session, "engine=1")
    info = sessions.info(session)
    assert (info["state"], info["ended"]) == ("spooled", "engine-died")
    assert sessions.spool(session) == b"all of it"
    assert "rescue.img" not in os.listdir(sessions.path(session))
    assert "uncollected" not in sessions.drive("list").stdout


def test_k12_the_lock_of_a_dead_process_is_free(sessions):
    session, _ = sessions.run(SENDS + "work(b'x'); whole()")
    holder = sessions.start("hold", session, "review")
    assert holder.stdout.readline() == "held\n"
    refused = sessions.drive("hold", session, check=False)
    said = f"session {session} is in use by another berm (review, process {holder.pid})"
    assert said in refused.stderr, refused.stderr
    assert refused.returncode == 1
    holder.kill()
    holder.communicate()
    sessions.drive("hold", session)


def test_s13_a_session_that_never_ran_is_no_residue(sessions):
    session = sessions.new()
    assert sessions.drive("list").stdout == ""
    assert not os.path.exists(sessions.path(session))


def test_s16_sessions_do_not_know_of_each_other(sessions):
    first, _ = sessions.run(SENDS + "work(b'first'); whole()")
    second, _ = sessions.run(SENDS + "work(b'second'); whole()")
    assert (sessions.spool(first), sessions.spool(second)) == (b"first", b"second")
    listed = [line.split() for line in sessions.drive("list").stdout.splitlines()]
    assert [(i, s) for i, s, _ in listed] == [(second, "spooled"), (first, "spooled")]
    assert all(int(n) > 0 for _, _, n in listed)


def test_a_session_is_stopped_by_its_command_and_not_copied(sessions):
    session = sessions.new()
    sessions.sup.play(SENDS.replace("end(3)", "mark('mark-runs'); receive(SIGNAL); end(0)") + "whole()")
    caller = sessions.start(*sessions.run_args(session))
    sessions.sup.marked("mark-runs")
    refused = sessions.sup.run("snapshot", sessions.sup.the_id(), "s1")
    assert refused.returncode != 0 and "session" in refused.stderr, refused.stderr
    sessions.sup.ok("stop", sessions.sup.the_id())  # the command is told, and the guest stays
    _, err = caller.communicate(timeout=30 * bermtest.SLOWNESS)
    assert json.loads(err.splitlines()[-1])["reason"] == "stopped", err
    assert sessions.info(session)["state"] == "spooled"

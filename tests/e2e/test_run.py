"""berm run: streams, exit codes, users, environments and what the image says."""

import hashlib
import random
import socket
import subprocess

import pytest
from sandboxes import LEVELS, Stopwatch, finish, one_line, stretched

ALL_BYTES = bytes(range(256))


def test_stdout_of_a_command(berm, bb):
    got = berm.run("run", bb, "echo", "hello", "world")
    assert (got.returncode, got.stdout, got.stderr) == (0, "hello world\n", "")


def test_stderr_stays_apart(berm, bb):
    got = berm.run("run", bb, "sh", "-c", "echo out; echo err >&2; echo out again")
    assert (got.returncode, got.stdout, got.stderr) == (0, "out\nout again\n", "err\n")


def test_arguments_arrive_as_they_are(berm, bb):
    words = ["", " ", "a b", "$HOME", "'\"\\", "*", "-n", "--", "ü\N{SNOWMAN}", "line\nline", "\x01"]
    got = berm.ok("run", bb, "sh", "-c", 'for a; do printf "<%s>" "$a"; done', "sh", *words)
    assert got == "".join(f"<{w}>" for w in words)


def test_stdin_of_100_mb_through_sha256sum(berm, bb):
    data = random.Random(1).randbytes(100_000_000)
    got = berm.ok("run", bb, "sha256sum", input=data)
    assert got.split()[0] == hashlib.sha256(data).hexdigest()


def test_every_byte_comes_back_as_it_was(berm, bb):
    data = ALL_BYTES * 4096 + random.Random(2).randbytes(3_000_001)
    got = berm.run("run", bb, "cat", input=data, text=False)
    assert got.returncode == 0
    assert got.stdout == data


def test_output_of_both_kinds_at_once_is_whole(berm, bb):
    script = "head -c 2000000 /dev/zero >&2 & head -c 3000000 /dev/zero | tr '\\0' x; wait"
    got = berm.run("run", bb, "sh", "-c", script, text=False)
    assert got.returncode == 0
    assert got.stdout == b"x" * 3_000_000
    assert got.stderr == "\0" * 2_000_000


@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_exit_code(berm, bb, code):
    assert berm.run("run", bb, "sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("name, number", [("TERM", 15), ("KILL", 9), ("SEGV", 11), ("HUP", 1)])
def test_death_by_a_signal(berm, bb, name, number):
    code, said = berm.judged(bb, "sh", "-c", f"kill -{name} $$")
    assert code == 128 + number
    assert said["result"]["reason"] == "signaled"
    assert said["result"]["signal"] == number


def test_command_that_does_not_exist(berm, bb):
    assert "no-such-command" in berm.refused(127, "run", bb, "no-such-command")


def test_path_that_does_not_exist(berm, bb):
    assert "/no/such/path" in berm.refused(127, "run", bb, "/no/such/path")


def test_file_that_is_not_executable(berm, bb):
    assert "not-executable" in berm.refused(126, "run", bb, "/etc/not-executable")


def test_directory_as_command(berm, bb):
    berm.refused(126, "run", bb, "/etc")


def test_user_that_does_not_exist(berm, bb):
    assert "martian" in berm.refused(125, "run", "--user", "martian", bb, "id")


def test_group_that_does_not_exist(berm, bb):
    assert "martians" in berm.refused(125, "run", "--user", "dev:martians", bb, "id")


def test_working_directory_that_does_not_exist(berm, bb):
    assert "/no/such" in berm.refused(125, "run", "--workdir", "/no/such", bb, "pwd")


@pytest.mark.parametrize(
    "user, wanted",
    [
        ("dev", "1000 1000 /home/dev"),
        ("1000", "1000 1000 /home/dev"),
        ("dev:0", "1000 0 /home/dev"),
        ("4321:8765", "4321 8765 /"),
        ("root", "0 0 /root"),
    ],
)
def test_user_by_name_and_number(berm, bb, user, wanted):
    got = berm.ok("run", "--user", user, bb, "sh", "-c", 'echo "$(id -u) $(id -g) $HOME"')
    assert got.strip() == wanted


def test_user_cannot_write_what_is_roots(berm, bb):
    got = berm.run("run", "--user", "dev", bb, "sh", "-c", "echo x > /etc/passwd")
    assert got.returncode != 0
    assert "ermission denied" in got.stderr


def test_working_directory(berm, bb):
    assert berm.ok("run", "--workdir", "/usr/bin", bb, "pwd") == "/usr/bin\n"


def test_environment_from_flags(berm, bb):
    env = {"FROM_HOST": "of the host", "SECRET": "stays here"}
    flags = ["-e", "A=1", "-e", "B=two words", "-e", "FROM_HOST", "-e", "NOT_SET", "-e", "A=last"]
    got = berm.ok("run", *flags, bb, "env", env=env).splitlines()
    assert "A=last" in got and "A=1" not in got
    assert "B=two words" in got
    assert "FROM_HOST=of the host" in got
    assert not [line for line in got if "NOT_SET" in line or "stays here" in line]


def test_environment_from_a_file(berm, bb, tmp_path):
    file = tmp_path / "env"
    file.write_text("# a comment\n\nONE=1\nTWO=a=b\nFROM_HOST\n")
    got = berm.ok("run", "--env-file", file, bb, "env", env={"FROM_HOST": "x"}).splitlines()
    assert {"ONE=1", "TWO=a=b", "FROM_HOST=x"} <= set(got)


def test_environment_file_that_is_missing(berm, bb):
    assert "/no/such" in berm.refused(125, "run", "--env-file", "/no/such", bb, "env")


def test_environment_holds_nothing_else(berm, bb):
    got = berm.ok("run", bb, "env", env={"LEAKED": "1", "LD_PRELOAD": "", "BERM_X": "1"})
    names = {line.partition("=")[0] for line in got.splitlines()}
    assert names <= {"HOME", "PATH", "TERM", "USER", "SHLVL", "PWD", "HOSTNAME"}


def test_hostname(berm, bb):
    assert berm.ok("run", "--hostname", "moon", bb, "hostname") == "moon\n"


def test_images_entrypoint_and_command(berm, configured):
    assert berm.ok("run", configured) == "entry from cmd\n"


def test_words_replace_the_images_command(berm, configured):
    assert berm.ok("run", configured, "a", "b") == "entry a b\n"


def test_entrypoint_of_ours(berm, configured):
    got = berm.ok("run", "--entrypoint", "/bin/head", configured, "-n1", "/etc/passwd")
    assert got.startswith("root:")


def test_images_environment_user_and_directory(berm, configured):
    script = 'echo "$GREETING|$(id -un)|$(pwd)|$PATH"'
    got = berm.ok("run", "--entrypoint", "", configured, "sh", "-c", script)
    assert got == "hello from the image|dev|/home/dev|/bin:/usr/bin\n"


def test_flags_win_over_the_image(berm, configured):
    flags = ["--entrypoint", "", "--user", "root", "--workdir", "/etc", "-e", "GREETING=mine"]
    got = berm.ok("run", *flags, configured, "sh", "-c", 'echo "$GREETING|$(id -un)|$(pwd)"')
    assert got == "mine|root|/etc\n"


def test_json_has_result_and_output(berm, bb, engine):
    code, said = berm.judged(bb, "sh", "-c", "echo out; echo err >&2; exit 3")
    assert code == 3
    assert (said["stdout"], said["stderr"]) == ("out\n", "err\n")
    result = said["result"]
    assert (result["reason"], result["exit_code"]) == ("exited", 3)
    assert (result["engine"], result["level"]) == (engine, LEVELS[engine])
    assert result["image"] == bb
    assert result["output_bytes"] == 8
    assert 0 <= result["wall_ms"] < stretched(60_000)
    assert result["host"]["memory_peak_bytes"] > 1 << 20


def test_json_of_a_command_that_is_not_there(berm, bb):
    code, said = berm.judged(bb, "no-such-command")
    assert code == 127
    assert said["result"]["reason"] == "command"


def test_result_beside_the_output(berm, bb, tmp_path):
    file = tmp_path / "result.json"
    assert berm.ok("run", "--result", file, bb, "echo", "x") == "x\n"
    assert '"reason":"exited"' in file.read_text()


def test_stdin_of_dev_null(berm, bb):
    with open("/dev/null", "rb") as null:
        argv, seconds = berm.argv(["run", bb, "cat"]), stretched(60)
        got = subprocess.run(argv, env=berm.env, stdin=null, capture_output=True, timeout=seconds)
    assert (got.returncode, got.stdout) == (0, b"")


def test_closed_stdin(berm, bb):
    got = berm.shell(f'"$BERM" run {bb} sh -c "cat; echo done" <&-')
    assert (got.returncode, got.stdout) == (0, "done\n"), got.stderr


def test_closed_stdout(berm, bb):
    got = berm.shell(f'"$BERM" run {bb} sh -c "echo lost; exit 5" >&-', timeout=60)
    assert got.returncode != 0  # its output could not be delivered, or the command's own code
    assert len(got.stderr.splitlines()) <= 1


def test_reader_that_has_enough(berm, bb):
    watch = Stopwatch()
    got = berm.shell(f'"$BERM" run {bb} yes 2>/dev/null | head -n 1', timeout=60)
    assert got.stdout == "y\n"
    assert watch.seconds() < 30


def test_stdin_that_nobody_reads(berm, bb):
    got = berm.run("run", bb, "sleep", "1", input=b"x" * 8_000_000, timeout=60)
    assert got.returncode == 0


def test_no_stdin(berm, bb):
    got = berm.run("run", "--no-stdin", bb, "wc", "-c", input=b"12345")
    assert got.stdout.strip() == "0"


def test_stdin_that_stays_open(berm, bb):
    """The command ends although its stdin did not."""
    proc = berm.start("run", bb, "head", "-n", "1")
    proc.stdin.write(b"first\n")
    proc.stdin.flush()
    assert proc.stdout.readline() == b"first\n"
    assert proc.wait(stretched(30)) == 0
    finish(proc, 5)


def test_conversation(berm, bb):
    """Each line is answered before the next is sent: nothing waits for a buffer to fill."""
    proc = berm.start("run", bb, "sh", "-c", 'while read -r x; do echo "got $x"; done')
    for i in range(20):
        proc.stdin.write(b"%d\n" % i)
        proc.stdin.flush()
        assert proc.stdout.readline() == b"got %d\n" % i
    assert finish(proc, 30)[0] == 0


def test_processes_left_in_the_guest_do_not_hold_the_end_up(berm, bb):
    watch = Stopwatch()
    got = berm.run("run", bb, "sh", "-c", "(sleep 300 &) ; echo parent")
    assert (got.returncode, got.stdout) == (0, "parent\n")
    assert watch.seconds() < 30


def test_large_command_line(berm, bb):
    words = ["x" * 60_000] * 3
    got = berm.ok("run", bb, "sh", "-c", 'for a; do echo "${#a}"; done', "sh", *words)
    assert got == "60000\n" * 3


def test_command_line_that_is_too_large(berm, bb):
    line = berm.refused(125, "run", bb, "echo", *["x" * 60_000] * 6)
    assert "standard input" in line


def test_cold_start(berm, bb):
    code, said = berm.judged("--cold", bb, "echo", "cold")
    assert (code, said["stdout"], said["result"]["start"]) == (0, "cold\n", "cold")


def test_stdout_that_is_a_socket(berm, bb):
    ours, theirs = socket.socketpair()
    proc = berm.start("run", bb, "echo", "through a socket", stdout=theirs)
    theirs.close()
    assert ours.recv(64) == b"through a socket\n"
    ours.close()
    finish(proc, 30)


def test_image_that_is_not_there(berm):
    got = berm.run("run", "no-such-image", "true")
    assert got.returncode == 125
    assert "no-such-image" in one_line(got.stderr)

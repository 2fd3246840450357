"""Each limit ends what breaks it, for its own reason and in a bounded time, and only that."""

import concurrent.futures
import re

import pytest
from sandboxes import Stopwatch, finish, one_line, stretched

MIB = 1 << 20
BOMB = "bomb() { bomb & bomb & wait; }; bomb"
SECONDS_MAX = 60  # of any of these, on a busy machine


def ended(berm, wanted, *args, code=137):
    """Runs it and checks the reason, the exit code and the time. Returns the JSON object."""
    watch = Stopwatch()
    got, said = berm.judged(*args)
    result = said["result"]
    assert (result["reason"], got) == (wanted, code), result
    assert result["exit_code"] == code
    assert wanted in result["limits_hit"]
    assert result["message"]
    assert watch.seconds() < SECONDS_MAX
    return said


def test_fork_bomb(berm, bb):
    """It is refused and gives up by itself, but the result says what it met."""
    watch = Stopwatch()
    code, said = berm.judged("--pids", "64", "--time", "40s", bb, "sh", "-c", BOMB)
    assert "pids" in said["result"]["limits_hit"]
    assert code in (0, 2) and said["result"]["reason"] == "exited"
    assert watch.seconds() < SECONDS_MAX


def test_fork_bomb_that_does_not_give_up(berm, bb):
    script = "while :; do (sleep 300 &); done 2>/dev/null"
    said = ended(berm, "pids", "--pids", "64", bb, "sh", "-c", script)
    assert "64 (--pids)" in said["result"]["message"]


def test_memory_hog(berm, bb):
    said = ended(berm, "memory", "-m", "128MiB", bb, "sort", "/dev/zero")
    assert "128 MiB (--memory)" in said["result"]["message"]


def test_large_memory_hogs_at_once(berm, bb):
    """The dead of a busy host take their time: the reason is the limit all the same."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        words = ("memory", "-m", "384MiB", bb, "sort", "/dev/zero")
        for job in [pool.submit(ended, berm, *words) for _ in range(4)]:
            job.result()


def test_memory_hog_that_grows_slowly(berm, bb):
    """The guest neither thrashes for minutes nor runs out itself."""
    ended(berm, "memory", "-m", "128MiB", bb, "sh", "-c", "yes | sort")


def test_memory_hog_in_a_tmpfs(berm, bb):
    """Killing a process frees nothing here."""
    script = "mkdir /t && mount -t tmpfs -o size=1g tmpfs /t && exec cat /dev/zero > /t/f"
    ended(berm, "memory", "-m", "128MiB", bb, "sh", "-c", script)


def test_disk_filler(berm, bb):
    said = ended(
        berm, "disk", "--disk", "64MiB", bb, "sh", "-c", "cat /dev/zero > /big; exit 9", code=9
    )
    assert "--disk" in said["result"]["message"]
    assert "No space left" in said["stderr"]


def test_disk_limit_leaves_what_fits(berm, bb):
    script = "head -c 30m /dev/zero > /fits && stat -c %s /fits"
    code, said = berm.judged("--disk", "64MiB", bb, "sh", "-c", script)
    assert (code, said["stdout"]) == (0, f"{30 * MIB}\n"), said
    assert said["result"]["limits_hit"] == []


def test_output_flood(berm, bb):
    said = ended(berm, "output", "--output", "1MiB", bb, "yes")
    assert said["result"]["output_bytes"] == MIB
    assert len(said["stdout"]) == MIB


def test_output_flood_is_cut_at_the_byte(berm, bb):
    got = berm.run("run", "--output", "1000", bb, "sh", "-c", "yes | head -c 1000; sleep 300 & yes >&2")
    assert got.returncode == 137
    assert len(got.stdout) + len("".join(got.stderr.splitlines(True)[:-1])) == 1000
    assert "--output" in got.stderr.splitlines()[-1]


def test_output_up_to_the_limit_is_fine(berm, bb):
    got = berm.run("run", "--output", "1000", bb, "sh", "-c", "yes | head -c 1000")
    assert (got.returncode, len(got.stdout)) == (0, 1000)


def test_busy_loop(berm, bb):
    said = ended(berm, "time", "--time", "2s", bb, "sh", "-c", "while :; do :; done", code=124)
    # the limit counts from the order to start it, wall_ms from the word that it runs
    assert 1000 <= said["result"]["wall_ms"] < stretched(10_000)


def test_busy_loop_is_not_idle(berm, bb):
    ended(
        berm, "time", "--time", "4s", "--idle", "2s", bb, "sh", "-c", "while :; do :; done", code=124
    )


def test_sleeping_forever(berm, bb):
    said = ended(berm, "idle", "--idle", "2s", bb, "sleep", "100000", code=124)
    assert 2000 <= said["result"]["wall_ms"] < stretched(20_000)


def test_output_is_not_idle(berm, bb):
    script = "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.5; done"
    got = berm.run("run", "--idle", "2s", bb, "sh", "-c", script)
    assert (got.returncode, got.stdout.split()) == (0, list("12345678")), got.stderr


def test_input_is_not_idle(berm, bb):
    proc = berm.start("run", "--idle", "2s", bb, "cat")
    for _ in range(8):
        proc.stdin.write(b"x\n")
        proc.stdin.flush()
        assert proc.stdout.readline() == b"x\n"
        try:
            proc.wait(0.5)
        except Exception:  # it should not end, so this times out
            continue
    assert finish(proc, 30)[0] == 0


def test_ignoring_signals_does_not_help_against_time(berm, bb):
    script = "trap '' TERM INT HUP QUIT; while :; do :; done"
    ended(berm, "time", "--time", "1s", bb, "sh", "-c", script, code=124)


def test_what_was_said_before_a_limit_arrives(berm, bb):
    got = berm.run("run", "--time", "2s", bb, "sh", "-c", "echo before; echo too >&2; sleep 300")
    assert got.returncode == 124
    assert got.stdout == "before\n"
    said = got.stderr.splitlines()
    assert said[0] == "too"
    assert "--time" in one_line(said[1])


def test_limits_hit_by_others_do_not_blame_the_command(berm, bb):
    """A child dies of memory; the command goes on and ends well."""
    script = "(sort /dev/zero); echo still here"
    code, said = berm.judged("-m", "128MiB", bb, "sh", "-c", script)
    result = said["result"]
    assert (code, result["reason"], said["stdout"]) == (0, "exited", "still here\n")
    assert "memory" in result["limits_hit"]


@pytest.mark.parametrize("cpus", [1, 2])
def test_cpus_in_the_guest(berm, bb, cpus):
    assert berm.ok("run", "--cpus", cpus, bb, "nproc").strip() == str(cpus)


def test_memory_in_the_guest(berm, bb):
    text = berm.ok("run", "-m", "128MiB", bb, "cat", "/proc/meminfo")
    total_kib = int(re.search(r"MemTotal:\s+(\d+) kB", text).group(1))
    assert 0.75 * 128 * 1024 <= total_kib <= 128 * 1024


def test_disk_in_the_guest(berm, bb):
    text = berm.ok("run", "--disk", "64MiB", bb, "df", "-k", "/")
    total_kib = int(text.splitlines()[-1].split()[-5])
    assert 0.85 * 64 * 1024 <= total_kib <= 64 * 1024


def test_pids_in_the_guest(berm, bb):
    """The shell and 19 more; one more than that may do, for the agent keeps a place for an exec."""
    script = "i=0; while [ $i -lt %d ]; do sleep 30 & i=$((i+1)); done; echo $i"
    got = berm.run("run", "--pids", "20", bb, "sh", "-c", script % 19)
    assert (got.returncode, got.stdout) == (0, "19\n"), got.stderr
    assert berm.run("run", "--pids", "20", bb, "sh", "-c", script % 21).returncode != 0


@pytest.mark.parametrize(
    "flags, wanted",
    [
        (["--cpus", "0"], "cpus"),
        (["--cpus", "10000"], "cpus"),
        (["--cpus", "-1"], "cpus"),
        (["--cpus", "two"], "cpus"),
        (["--memory", "1MiB"], "memory"),
        (["--memory", "0"], "memory"),
        (["--memory", "1000TiB"], "memory"),
        (["--memory", "12XB"], "memory"),
        (["--memory", "99999999999999999999999"], "memory"),
        (["--disk", "1KiB"], "disk"),
        (["--disk", "0"], "disk"),
        (["--disk", "-5GiB"], "disk"),
        (["--pids", "0"], "pids"),
        (["--pids", "99999999"], "pids"),
        (["--time", "soon"], "time"),
        (["--time", "0"], "time"),
        (["--idle", "-1s"], "idle"),
        (["--output", "lots"], "output"),
    ],
)
def test_limit_out_of_bounds(berm, bb, flags, wanted):
    watch = Stopwatch()
    assert wanted in berm.refused(125, "run", *flags, bb, "true")
    assert watch.seconds() < 5


def test_more_memory_than_the_host_has(berm, bb):
    """Accepted or refused, but with a word and not by a host that dies."""
    got = berm.run("run", "--cold", "--memory", "64GiB", bb, "echo", "alive", timeout=90)
    assert got.stdout == "alive\n" or (got.returncode == 125 and one_line(got.stderr))


def test_real_time_scheduling_is_named(berm, bb):
    """Where the kernel groups real-time processes it takes none into ours, and says only EINVAL."""
    if berm.shell("chrt -r 1 true").returncode != 0:
        pytest.skip("this user may not ask for real-time scheduling")
    tried = berm.shell('chrt -r 1 "$BERM" run $IMAGE true', IMAGE=bb)
    if tried.returncode != 0:
        assert tried.returncode == 125 and "real-time scheduling (SCHED_RR)" in one_line(tried.stderr), tried.stderr

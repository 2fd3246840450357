"""The test host: what it promises its commands, and that nothing of it stays behind."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
import types

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
sys.path.insert(0, f"{TOP}/tools/kvmhost.d")

import keeper  # noqa: E402

TOOL = f"{TOP}/tools/kvmhost"
SECONDS = 120  # of one command, with a boot on a busy machine
NOBODY = 65534

CREATE_VM = """
import fcntl, os
kvm = os.open("/dev/kvm", os.O_RDWR)
print(fcntl.ioctl(kvm, 0xAE00, 0), fcntl.ioctl(kvm, 0xAE01, 0) > 2)  # API version; a machine
"""


def kvmhost(*args, env=None, cwd=TOP, text=True, **more):
    return subprocess.run(
        [TOOL, *map(str, args)],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=text,
        timeout=SECONDS,
        check=False,
        **more,
    )


def refused(*args, **more):
    """The one line it says."""
    got = kvmhost(*args, **more)
    assert got.returncode == 125, got
    assert got.stdout == ""
    lines = got.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("kvmhost: "), got.stderr
    return lines[0]


@pytest.fixture(scope="module")
def bootable():
    got = kvmhost("--timeout", "60", "--", "true")
    if got.returncode == 125 and "not built" in got.stderr:
        pytest.skip("the test host has no kernel: tools/kvmhost --build")
    assert got.returncode == 0, got.stderr


@pytest.fixture(scope="module")
def host(bootable, tmp_path_factory):
    """A function that runs a command in one host that stays up."""
    folder = tmp_path_factory.mktemp("host")
    shared = tmp_path_factory.mktemp("shared")
    started = kvmhost("--share", shared, "--start", folder)
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")

    def run(*command, options=(), **more):
        return kvmhost(*options, "--in", folder, "--", *command, **more)

    run.folder = folder
    run.shared = shared
    yield run
    assert kvmhost("--stop", folder).returncode == 0
    assert os.listdir(folder) == []


def machines(folder):
    """QEMU processes of test hosts that know of that folder: as theirs or as a share."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read()
        except OSError:
            continue
        if b"name=kvmhost,nr=1" in words and os.fsencode(folder) in words:
            found.add(int(pid))
    return found


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited for nothing"
        time.sleep(0.05)


# -- what a command gets


@pytest.mark.parametrize("code", [0, 1, 7, 125, 255])
def test_exit_codes_come_back(host, code):
    assert host("sh", "-c", f"exit {code}").returncode == code


def test_death_by_signal(host):
    assert host("sh", "-c", "kill -9 $$").returncode == 137


def test_what_cannot_be_executed(host):
    got = host("/no/such/program")
    assert got.returncode == 127
    assert got.stderr == "kvmhost: /no/such/program: No such file or directory\n"
    got = host("/etc/passwd")
    assert (got.returncode, got.stderr) == (126, "kvmhost: /etc/passwd: Permission denied\n")


def test_stdout_and_stderr_stay_apart(host):
    got = host("sh", "-c", "echo one; echo two >&2; printf three")
    assert (got.stdout, got.stderr) == ("one\nthree", "two\n")


def test_output_is_exact(host):
    size = 3 << 20
    script = (
        "import hashlib, os, sys; d = os.urandom(%d); sys.stdout.buffer.write(d);"
        "sys.stdout.flush(); sys.stderr.write(hashlib.sha256(d).hexdigest())" % size
    )
    got = host("/usr/bin/python3", "-c", script, text=False)
    assert len(got.stdout) == size
    assert hashlib.sha256(got.stdout).hexdigest() == got.stderr.decode()


def test_output_streams(host):
    """A line arrives while the command still runs."""
    proc = subprocess.Popen(
        [TOOL, "--in", host.folder, "--", "sh", "-c", "echo now; exec sleep 100"],
        stdout=subprocess.PIPE,
    )
    assert proc.stdout.readline() == b"now\n"
    assert proc.poll() is None
    proc.send_signal(signal.SIGINT)
    assert proc.wait(SECONDS) == 130
    proc.stdout.close()


def test_a_reader_that_leaves(host):
    script = f"{TOOL} --in {host.folder} -- yes | head -n 1; echo ${{PIPESTATUS[0]}}"
    got = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=SECONDS)
    assert got.stdout == "y\n141\n"
    wait_for(lambda: host("pgrep", "-x", "yes").returncode == 1)


def test_stdin_is_empty(host):
    assert host("sh", "-c", "wc -c").stdout.strip() == "0"


def test_environment_is_what_was_asked_for(host):
    got = host("env", options=["--env", "A=x=y z", "--env", "LANG=C"], env={"STRAY": "1"})
    lines = got.stdout.splitlines()
    assert "A=x=y z" in lines and "LANG=C" in lines and "HOME=/root" in lines
    assert not any(line.startswith("STRAY=") for line in lines)


def test_working_directory(host):
    assert host("pwd", cwd=f"{TOP}/tests").stdout == f"{TOP}/tests\n"
    got = host("true", cwd="/proc/self")
    assert got.returncode == 125 and "working directory /proc/" in got.stderr


def test_commands_side_by_side(host):
    """The second ends while the first runs; each gets its own output."""
    argv = [TOOL, "--in", host.folder, "--", "sh", "-c"]
    flag = host.shared / "go"
    waiting = f"while [ ! -e {flag} ]; do sleep 0.1; done; echo first"
    first = subprocess.Popen([*argv, waiting], stdout=subprocess.PIPE)
    got = host("sh", "-c", f"echo second; touch {flag}")
    assert got.stdout == "second\n"
    assert first.communicate(timeout=SECONDS)[0] == b"first\n"
    flag.unlink()


# -- users


def test_an_ordinary_user(host):
    got = host("sh", "-c", "id -u; id -G; echo $HOME; touch /etc/x", options=["--user", "nobody"])
    assert got.stdout == f"{NOBODY}\n{NOBODY}\n/nonexistent\n"
    assert got.returncode == 1 and "Permission denied" in got.stderr


def test_a_user_without_account(host):
    got = host("sh", "-c", "id -u; id -G; touch $TMPDIR/x", options=["--user", "47001"])
    assert (got.returncode, got.stdout) == (0, "47001\n47001\n")


def test_a_user_there_is_not(host):
    got = host("true", options=["--user", "no-such-user"])
    assert (got.returncode, got.stderr) == (125, "kvmhost: there is no user no-such-user\n")


def test_users_may_divide_their_control_group(host):
    script = (
        "cd /sys/fs/cgroup$(sed s,^0::,, /proc/self/cgroup)/..;"
        "echo +memory +pids > cgroup.subtree_control && mkdir mine && cat mine/memory.max;"
        "rmdir mine"
    )
    got = host("sh", "-c", script, options=["--user", "nobody"])
    assert (got.returncode, got.stdout) == (0, "max\n"), got.stderr


# -- KVM


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_a_machine_can_be_made(host, user):
    got = host("/usr/bin/python3", "-c", CREATE_VM, options=["--user", user])
    assert (got.stdout, got.stderr) == ("12 True\n", "")


MANY_MACHINES = """
import fcntl, os, sys
for child in range(2):
    if os.fork() == 0:
        kvm = os.open("/dev/kvm", os.O_RDWR)
        for i in range(250):
            vm = fcntl.ioctl(kvm, 0xAE01, 0)
            if i % 4:  # now and then without KVM's own interrupt chips
                fcntl.ioctl(vm, 0xAE60, 0)
            cpus = [fcntl.ioctl(vm, 0xAE41, n) for n in range(2)]
            for fd in [*cpus, vm]:
                os.close(fd)
        os._exit(0)
print([os.wait()[1] for child in range(2)])
"""


def test_many_machines_are_made_and_freed(host):
    """On two CPUs at once: each of them has the kernel count what KVM switches on and off."""
    got = host("/usr/bin/python3", "-c", MANY_MACHINES)
    assert (got.stdout, got.stderr) == ("[0, 0]\n", "")
    assert host("dmesg").stdout.count("BUG") == 0


def test_kernels_run_at_the_speed_of_hardware(host):
    """berm's own judgement of this /dev/kvm: it executes instructions on it."""
    berm = f"{TOP}/build/stage/bin/berm"
    if not os.path.exists(berm):
        pytest.skip("berm is not staged: make stage")
    found = [host(berm, "doctor", "--json").stdout for _ in range(5)]  # it times: a busy machine
    assert any('"level":"microvm"' in text for text in found), found[-1]


def test_what_jails_need_is_there(host):
    script = "cat /sys/fs/cgroup/cgroup.subtree_control; unshare -Urnm true && echo namespaces"
    got = host("sh", "-c", script, options=["--user", "nobody"])
    assert got.stdout.split() == ["cpuset", "cpu", "io", "memory", "pids", "namespaces"], got.stderr


# -- files


def test_writes_work_anywhere_and_vanish(host):
    path = f"/etc/kvmhost-{os.getpid()}"
    script = f"echo new > {path} && cat {path} && rm -r /usr/share/doc && ls /usr/share/doc"
    got = host("sh", "-c", script)
    assert got.stdout == "new\n" and got.returncode == 2
    assert not os.path.exists(path) and os.path.isdir("/usr/share/doc")
    again = kvmhost("--", "sh", "-c", f"test ! -e {path} && ls -d /usr/share/doc")
    assert again.stdout == "/usr/share/doc\n"


def test_shares_are_for_both(host):
    (host.shared / "from-outside").write_text("out")
    got = host("sh", "-c", f"cd {host.shared} && cat from-outside && printf in > from-inside")
    assert (got.returncode, got.stdout) == (0, "out")
    assert (host.shared / "from-inside").read_text() == "in"


def test_a_share_with_odd_letters(bootable, tmp_path):
    odd = tmp_path / "a b,c=d"
    odd.mkdir()
    got = kvmhost("--share", odd, "--", "sh", "-c", f"echo x > '{odd}/file'")
    assert (got.returncode, got.stderr) == (0, "")
    assert (odd / "file").read_text() == "x\n"


def test_an_empty_folder(bootable):
    script = "ls -A /etc; stat -c %a /etc /var/tmp; touch /etc/x; ls /etc"
    got = kvmhost("--empty", "/etc", "--empty", "/var/tmp", "--", "sh", "-c", script)
    assert (got.returncode, got.stdout) == (0, "755\n1777\nx\n"), got.stderr
    assert os.path.exists("/etc/passwd")


def test_a_disk(bootable):
    got = kvmhost("--disk", "512", "--", "sh", "-c", "df -T $TMPDIR | tail -n 1; touch $TMPDIR/x")
    assert got.returncode == 0
    assert re.match(r"/dev/vda\s+ext4\s.*/scratch$", got.stdout)


def test_size(bootable):
    got = kvmhost("--memory", "1024", "--cpus", "1", "--", "sh", "-c", "nproc; head -1 /proc/meminfo")
    cpus, memory = got.stdout.splitlines()
    assert cpus == "1" and 900_000 < int(memory.split()[1]) < 1_048_576


# -- ends


def test_time_limit(host):
    began = time.monotonic()
    got = host("sh", "-c", "echo begun; sleep 1000", options=["--timeout", "1"])
    assert (got.returncode, got.stdout, got.stderr) == (124, "begun\n", "")
    assert time.monotonic() - began < 20
    assert host("pgrep", "-x", "sleep").returncode == 1


def test_time_limit_of_who_will_not_end(host):
    """Deaf to TERM, and with a child in a session of its own."""
    script = "trap '' TERM; setsid sleep 1001 & while :; do sleep 1; done"
    assert host("sh", "-c", script, options=["--timeout", "1"]).returncode == 124
    assert host("pgrep", "-x", "sleep").returncode == 1


def test_what_a_command_starts_may_outlive_it(host):
    got = host("sh", "-c", "setsid sleep 1002 & echo done")
    assert (got.returncode, got.stdout) == (0, "done\n")
    assert host("pkill", "-x", "-f", "sleep 1002").returncode == 0


def test_a_terminated_client_ends_its_command(host):
    proc = subprocess.Popen(
        [TOOL, "--in", host.folder, "--", "sh", "-c", "trap 'echo bye; exit' TERM; echo on; "
         "while :; do sleep 0.1; done"],
        stdout=subprocess.PIPE,
    )
    assert proc.stdout.readline() == b"on\n"
    proc.terminate()
    assert proc.communicate(timeout=SECONDS)[0] == b"bye\n"
    assert proc.returncode == 143


def test_a_killed_client_ends_its_host(bootable, tmp_path):
    argv = [TOOL, "--share", tmp_path, "--", "sh", "-c", "echo up; exec sleep 1000"]
    proc = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert proc.stdout.readline() == b"up\n"
    folder = folder_of(machines(tmp_path))
    proc.kill()
    proc.wait()
    proc.stdout.close()
    wait_for(lambda: not machines(tmp_path) and not os.path.exists(folder))


def folder_of(pids):
    (pid,) = pids
    with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
        return re.search(r"path=(/var/tmp/kvmhost-\w+)/console.log", f.read()).group(1)


def test_a_boot_nobody_waits_for(bootable, tmp_path):
    for verb in (["--start", tmp_path / "host"], ["--", "true"]):
        proc = subprocess.Popen([TOOL, "--share", tmp_path, *verb])
        wait_for(lambda: machines(tmp_path))
        proc.kill()
        proc.wait()
        wait_for(lambda: not machines(tmp_path))


def test_a_killed_keeper_takes_its_host_along(bootable, tmp_path):
    folder = tmp_path / "host"
    assert kvmhost("--start", folder).returncode == 0
    (qemu,) = machines(folder)
    with open(f"/proc/{qemu}/status", encoding="ascii") as f:
        keeper = int(re.search(r"PPid:\s(\d+)", f.read()).group(1))
    os.kill(keeper, signal.SIGKILL)
    wait_for(lambda: not machines(folder))
    assert kvmhost("--stop", folder).returncode == 0 and os.listdir(folder) == []


def test_a_host_that_breaks_down(bootable, tmp_path):
    """One line, with what its kernel said, and the log is kept."""
    folder = tmp_path / "host"
    assert kvmhost("--start", folder).returncode == 0
    got = kvmhost("--in", folder, "--", "busybox", "reboot", "-f")
    assert got.returncode == 125
    assert re.fullmatch(r"kvmhost: the test host broke down; its last words: .*\n", got.stderr)
    wait_for(lambda: os.listdir(folder) == ["console.log"])
    assert "no test host is running" in refused("--in", folder, "--", "true")
    assert kvmhost("--stop", folder).returncode == 0 and os.listdir(folder) == []


def test_last_words_begin_with_the_first_trouble(tmp_path):
    """What comes later may be its consequence; without any, the end of the log has to do."""
    (tmp_path / "qemu.log").touch()
    log = tmp_path / "console.log"
    log.write_text("[    1.0] fine\n[    2.0] Oops: double fault: 0000 [#1] SMP\n[    2.1] RIP: 0010:f+0x1\n")
    with log.open("a") as f:
        f.writelines(f"[    3.{n}] line {n}\n" for n in range(100))
    host = types.SimpleNamespace(ending=None, folder=tmp_path)
    words = keeper.Keeper.last_words(host)
    assert words.startswith("the test host broke down; its last words: [    2.0] Oops: double fault")
    assert "RIP: 0010" in words and "line 9 " in words and "line 50" not in words
    log.write_text("".join(f"line {n}\n" for n in range(100)))
    assert keeper.Keeper.last_words(host).endswith(": line 96 | line 97 | line 98 | line 99")


def test_a_host_nobody_uses_powers_off(bootable, tmp_path):
    folder = tmp_path / "host"
    assert kvmhost("--idle", "1", "--start", folder).returncode == 0
    wait_for(lambda: os.listdir(folder) == [])


def test_a_host_is_for_its_owner_only(host):
    assert os.stat(host.folder).st_mode & 0o777 == 0o700


# -- what goes wrong before


def test_a_second_host_in_one_folder(host, tmp_path):
    assert "a test host is running" in refused("--start", host.folder)
    (tmp_path / "file").touch()
    assert "is not empty" in refused("--start", tmp_path)


def test_no_host(tmp_path):
    assert "no test host is running" in refused("--in", tmp_path, "--", "true")
    assert "No such file" in refused("--in", tmp_path / "none", "--", "true")
    assert "No such file" in refused("--stop", tmp_path / "none")


def test_no_qemu(tmp_path):
    line = refused("--", "true", env={"PATH": str(tmp_path)})
    assert line == "kvmhost: qemu-system-x86_64 is missing: apt install qemu-system-x86"


def test_no_kernel(tmp_path):
    line = refused("--", "true", env={"XDG_CACHE_HOME": str(tmp_path)})
    assert "run tools/kvmhost --build" in line
    assert "KVMHOST_KERNEL" in refused("--", "true", env={"KVMHOST_KERNEL": "/no/kernel"})


def test_what_is_no_kernel():
    assert "broke down" in refused("--", "true", env={"KVMHOST_KERNEL": "/etc/passwd"})


@pytest.mark.parametrize(
    "args,says",
    [
        (["--share", "/no/folder", "--", "true"], "there is no such folder"),
        (["--env", "A", "--", "true"], "K=V is wanted"),
        (["--memory", "much", "--", "true"], "--memory"),
        (["--cpus", "0", "--", "true"], "--cpus"),
        (["--magic", "--", "true"], "--magic"),
        ([], "a command is wanted"),
        (["--"], "a command is wanted"),
        (["--where", "--", "true"], "no command"),
        (["--start", "x", "--stop", "y"], "not allowed with"),
    ],
)
def test_bad_options(args, says):
    assert says in refused(*args)


# -- without a host, where the machine's own KVM will do


@pytest.fixture
def good_kvm(tmp_path):
    """A doctor who finds this machine healthy."""
    berm = tmp_path / "berm"
    berm.write_text('#!/bin/sh\necho \'{"level":"microvm","findings":[{"id":"kvm","text":"fine"}]}\'\n')
    berm.chmod(0o755)
    return {"BERM": str(berm)}


SAYS_DIRECT = "kvmhost: KVM is tested on this machine itself: fine\n"


def test_direct(good_kvm, tmp_path):
    script = "echo $A; ls -d $TMPDIR; uname -n; exit 3"
    got = kvmhost("--auto", "--env", "A=b", "--", "sh", "-c", script, env=good_kvm)
    a, scratch, name = got.stdout.splitlines()
    assert (got.returncode, got.stderr, a) == (3, SAYS_DIRECT, "b")
    assert name == os.uname().nodename and not os.path.exists(scratch)
    assert kvmhost("--where", env=good_kvm).stdout == SAYS_DIRECT[len("kvmhost: ") :]


def test_direct_start_and_stop(good_kvm, tmp_path):
    folder = tmp_path / "place"
    got = kvmhost("--auto", "--start", folder, env=good_kvm)
    assert (got.returncode, got.stderr) == (0, SAYS_DIRECT)
    got = kvmhost("--timeout", "0.5", "--in", folder, "--", "sh", "-c", "echo x; sleep 1000")
    assert (got.returncode, got.stdout) == (124, "x\n")
    assert kvmhost("--in", folder, "--", "/no/such").returncode == 127
    assert kvmhost("--in", folder, "--", "sh", "-c", "kill -9 $$").returncode == 137
    if os.geteuid() == 0:
        os.chmod(tmp_path, 0o755)
        for outer in tmp_path.parents:
            if outer.name.startswith("pytest-"):
                os.chmod(outer, 0o755)
        got = kvmhost("--user", "nobody", "--in", folder, "--", "sh", "-c", "id -u; touch $TMPDIR/x")
        assert (got.returncode, got.stdout) == (0, f"{NOBODY}\n"), got.stderr
    assert kvmhost("--stop", folder).returncode == 0
    assert os.listdir(folder) == []


def test_the_doctors_verdict_decides(tmp_path):
    berm = tmp_path / "berm"
    berm.write_text('#!/bin/sh\necho \'{"level":"emulated","findings":[{"id":"kvm","text":"poor"}]}\'\n')
    berm.chmod(0o755)
    got = kvmhost("--where", env={"BERM": str(berm)})
    assert (got.returncode, got.stdout) == (0, "KVM is tested in the test host: poor\n")
    berm.write_text("#!/bin/sh\nexit 1\n")
    assert "doctor --json gives no answer" in refused("--where", env={"BERM": str(berm)})

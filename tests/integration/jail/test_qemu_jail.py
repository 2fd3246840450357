"""berm-qemu with the real qemu and kernel: it works inside its jail, and the jail holds."""

import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import time

import leaks
import pytest

QEMU = "/usr/bin/qemu-system-x86_64"
INNER = "/usr/bin/python3"  # stands in for a qemu that was taken over
RAM_BYTES = 128 << 20
RAM_FD, KERNEL_FD, DISK_FD, QMP_FD, CONSOLE_FD, AGENT_FD, STATE_FD = range(20, 27)
BOOT_SECONDS_MAX = 60
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
ENGINE_UID = 0x70000123
ROOT = os.geteuid() == 0


def placed(fds):
    """A preexec function that puts each fd of the map at its number and closes what is above 2."""

    def place():
        high = {n: os.dup(fd) for n, fd in fds.items()}
        for n, fd in high.items():
            os.dup2(fd, n)
        keep = sorted(set(fds) | {0, 1, 2})
        for low, after in zip(keep, keep[1:] + [1024]):
            os.closerange(low + 1, after)

    return place


def as_user(uid, then):
    def run():
        if uid is not None:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        then()

    return run


class Machine:
    """One jailed qemu with a monitor and a console."""

    def __init__(self, program, folder, ram_flags, share, extra=(), options=(), fds=None,
                 user=None):
        self.qmp, qmp = socket.socketpair()
        self.console, console = socket.socketpair()
        self.agent, agent = socket.socketpair()
        opened = {
            RAM_FD: os.open(folder / "ram", ram_flags),
            KERNEL_FD: os.open(folder / "vmlinux", os.O_RDONLY),
            DISK_FD: os.open(folder / "disk", os.O_RDWR),
        }
        given = {**opened, QMP_FD: qmp.fileno(), CONSOLE_FD: console.fileno(),
                 AGENT_FD: agent.fileno(), **(fds or {})}
        argv = [program, *options, "--ram-fd", str(RAM_FD), "--qemu", QEMU, "--",
                "-M", "microvm,acpi=off,rtc=on,pit=on,pic=on,isa-serial=off,memory-backend=ram",
                "-object", f"memory-backend-file,id=ram,size={RAM_BYTES},"
                           f"mem-path=/dev/berm-ram,share={share}",
                "-accel", "tcg", "-nodefaults", "-no-user-config", "-display", "none",
                "-no-reboot", "-global", "virtio-mmio.force-legacy=false",
                "-kernel", f"/dev/berm-fd/{KERNEL_FD}",
                "-append", "console=hvc0 panic=0 no_timer_check",
                "-device", "virtio-serial-device",
                "-chardev", f"socket,id=c,fd={CONSOLE_FD}", "-device", "virtconsole,chardev=c",
                "-chardev", f"socket,id=a,fd={AGENT_FD}",
                "-device", "virtserialport,chardev=a,name=berm.agent",
                "-add-fd", f"fd={DISK_FD},set=1",
                "-blockdev", "driver=file,filename=/dev/fdset/1,node-name=d,discard=unmap",
                "-device", "virtio-blk-device,drive=d", "-device", "virtio-rng-device",
                "-chardev", f"socket,id=q,fd={QMP_FD}", "-mon", "chardev=q,mode=control",
                "-sandbox", SANDBOX, *extra]
        self.process = subprocess.Popen(
            argv, preexec_fn=as_user(user, placed(given)), close_fds=False, env={},
            stdin=subprocess.DEVNULL)
        for s in (qmp, console, agent):
            s.close()
        for fd in opened.values():
            os.close(fd)
        self.lines = self.qmp.makefile("r")
        self.lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, pass_fd=None, **arguments):
        message = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        if pass_fd is None:
            self.qmp.sendall(message)
        else:
            socket.send_fds(self.qmp, [message], [pass_fd])
        for line in self.lines:
            answer = json.loads(line)
            if "error" in answer:
                raise AssertionError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise AssertionError(f"{command}: qemu ended with {self.process.wait()}")

    def wait_for_text(self, text):
        seen = b""
        deadline = time.monotonic() + BOOT_SECONDS_MAX
        while text not in seen:
            ready, _, _ = select.select([self.console], [], [], deadline - time.monotonic())
            assert ready, f"no {text!r} on the console, only {seen[-300:]!r}\n{leaks.picture([self.process.pid])}"
            got = self.console.recv(65536)
            assert got, f"qemu ended with {self.process.wait()}"
            seen += got

    def wait_until(self, command, done):
        deadline = time.monotonic() + BOOT_SECONDS_MAX
        while not done(self.ask(command)):
            assert time.monotonic() < deadline, command
            time.sleep(0.01)

    def status(self, name):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return next(line.split()[1:] for line in f if line.startswith(name + ":"))

    def ram_fd_flags(self):
        base = f"/proc/{self.process.pid}"
        flags = []
        for n in os.listdir(f"{base}/fd"):
            if os.readlink(f"{base}/fd/{n}").endswith("/ram"):
                with open(f"{base}/fdinfo/{n}", encoding="ascii") as f:
                    flags += [int(l.split()[1], 8) for l in f if l.startswith("flags:")]
        return flags

    def quit(self):
        self.ask("quit")
        assert self.process.wait(timeout=20) == 0

    def end(self):
        self.process.kill()
        self.process.wait()
        for s in (self.qmp, self.console, self.agent):
            s.close()


@pytest.fixture
def folder(public_folder, stage):
    """Kernel, memory and disk where every user can reach them."""
    if not os.access(QEMU, os.X_OK):
        pytest.skip("qemu-system-x86_64 is not installed")
    path = pathlib.Path(public_folder) / "jail"
    path.mkdir(mode=0o755)
    shutil.copy(os.path.join(stage, "share/berm/vmlinux"), path / "vmlinux")
    for name, size in (("ram", RAM_BYTES), ("disk", 1 << 20)):
        with open(path / name, "wb") as f:
            f.truncate(size)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def machines():
    made = []
    yield made
    for m in made:
        m.end()


def check_confined(m):
    assert m.status("Seccomp") == ["2"]
    assert m.status("NoNewPrivs") == ["1"]
    for which in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(m.status(which)[0], 16) == 0
    # root owns what is not dumpable: no other process of the user may look into guest memory
    assert os.stat(f"/proc/{m.process.pid}/stat").st_uid == 0
    if ROOT:
        assert int(m.status("CapBnd")[0], 16) == 0
        mine, theirs = (os.readlink(f"/proc/{p}/ns/net") for p in ("self", m.process.pid))
        assert mine != theirs


def save_and_restore(program, folder, machines, options, user):
    """A template built and restored, each in its jail, as the engine does it."""
    m = Machine(program, folder, os.O_RDWR, "on", options=options, user=user)
    machines.append(m)
    m.wait_for_text(b"Unable to mount root fs")
    check_confined(m)
    m.ask("stop")
    ignore_shared = [{"capability": "x-ignore-shared", "state": True}]
    m.ask("migrate-set-capabilities", capabilities=ignore_shared)
    state = os.open(folder / "state", os.O_RDWR | os.O_CREAT, 0o600)
    m.ask("getfd", pass_fd=state, fdname="state")
    m.ask("migrate", uri="fd:state")
    m.wait_until("query-migrate", lambda r: r["status"] == "completed")
    m.quit()

    os.lseek(state, 0, os.SEEK_SET)
    with open(folder / "ram", "rb") as f:
        before = f.read()
    m = Machine(program, folder, os.O_RDONLY, "off", extra=("-incoming", "defer"),
                options=options, fds={STATE_FD: state}, user=user)
    machines.append(m)
    m.ask("migrate-set-capabilities", capabilities=ignore_shared)
    m.ask("migrate-incoming", uri=f"fd:{STATE_FD}")
    m.wait_until("query-status", lambda r: r["status"] != "inmigrate")
    m.ask("cont")
    check_confined(m)
    if ROOT:  # nobody else may look into a jailed process
        flags = m.ram_fd_flags()
        assert flags and all(f & os.O_ACCMODE == os.O_RDONLY for f in flags)
    m.quit()
    os.close(state)
    with open(folder / "ram", "rb") as f:
        assert f.read() == before, "a restored guest wrote into the shared memory file"
    return m


def test_template_as_the_caller(stage, folder, machines):
    save_and_restore(f"{stage}/libexec/berm/berm-qemu", folder, machines, (), None)


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_template_under_a_uid_of_its_own(stage, folder, machines):
    m = save_and_restore(f"{stage}/libexec/berm/berm-qemu", folder, machines,
                         ("--uid", str(ENGINE_UID)), None)
    assert m.process.returncode == 0


def test_uid_is_taken(stage, folder, machines):
    if not ROOT:
        pytest.skip("needs root")
    m = Machine(f"{stage}/libexec/berm/berm-qemu", folder, os.O_RDONLY, "off",
                options=("--uid", str(ENGINE_UID)))
    machines.append(m)
    assert m.status("Uid") == [str(ENGINE_UID)] * 4
    assert m.status("Gid") == [str(ENGINE_UID)] * 4
    assert m.status("Groups") == []


@pytest.mark.skipif(not ROOT, reason="root is needed to become another user")
def test_template_as_an_ordinary_user(public_stage, folder, machines):
    user = 47001
    os.chown(folder, user, user)
    for name in ("ram", "disk"):
        os.chown(folder / name, user, user)
    save_and_restore(f"{public_stage}/libexec/berm/berm-qemu", folder, machines, (), user)


def test_dies_with_its_supervisor(stage, folder):
    """The process that started it is killed: qemu is gone with it, uid change or not."""
    options = ["--uid", str(ENGINE_UID)] if ROOT else []
    argv = [f"{stage}/libexec/berm/berm-qemu", *options, "--qemu", QEMU, "--", "-M", "none",
            "-nodefaults", "-display", "none", "-monitor", "none"]
    read_end, write_end = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(read_end)
        child = subprocess.Popen(argv, pass_fds=[write_end])
        while "qemu-system" not in os.readlink(f"/proc/{child.pid}/exe"):
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(write_end)
    os.waitpid(middle, 0)
    assert select.select([read_end], [], [], 20)[0] and os.read(read_end, 1) == b""
    os.close(read_end)


# From here on the program in the jail is python, so that it can try things.

def inside(stage, folder, code, prefix=()):
    """Runs code in the qemu jail with the memory file as its RAM fd. Its exit and output."""
    ram = os.open(folder / "ram", os.O_RDONLY)
    options = ["--uid", str(ENGINE_UID)] if ROOT and not prefix else []
    argv = [*prefix, f"{stage}/libexec/berm/berm-qemu", *options, "--ram-fd", str(RAM_FD), "--qemu", INNER,
            "--", "-I", "-S", "-c", "import os, errno\n" + code]
    done = subprocess.run(argv, preexec_fn=placed({RAM_FD: ram}), close_fds=False, env={},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
                          timeout=60)
    os.close(ram)
    return done


UNREACHABLE = {"EACCES", "ENOENT"}  # by Landlock, or because the tree is gone

TRY = """
def attempt(act):
    try:
        act()
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]
"""


def test_memory_file_cannot_be_opened_or_written(stage, folder):
    os.chmod(folder / "ram", 0o666)  # not even when its mode lets everybody
    code = TRY + f"""
ram = {str(folder / "ram")!r}
fd = os.open("/dev/berm-ram", os.O_RDWR)
print(os.fstat(fd).st_size, os.get_inheritable(fd))
print(attempt(lambda: os.open(ram, os.O_RDWR)))
print(attempt(lambda: os.open(ram, os.O_RDONLY)))
print(attempt(lambda: os.open(f"/proc/self/fd/{{fd}}", os.O_RDWR)))
print(attempt(lambda: os.write(fd, b"x")))
print(attempt(lambda: os.pwrite({RAM_FD}, b"x", 0)))
print(attempt(lambda: os.ftruncate(fd, 0)))
print(attempt(lambda: os.open("/dev/berm-fd/77", os.O_RDONLY)))
print(attempt(lambda: os.open("/dev/berm-fd/", os.O_RDONLY)))
"""
    lines = inside(stage, folder, code).stdout.splitlines()
    assert lines[0] == f"{RAM_BYTES} False"
    assert set(lines[1:4]) <= UNREACHABLE and len(lines) == 9, lines
    assert lines[4:] == ["EBADF", "EBADF", "EINVAL", "ENOENT", "ENOENT"]


def test_host_files_are_out_of_reach(stage, folder):
    code = TRY + """
for path in ("/etc/passwd", "/etc/shadow", "/proc/1/environ", "/root", "/home", "/tmp", "/dev/kvm",
             "/dev/mem", "/sys/kernel", "/proc/self/maps", "/var"):
    print(path, attempt(lambda: os.open(path, os.O_RDONLY)))
"""
    done = inside(stage, folder, code)
    assert done.returncode == 0, done
    for line in done.stdout.splitlines():
        assert line.split()[1] in UNREACHABLE, line


@pytest.mark.skipif(not ROOT, reason="an ordinary user may not be permitted a mount namespace")
def test_host_tree_is_not_even_visible(stage, folder):
    """Landlock does not refuse stat(); the new root does."""
    code = TRY + """
for path in ("/etc/passwd", "/proc/self", "/home", "/root", "/dev/vda", "/usr/bin/env", "/sys/kernel"):
    print(path, attempt(lambda: os.stat(path)))
print(attempt(lambda: os.stat("/usr/lib")), attempt(lambda: os.stat("/dev/null")))
print(attempt(lambda: os.open("/x", os.O_CREAT | os.O_WRONLY)))
"""
    lines = inside(stage, folder, code).stdout.splitlines()
    assert all(line.split()[1] == "ENOENT" for line in lines[:7]), lines
    assert lines[7] == "done done"
    assert lines[8] in ("EACCES", "EROFS")


def test_holds_without_any_namespace(stage, folder):
    """A host that permits no user namespace: Landlock and the filter do it alone."""
    forbid = ("echo 0 >/proc/sys/user/max_user_namespaces && "
              "exec setpriv --bounding-set=-all \"$@\"")
    prefix = ["/usr/bin/unshare", "--user", "--map-root-user", "/bin/sh", "-c", forbid, "sh"]
    if subprocess.run([*prefix, "/bin/true"], check=False, capture_output=True).returncode:
        pytest.skip("no user namespace to forbid them in")
    code = TRY + f"""
print(attempt(lambda: os.stat("/etc/passwd")))
print(attempt(lambda: os.open("/etc/passwd", os.O_RDONLY)))
print(attempt(lambda: os.open({str(folder / "ram")!r}, os.O_RDWR)))
print(attempt(lambda: os.open("/proc/self/fd/{RAM_FD}", os.O_RDWR)))
print(attempt(lambda: os.open("/dev/berm-ram", os.O_RDWR)))
"""
    done = inside(stage, folder, code, prefix)
    assert done.stdout.splitlines() == ["done", "EACCES", "EACCES", "EACCES", "done"], done


@pytest.mark.parametrize("code", [
    "os.fork()",
    "os.execv('/usr/bin/true', ['true'])",
    "os.kill(1, 0)",
    "os.chroot('/')",
    "os.symlink('a', 'b')",
    "os.mkdir('/tmp/x')",
    "os.chmod('/tmp', 0o777)",
    "os.setuid(0)",
])
def test_forbidden_calls_kill(stage, folder, code):
    done = inside(stage, folder, code)
    assert done.returncode == -signal.SIGSYS, done


def test_bad_options_are_one_clear_line(stage):
    for argv, word in ((["--uid", "0"], "--uid"), (["--nope", "1"], "unknown option"),
                       (["--qemu", "relative", "--"], "absolute"), ([], "needed"),
                       (["--qemu", "/no/such/qemu", "--"], "/no/such/qemu"),
                       (["--ram-fd", "999", "--qemu", QEMU, "--"], "--ram-fd")):
        done = subprocess.run([f"{stage}/libexec/berm/berm-qemu", *argv], capture_output=True,
                              text=True, check=False, timeout=20)
        assert done.returncode == 125, done
        assert word in done.stderr and done.stderr.count("\n") == 1, done

"""libberm.so through ctypes: this process is the program that embeds sandboxes."""

import contextlib
import ctypes as ct
import errno
import glob
import json
import os
import shutil
import subprocess

import bermtest

HERE = os.path.dirname(os.path.abspath(__file__))
HEADER = os.path.join(bermtest.TOP, "include", "berm.h")
EXAMPLES = os.path.join(bermtest.TOP, "examples")
LONG_MS = bermtest.RUN_SECONDS_MAX * 1000

NULL, PIPE, FD = 0, 1, 2  # BERM_STREAM_*
TTY = 1
STDOUT, STDERR = 1, 2
PROGRESS, STARTED, OUTPUT, INPUT, EXIT, STATS, ENDED, DONE = range(1, 9)
REASONS = ["", "exited", "signaled", "time", "idle", "output", "memory", "pids", "disk", "stopped"]
P = ct.c_void_p


class Err(ct.Structure):
    _fields_ = [("code", ct.c_int), ("text", ct.c_char * 508)]


class Stream(ct.Structure):
    _fields_ = [("kind", ct.c_int), ("fd", ct.c_int)]


class Sized(ct.Structure):
    def __init__(self, **fields):
        super().__init__(ct.sizeof(self), **fields)


class Command(Sized):
    _fields_ = [
        ("size", ct.c_size_t),
        ("argv", ct.POINTER(ct.c_char_p)),
        ("env", ct.POINTER(ct.c_char_p)),
        ("user", ct.c_char_p),
        ("workdir", ct.c_char_p),
        ("in_", Stream),
        ("out", Stream),
        ("err", Stream),
        ("flags", ct.c_uint32),
        ("rows", ct.c_uint16),
        ("cols", ct.c_uint16),
        ("data", P),
    ]


class Result(Sized):
    _fields_ = [
        ("size", ct.c_size_t),
        ("reason", ct.c_int),
        ("exit_code", ct.c_int),
        ("signal", ct.c_int),
        ("level", ct.c_int),
        ("limits_hit", ct.c_uint32),
        ("start_ms", ct.c_uint64),
        ("wall_ms", ct.c_uint64),
        ("user_us", ct.c_uint64),
        ("sys_us", ct.c_uint64),
        ("maxrss_bytes", ct.c_uint64),
        ("host_cpu_ms", ct.c_uint64),
        ("host_memory_peak_bytes", ct.c_uint64),
        ("output_bytes", ct.c_uint64),
        ("engine", ct.c_char * 16),
        ("message", ct.c_char * 512),
    ]


class Stats(Sized):
    _fields_ = [
        ("size", ct.c_size_t),
        ("wall_ms", ct.c_uint64),
        ("cpu_ms", ct.c_uint64),
        ("host_memory_bytes", ct.c_uint64),
        ("host_memory_peak_bytes", ct.c_uint64),
        ("output_bytes", ct.c_uint64),
        ("engine", ct.c_char * 16),
        ("level", ct.c_int),
        ("guest_known", ct.c_int),
        ("guest_cpu_us", ct.c_uint64),
        ("guest_memory_bytes", ct.c_uint64),
        ("guest_memory_peak_bytes", ct.c_uint64),
        ("guest_disk_bytes", ct.c_uint64),
        ("guest_disk_max_bytes", ct.c_uint64),
        ("guest_pids", ct.c_uint64),
        ("guest_uptime_ms", ct.c_uint64),
    ]


class Exit(Sized):
    _fields_ = [
        ("size", ct.c_size_t),
        ("code", ct.c_int),
        ("signal", ct.c_int),
        ("user_us", ct.c_uint64),
        ("sys_us", ct.c_uint64),
        ("maxrss_bytes", ct.c_uint64),
    ]


class Event(Sized):
    _fields_ = [
        ("size", ct.c_size_t),
        ("kind", ct.c_int),
        ("stream", ct.c_int),
        ("process", P),
        ("data", P),
        ("text", ct.c_char_p),
    ]


class Failed(Exception):
    def __init__(self, code, text):
        super().__init__(f"{code} ({errno.errorcode.get(-code)}): {text}")
        self.code, self.text = code, text


def strings(texts):
    return (ct.c_char_p * (len(texts) + 1))(*[os.fsencode(t) for t in texts], None)


def command(*argv, in_=NULL, out=PIPE, err=NULL, env=None, **more):
    """in_, out and err: a BERM_STREAM_* kind, or a file of ours."""
    cmd = Command(**{k: os.fsencode(v) if isinstance(v, str) else v for k, v in more.items()})
    if argv:
        cmd.argv = strings(argv)
    if env is not None:
        cmd.env = strings(env)
    for name, given in (("in_", in_), ("out", out), ("err", err)):
        file = hasattr(given, "fileno")
        setattr(cmd, name, Stream(FD, given.fileno()) if file else Stream(given, 0))
    return cmd


def library(stage):
    found = glob.glob(os.path.join(stage, "lib", "**", "libberm.so"), recursive=True)
    assert found, f"no libberm.so in {stage}: run `make stage`"
    return found[0]


class Lib:
    """One struct berm."""

    def __init__(self, stage, state_dir, prefix=None):
        self.dll = ct.CDLL(library(stage))
        for name in ("berm_read", "berm_write", "berm_read_records"):
            getattr(self.dll, name).restype = ct.c_ssize_t
        for name in ("berm_sandbox_id", "berm_version", "berm_reason_name"):
            getattr(self.dll, name).restype = ct.c_char_p
        self.dll.berm_main.restype = P
        self.b = P()
        prefix, state_dir = [os.fsencode(p) if p else None for p in (prefix, state_dir)]
        self.call("berm_new", prefix, state_dir, ct.byref(self.b))

    def call(self, name, *args):
        e = Err()
        r = getattr(self.dll, name)(*args, ct.byref(e))
        if r < 0:
            assert e.code == r, f"{name}: {r}, but the error says {e.code}"
            raise Failed(r, e.text.decode("utf-8", "replace"))
        return r

    @contextlib.contextmanager
    def config(self, cmd=None, warm=(), env=(), network=(), secrets=(), **settings):
        """network: ("allow", "a.example.com") and the like; secrets: ("KEY@a.example.com", b"value")."""
        c = P()
        self.call("berm_config_new", ct.byref(c))
        try:
            for name, value in settings.items():
                if isinstance(value, str):
                    value = ct.c_char_p(os.fsencode(value))
                elif name in ("memory", "disk", "time_limit", "idle_limit", "output_limit"):
                    value = ct.c_uint64(value)
                self.call(f"berm_config_set_{name}", c, value)
            for text in warm:
                self.call("berm_config_add_warmup", c, os.fsencode(text))
            for text in env:
                self.call("berm_config_add_env", c, os.fsencode(text))
            if cmd:
                self.call("berm_config_set_command", c, ct.byref(cmd))
            for kind, word in network:
                self.call(f"berm_config_add_{kind}", c, os.fsencode(word))
            for word, value in secrets:
                self.call("berm_config_add_secret", c, os.fsencode(word), value, ct.c_size_t(len(value)))
            yield c
        finally:
            self.dll.berm_config_free(c)

    def start(self, *args, **more):
        with self.config(*args, **more) as c:
            sb = P()
            self.call("berm_start", self.b, c, ct.byref(sb))
            return Sandbox(self, sb)

    def connect(self, ref):
        sb = P()
        self.call("berm_connect", self.b, os.fsencode(ref), ct.byref(sb))
        return Sandbox(self, sb)

    def find_image(self, ref):
        ret = ct.create_string_buffer(65)
        self.call("berm_find_image", self.b, os.fsencode(ref) if ref else None, ret)
        return ret.value.decode()

    def close(self):
        self.dll.berm_free(self.b)
        self.b = None


class Sandbox:
    def __init__(self, lib, sb):
        self.lib, self.sb = lib, sb
        self.id = lib.dll.berm_sandbox_id(sb).decode()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.free()

    def free(self):
        self.lib.dll.berm_sandbox_free(self.sb)
        self.sb = None

    def call(self, name, *args):
        return self.lib.call(name, self.sb, *args)

    def main(self):
        p = self.lib.dll.berm_main(self.sb)
        return Process(self.lib, P(p)) if p else None

    def exec(self, *argv, **more):
        p = P()
        self.call("berm_exec", ct.byref(command(*argv, **more)), ct.byref(p))
        return Process(self.lib, p)

    def attach(self, **more):
        p = P()
        self.call("berm_attach", ct.byref(command(**more)), ct.byref(p))
        return Process(self.lib, p)

    def output(self, *argv, **more):
        """Runs it, wants success and returns what it printed."""
        p = self.exec(*argv, **more)
        text = p.read_all()
        got = p.wait()
        assert got.code == 0, (argv, got.code, text)
        p.free()
        return text

    def started(self, timeout_ms=LONG_MS):
        self.call("berm_wait_started", timeout_ms)
        return self

    def ended(self, timeout_ms=LONG_MS):
        res = Result()
        self.call("berm_wait_ended", timeout_ms, ct.byref(res))
        return res

    def stop(self, grace_ms=0, timeout_ms=LONG_MS):
        self.call("berm_stop", ct.c_uint(grace_ms), timeout_ms)

    def stats(self, timeout_ms=LONG_MS):
        s = Stats()
        self.call("berm_get_stats", timeout_ms, ct.byref(s))
        return s

    def pause(self, timeout_ms=LONG_MS):
        self.call("berm_pause", timeout_ms)

    def resume(self, timeout_ms=LONG_MS):
        self.call("berm_resume", timeout_ms)

    def snapshot(self, name, timeout_ms=LONG_MS):
        self.call("berm_snapshot", os.fsencode(name), timeout_ms)

    def fork(self, count, timeout_ms=LONG_MS):
        made = (P * count)()
        self.call("berm_fork", ct.c_uint(count), timeout_ms, made)
        return [Sandbox(self.lib, P(sb)) for sb in made]

    def set_policy(self, network, expect=0, timeout_ms=LONG_MS):
        """The generation it got."""
        generation = ct.c_uint32()
        with self.lib.config(network=network) as c:
            self.call("berm_set_policy", c, ct.c_uint32(expect), timeout_ms, ct.byref(generation))
        return generation.value

    def set_secret(self, name, value, timeout_ms=LONG_MS):
        self.call("berm_set_secret", os.fsencode(name), value, ct.c_size_t(len(value)), timeout_ms)

    def remove_secret(self, name, timeout_ms=LONG_MS):
        self.call("berm_remove_secret", os.fsencode(name), timeout_ms)

    def port(self, index):
        return self.call("berm_get_port", ct.c_uint(index))

    def records(self):
        """All there are, from where it stopped."""
        room, text = ct.create_string_buffer(65536), b""
        while n := self.call("berm_read_records", room, ct.c_size_t(len(room))):
            text += room.raw[:n]
        return [json.loads(line) for line in text.splitlines()]

    def event_fd(self):
        return self.call("berm_event_fd")

    def next_event(self):
        ev = Event()
        return ev if self.call("berm_next_event", ct.byref(ev)) else None

    def put(self, src, dst, user=None, timeout_ms=LONG_MS):
        user = os.fsencode(user) if user else None
        self.call("berm_put", os.fsencode(src), os.fsencode(dst), user, timeout_ms)

    def get(self, src, dst, bytes_max=0, timeout_ms=LONG_MS):
        size = ct.c_uint64(bytes_max)
        self.call("berm_get", os.fsencode(src), os.fsencode(dst), size, timeout_ms)


class Process:
    def __init__(self, lib, p):
        self.lib, self.p = lib, p

    def call(self, name, *args):
        return self.lib.call(name, self.p, *args)

    def free(self):
        self.lib.dll.berm_process_free(self.p)

    def read(self, size=65536, stream=STDOUT, timeout_ms=LONG_MS):
        room = ct.create_string_buffer(size)
        n = self.call("berm_read", stream, room, ct.c_size_t(size), timeout_ms)
        return room.raw[:n]

    def read_all(self, stream=STDOUT):
        parts = []
        while part := self.read(stream=stream):
            parts.append(part)
        return b"".join(parts)

    def write(self, data, timeout_ms=LONG_MS):
        return self.call("berm_write", data, ct.c_size_t(len(data)), timeout_ms)

    def close_stdin(self):
        self.call("berm_close_stdin")

    def signal(self, number):
        self.call("berm_signal", int(number))

    def resize(self, rows, cols):
        self.call("berm_resize", rows, cols)

    def wait(self, timeout_ms=LONG_MS):
        got = Exit()
        self.call("berm_wait", timeout_ms, ct.byref(got))
        return got


# --- programs in C, built as a user of the installation builds them ---


def compilers(*names):
    return [n for n in names if shutil.which(n)]


def pkg_config(stage, *args):
    found = glob.glob(os.path.join(stage, "lib", "**", "berm.pc"), recursive=True)
    assert found, f"no berm.pc in {stage}: run `make stage`"
    env = {**os.environ, "PKG_CONFIG_PATH": os.path.dirname(found[0])}
    got = subprocess.run(
        ["pkg-config", *args, "berm"], env=env, capture_output=True, text=True, check=False
    )
    assert got.returncode == 0, got.stderr
    return got.stdout.split()


def build(stage, source, target, compiler="gcc", flags=()):
    argv = [compiler, "-Wall", "-Wextra", "-Werror", *flags, "-o", str(target), str(source)]
    argv += pkg_config(stage, "--cflags", "--libs")
    argv += [f"-Wl,-rpath,{os.path.dirname(library(stage))}"]
    got = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert got.returncode == 0, got.stderr
    return str(target)

"""World: makes the namespaces, starts the servers, and is what tests hold in their hands.

As root or, without any right, inside a user namespace; berm then runs in one within it, as the same ordinary user. All
of it ends with the process that made it: nothing is left on the machine, no named namespace, no file outside its
folder.
"""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess

import bermtest

from . import pki, plan

HERE = os.path.dirname(os.path.abspath(__file__))
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
READY_SECONDS = 60
BIG_BYTES = 2 << 30
NEEDED = {"nginx": "nginx-light", "ip": "iproute2", "openssl": "openssl", "nsenter": "util-linux", "git": "git"}
NEEDED_MODULES = {"h2": "python3-h2", "grpc": "python3-grpcio"}
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def missing():
    """Why there can be no world here, or ""."""
    lacks = [package for tool, package in NEEDED.items() if not shutil.which(tool, path=PATH)]
    for module, package in NEEDED_MODULES.items():
        if subprocess.run(["/usr/bin/python3", "-c", f"import {module}"], capture_output=True, check=False).returncode:
            lacks.append(package)
    if lacks:
        return f"apt install {' '.join(lacks)}"
    flags = [] if os.geteuid() == 0 else ["-U", "-r"]
    argv = ["unshare", *flags, "-m", "-n", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]
    got = subprocess.run(argv, capture_output=True, text=True, check=False)
    return f"no network namespaces here: {got.stderr.strip()}" if got.returncode else ""


class Namespace:
    """Held by a process of its own; entered by nsenter(1)."""

    def __init__(self, inside, *flags):
        argv = [*(inside.enter() if inside else []), "unshare", *flags, "--", "sh", "-c", "echo in; exec cat"]
        self.holder = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"in\n", f"{argv} failed"
        self.owner = inside

    def enter(self):
        flags = ["-m", "-n"]
        if os.geteuid() != 0:
            flags += ["-U", "--preserve-credentials"]
        return ["nsenter", "-t", str(self.holder.pid), *flags, f"--wd={os.getcwd()}", "--"]

    def sh(self, script):
        got = subprocess.run([*self.enter(), "sh", "-ec", script], capture_output=True, text=True, check=False)
        assert got.returncode == 0, f"{script}\n{got.stderr}"
        return got.stdout

    def close(self):
        self.holder.stdin.close()
        self.holder.wait()
        self.holder.stdout.close()


class World:
    def __init__(self, folder):
        self.folder = os.path.realpath(folder)
        self.servers, self.control = [], None
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self.make()
            undo.pop_all()

    def make(self):
        self.berm_side = self.far_side = None
        flags = [] if os.geteuid() == 0 else ["-U", "-r"]
        self.berm_side = Namespace(None, *flags, "-m", "-n")
        self.far_side = Namespace(self.berm_side, "-n")
        self.pki = os.path.join(self.folder, "pki")
        os.makedirs(self.pki)
        pki.make(self.pki)
        self.join()
        self.furnish()
        self.make_files()
        python = ["/usr/bin/python3", "-u"]
        self.start("servers", [*python, f"{HERE}/serve.py", self.folder, "far0"])
        pair = [f"{self.pki}/good.pem", f"{self.pki}/good.key"]
        self.start("grpc", [*python, f"{HERE}/grpc_server.py", f"{plan.GRPC4}:443", *pair])
        self.start_nginx()
        self.control = socket.socket(socket.AF_UNIX)
        self.control.connect(f"{self.folder}/control")
        self.lines = self.control.makefile("rb")

    def join(self):
        far = str(self.far_side.holder.pid)
        self.berm_side.sh(
            f"""ip link set lo up
            ip link add berm0 mtu 65535 type veth peer name far0 mtu 65535 netns {far}
            ip addr add {plan.BERM4}/24 dev berm0; ip -6 addr add {plan.BERM6}/64 dev berm0 nodad
            ip link set berm0 up""")
        lines = [f"ip addr add {plan.FAR4}/24 dev far0; ip -6 addr add {plan.FAR6}/64 dev far0 nodad",
                 "ip link set lo up; ip link set far0 up"]
        lines += [f"ip addr add {a}/32 dev lo" for a in plan.FAR_ADDRESSES4]
        lines += [f"ip -6 addr add {a}/128 dev lo nodad" for a in plan.FAR_ADDRESSES6]
        self.far_side.sh("\n".join(lines))
        self.berm_side.sh(f"ip route add default via {plan.FAR4}; ip -6 route add default via {plan.FAR6}")

    def furnish(self):
        """/etc/resolv.conf and the root certificates of the berm side, over the host's."""
        with open(f"{self.folder}/resolv.conf", "w", encoding="utf-8") as f:
            f.write(f"nameserver {plan.DNS1}\nnameserver {plan.DNS2}\n")
        with open(f"{self.folder}/bundle.pem", "wb") as out:
            for path in (BUNDLE, f"{self.pki}/ca.pem"):
                with open(path, "rb") as f:
                    out.write(f.read())
        self.bind("resolv.conf", os.path.realpath("/etc/resolv.conf"))
        self.bind("bundle.pem", os.path.realpath(BUNDLE))

    def bind(self, name, over):
        self.berm_side.sh(f"mount --bind {self.folder}/{name} {over}")

    def make_files(self):
        os.makedirs(f"{self.folder}/files")
        for name, size in (("big", BIG_BYTES), ("256m", 256 << 20), ("mega", 1 << 20), ("small", 512)):
            with open(f"{self.folder}/files/{name}", "wb") as f:
                f.truncate(size)

    def start(self, name, argv, ready=True):
        with open(f"{self.folder}/{name}.log", "ab") as log:
            p = subprocess.Popen([*self.far_side.enter(), *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=log, env={"PATH": PATH, "LANG": "C.UTF-8"})
        self.servers.append(p)
        if ready and p.stdout.readline() != b"ready\n":
            with open(f"{self.folder}/{name}.log", encoding="utf-8", errors="replace") as f:
                raise AssertionError(f"{name} did not start: {f.read()}")
        return p

    def start_nginx(self):
        with open(f"{HERE}/nginx.conf.in", encoding="utf-8") as f:
            text = f.read()
        words = {"FOLDER": self.folder, "PKI": self.pki, "ADDRESS4": plan.NGINX4, "ADDRESS6": plan.NGINX6}
        for word, value in words.items():
            text = text.replace(f"@{word}@", value)
        path = f"{self.folder}/nginx.conf"
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        argv = ["nginx", "-p", self.folder, "-e", f"{self.folder}/nginx.log", "-c", path]
        self.nginx = self.start("nginx", argv, ready=False)
        bermtest.wait_for("nginx answers", lambda: self.nginx.poll() is None and not self.host(
            "curl", "-sf", "-o", "/dev/null", f"http://{plan.NGINX4}/small").returncode, READY_SECONDS)

    # -- what tests call --------------------------------------------------------------------------

    def enter(self):
        """The words before a command that is to run on berm's side, with every right there."""
        return self.berm_side.enter()

    def enter_as_user(self):
        """The same with the rights of whoever runs the tests: as root all of them, else none at all."""
        if os.geteuid() == 0:
            return self.enter()
        who = [f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
        return [*self.enter(), "unshare", "-U", *who, "--"]

    def host(self, *argv, **more):
        """Runs a command of the host's on berm's side, without any berm."""
        more = {"capture_output": True, "text": True, "timeout": bermtest.stretched(300), "check": False, **more}
        return subprocess.run([*self.enter(), *argv], **more)

    def ask(self, **what):
        self.control.sendall(json.dumps(what).encode() + b"\n")
        answer = json.loads(self.lines.readline())
        assert "fault" not in answer, answer
        return answer["ok"]

    def dns(self, **names):
        """Changes what DNS says, until reset(); dashes for dots are not understood: use dns(**{"a.b": ...})."""
        self.ask(do="dns", names=names)

    def reset(self):
        self.ask(do="reset")

    def mark(self):
        """Where the record of what arrived is now."""
        return self.ask(do="mark")

    def since(self, mark, kind=None, **wanted):
        """What arrived, entries as record.py has them. kind: connection, request, dns, packet, udp."""
        found = []
        for entry in self.ask(do="since", mark=mark, kind=kind):
            if all(entry.get(k) == v for k, v in wanted.items()):
                for field in ("data", "body"):
                    if isinstance(entry.get(field), dict):
                        entry[field]["data"] = base64.b64decode(entry[field]["data"])
                found.append(entry)
        return found

    def requests(self, mark, **wanted):
        return self.since(mark, "request", **wanted)

    def bytes_since(self, mark):
        """Everything the witness received, to look for what should not be there."""
        return base64.b64decode(self.ask(do="bytes", mark=mark))

    def silent(self, mark, but_dns=()):
        """What arrived that should not have: everything but questions about those names."""
        def asked(e):
            if e["kind"] == "mark":
                return True
            if e["kind"] == "dns":
                return (e["name"] or "").lower() in but_dns
            return e["kind"] == "packet" and e.get("port") == 53 and e["to"] in (plan.DNS1, plan.DNS2) and but_dns

        return [e for e in self.since(mark) if not asked(e)]

    def close(self):
        if self.control:
            self.lines.close()
            self.control.close()
        for p in reversed(self.servers):
            p.stdin.close()
            p.terminate()
            p.wait()
            p.stdout.close()
        for namespace in (self.far_side, self.berm_side):
            if namespace:
                namespace.close()

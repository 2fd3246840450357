"""The process of the far side: DNS, the witness, the watch over packets. It is asked over a UNIX socket, one line
of JSON each way, and ends with its standard input.

    {"do": "mark"}    {"do": "since", "mark": N, "kind": KIND}    {"do": "bytes", "mark": N}
    {"do": "dns", "names": {...}}    {"do": "reset"}
"""

import json
import os
import resource
import socketserver
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from egress_world import dns_server, packages, packets, plan, record, witness  # noqa: E402


class Asked(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            try:
                answer = {"ok": self.server.do(json.loads(line))}
            except Exception as fault:
                answer = {"fault": f"{type(fault).__name__}: {fault}"}
            self.wfile.write(json.dumps(answer).encode() + b"\n")


class Control(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    log = dns = None

    def do(self, ask):
        word = ask["do"]
        if word == "mark":
            return self.log.mark()
        if word == "since":
            return self.log.since(ask["mark"], ask.get("kind"))
        if word == "bytes":
            return self.log.bytes(ask["mark"])
        if word == "dns":
            return self.dns.zone.change(ask["names"])
        if word == "reset":
            return self.dns.zone.reset()
        raise ValueError(word)


def main(folder, interface):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    threading.stack_size(256 << 10)
    log = record.Log()
    packets.watch(interface, log)
    packages.make(f"{folder}/packages")
    dns = dns_server.DnsServer((plan.DNS1, plan.DNS2), plan.NAMES, log.add)
    dns.start()
    witness.Witness(log, f"{folder}/pki", f"{folder}/packages").start()
    control = Control(f"{folder}/control", Asked)
    control.log, control.dns = log, dns
    threading.Thread(target=control.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])

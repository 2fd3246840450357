"""Part of tests/run: what goes on beside the rest of it."""

import json
import os
import signal
import sys
import tempfile
import traceback


class Beside:
    """Groups that run in a process of their own, at the lowest priority, beside others.

    Guests wait more than they compute, so what only computes fits in between. What it prints is
    kept until the end; `with` ends it if it is not waited for.
    """

    def __init__(self, new_tally, groups):
        self.new_tally = new_tally
        self.groups = groups
        self.said = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.counts = tempfile.TemporaryFile("w+", encoding="utf-8")
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self.work()

    def work(self):
        code = 1
        try:
            os.setpgid(0, 0)
            os.nice(19)
            os.dup2(self.said.fileno(), 1)
            os.dup2(self.said.fileno(), 2)
            tally = self.new_tally()
            for group in self.groups:
                group(tally)
            json.dump([tally.passed, tally.failed, tally.skips], self.counts)
            self.counts.flush()
            code = 0
        except Exception:  # told by the parent; a fork must not go on as it
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def join(self, tally):
        if self.pid == 0:
            return  # was waited for already
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        self.said.seek(0)
        print(self.said.read(), end="", flush=True)
        if status != 0:
            tally.group("what ran beside it", 0, 1, 0, "it did not get to its end")
            return
        self.counts.seek(0)
        passed, failed, skips = json.load(self.counts)
        tally.passed += passed
        tally.failed += failed
        tally.skips += skips

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pid > 0:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self.said.close()
        self.counts.close()

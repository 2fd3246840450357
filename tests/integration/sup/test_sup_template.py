"""A guest that breaks the rules while its template is built or restored, and an engine that does."""

import re

import pytest
import sandboxes

MACHINE = """
import sys
QMP = 4

def tell(text):
    os.write(QMP, text.encode() + b"\\n")

def play_qmp(answers=()):
    tell('{"QMP": {}}')
    rest = b""
    while True:
        got = os.read(QMP, 65536)
        if not got:
            raise SystemExit
        *lines, rest = (rest + got).split(b"\\n")
        for line in lines:
            said = '{"return": {"status": "completed"}}' if b"query" in line else '{"return": {}}'
            for word, answer in answers:
                if word in line:
                    said = answer
                    break
            if b'"id":' in line:  # an answer bears the command's id
                said = said[:-1] + ', ' + line[line.rindex(b'"id":'):].decode()
            tell(said)

def build():
    boot()
    while True:
        t, stream, _, _ = receive(EXEC, IDENTITY, QUIESCE)
        if t == QUIESCE:
            break
        if t == IDENTITY:  # once more, with the network
            say(IDENTITY_OK)
            continue
        say(EXEC_OK, stream, payload=u32(9))
        say(EXIT, stream, payload=exit_payload(0))
    say(QUIESCE_OK)

restored = "-incoming" in sys.argv
"""
HONEST = "\nif not restored:\n build(); play_qmp()\nepoch = 2\nreceive(IDENTITY)\n"
RUN = "say(IDENTITY_OK); receive(EXEC); say(EXEC_OK, 1, payload=u32(1)); end()"


def run(sup, behaviour, **more):
    """A run that uses templates, of a size of its own so that no other test's is there."""
    sup.play(MACHINE + behaviour)
    return sup.run("run", "-m", "96MiB", "--disk", "64MiB", "tiny", "true", timeout=20, **more)


def started(sup):
    sup.play(MACHINE + HONEST + RUN)
    code, got = sup.judged("-m", "96MiB", "--disk", "64MiB", "tiny", "true")
    assert code == 0, got
    return got["result"]["start"]


@pytest.mark.parametrize(
    "lie",
    ["send(b'garbage' * 100)", "say(IDENTITY_OK); say(IDENTITY_OK, epoch_=1)", "send(hello())",
     "say(FATAL, payload=str16(b'no disk'))", "raise SystemExit", "os.close(PORT)"],
)
def test_a_restored_guest_that_is_not_itself_takes_its_template_with_it(sup, lie):
    started(sup)
    assert started(sup) == "restored"
    got = run(sup, HONEST + lie)
    assert got.returncode == 125
    line = sandboxes.one_line(got.stderr)
    if "IDENTITY_OK" not in lie:  # that one was ready, and lied later
        assert "template was dropped" in line
        assert started(sup) == "built"


BUILD_LIES = {
    "garbage": ("send(b'garbage' * 100)", "broke the protocol"),
    "an agent that closes": ("os.close(PORT)", "ended while its template was built"),
    "an engine that ends": ("log(b'\\x1b[2Jdead\\n'); raise SystemExit", r"ended while its template"),
    "no HELLO but": ("say(PONG, payload=bytes(8))", "PONG instead of HELLO"),
    "another version": ("send(hello(9))", "version"),
    "FATAL": ("say(FATAL, payload=str16(b'\\x1b[2Jno'))", "cannot use this image"),
    "a stream that nobody opened": ("boot(); say(DATA, 99, OUT, b'x')", "instead of|nobody opened"),
    "QMP: garbage": ("build(); tell('[' * 60000)", "no JSON"),
    "QMP: a line without end": ("build()\nwhile True: os.write(QMP, b'x' * 4096)", "line over"),
    "QMP: events only": ("build(); tell('{\"event\": 1}\\n' * 5000)", "events only"),
    "QMP: an error with escapes": (
        "build(); play_qmp([(b'migrate\"', '{\"error\": {\"desc\": \"\\\\u001b[2Jbad\"}}')])", "bad"),
    "QMP: closed": ("build(); os.close(QMP)", "closed its control"),
    "QMP: a save that fails": (
        "build(); play_qmp([(b'query', '{\"return\": {\"status\": \"failed\"}}')])", "save"),
}


@pytest.mark.parametrize("name", BUILD_LIES)
def test_a_build_that_fails(sup, name):
    behaviour, words = BUILD_LIES[name]
    # a size nobody has a template of
    sup.play(MACHINE + behaviour)
    got = sup.run("run", "-m", "112MiB", "--disk", "64MiB", "tiny", "true", timeout=20)
    assert got.returncode == 125
    assert sandboxes.one_line(got.stderr)
    assert re.search(words, got.stderr), got.stderr
    assert "\x1b" not in got.stderr

"""`berm code --json`: what berm(1) says of it is all of it."""

import os
import re

import bermtest
from test_code import PENDING, code, small  # noqa: F401  (fixtures)

# Objects whose keys are data, or are told of elsewhere.
OPEN = ("packed.left_out", "left_out", "result")


def keys_of(value, at=""):
    """All keys, those of an object in it behind a dot, of an array's objects as of one."""
    found = set()
    for one in value if isinstance(value, list) else [value]:
        for key, inner in one.items() if isinstance(one, dict) else ():
            found |= {at + key} | (set() if at + key in OPEN else keys_of(inner, f"{at}{key}."))
    return found


def documented_keys():
    """Of --json, and of --dry-run: the bold words of two tables of berm(1)."""
    with open(os.path.join(bermtest.TOP, "docs/man/berm.1.scd"), encoding="utf-8") as f:
        section = f.read().partition("# JSON OF BERM CODE\n")[2].partition("\n# ")[0]
    tables = [part.partition("\n\n")[0] for part in section.split("\n[[ ")[1:]]
    assert len(tables) == 2
    first, second = (set(re.findall(r"\*([A-Za-z][A-Za-z0-9_.]*)\*", table)) for table in tables)
    return first, second - {"packed.left_out"}  # which it refers to


def test_each_key_of_its_json_is_documented_and_no_other(small):
    small.write("node_modules/x", b"x")
    small.write(".env", b"SECRET=1\n")
    small.write(".bermignore", b"skipped\n")
    small.write("skipped", b"x")
    small.git("init", "-q")
    small.git("config", "core.sshCommand", "x")
    said = small.json("mine", "--no-settings", "--task", "x", "--", "sh", "-c", "echo b > b", code=PENDING)
    would = small.json("--dry-run", "--include-secret", ".env")
    want, dry = documented_keys()
    assert keys_of(said) == want, keys_of(said) ^ want
    assert keys_of(would) == dry, keys_of(would) ^ dry
    assert said["version"] == would["version"] == 1
    assert {"secret", "user"} <= set(said["packed"]["left_out"]) and would["over"] is would["shared_with"] is None
    nothing = small.json("mine", "--no-settings", "--", "true")
    assert keys_of(nothing) == want and nothing["session"] is None

"""The checks of tools/ must be able to fail: each finds the fault planted for it."""

import os
import re
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

CLEAN = {
    "src/base/x.h": '#pragma once\n#include "base/x.h"\n',
    "src/base/x.c": '#include "base/x.h"\n\nint x(void)\n{\n\treturn 0;\n}\n',
    "include/berm.h": "#pragma once\n",
    "Makefile": "all:\n\ttrue\n",
    "meson.build": "project('berm', 'c', version: '1.2.3')\n",
    "NEWS.md": "# News\n\n## 1.2.3\n",
    "README.md": "# x\n\nSee [news](NEWS.md), run `make all`.\n",
    "docs/adr/README.md": "[one](0001-one.md)\n",
    "docs/adr/0001-one.md": "# 0001\n",
    "tests/e2e/test_y.py": "def test_y():\n    pass\n",
}


def each(words):
    """'D8-D10, D12' -> D8 D9 D10 D12"""
    for part in words.split(", "):
        several = re.fullmatch(r"([A-Z]+)(\d+)-\1(\d+)", part)
        if several:
            yield from (f"{several[1]}{n}" for n in range(int(several[2]), int(several[3]) + 1))
        else:
            yield part


EGRESS, WORKSPACE = "docs/internals/egress-cases.md", "docs/internals/workspace-cases.md"
for path in (EGRESS, WORKSPACE):
    with open(f"{TOP}/{path}", encoding="utf-8") as f:
        words = re.findall(r"^\| ([A-Z0-9-]*[0-9][^|]*) \|", f.read(), re.M)
    rows = dict.fromkeys(case for word in words for case in each(word))  # a row each, whatever the file has
    CLEAN[path] = "".join(f"| {row} | x | not applicable: y |\n" for row in rows)
CLEAN[WORKSPACE] = re.sub(r"\| D9 .*\n\| D10 .*\n", "", CLEAN[WORKSPACE].replace("| D8 |", "| D8-D10 |"))


def cases(path, old, new):
    """One fault in a catalogue: a file for tree()."""
    assert old in CLEAN[path]
    return path, CLEAN[path].replace(old, new, 1)


def check(tool, top):
    return subprocess.run(
        [f"{TOP}/tools/{tool}"],
        env={**os.environ, "CHECK_TOP": str(top)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def tree(tmp_path):
    def plant(path, text):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return tmp_path

    for path, text in CLEAN.items():
        plant(path, text)
    return plant


def test_a_clean_tree_passes(tree, tmp_path):
    for tool in ("check_layers", "check_banned", "check_headers", "check_size", "check_docs", "check_cases"):
        got = check(tool, tmp_path)
        assert got.returncode == 0, f"{tool}: {got.stdout}"


FAULTS = [
    ("check_layers", "src/base/y.c", '#include "wire/wire.h"\n', "base may not include"),
    ("check_layers", "src/wire/y.c", '#include "state/spec.h"\n', "wire may not include"),
    ("check_layers", "src/agent/y.c", '#include "jail/jail.h"\n', "agent may not include"),
    ("check_layers", "src/lib/y.c", '#include "vault/secret.h"\n', "lib may not include"),
    ("check_layers", "src/lib/y.c", '#include "sup/sup.h"\n', "lib may not include"),
    ("check_layers", "src/cli/y.c", '#include "cli/code/code.h"\n', "cli may not include"),
    ("check_layers", "src/cli/agent/y.c", '#include "cli/code/code.h"\n', "cli/agent may not include"),
    ("check_layers", "src/cli/novel/y.c", '#include "sup/sup.h"\n', "cli may not include"),
    ("check_layers", "src/cli/y.c", '#include "y.h"\n', "write the folder too"),
    ("check_layers", "src/novel/y.c", "int y;\n", "has no row"),
    ("check_banned", "src/lib/y.c", "int f(char *a) { return atoi(a); }\n", "atoi()"),
    ("check_banned", "src/lib/y.c", "void f(void)\n{\n\tgoto out;\n}\n", "goto"),
    ("check_banned", "src/lib/y.c", 'void f(void) { printf ("x"); }\n', "printf()"),
    ("check_banned", "src/lib/y.c", 'int f(void) { return open("x", 0); }\n', "open()"),
    ("check_banned", "src/cli/y.c", "long f(void) { return time(0); }\n", "time()"),
    ("check_banned", "tests/unit/y.c", "void f(char *a) { strcpy(a, a); }\n", "strcpy()"),
    # an opt-out holds for its own statement only
    (
        "check_banned",
        "src/lib/y.c",
        "void f(void)\n{\n\tpopen(0, 0); /* banned-ok: why */\n\tsystem(0);\n}\n",
        "system()",
    ),
    ("check_headers", "src/lib/y.h", "#pragma once\nstruct a { size_t n; };\n", "compile alone"),
    ("check_headers", "src/lib/y.h", "int y;\n", "no #pragma once"),
    ("check_headers", "include/berm.h", "#pragma once\nint f(int new[static 1]);\n", "c++11"),
    ("check_size", "src/lib/y.c", "int f(void)\n{\n" + "\tf();\n" * 71 + "}\n", "71 lines"),
    ("check_size", "src/lib/y.c", "int a;\n" * 801, "801 lines"),
    ("check_size", "src/lib/y.c", "\t" * 12 + "int a;\n", "102 columns"),
    ("check_size", "src/lib/y.c", "int a; \n", "blanks at the end"),
    ("check_docs", "README.md", "[x](missing.md)\n", "does not exist"),
    ("check_docs", "README.md", "Run `make coffee`.\n", "does not have"),
    ("check_docs", "README.md", "In /home/somebody/berm.\n", "personal path"),
    ("check_docs", "src/lib/y.c", "/* TO" "DO: later */\n", "unfinished mark"),
    ("check_docs", "docs/adr/0002-two.md", "# 0002\n", "does not list"),
    ("check_docs", "NEWS.md", "# News\n", "no section"),
    ("check_docs", "tools/y", "#!/bin/sh\n", "not x mode"),
    ("check_cases", *cases(EGRESS, "not applicable", "later"), "neither a test nor a reason"),
    ("check_cases", *cases(EGRESS, "| L4-1 | x | not applicable: y |\n", ""), "L4-1 is not there"),
    ("check_cases", *cases(EGRESS, "not applicable: y", "`e2e/test_x.py`"), "which does not exist"),
    ("check_cases", *cases(WORKSPACE, "| D8-D10 |", "| D8-D9 |"), "D10 is not there"),
    ("check_cases", *cases(WORKSPACE, "| S2 |", "| S21 |"), "S21 is not there, or is not of the catalogue"),
    ("check_cases", *cases(WORKSPACE, "| S3 |", "| S2 | x | not yet: y |\n| S3 |"), "S2 has a row and is"),
    ("check_cases", *cases(WORKSPACE, "not applicable: y", "not yet: "), "neither a test nor a reason"),
    ("check_cases", *cases(WORKSPACE, "not applicable: y", "a | b"), "three cells"),
    ("check_cases", *cases(WORKSPACE, "not applicable: y", "`e2e/test_y.py`: `test_y`, `test_z`"), "names test_z"),
]


@pytest.mark.parametrize("tool,path,text,says", FAULTS, ids=[f"{f[0]}-{f[3]}" for f in FAULTS])
def test_a_fault_is_found(tree, tool, path, text, says):
    got = check(tool, tree(path, text))
    assert got.returncode == 1, got.stdout
    assert says in got.stdout


def test_banned_words_in_strings_and_comments_are_words(tree):
    text = '/* never goto */\nconst char *f = "system(1)"; // atoi(\n'
    got = check("check_banned", tree("src/lib/y.c", text))
    assert got.returncode == 0, got.stdout


def test_an_opt_out_is_listed(tree):
    text = "void f(void)\n{\n\t/* banned-ok: the child */\n\tsystem(0);\n}\n"
    got = check("check_banned", tree("src/lib/y.c", text))
    assert got.returncode == 0, got.stdout
    assert "banned-ok src/lib/y.c:4: system(): the child" in got.stdout


def compile_object(folder, text):
    source = folder / "y_parse.c"
    source.write_text(text)
    target = folder / "y_parse.c.o"
    subprocess.run(["gcc", "-O2", "-c", source, "-o", target], check=True)


PARSERS = [
    ("int y(const char *a) { return a[0]; }\n", None),
    ("static const int t[] = { 1, 2 };\nint y(int i) { return t[i & 1]; }\n", None),
    ("void *malloc(unsigned long);\nvoid *y(void) { return malloc(9); }\n", "imports malloc"),
    ("int time(int *);\nint y(void) { return time(0); }\n", "imports time"),
    ("static int n;\nint y(void) { return ++n; }\n", "writable data"),
]


@pytest.mark.parametrize("text,says", PARSERS)
def test_parsers_are_pure(tmp_path, text, says):
    compile_object(tmp_path, text)
    got = subprocess.run(
        [f"{TOP}/tools/check_banned", str(tmp_path)],
        env={**os.environ, "CHECK_TOP": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (got.returncode == 0) == (says is None), got.stdout
    assert says is None or says in got.stdout

"""What the checks share: which files are ours, and C text without its comments and strings."""

import os
import re
import sys

# CHECK_TOP points the checks at another tree: their own tests plant faults there.
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOP = os.environ.get("CHECK_TOP", HERE)
SKIPPED_DIRS = {".git", "build", "__pycache__", ".pytest_cache", "corpus"}


def files(*suffixes, under=("",)):
    """Paths from the top, sorted, of files whose name ends in one of suffixes (none: all)."""
    found = set()
    for start in under:
        for folder, dirs, names in os.walk(os.path.join(TOP, start)):
            dirs[:] = [d for d in dirs if d not in SKIPPED_DIRS]
            for name in names:
                path = os.path.join(folder, name)
                if os.path.islink(path) or (suffixes and not name.endswith(suffixes)):
                    continue
                found.add(os.path.relpath(path, TOP))
    return sorted(found)


def read(path):
    with open(os.path.join(TOP, path), encoding="utf-8", errors="replace") as f:
        return f.read()


TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL
)


def blank_strings_and_comments(text):
    """Same length, same lines: what is inside strings, characters and comments becomes spaces."""

    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))

    return TOKEN.sub(blank, text)


def finish(name, problems, done):
    """Prints each problem, or the one line that says what was looked at. Returns the exit code."""
    for p in problems:
        print(p)
    if problems:
        print(f"{name}: {len(problems)} found")
        return 1
    print(f"{name}: {done}")
    return 0


def main(name, run):
    problems, done = run()
    sys.exit(finish(name, problems, done))

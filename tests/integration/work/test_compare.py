"""What a guest's work is held against: the base, and the host as it is now (cases D and E)."""

import os

import pytest
from compare_world import World

TREE = """
mkdir -p dir/sub empty many
printf 'one\\ntwo\\nthree\\nfour\\nfive\\n' > text
cp text dir/text; cp text dir/sub/text; cp text other
printf 'a\\0b' > binary
ln -s text link
printf x > run; chmod 755 run
for i in 1 2 3; do printf $i > many/$i; done
find . -exec touch -h -d @1600000000 {} +
"""


@pytest.fixture
def world(tmp_path):
    w = World(tmp_path)
    w.host(TREE)
    return w.pack()


def both(world, host, guest):
    world.work(guest)
    world.host(host)
    return world.said()


CASES = {
    "d1_nothing": ("", "", []),
    "d2_host_edits": ("echo h >> text", "", []),
    "d3_host_creates": ("echo h > new", "", []),
    "d4_host_deletes": ("rm text", "", []),
    "d5_guest_edits": ("", "echo g >> text", ["edit text"]),
    "d5_guest_creates": ("", "echo g > new; mkdir d; echo g > d/new", ["add d", "add d/new", "add new"]),
    "d5_guest_deletes": ("", "rm text", ["delete text"]),
    "d6_edited_here_deleted_there": ("echo h >> text", "rm text", ["delete text conflict edited"]),
    "d7_deleted_here_edited_there": ("rm text", "echo g >> text", ["edit text conflict deleted"]),
    "d8_the_same": ("echo x >> text", "echo x >> text", ["edit text there"]),
    "d8_deleted_by_both": ("rm text", "rm text", ["delete text there"]),
    "d8_created_by_both": ("echo x > new", "echo x > new", ["add new there"]),
    "d9_both_edited_a_text": ("sed -i s/one/ONE/ text", "sed -i s/five/FIVE/ text", ["edit text both edited"]),
    "d9_both_edited_a_binary": ("printf 'a\\0h' > binary", "printf 'a\\0g' > binary",
                                ["edit binary conflict edited"]),
    "d11_both_created": ("echo h > new", "echo g > new", ["add new conflict created"]),
    "d12_chmod_here_edited_there": ("chmod 640 text", "echo g >> text", ["edit text"]),
    "d13_directory_renamed_here": ("mv dir moved", "echo g >> dir/sub/text",
                                   ["edit dir/sub/text conflict renamed at moved/sub/text"]),
    "d14_directory_renamed_there": ("echo h >> dir/text", "mv dir moved", ["rename dir -> moved"]),
    "d14_and_edited_there": ("echo h >> dir/text", "mv dir moved; echo g >> moved/text",
                             ["rename dir -> moved", "edit dir/text -> moved/text both edited"]),
    "d15_touched": ("", "touch text; cp text t; cat t > text; rm t; chmod 644 text", []),
    "d16_made_executable": ("", "chmod +x text", ["mode text"]),
    "d17_file_to_link": ("", "rm text; ln -s other text", ["type text"]),
    "d17_link_to_file": ("", "rm link; echo g > link", ["type link"]),
    "d17_file_to_directory": ("", "rm text; mkdir text; echo g > text/in", ["type text", "add text/in"]),
    "d17_directory_to_file": ("", "rm -r dir; echo g > dir",
                              ["type dir", "delete dir/sub", "delete dir/sub/text", "delete dir/text"]),
    "d18_retargeted": ("", "ln -sfn other link", ["edit link"]),
    "d19_empty_directories": ("", "mkdir new; rm many/*; rmdir empty",
                              ["delete empty", "delete many/1", "delete many/2", "delete many/3", "add new"]),
    "d20_opaque": ("", "rm -r many; mkdir many; echo g > many/new; printf 2 > many/2",
                   ["delete many/1", "delete many/3", "add many/new"]),
    "d21_made_again": ("", "rm text; printf 'one\\ntwo\\nthree\\nfour\\nfive\\n' > text; rm -r many; mkdir many;"
                       " for i in 1 2 3; do printf $i > many/$i; done", []),
    "d23_a_chain_of_renames": ("", "mv dir a; mv a/sub b; mv a c", ["rename dir/sub -> b", "rename dir -> c"]),
    "d23_renamed_over": ("", "rm -r many; mv dir many; mkdir dir; echo g > dir/text",
                         ["add dir", "add dir/text", "rename dir -> many", "delete many/1", "delete many/2",
                          "delete many/3"]),
    "d23_there_and_back": ("", "mv dir a; mv a dir; echo g > dir/new", ["add dir/new"]),
    "d23_swapped": ("", "mv dir x; mv many dir; mv x many", ["rename many -> dir", "rename dir -> many"]),
    "a_file_renamed": ("", "mv text new; chmod +x new", ["rename text -> new"]),
    "a_file_renamed_that_was_edited_here": ("echo h >> text", "mv text new",
                                            ["add new", "delete text conflict edited"]),
    "p9_host_added_below": ("echo h > many/h", "rm -r many",
                            ["delete many", "delete many/1", "delete many/2", "delete many/3"]),
    "a_way_that_is_gone": ("rm -r dir; echo h > dir", "echo g > dir/sub/new",
                           ["add dir/sub/new conflict way"]),
    "git_is_no_file": ("", "mkdir -p .git/hooks x/.GIT; echo g > .git/hooks/h; echo g > x/.GIT/config",
                       ["add .git stays out git", "add .git/hooks stays out git", "add .git/hooks/h stays out git",
                        "add x", "add x/.GIT stays out git", "add x/.GIT/config stays out git"]),
    "a_repository_by_shape": ("", "mkdir -p b/objects b/refs b/hooks; echo g > b/HEAD; echo g > b/hooks/h",
                              ["add b", "add b/HEAD stays out git", "add b/hooks stays out git",
                               "add b/hooks/h stays out git", "add b/objects stays out git",
                               "add b/refs stays out git"]),
}


@pytest.mark.parametrize("name", CASES)
def test_case(world, name):
    host, guest, want = CASES[name]
    assert both(world, host, guest) == want


def test_d12_the_hosts_mode_stays(world):
    world.work("echo g >> text")
    world.host("chmod 640 text")
    (change,) = world.compare()
    assert change["mode"] == 0o640
    assert change["flags"] & 1


def test_d22_an_edit_of_equal_size_in_the_same_second(tmp_path):
    w = World(tmp_path)
    w.host("printf aaaa > f")
    w.pack().work("printf bbbb > f")
    st = os.stat(os.path.join(w.tree, "f"))
    w.host("printf cccc > f")
    os.utime(os.path.join(w.tree, "f"), ns=(st.st_atime_ns, st.st_mtime_ns))
    assert w.said() == ["edit f both edited"]


def test_d23_a_large_directory_is_one_change(tmp_path):
    w = World(tmp_path)
    w.host("mkdir d; cd d; seq 10000 | xargs touch")
    w.pack().work("mv d e")
    assert w.said() == ["rename d -> e"]


def test_d27_the_same_twice(world):
    world.work("rm -r many dir; mkdir dir; echo g > dir/text; mv other new; echo g > zz")
    assert world.compare() == world.compare()


def test_e5_a_file_that_did_not_enter(world):
    world.host("echo secret > .env")
    world.work("echo g > .env")
    assert world.said(".env") == ["add .env conflict hidden"]


def test_e6_a_directory_with_what_did_not_enter(world):
    world.work("rm -r many")
    world.host("echo secret > many/.env")
    changes = {c["path"]: c for c in world.compare()}
    assert changes["many"]["flags"] & 4
    assert "many/.env" not in changes


def test_what_can_never_come_back_is_listed(world):
    world.work("mkfifo pipe; rm text; mkfifo text")
    assert world.said() == ["add pipe stays out proposal", "add text stays out proposal"]

#include "base/buf.h"
#include "guardpage.h"
#include "jail/cgroup_parse.h"
#include "test.h"

#include <errno.h>
#include <string.h>

static const char hybrid[] = "9:name=systemd:/\n"
			     "8:pids:/\n"
			     "4:memory:/process/4b92\n"
			     "2:cpuacct,cpu:/x y\n"
			     "0::/user.slice\n";

TEST(self_finds_each_tree)
{
	struct cgroup_self got;

	CHECK_EQ(cgroup_parse_self(span_str(hybrid), &got), 0);
	CHECK_SPAN(got.path[CGROUP_V2], "/user.slice");
	CHECK_SPAN(got.path[CGROUP_MEMORY], "/process/4b92");
	CHECK_SPAN(got.path[CGROUP_CPU], "/x y");
	CHECK_SPAN(got.path[CGROUP_CPUACCT], "/x y");
	CHECK_SPAN(got.path[CGROUP_PIDS], "/");
	CHECK(!got.path[CGROUP_FREEZER].at);
}

TEST(self_keeps_colons_of_a_path)
{
	struct cgroup_self got;

	CHECK_EQ(cgroup_parse_self(span_str("0::/a:b:c"), &got), 0);
	CHECK_SPAN(got.path[CGROUP_V2], "/a:b:c");
}

TEST(self_refuses_other_shapes)
{
	static const char *const bad[] = { "\n",        "x",     "0:",         "0::",      "0::a",
		                           ":memory:/", "1::/a", "1:memory\n", "0::\n0::/" };
	struct cgroup_self got;
	struct cgroup_self before;

	memset(&got, 0xa5, sizeof(got));
	memcpy(&before, &got, sizeof(got));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cgroup_parse_self(span_str(bad[i]), &got) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "took '%s'", bad[i]);
	CHECK_EQ(memcmp(&got, &before, sizeof(got)), 0);
}

static const char mounts[] =
	"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n"
	"32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime shared:7 master:2 - cgroup cgroup rw,cpu\n"
	"35 31 0:32 /docker/1 /sys/fs/cgroup/me\\040m rw - cgroup cgroup rw,xattr,memory\n"
	"41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

TEST(mounts_finds_each_tree)
{
	struct cgroup_mounts got;

	CHECK_EQ(cgroup_parse_mounts(span_str(mounts), &got), 0);
	CHECK_SPAN(got.point[CGROUP_V2], "/sys/fs/cgroup/unified");
	CHECK_SPAN(got.point[CGROUP_CPU], "/sys/fs/cgroup/cpu");
	CHECK_SPAN(got.point[CGROUP_MEMORY], "/sys/fs/cgroup/me\\040m");
	CHECK_SPAN(got.root[CGROUP_MEMORY], "/docker/1");
	CHECK(!got.point[CGROUP_PIDS].at);
}

TEST(mounts_refuses_other_shapes)
{
	static const char *const bad[] = {
		"\n",
		"27 1 254:0 / /\n",
		"27 1 254:0 / / rw,relatime\n",
		"27 1 254:0 / / rw,relatime - \n",
		"32 31 0:29 / /c rw - cgroup\n",
	};
	struct cgroup_mounts got;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (cgroup_parse_mounts(span_str(bad[i]), &got) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "took '%s'", bad[i]);
}

TEST(no_prefix_reads_past_its_end)
{
	for (size_t n = 0; n < sizeof(mounts); n++) {
		struct span in = guard_span(mounts, n);
		struct cgroup_mounts got;
		int r = cgroup_parse_mounts(in, &got);

		CHECK(r == 0 || r == -EBADMSG);
	}
	for (size_t n = 0; n < sizeof(hybrid); n++) {
		struct span in = guard_span(hybrid, n);
		struct cgroup_self got;
		int r = cgroup_parse_self(in, &got);

		CHECK(r == 0 || r == -EBADMSG);
	}
}

static const char *join(const char *point, const char *root, const char *path)
{
	static char text[64];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	if (!cgroup_join(span_str(point), span_str(root), span_str(path), &b))
		return NULL;
	return buf_cstr(&b);
}

TEST(join)
{
	CHECK_STR(join("/sys/m", "/", "/"), "/sys/m");
	CHECK_STR(join("/sys/m", "/", "/a/b"), "/sys/m/a/b");
	CHECK_STR(join("/sys/m", "/a", "/a/b"), "/sys/m/b");
	CHECK_STR(join("/sys/m", "/a", "/a"), "/sys/m");
	CHECK_STR(join("/s\\040m", "/", "/a"), "/s m/a");
	CHECK_STR(join("/sys/m", "/a", "/ab"), NULL);
	CHECK_STR(join("/sys/m", "/", "/../x"), NULL);
	CHECK_STR(join("/sys/m", "/a", "/"), NULL);
	CHECK_STR(join("/sys/m", "/../..", "/../../x"), NULL);
	CHECK_STR(join("/sys/m", "", "/a"), NULL);
	CHECK_STR(join("/s\\000m", "/", "/a"), NULL);
	CHECK_STR(join("/s\\4", "/", "/a"), NULL);
	CHECK_STR(join("/s\\400", "/", "/a"), NULL);
	CHECK_STR(join("/0123456789012345678901234567890123456789", "/",
	               "/0123456789012345678901234567890123456789"),
	          NULL);
}

TEST(find_number)
{
	uint64_t n = 7;

	CHECK(cgroup_find_number(span_str("low 0\noom 3\noom_kill 12\n"), "oom_kill", &n));
	CHECK_EQ(n, 12);
	CHECK(!cgroup_find_number(span_str("low 0\noom 3\n"), "oom_kill", &n));
	CHECK(!cgroup_find_number(span_str("oom_kill -1\n"), "oom_kill", &n));
	CHECK(!cgroup_find_number(span_str("oom_kill\n"), "oom_kill", &n));
	CHECK_EQ(n, 12);
}

TEST_MAIN()

#include "agent/passwd_parse.h"

#include "guardpage.h"
#include "test.h"

#include <string.h>

#define PASSWD                                                                                     \
	"root:x:0:0:root:/root:/bin/sh\n"                                                          \
	"# a comment\n"                                                                            \
	"\n"                                                                                       \
	"short:x:7\n"                                                                              \
	"long:x:8:8:::/bin/sh:extra\n"                                                             \
	":x:9:9::/:\n"                                                                             \
	"bad:x:-1:0::/:\n"                                                                         \
	"bad:x:4294967295:0::/:\n"                                                                 \
	"bad:x: 1:0::/:\n"                                                                         \
	"dev:x:1000:100:A, B:/home/dev:/bin/bash\n"                                                \
	"dev:x:2000:200::/second:\n"                                                               \
	"also:x:1000:101::/also:\n"                                                                \
	"last:x:4294967294:1::/l:"

#define GROUP                                                                                      \
	"root:x:0:\n"                                                                              \
	"wheel:x:10:dev,root\n"                                                                    \
	"broken:x:11\n"                                                                            \
	"video:*:44:also,dev\n"                                                                    \
	"devs:x:45:devil,de\n"                                                                     \
	"empty:x:46:,,\n"                                                                          \
	"tail:x:47:x,dev"

static struct span guarded(const char *text)
{
	return guard_span(text, strlen(text));
}

TEST(by_name)
{
	struct span file = guarded(PASSWD);
	struct passwd_user u;

	CHECK(passwd_by_name(file, span_str("root"), &u));
	CHECK_EQ(u.uid, 0);
	CHECK_SPAN(u.home, "/root");
	CHECK(passwd_by_name(file, span_str("dev"), &u)); /* the first of two */
	CHECK_EQ(u.uid, 1000);
	CHECK_EQ(u.gid, 100);
	CHECK_SPAN(u.home, "/home/dev");
	CHECK(passwd_by_name(file, span_str("last"), &u)); /* no newline behind it */
	CHECK_EQ(u.uid, 4294967294u);
}

TEST(what_is_no_entry_is_skipped)
{
	static const char *const none[] = {
		"", "short", "long", "bad", "ro", "roott", "# a comment"
	};
	struct span file = guarded(PASSWD);
	struct passwd_user u;
	struct passwd_user before;

	memset(&u, 0xa5, sizeof(u));
	before = u;
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		CHECK(!passwd_by_name(file, span_str(none[i]), &u));
	CHECK(!passwd_by_uid(file, 7, &u));
	CHECK(!passwd_by_uid(file, 9, &u));
	CHECK(!passwd_by_uid(span_of("", 0), 0, &u));
	CHECK(memcmp(&u, &before, sizeof(u)) == 0);
}

TEST(by_uid)
{
	struct span file = guarded(PASSWD);
	struct passwd_user u;

	CHECK(passwd_by_uid(file, 1000, &u));
	CHECK_SPAN(u.name, "dev");
	CHECK(passwd_by_uid(file, 4294967294u, &u));
	CHECK_SPAN(u.name, "last");
}

TEST(groups)
{
	struct span file = guarded(GROUP);
	uint32_t gid = 7;
	uint32_t got[PASSWD_GROUPS_MAX];

	CHECK(passwd_group_by_name(file, span_str("video"), &gid));
	CHECK_EQ(gid, 44);
	CHECK(!passwd_group_by_name(file, span_str("broken"), &gid));
	CHECK(!passwd_group_by_name(file, span_str(""), &gid));
	CHECK_EQ(gid, 44);
	CHECK_EQ(passwd_groups_of(file, span_str("dev"), got), 3);
	CHECK_EQ(got[0], 10);
	CHECK_EQ(got[1], 44);
	CHECK_EQ(got[2], 47);
	CHECK_EQ(passwd_groups_of(file, span_str("de"), got), 1);
	CHECK_EQ(passwd_groups_of(file, span_str("nobody"), got), 0);
}

TEST(groups_have_a_maximum)
{
	static char file[PASSWD_GROUPS_MAX * 16];
	uint32_t got[PASSWD_GROUPS_MAX];
	size_t len = 0;

	while (len + 10 <= sizeof(file)) {
		memcpy(file + len, "g:x:5:me\n", 9);
		len += 9;
	}
	CHECK_EQ(passwd_groups_of(span_of(file, len), span_str("me"), got), PASSWD_GROUPS_MAX);
}

/* Cutting the file anywhere finds an entry only if all of its line that matters is there. */
TEST(every_prefix)
{
	static const char text[] = "a:x:5:6:c:/h:/s\n";
	struct passwd_user u;

	for (size_t len = 0; len < sizeof(text); len++) {
		uint8_t *at = guard_copy(text, len);

		CHECK_EQ(passwd_by_name(span_of(at, len), span_str("a"), &u), len >= 13);
		guard_free(at, len);
	}
}

TEST(ids)
{
	static const char *const bad[] = { "", "-1", "+1", " 1", "1 ", "4294967295", "0x1", "a" };
	uint32_t id = 3;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!passwd_id(span_str(bad[i]), &id));
	CHECK_EQ(id, 3);
	CHECK(passwd_id(span_str("4294967294"), &id));
	CHECK_EQ(id, 4294967294u);
}

TEST_MAIN()

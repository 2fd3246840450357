#include "guardpage.h"
#include "test.h"
#include "work/gitdir.h"

#include <errno.h>
#include <string.h>

static bool pointer_is(const char *text, const char *want)
{
	struct span path = span_str("untouched");
	int r = gitdir_parse_pointer(span_str(text), &path);

	if (want == NULL)
		return r == -EBADMSG && span_is(path, "untouched");
	return r == 0 && span_is(path, want);
}

TEST(takes_a_pointer)
{
	CHECK(pointer_is("gitdir: ../x/.git\n", "../x/.git"));
	CHECK(pointer_is("gitdir: /a b\r\n\n", "/a b"));
	CHECK(pointer_is("gitdir:  a", " a"));
	CHECK(pointer_is("gitdir: a\nb", "a\nb")); /* git strips the end alone */
}

TEST(refuses_what_is_no_pointer)
{
	CHECK(pointer_is("", NULL));
	CHECK(pointer_is("gitdir: ", NULL));
	CHECK(pointer_is("gitdir: \n", NULL));
	CHECK(pointer_is("gitdir:a\n", NULL));
	CHECK(pointer_is("Gitdir: a\n", NULL));
	CHECK(pointer_is("\ngitdir: a\n", NULL));
}

TEST(refuses_every_prefix_without_a_path)
{
	static const char text[] = "gitdir: p";
	struct span path;

	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		uint8_t *at = guard_copy(text, n);

		CHECK_EQ(gitdir_parse_pointer(span_of(at, n), &path), -EBADMSG);
		guard_free(at, n);
	}
	CHECK_EQ(gitdir_parse_pointer(span_of("gitdir: a\0b", 11), &path), -EBADMSG);
}

TEST(knows_what_stays_inside)
{
	CHECK(gitdir_path_stays(span_str("a/b"), 0));
	CHECK(gitdir_path_stays(span_str("a/../b"), 0));
	CHECK(gitdir_path_stays(span_str("./a//."), 0));
	CHECK(gitdir_path_stays(span_str("../../a"), 2));
	CHECK(gitdir_path_stays(span_str("..."), 0));
	CHECK(!gitdir_path_stays(span_str("../../a"), 1));
	CHECK(!gitdir_path_stays(span_str("a/../../b"), 0));
	CHECK(!gitdir_path_stays(span_str("a/../../b/.."), 0));
	CHECK(!gitdir_path_stays(span_str("/a"), 9));
	CHECK(!gitdir_path_stays(span_str(""), 9));
	CHECK(!gitdir_path_stays(span_of("a\0b", 3), 9));
}

/* The text without what is cut, in `ret`; how many cuts. */
static unsigned cut(struct span text, struct buf *ret)
{
	struct span piece;
	unsigned cuts = 0;
	bool some;

	while (gitdir_take_uncut(&text, &piece, &some)) {
		buf_put_span(ret, piece);
		cuts += some;
	}
	CHECK_EQ(text.len, 0);
	return cuts;
}

static bool cut_is(const char *text, unsigned cuts, const char *want)
{
	size_t len = strlen(text);
	uint8_t *at = guard_copy(text, len);
	char storage[256];
	struct buf out;
	bool same;

	buf_init(&out, storage, sizeof(storage));
	same = cut(span_of(at, len), &out) == cuts && span_is(buf_span(&out), want);
	guard_free(at, len);
	return same;
}

TEST(cuts_users_and_passwords)
{
	CHECK(cut_is("", 0, ""));
	CHECK(cut_is("of https://u:p@host/x y", 1, "of https://host/x y"));
	CHECK(cut_is("https://token@host", 1, "https://host"));
	CHECK(cut_is("http://a@b:c@d@host/u@v", 1, "http://host/u@v"));
	CHECK(cut_is("a https://x:y@h b https://z@i", 2, "a https://h b https://i"));
	CHECK(cut_is("ssh://git:pw@host/x", 1, "ssh://host/x"));
	CHECK(cut_is("https://https://u:p@h", 1, "https://https://h"));
	CHECK(cut_is("'https://u:p@'", 1, "'https://'"));
}

TEST(leaves_what_is_no_secret)
{
	static const char *const same[] = {
		"ssh://git@host/x",     "git@host:x",  "https://host/a@b",
		"https://host?u:p@x",   "https:// @h", "://",
		"a <a@b> 1 +0000\tx\n", "ht tp://a@b", "://u@h"
	};

	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++)
		CHECK(cut_is(same[i], 0, same[i]));
}

TEST(guest_settings_fit)
{
	char text[GITDIR_GUEST_MAX];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	gitdir_put_guest_config(&b);
	CHECK(buf_ok(&b) && b.len > 0);
	buf_reset(&b);
	gitdir_put_guest_env(&b);
	CHECK(buf_ok(&b) && b.len > 0 && b.at[b.len - 1] == 0);
}

TEST_MAIN()

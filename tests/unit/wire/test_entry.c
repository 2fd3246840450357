#include "guardpage.h"
#include "test.h"
#include "wire/entry.h"

#include <errno.h>
#include <string.h>

static const struct entry good_file = { .kind = ENTRY_FILE,
	                                .mode = 0640,
	                                .uid = 1000,
	                                .gid = 100,
	                                .mtime_s = -5,
	                                .mtime_ns = 999999999,
	                                .size = INT64_MAX,
	                                .path = { (const uint8_t *)"a/b..c/.d", 9 } };
static const struct entry good_dir = { .kind = ENTRY_DIR, .mode = 07777 };
static const struct entry good_link = { .kind = ENTRY_LINK,
	                                .mode = 0777,
	                                .path = { (const uint8_t *)"l", 1 },
	                                .target = { (const uint8_t *)"../x", 4 } };
static const struct entry good_end = { .kind = ENTRY_END };

/* What entry_parse says about a guarded copy; checks that a failure leaves all as it was. */
static int parse(const struct buf *b, size_t len, struct entry *ret)
{
	uint8_t *at = guard_copy(b->at, len);
	struct span in = span_of(at, len);
	struct entry got;
	struct entry before;
	int r;

	memset(&got, 0xa5, sizeof(got));
	memset(&before, 0xa5, sizeof(before));
	r = entry_parse(&in, &got);
	if (r < 0) {
		CHECK(in.at == at && in.len == len);
		CHECK(memcmp(&got, &before, sizeof(got)) == 0);
	} else {
		CHECK_EQ(in.len, 0);
		*ret = got;
	}
	if (r < 0)
		guard_free(at, len); /* else ret borrows from it: freed at exit */
	return r;
}

static int parse_entry(const struct entry *en, struct entry *ret)
{
	uint8_t raw[ENTRY_HEADER_MAX];
	struct buf b;

	buf_init(&b, raw, sizeof(raw));
	entry_put(&b, en);
	CHECK(buf_ok(&b));
	return parse(&b, b.len, ret);
}

TEST(round_trips_and_prefixes)
{
	static const struct entry *const all[] = { &good_file, &good_dir, &good_link, &good_end };

	for (size_t i = 0; i < 4; i++) {
		uint8_t raw[ENTRY_HEADER_MAX];
		struct entry got = { 0 };
		struct buf b;

		buf_init(&b, raw, sizeof(raw));
		entry_put(&b, all[i]);
		for (size_t len = 0; len < b.len; len++)
			CHECK_EQ(parse(&b, len, &got), -EAGAIN);
		CHECK_EQ(parse(&b, b.len, &got), 0);
		CHECK_EQ(got.kind, all[i]->kind);
		CHECK_EQ(got.mode, all[i]->mode);
		CHECK_EQ(got.uid, all[i]->uid);
		CHECK_EQ(got.gid, all[i]->gid);
		CHECK_EQ(got.mtime_s, all[i]->mtime_s);
		CHECK_EQ(got.mtime_ns, all[i]->mtime_ns);
		CHECK_EQ(got.size, all[i]->size);
		CHECK_MEM(got.path, all[i]->path);
		CHECK_MEM(got.target, all[i]->target);
	}
}

TEST(bad_paths)
{
	static const char *const bad[] = { "/",    "/etc", ".",   "..",  "a/..",  "../a", "a/../b",
		                           "a//b", "a/",   "./a", "a/.", "a/./b", "//" };
	static const char *const good[] = { "a", "...", "a/b", "..a", "a..", "\xff\n" };
	struct entry got;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct entry en = good_file;

		en.path = span_str(bad[i]);
		CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	}
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct entry en = good_file;

		en.path = span_str(good[i]);
		CHECK_EQ(parse_entry(&en, &got), 0);
	}
}

TEST(bad_fields)
{
	struct entry got;
	struct entry en = good_file;

	en.mode = 010000;
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	en = good_file;
	en.mtime_ns = 1000000000;
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	en = good_file;
	en.size = (uint64_t)INT64_MAX + 1;
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	en = good_dir;
	en.size = 1;
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	en = good_dir;
	en.target = span_of("x", 1);
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	en = good_link;
	en.target.len = 0;
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	en = good_link;
	en.target = span_of("a\0b", 3);
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	en = good_file;
	en.path = span_of("a\0b", 3);
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	en = good_file;
	en.kind = 4;
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
}

TEST(depth_and_lengths_have_maxima)
{
	static char path[WIRE_PATH_MAX + 2];
	struct entry en = good_file;
	struct entry got;
	uint8_t raw[ENTRY_HEADER_MAX];
	struct buf b;

	for (size_t i = 0; i < 2 * (ENTRY_DEPTH_MAX + 1); i += 2)
		memcpy(path + i, "d/", 2);
	en.path = span_of(path, 2 * ENTRY_DEPTH_MAX - 1);
	CHECK_EQ(parse_entry(&en, &got), 0);
	en.path = span_of(path, 2 * ENTRY_DEPTH_MAX + 1);
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	memset(path, 'n', sizeof(path) - 1);
	en.path = span_of(path, WIRE_NAME_MAX);
	CHECK_EQ(parse_entry(&en, &got), 0);
	en.path = span_of(path, WIRE_NAME_MAX + 1);
	CHECK_EQ(parse_entry(&en, &got), -EBADMSG);
	en.path = span_of(path, WIRE_PATH_MAX + 1);
	buf_init(&b, raw, sizeof(raw));
	entry_put(&b, &en);
	CHECK(!buf_ok(&b));
	CHECK_EQ(b.len, 0);
	/*
	 * the longest header of all fits its maximum, and a longer path is bad before it is there
	 */
	for (size_t i = 0; i < WIRE_PATH_MAX; i++)
		path[i] = i % 200 == 199 ? '/' : 'n';
	en = good_link;
	en.path = en.target = span_of(path, WIRE_PATH_MAX);
	CHECK_EQ(parse_entry(&en, &got), 0);
	buf_init(&b, raw, sizeof(raw));
	entry_put(&b, &en);
	raw[33] = 1;
	CHECK_EQ(parse(&b, 35, &got), -EBADMSG);
}

TEST_MAIN()

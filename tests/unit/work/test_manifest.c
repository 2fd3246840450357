#include "guardpage.h"
#include "test.h"
#include "work/manifest.h"
#include "work/path.h"

#include <errno.h>
#include <string.h>

static struct host_record some(void)
{
	return (struct host_record){ .dev = 1,
		                     .ino = UINT64_MAX,
		                     .size = 3,
		                     .mtime_s = -4,
		                     .ctime_s = 5,
		                     .mtime_ns = 999999999,
		                     .ctime_ns = 7,
		                     .mode = 0104755,
		                     .nlink = 9,
		                     .kind = WORK_FILE,
		                     .flags = HOST_RACY };
}

TEST(records_come_back)
{
	struct host_record r = some(), got = { 0 };
	uint8_t bytes[MANIFEST_RECORD_BYTES];

	manifest_put_record(bytes, &r);
	CHECK_EQ(manifest_parse_record(guard_span(bytes, sizeof(bytes)), &got), 0);
	CHECK_EQ(got.ino, r.ino);
	CHECK_EQ(got.mtime_s, -4);
	CHECK_EQ(got.mtime_ns, 999999999);
	CHECK_EQ(got.mode, 0104755);
	CHECK_EQ(got.flags, HOST_RACY);
}

TEST(every_prefix_and_every_wrong_byte_is_refused)
{
	struct manifest_header h = { .count = 1, .meta_end = 5, .data_end = 6 }, got_h;
	struct host_record r = some(), got;
	uint8_t bytes[MANIFEST_HEADER_BYTES];

	manifest_put_record(bytes, &r);
	for (size_t len = 0; len < MANIFEST_RECORD_BYTES; len++)
		CHECK_EQ(manifest_parse_record(guard_span(bytes, len), &got), -EBADMSG);
	for (size_t at = 56; at < MANIFEST_RECORD_BYTES; at++) {
		bytes[at] ^= 0x80;
		CHECK_EQ(manifest_parse_record(span_of(bytes, MANIFEST_RECORD_BYTES), &got),
		         -EBADMSG);
		bytes[at] ^= 0x80;
	}
	manifest_put_header(bytes, &h);
	CHECK_EQ(manifest_parse_header(guard_span(bytes, sizeof(bytes)), &got_h), 0);
	CHECK_EQ(got_h.meta_end, 5);
	CHECK_EQ(got_h.data_end, 6);
	for (size_t len = 0; len < MANIFEST_HEADER_BYTES; len++)
		CHECK_EQ(manifest_parse_header(guard_span(bytes, len), &got_h), -EBADMSG);
	bytes[8]++;
	CHECK_EQ(manifest_parse_header(span_of(bytes, sizeof(bytes)), &got_h), -EPROTO);
}

TEST(same_is_every_field)
{
	struct stat st = { .st_dev = 1, .st_ino = 2, .st_size = 3, .st_mode = S_IFREG | 0644 };
	struct host_record r;

	host_record_of(&st, &r);
	CHECK(host_record_same(&r, &st));
	st.st_ctim.tv_nsec = 1;
	CHECK(!host_record_same(&r, &st));
	st.st_ctim.tv_nsec = 0;
	st.st_mode |= 0111;
	CHECK(!host_record_same(&r, &st));
	host_record_of(&st, &r);
	r.flags = HOST_RACY;
	CHECK(!host_record_same(&r, &st));
	r.flags = HOST_OUTSIDE;
	CHECK(!host_record_same(&r, &st));
	CHECK(host_record_untouched(&r, &st));
}

TEST_MAIN()

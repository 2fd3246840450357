#include "proposal_run.h"

/* A good start: the root and a directory. */
static struct stream *begun(void)
{
	struct stream *s = stream_new();

	(void)stream_root(s);
	return s;
}

static void put_time(struct stream *s)
{
	stream_text(s, "mtime", "1700000000.000000000");
}

/* --- T1: paths --- */

static void refused_path(const char *path)
{
	struct stream *s = begun();

	(void)stream_file(s, path, "x");
	refused(s, PROPOSAL_BAD_PATH);
}

TEST(t1_paths_that_go_up_or_are_no_paths)
{
	refused_path("..");
	refused_path("../x");
	refused_path("dir/../../x");
	refused_path("/etc/passwd");
	refused_path("dir//x");
	refused_path("dir/./x");
	refused_path("./x");
	refused_path("dir/");
	refused_path("");
}

TEST(t1_a_redirect_goes_nowhere_else_either)
{
	static const char *const bad[] = { "../x", "/etc", "", "a//b", "./a" };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct stream *s = begun();

		stream_text(s, "BERM.redirect", bad[i]);
		(void)stream_dir(s, "b");
		refused(s, PROPOSAL_BAD_PATH);
	}
}

TEST(t2_below_a_link_that_came_before)
{
	struct stream *s = begun();

	(void)stream_link(s, "b", "/etc");
	(void)stream_file(s, "b/passwd", "x");
	refused(s, PROPOSAL_BAD_BELOW);
	s = begun();
	(void)stream_link(s, "b", "/etc");
	(void)stream_file(s, "b/c/d", "x");
	refused(s, PROPOSAL_BAD_BELOW);
	s = begun();
	(void)stream_file(s, "b", "x");
	(void)stream_file(s, "b/c", "x");
	refused(s, PROPOSAL_BAD_BELOW);
	s = begun();
	(void)stream_whiteout(s, "a");
	(void)stream_file(s, "a/c", "x");
	refused(s, PROPOSAL_BAD_BELOW);
	s = begun();
	(void)stream_file(s, "nowhere/c", "x");
	refused(s, PROPOSAL_BAD_PARENT);
}

TEST(t4_hard_links_do_not_exist)
{
	struct stream *s = begun();

	(void)stream_file(s, "b", "x");
	stream_text(s, "path", "c");
	put_time(s);
	stream_text(s, "linkpath", "b");
	(void)stream_entry(s, '1', 0, "c", "b", span_str(""));
	refused(s, PROPOSAL_BAD_TYPE);
}

TEST(t5_a_path_twice)
{
	struct stream *s = begun();

	(void)stream_file(s, "b", "x");
	(void)stream_file(s, "b", "y");
	refused(s, PROPOSAL_BAD_TWICE);
	s = begun();
	(void)stream_dir(s, "b");
	(void)stream_file(s, "b/c", "x");
	(void)stream_link(s, "b", "/");
	refused(s, PROPOSAL_BAD_ORDER);
	s = begun();
	(void)stream_file(s, "c", "x");
	(void)stream_file(s, "b", "x");
	refused(s, PROPOSAL_BAD_ORDER);
}

TEST(t6_another_name_in_the_header)
{
	struct stream *s = begun();
	uint8_t *at = stream_file(s, "b", "x");

	at[0] = 'c';
	stream_sum(at);
	refused(s, PROPOSAL_BAD_NAME_FIELD);
	s = begun();
	at = stream_file(s, "b", "x");
	memcpy(at + 345, "etc", 3); /* prefix */
	stream_sum(at);
	refused(s, PROPOSAL_BAD_NAME_FIELD);
	s = begun();
	at = stream_link(s, "b", "c");
	at[157] = 'd';
	stream_sum(at);
	refused(s, PROPOSAL_BAD_LINK_FIELD);
}

/* --- T7: numbers and lengths --- */

static void refused_size(const char *size, enum proposal_bad bad)
{
	struct stream *s = begun();

	stream_text(s, "path", "b");
	put_time(s);
	stream_text(s, "size", size);
	(void)stream_entry(s, '0', 0644, "b", "", span_str("x"));
	refused(s, bad);
}

TEST(t7_sizes_that_are_none)
{
	refused_size("-1", PROPOSAL_BAD_VALUE);
	refused_size("+1", PROPOSAL_BAD_VALUE);
	refused_size("01", PROPOSAL_BAD_VALUE);
	refused_size("0x1", PROPOSAL_BAD_VALUE);
	refused_size("", PROPOSAL_BAD_VALUE);
	refused_size("18446744073709551616", PROPOSAL_BAD_VALUE);
	refused_size("18446744073709551615", PROPOSAL_BAD_FILE_SIZE);
	refused_size("9223372036854775807", PROPOSAL_BAD_FILE_SIZE);
	refused_size("2", PROPOSAL_BAD_SIZE_FIELD);
}

TEST(t7_a_size_beyond_the_stream)
{
	struct stream *s = begun();

	stream_text(s, "path", "b");
	put_time(s);
	stream_text(s, "size", "1099511627776"); /* too large for the header's field */
	(void)stream_entry(s, '0', 0644, "b", "", span_str(""));
	refused(s, PROPOSAL_BAD_CUT);
}

TEST(t7_base256_and_negative_fields)
{
	struct stream *s = begun();
	uint8_t *at = stream_file(s, "b", "x");

	memset(at + 124, 0xff, 12);
	stream_sum(at);
	refused(s, PROPOSAL_BAD_SIZE_FIELD);
	s = begun();
	at = stream_file(s, "b", "x");
	memset(at + 124, 0, 12);
	at[124] = 0x80;
	at[135] = 1;
	stream_sum(at);
	refused(s, PROPOSAL_BAD_SIZE_FIELD);
	s = begun();
	at = stream_file(s, "b", "x");
	memcpy(at + 100, "-000644", 7);
	stream_sum(at);
	refused(s, PROPOSAL_BAD_MODE_FIELD);
}

static void refused_records(const char *text, enum proposal_bad bad)
{
	struct stream *s = begun();

	buf_put_str(&s->records, text);
	(void)stream_entry(s, '0', 0644, "b", "", span_str("x"));
	refused(s, bad);
}

TEST(t7_records_that_lie_about_their_length)
{
	refused_records("99999 path=b\n", PROPOSAL_BAD_RECORD);
	refused_records("8 path=b\n", PROPOSAL_BAD_RECORD);
	refused_records("11 path=b\n", PROPOSAL_BAD_RECORD);
	refused_records("0 path=b\n", PROPOSAL_BAD_RECORD);
	refused_records("010 path=b\n", PROPOSAL_BAD_RECORD);
	refused_records("-10 path=b\n", PROPOSAL_BAD_RECORD);
	refused_records("path=b\n", PROPOSAL_BAD_RECORD);
	refused_records("10 path=bX", PROPOSAL_BAD_RECORD);
	refused_records("10 pathXb\n", PROPOSAL_BAD_RECORD);
	refused_records("4294967306 path=b\n", PROPOSAL_BAD_RECORD);
	refused_records("10 path=b\n10 path=b\n", PROPOSAL_BAD_KEY_TWICE);
	refused_records("10 paTh=b\n", PROPOSAL_BAD_KEY);
}

TEST(t7_records_of_nothing_and_of_too_much)
{
	struct stream *s = begun();

	(void)stream_header(s, 'x', 0644, 0, span_str(".berm-pax"), span_str(""));
	refused(s, PROPOSAL_BAD_RECORDS_SIZE);
	s = begun();
	(void)stream_header(s, 'x', 0644, PROPOSAL_RECORDS_MAX + 1, span_str(".berm-pax"),
	                    span_str(""));
	refused(s, PROPOSAL_BAD_RECORDS_SIZE);
}

/* --- T8: what else tar has --- */

TEST(t8_types_outside_the_closed_set)
{
	static const char types[] = "1346789gKLSVMNDAXu";

	for (const char *t = types; *t; t++) {
		struct stream *s = begun();

		(void)stream_header(s, *t, 0644, 0, span_str(".berm-pax"), span_str(""));
		refused(s, PROPOSAL_BAD_TYPE);
		s = begun();
		stream_text(s, "path", "b");
		(void)stream_entry(s, *t, 0, "b", "", span_str(""));
		refused(s, PROPOSAL_BAD_TYPE);
	}
}

TEST(t8_an_old_type_byte_of_zero)
{
	struct stream *s = begun();

	stream_text(s, "path", "b");
	(void)stream_entry(s, '\0', 0, "b", "", span_str(""));
	refused(s, PROPOSAL_BAD_TYPE);
}

TEST(t8_an_entry_without_records_and_records_without_an_entry)
{
	struct stream *s = begun();

	(void)stream_header(s, '0', 0644, 0, span_str("b"), span_str(""));
	refused(s, PROPOSAL_BAD_TYPE);
	s = begun();
	stream_text(s, "path", "b");
	(void)stream_entry(s, 'x', 0, "b", "", span_str(""));
	refused(s, PROPOSAL_BAD_TYPE);
}

TEST(t9_a_wrong_checksum)
{
	for (unsigned i = 0; i < PROPOSAL_BLOCK_BYTES; i++) {
		struct stream *s = begun();
		uint8_t *at = stream_file(s, "b", "x");

		at[i] ^= 1;
		refused(s, PROPOSAL_BAD_CHECKSUM);
	}
}

TEST(t9_something_after_the_end)
{
	struct stream *s = begun();
	size_t whole;

	stream_end(s);
	whole = s->out.len;
	buf_put_u8(&s->out, 0);
	refused_for(buf_span(&s->out), PROPOSAL_BAD_AFTER);
	s->out.len = whole;
	buf_put(&s->out, s->storage, whole); /* the same archive again */
	refused_for(buf_span(&s->out), PROPOSAL_BAD_AFTER);
	free(s);
}

TEST(t9_something_in_the_last_zeros)
{
	struct stream *s = begun();

	stream_end(s);
	s->out.at[s->out.len - 600] = 1;
	refused_for(buf_span(&s->out), PROPOSAL_BAD_PADDING);
	free(s);
}

TEST(t9_a_trailer_of_another_stream)
{
	struct stream *s = begun();

	(void)stream_file(s, "b", "x");
	stream_trailer(s, 3);
	refused(s, PROPOSAL_BAD_COUNT);
	s = begun();
	(void)stream_file(s, "b", "content");
	stream_end(s);
	memcpy(s->out.at + 512 * 6, "CONTENT", 7); /* of b, behind two entries' headers */
	refused_for(buf_span(&s->out), PROPOSAL_BAD_SHA256);
	free(s);
}

/* --- T10: too much --- */

TEST(t10_components_and_paths_that_are_too_long)
{
	char path[5001];

	memset(path, 'n', sizeof(path));
	path[256] = '\0';
	refused_path(path);
	path[256] = 'n';
	for (size_t i = 100; i < sizeof(path); i += 100)
		path[i] = '/';
	path[5000] = '\0';
	path[4999] = 'x';
	refused_path(path);
}

TEST(t10_nesting_of_ten_thousand)
{
	char path[2 * WPATH_DEPTH_MAX + 4];
	struct stream *s = begun();

	for (unsigned depth = 1; depth <= WPATH_DEPTH_MAX + 1; depth++) {
		memcpy(path + 2 * (depth - 1), "d", 2);
		(void)stream_dir(s, path);
		path[2 * depth - 1] = '/';
	}
	refused(s, PROPOSAL_BAD_PATH);
}

TEST(t10_the_deepest_that_is_taken)
{
	char path[2 * WPATH_DEPTH_MAX];
	struct stream *s = begun();
	struct proposal *p;

	for (unsigned depth = 1; depth <= WPATH_DEPTH_MAX; depth++) {
		memcpy(path + 2 * (depth - 1), "d", 2);
		(void)stream_dir(s, path);
		path[2 * depth - 1] = '/';
	}
	p = taken(s);
	path[sizeof(path) - 1] = '\0';
	CHECK_EQ(node_at(p, path).index, WPATH_DEPTH_MAX);
	CHECK_EQ(node_at(p, "d").end, WPATH_DEPTH_MAX + 1);
	proposal_free(p);
}

static void refused_map(uint64_t size, const char *map)
{
	struct stream *s = begun();

	(void)stream_sparse(s, "b", size, map, "ABCDEF");
	refused(s, PROPOSAL_BAD_SPARSE);
}

TEST(t11_maps_that_lie)
{
	struct stream *s;

	refused_map(20, "");
	refused_map(20, "2");
	refused_map(20, "2:");
	refused_map(20, "1:0,5");
	refused_map(20, "1:0,7");
	refused_map(20, "2:0,3;2,3");
	refused_map(20, "2:8,3;0,3");
	refused_map(20, "1:0,3;8,3");
	refused_map(20, "3:0,3;8,3");
	refused_map(20, "2:0,3;8,3;");
	refused_map(20, "2:0,3;;8,3");
	refused_map(20, "2:0,6;8,0");
	refused_map(20, "1:15,6");
	refused_map(20, "1:18446744073709551610,6");
	refused_map(20, "1:-1,6");
	refused_map(20, "4097:0,6");
	s = begun();
	(void)stream_sparse(s, "b", UINT64_C(1) << 63, "1:0,6", "ABCDEF"); /* 8 EiB */
	refused(s, PROPOSAL_BAD_FILE_SIZE);
	s = begun();
	(void)stream_sparse(s, "b", 5, "1:0,6", "ABCDEF");
	refused(s, PROPOSAL_BAD_FILE_SIZE);
}

TEST(t15_owners_and_devices)
{
	static const unsigned fields[] = { 108, 116, 136, 265, 297, 329, 337, 500 };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		struct stream *s = begun();
		uint8_t *at = stream_file(s, "b", "x");

		at[fields[i]] = '1';
		stream_sum(at);
		refused(s, PROPOSAL_BAD_OTHER_FIELD);
	}
}

static void refused_time(const char *mtime)
{
	struct stream *s = begun();

	stream_text(s, "path", "b");
	stream_text(s, "mtime", mtime);
	stream_text(s, "size", "0");
	(void)stream_entry(s, '0', 0644, "b", "", span_str(""));
	refused(s, PROPOSAL_BAD_VALUE);
}

TEST(t15_extreme_times)
{
	refused_time("-1.000000000");
	refused_time("9223372036854775808.000000000");
	refused_time("1");
	refused_time("1.5");
	refused_time("1.5000000000");
	refused_time("1e3.000000000");
	refused_time("1.00000000x");
	refused_time("");
	refused_time(".000000000");
}

TEST(t15_attributes)
{
	static const char *const keys[] = { "SCHILY.xattr.security.capability",
		                            "SCHILY.xattr.trusted.overlay.opaque",
		                            "LIBARCHIVE.xattr.user.x",
		                            "uname",
		                            "uid",
		                            "comment",
		                            "GNU.sparse.map",
		                            "BERM.",
		                            "BERM.mode" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		struct stream *s = begun();

		stream_text(s, keys[i], "1");
		(void)stream_file(s, "b", "x");
		refused(s, PROPOSAL_BAD_KEY);
	}
}

TEST_MAIN()

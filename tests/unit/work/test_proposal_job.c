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

TEST(takes_all_kinds_and_tells_of_each)
{
	struct stream *s = begun();
	struct proposal *p;
	struct proposal_totals t;
	struct proposal_node n;

	(void)stream_whiteout(s, "a");
	(void)stream_dir(s, "dir");
	(void)stream_file(s, "dir/file", "hello\n");
	(void)stream_link(s, "dir/link", "../../etc/passwd");
	(void)stream_other(s, "dir/pipe", "fifo");
	(void)stream_file(s, "dir.c", "");
	p = taken(s);
	proposal_totals(p, &t);
	CHECK_EQ(t.entries, 7);
	CHECK_EQ(t.refused, 1);
	CHECK_EQ(t.stored_bytes, 6);
	n = node_at(p, "dir");
	CHECK_EQ(n.kind, PROPOSAL_DIR);
	CHECK_EQ(n.end, n.index + 4);
	CHECK_EQ(n.mode, 0755);
	n = node_at(p, "dir/file");
	CHECK_EQ(n.kind, PROPOSAL_FILE);
	CHECK_EQ(n.flags, PROPOSAL_TEXT);
	CHECK_EQ(n.size, 6);
	CHECK_EQ(n.mtime_ns, 999999999);
	CHECK_SPAN(n.name, "file");
	n = node_at(p, "dir/link");
	CHECK_SPAN(n.target, "../../etc/passwd");
	n = node_at(p, "dir/pipe");
	CHECK_EQ(n.kind, PROPOSAL_OTHER);
	CHECK_EQ(n.why, PROPOSAL_WHY_FIFO);
	CHECK_EQ(node_at(p, "a").kind, PROPOSAL_WHITEOUT);
	CHECK(!node_at(p, "dir/link").sha256);
	CHECK(!proposal_find(p, span_str("dir/nothing"), &n));
	proposal_free(p);
}

TEST(children_of_a_directory_are_its_own)
{
	struct stream *s = begun();
	struct proposal_node dir;
	struct proposal_node n;
	struct proposal *p;
	uint32_t next;

	(void)stream_dir(s, "b");
	(void)stream_dir(s, "b/c");
	(void)stream_file(s, "b/c/d", "x");
	(void)stream_file(s, "b/e", "y");
	(void)stream_file(s, "f", "z");
	p = taken(s);
	dir = node_at(p, "b");
	next = dir.index + 1;
	CHECK(proposal_child(p, &dir, &next, &n));
	CHECK_SPAN(n.path, "b/c");
	CHECK(proposal_child(p, &dir, &next, &n));
	CHECK_SPAN(n.path, "b/e");
	CHECK(!proposal_child(p, &dir, &next, &n));
	proposal_free(p);
}

TEST(contents_come_back_whole_and_in_parts)
{
	static const char zeros[8];
	struct stream *s = begun();
	struct proposal_node n;
	struct proposal *p;
	char got[16];

	(void)stream_file(s, "b", "0123456789");
	(void)stream_sparse(s, "c", 20, "2:3,4;12,2", "ABCDEF");
	p = taken(s);
	n = node_at(p, "b");
	CHECK_OK(proposal_read(p, &n, 2, got, 5, NULL), NULL);
	CHECK_MEM(span_of(got, 5), span_str("23456"));
	CHECK_EQ(proposal_read(p, &n, 2, got, 9, NULL), -EINVAL);
	n = node_at(p, "c");
	CHECK_EQ(n.size, 20);
	CHECK_EQ(n.stored_bytes, 6);
	CHECK(!(n.flags & PROPOSAL_TEXT)); /* a hole is NULs */
	CHECK_OK(proposal_read(p, &n, 0, got, 16, NULL), NULL);
	CHECK_MEM(span_of(got, 16), span_of("\0\0\0ABCD\0\0\0\0\0EF\0\0", 16));
	CHECK_OK(proposal_read(p, &n, 5, got, 3, NULL), NULL);
	CHECK_MEM(span_of(got, 3), span_of("CD\0", 3));
	CHECK_OK(proposal_read(p, &n, 14, got, 6, NULL), NULL);
	CHECK_MEM(span_of(got, 6), span_of(zeros, 6));
	proposal_free(p);
}

TEST(a_hash_is_of_what_the_file_reads_as)
{
	static const char whole[] = "\0\0\0ABCD\0\0\0\0\0EF\0\0\0\0\0";
	uint8_t sum[PROPOSAL_SHA256_BYTES];
	struct stream *s = begun();
	struct proposal_node n;
	struct proposal *p;

	(void)stream_sparse(s, "c", 20, "2:3,4;12,2", "ABCDEF");
	(void)stream_sparse(s, "d", PROPOSAL_FILE_BYTES_MAX, "0:", "");
	p = taken(s);
	CHECK_EQ(EVP_Digest(whole, 20, sum, NULL, EVP_sha256(), NULL), 1);
	n = node_at(p, "c");
	CHECK_MEM(span_of(n.sha256, sizeof(sum)), span_of(sum, sizeof(sum)));
	CHECK(!node_at(p, "d").sha256); /* sixteen terabytes of zeros are not hashed */
	proposal_free(p);
}

/* --- T12, T13: whiteouts and redirects --- */

TEST(t12_a_whiteout_of_the_root)
{
	struct stream *s = stream_new();

	(void)stream_whiteout(s, ".");
	refused(s, PROPOSAL_BAD_ROOT);
	s = begun();
	(void)stream_whiteout(s, ".");
	refused(s, PROPOSAL_BAD_TWICE);
}

TEST(t12_marks_on_the_root_are_not_taken)
{
	struct stream *s = stream_new();
	struct proposal_node n;
	struct proposal *p;

	stream_text(s, "BERM.opaque", "1");
	(void)stream_root(s);
	(void)stream_file(s, "b", "kept");
	p = taken(s);
	n = node_at(p, "");
	CHECK_EQ(n.why, PROPOSAL_WHY_ROOT);
	CHECK_EQ(n.flags, 0);
	CHECK_EQ(node_at(p, "b").why, PROPOSAL_WHY_NONE);
	proposal_free(p);
	s = stream_new();
	stream_text(s, "BERM.redirect", "dir");
	(void)stream_root(s);
	p = taken(s);
	CHECK_EQ(node_at(p, "").why, PROPOSAL_WHY_ROOT);
	CHECK_EQ(node_at(p, "").target.len, 0);
	proposal_free(p);
}

TEST(t12_what_the_base_never_had_cannot_go)
{
	struct stream *s = begun();
	struct proposal *p;

	(void)stream_whiteout(s, ".git"); /* is said, as any other; what it means is not ours */
	(void)stream_dir(s, "dir");
	(void)stream_whiteout(s, "dir/file");
	(void)stream_whiteout(s, "dir/never");
	(void)stream_dir(s, "new");
	(void)stream_whiteout(s, "new/file");
	(void)stream_whiteout(s, "nowhere");
	p = taken(s);
	CHECK_EQ(node_at(p, ".git").why, PROPOSAL_WHY_NONE);
	CHECK_EQ(node_at(p, "dir/file").why, PROPOSAL_WHY_NONE);
	CHECK_EQ(node_at(p, "dir/never").why, PROPOSAL_WHY_NOT_IN_BASE);
	CHECK_EQ(node_at(p, "new/file").why, PROPOSAL_WHY_NOT_IN_BASE);
	CHECK_EQ(node_at(p, "nowhere").why, PROPOSAL_WHY_NOT_IN_BASE);
	proposal_free(p);
}

TEST(t12_an_opaque_directory_has_nothing_to_remove)
{
	struct stream *s = begun();
	struct proposal *p;

	stream_text(s, "BERM.opaque", "1");
	(void)stream_dir(s, "dir");
	(void)stream_whiteout(s, "dir/file");
	p = taken(s);
	CHECK_EQ(node_at(p, "dir").flags, PROPOSAL_OPAQUE);
	CHECK_EQ(node_at(p, "dir/file").why, PROPOSAL_WHY_NOT_IN_BASE);
	proposal_free(p);
}

static void put_redirect(struct stream *s, const char *path, const char *from)
{
	stream_text(s, "BERM.redirect", from);
	(void)stream_dir(s, path);
}

TEST(t13_a_rename_moves_what_its_children_mean)
{
	struct stream *s = begun();
	struct proposal_node n;
	struct proposal *p;

	(void)stream_whiteout(s, "dir");
	put_redirect(s, "moved", "dir");
	(void)stream_whiteout(s, "moved/file");
	(void)stream_dir(s, "moved/sub");
	(void)stream_whiteout(s, "moved/sub/x");
	p = taken(s);
	n = node_at(p, "moved");
	CHECK_EQ(n.flags, PROPOSAL_REDIRECT);
	CHECK_SPAN(n.target, "dir");
	CHECK_EQ(node_at(p, "moved/file").why, PROPOSAL_WHY_NONE);
	CHECK_EQ(node_at(p, "moved/sub/x").why, PROPOSAL_WHY_NONE);
	proposal_free(p);
}

TEST(t13_sources_that_are_missing_or_no_directories)
{
	static const char *const bad[] = { "missing", "a", "a/b", "dir/file", "." };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct stream *s = begun();
		struct proposal_node n;
		struct proposal *p;

		put_redirect(s, "moved", bad[i]);
		(void)stream_file(s, "moved/new", "kept");
		p = taken(s);
		n = node_at(p, "moved");
		CHECK_EQ(n.why, PROPOSAL_WHY_NO_SOURCE);
		CHECK_EQ(n.flags, PROPOSAL_OPAQUE);
		CHECK_EQ(n.target.len, 0);
		CHECK_EQ(node_at(p, "moved/new").size, 4);
		proposal_free(p);
	}
}

/* Two places were exchanged: each came from where the other is. That is no cycle. */
TEST(t13_an_exchange_and_a_rename_into_itself)
{
	struct stream *s = begun();
	struct proposal *p;

	put_redirect(s, "dir", "old");
	put_redirect(s, "old", "dir");
	p = taken(s);
	CHECK_SPAN(node_at(p, "dir").target, "old");
	CHECK_SPAN(node_at(p, "old").target, "dir");
	proposal_free(p);
	s = begun();
	stream_text(s, "BERM.opaque", "1");
	(void)stream_dir(s, "dir");
	put_redirect(s, "dir/inner", "dir");
	(void)stream_dir(s, "dir/inner/sub");
	put_redirect(s, "dir/inner/sub/again", "dir/sub");
	p = taken(s);
	CHECK_SPAN(node_at(p, "dir/inner").target, "dir");
	CHECK_SPAN(node_at(p, "dir/inner/sub/again").target, "dir/sub");
	proposal_free(p);
}

TEST(t13_one_source_for_two)
{
	struct stream *s = begun();
	struct proposal *p;

	put_redirect(s, "one", "dir");
	put_redirect(s, "two", "dir");
	p = taken(s);
	CHECK_EQ(node_at(p, "one").why, PROPOSAL_WHY_NONE);
	CHECK_EQ(node_at(p, "two").why, PROPOSAL_WHY_SOURCE_TWICE);
	CHECK_EQ(node_at(p, "two").flags, PROPOSAL_OPAQUE);
	proposal_free(p);
	s = begun();
	stream_text(s, "BERM.opaque", "1");
	put_redirect(s, "one", "dir");
	refused(s, PROPOSAL_BAD_COMBINATION);
}

TEST(t14_a_real_file_that_is_named_as_a_whiteout)
{
	struct stream *s = begun();
	struct proposal *p;

	(void)stream_file(s, ".berm-end", "not the end");
	(void)stream_file(s, ".wh..wh..opq", "");
	(void)stream_file(s, ".wh.a", "real");
	p = taken(s);
	CHECK_EQ(node_at(p, ".wh.a").kind, PROPOSAL_FILE);
	CHECK_EQ(node_at(p, ".wh.a").size, 4);
	CHECK_EQ(node_at(p, ".wh..wh..opq").kind, PROPOSAL_FILE);
	CHECK_EQ(node_at(p, ".berm-end").size, 11);
	proposal_free(p);
}

/* --- T15: metadata --- */

TEST(t15_bits_beyond_the_permissions_are_dropped_and_told)
{
	struct stream *s = begun();
	struct proposal *p;

	stream_text(s, "path", "b");
	put_time(s);
	stream_text(s, "size", "1");
	(void)stream_entry(s, '0', 06755, "b", "", span_str("x"));
	p = taken(s);
	CHECK_EQ(node_at(p, "b").mode, 0755);
	CHECK_EQ(node_at(p, "b").flags, PROPOSAL_MODE_CUT | PROPOSAL_TEXT);
	proposal_free(p);
}

TEST(t16_names_that_are_ours)
{
	struct stream *s = begun();
	struct proposal *p;

	(void)stream_dir(s, ".berm-stage-0123456789ab");
	(void)stream_file(s, ".berm-stage-0123456789ab/journal", "x");
	(void)stream_whiteout(s, ".berm-stage-x");
	(void)stream_dir(s, "dir");
	(void)stream_file(s, "dir/.berm-stage-y", "x");
	p = taken(s);
	CHECK_EQ(node_at(p, ".berm-stage-0123456789ab").why, PROPOSAL_WHY_OURS);
	CHECK_EQ(node_at(p, ".berm-stage-0123456789ab/journal").why, PROPOSAL_WHY_OURS);
	CHECK_EQ(node_at(p, ".berm-stage-x").why, PROPOSAL_WHY_OURS);
	CHECK_EQ(node_at(p, "dir/.berm-stage-y").why, PROPOSAL_WHY_NONE);
	proposal_free(p);
}

TEST(another_version_is_refused)
{
	struct stream *s = stream_new();

	stream_text(s, "BERM.version", "2");
	(void)stream_dir(s, ".");
	refused(s, PROPOSAL_BAD_VERSION);
	s = stream_new();
	(void)stream_dir(s, ".");
	refused(s, PROPOSAL_BAD_VERSION);
	s = begun();
	stream_text(s, "BERM.version", "1");
	(void)stream_dir(s, "b");
	refused(s, PROPOSAL_BAD_COMBINATION);
}

TEST(what_is_skipped_is_told)
{
	struct stream *s = begun();
	struct proposal *p;

	(void)stream_other(s, "b", "socket");
	(void)stream_other(s, "c", "device");
	(void)stream_other(s, "d", "metacopy");
	(void)stream_other(s, "dd", "sparse");
	stream_text(s, "BERM.skipped", "deep");
	(void)stream_dir(s, "e");
	p = taken(s);
	CHECK_EQ(node_at(p, "b").why, PROPOSAL_WHY_SOCKET);
	CHECK_EQ(node_at(p, "c").why, PROPOSAL_WHY_DEVICE);
	CHECK_EQ(node_at(p, "d").why, PROPOSAL_WHY_METACOPY);
	CHECK_EQ(node_at(p, "dd").why, PROPOSAL_WHY_SPARSE);
	CHECK_EQ(node_at(p, "e").why, PROPOSAL_WHY_DEEP);
	proposal_free(p);
	s = begun();
	(void)stream_other(s, "b", "whim");
	refused(s, PROPOSAL_BAD_VALUE);
	s = begun();
	(void)stream_other(s, "b", "deep");
	refused(s, PROPOSAL_BAD_COMBINATION);
}

/* K6, and every other place where a stream can end. */
TEST(k6_a_stream_that_was_cut_anywhere)
{
	struct stream *s = begun();
	struct result r;

	(void)stream_dir(s, "dir");
	(void)stream_file(s, "dir/file", "some content");
	(void)stream_sparse(s, "f", 20, "2:3,4;12,2", "ABCDEF");
	stream_end(s);
	for (size_t len = 0; len < s->out.len; len += 1 + len % 7) {
		CHECK_EQ(run_span(span_of(s->out.at, len), &r), -EBADMSG);
		CHECK(strstr(r.e.text, proposal_bad_text(PROPOSAL_BAD_CUT)));
		close_result(&r);
	}
	CHECK_OK(run_span(buf_span(&s->out), &r), &r.e);
	close_result(&r);
	free(s);
}

TEST(the_reason_names_no_control_bytes)
{
	struct stream *s = begun();
	struct result r;

	(void)stream_file(s, "\x1b]0;evil\x07", "x");
	(void)stream_file(s, "\x1b]0;evil\x07", "x");
	stream_end(s);
	CHECK_EQ(run_span(buf_span(&s->out), &r), -EBADMSG);
	CHECK(!strchr(r.e.text, 0x1b) && !strchr(r.e.text, 0x07));
	CHECK(strstr(r.e.text, "\\x1b]0;evil\\x07"));
	close_result(&r);
	free(s);
}

TEST_MAIN()

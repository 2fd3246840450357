#include "guardpage.h"
#include "test.h"
#include "work/gitobj_stream.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char hex_a[] = "0123456789abcdef0123456789abcdef01234567";

static struct gitobj_id id_a(void)
{
	struct gitobj_id id;

	CHECK_EQ(gitobj_parse_hex(span_str(hex_a), &id), 0);
	return id;
}

TEST(ids_are_forty_small_digits)
{
	struct gitobj_id id;
	char out[GITOBJ_HEX_BYTES];
	struct buf b;

	memset(&id, 0xa5, sizeof(id));
	for (size_t n = 0; n < GITOBJ_HEX_BYTES; n++)
		CHECK_EQ(gitobj_parse_hex(guard_span(hex_a, n), &id), -EBADMSG);
	CHECK_EQ(gitobj_parse_hex(span_str("0123456789ABCDEF0123456789abcdef01234567"), &id),
	         -EBADMSG);
	CHECK_EQ(id.b[0], 0xa5);
	id = id_a();
	buf_init(&b, out, sizeof(out));
	gitobj_put_hex(&b, &id);
	CHECK_SPAN(buf_span(&b), hex_a);
}

TEST(loose_heads)
{
	static const char good[] = "commit 1234\0x";
	static const char *const bad[] = {
		"blub 1", "blob 01", "blob", "blob ", " 1", "blob -1", "blob 18446744073709551616",
		"blob 1 "
	};
	enum gitobj_type type;
	uint64_t len;
	struct span in;

	for (size_t n = 0; n < 12; n++) {
		in = guard_span(good, n);
		CHECK_EQ(gitobj_parse_loose_head(&in, &type, &len), n < 12 ? -EAGAIN : 0);
	}
	in = guard_span(good, sizeof(good) - 1);
	CHECK_EQ(gitobj_parse_loose_head(&in, &type, &len), 0);
	CHECK_EQ(type, GITOBJ_COMMIT);
	CHECK_EQ(len, 1234);
	CHECK_SPAN(in, "x");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		in = guard_span(bad[i], strlen(bad[i]) + 1);
		CHECK_EQ(gitobj_parse_loose_head(&in, &type, &len), -EBADMSG);
	}
}

static struct span put_entry(struct buf *b, const char *mode, const char *name)
{
	struct gitobj_id id = id_a();

	buf_put_str(b, mode);
	buf_put_u8(b, ' ');
	buf_put_str(b, name);
	buf_put_u8(b, 0);
	buf_put(b, id.b, sizeof(id.b));
	return buf_span(b);
}

TEST(entries_of_trees_at_every_length)
{
	enum gitobj_bad bad = GITOBJ_BAD_NONE;
	struct gitobj_entry en;
	uint8_t room[200];
	struct span in;
	struct buf b;

	buf_init(&b, room, sizeof(room));
	(void)put_entry(&b, "100755", "name");
	for (size_t n = 0; n < b.len; n++) {
		in = guard_span(b.at, n);
		memset(&en, 0xa5, sizeof(en));
		CHECK_EQ(gitobj_parse_entry(&in, &en, &bad), -EBADMSG);
		CHECK_EQ(en.mode, 0xa5a5a5a5);
		CHECK_EQ(in.len, n);
	}
	in = guard_span(b.at, b.len);
	CHECK_EQ(gitobj_parse_entry(&in, &en, &bad), 0);
	CHECK_EQ(en.mode, 0100755);
	CHECK_SPAN(en.name, "name");
	CHECK_EQ(in.len, 0);
}

TEST(trees_of_many_prefixes)
{
	enum { NAMES = 255, ROOM = NAMES * 300 };
	_own_free_ uint8_t *room = malloc(ROOM);
	enum gitobj_bad bad = GITOBJ_BAD_NONE;
	char name[NAMES + 1];
	struct buf b;

	CHECK(room);
	buf_init(&b, room, ROOM);
	for (size_t n = 1; n <= NAMES; n++) {
		memset(name, '!', n);
		name[n] = 0;
		(void)put_entry(&b, "100644", name);
	}
	CHECK(buf_ok(&b));
	CHECK_EQ(gitobj_parse_tree(buf_span(&b), &bad), 0);
	(void)put_entry(&b, "40000", "!");
	CHECK_EQ(gitobj_parse_tree(buf_span(&b), &bad), -EBADMSG);
	CHECK_EQ(bad, GITOBJ_BAD_DUPLICATE);
}

static const char commit[] = "tree 0123456789abcdef0123456789abcdef01234567\n"
			     "parent 0123456789abcdef0123456789abcdef01234567\n"
			     "parent 1123456789abcdef0123456789abcdef01234567\n"
			     "author A <a@b> 1 +0000\n"
			     "committer C <c@d> 2 -0130\n"
			     "gpgsig x\n y\n"
			     "\nsubject\n";

TEST(commits_at_every_length)
{
	enum gitobj_bad bad = GITOBJ_BAD_NONE;
	struct gitobj_commit c;
	struct gitobj_id id;
	size_t head = (size_t)(strstr(commit, "gpgsig") - commit);

	for (size_t n = 0; n < head; n++) {
		memset(&c, 0xa5, sizeof(c));
		CHECK_EQ(gitobj_parse_commit(guard_span(commit, n), &c, &bad), -EBADMSG);
		CHECK_EQ(c.parent_count, 0xa5a5a5a5);
	}
	CHECK_EQ(gitobj_parse_commit(guard_span(commit, sizeof(commit) - 1), &c, &bad), 0);
	CHECK_EQ(c.parent_count, 2);
	gitobj_parent(&c, 1, &id);
	CHECK_EQ(id.b[0], 0x11);
	gitobj_parent(&c, 2, &id);
	CHECK_EQ(id.b[0], 0);
	CHECK_SPAN(c.author, "A <a@b> 1 +0000");
	CHECK_SPAN(c.message, "subject\n");
}

TEST(heads_of_packed_entries)
{
	static const uint8_t whole[] = { 0xbf, 0x83, 0x01 };
	static const uint8_t back[] = { 0x61, 0x80, 0x01 };
	uint8_t ones[GITOBJ_ENTRY_HEAD_MAX];
	struct gitobj_packed p;

	CHECK_EQ(gitobj_parse_packed(guard_span(whole, 0), &p), -EAGAIN);
	CHECK_EQ(gitobj_parse_packed(guard_span(whole, 2), &p), -EAGAIN);
	CHECK_EQ(gitobj_parse_packed(guard_span(whole, 3), &p), 0);
	CHECK_EQ(p.type, GITOBJ_BLOB);
	CHECK_EQ(p.len, 15 | 3 << 4 | 1 << 11);
	CHECK_EQ(gitobj_parse_packed(guard_span(back, 3), &p), 0);
	CHECK_EQ(p.back, 129);
	memset(ones, 0xff, sizeof(ones));
	CHECK_EQ(gitobj_parse_packed(guard_span(ones, sizeof(ones)), &p), -EBADMSG);
	CHECK_EQ(gitobj_parse_packed(span_of("\x01", 1), &p), -EBADMSG);
	CHECK_EQ(gitobj_parse_packed(span_of("\x50", 1), &p), -EBADMSG);
	CHECK_EQ(gitobj_parse_packed(span_of("\x60\x00", 2), &p), -EBADMSG);
}

TEST(deltas_copy_and_insert)
{
	static const uint8_t delta[] = { 0x91, 2, 3, 2, 'x', 'y', 0x90, 1 };
	static const uint8_t far[] = { 0x91, 5, 3 };
	uint8_t out[6];

	CHECK_EQ(gitobj_parse_delta(guard_span(delta, sizeof(delta)), span_str("abcdef"), out, 6),
	         0);
	CHECK_MEM(span_of(out, 6), span_str("cdexya"));
	for (size_t n = 0; n < sizeof(delta); n++)
		CHECK_EQ(gitobj_parse_delta(guard_span(delta, n), span_str("abcdef"), out, 6),
		         -EBADMSG);
	CHECK_EQ(gitobj_parse_delta(guard_span(delta, sizeof(delta)), span_str("abcdef"), out, 5),
	         -EBADMSG);
	CHECK_EQ(gitobj_parse_delta(guard_span(far, sizeof(far)), span_str("abcdef"), out, 3),
	         -EBADMSG);
	CHECK_EQ(gitobj_parse_delta(span_of("\0", 1), span_str("abcdef"), out, 0), -EBADMSG);
	CHECK_EQ(gitobj_parse_delta(span_of("", 0), span_str(""), out, 0), 0);
}

TEST(index_heads)
{
	uint8_t head[GITOBJ_IDX_HEAD_BYTES] = { 0xff, 't', 'O', 'c', 0, 0, 0, 2 };
	struct gitobj_idx x;
	const uint64_t bytes = sizeof(head) + 2 * 28 + 40;

	for (unsigned i = 3; i < 256; i++)
		head[8 + 4 * i + 3] = 2;
	CHECK_EQ(gitobj_parse_idx_head(guard_span(head, sizeof(head)), bytes, &x), 0);
	CHECK_EQ(x.offsets_at, sizeof(head) + 2 * 24);
	CHECK_EQ(gitobj_parse_idx_head(guard_span(head, sizeof(head)), bytes + 8, &x), 0);
	CHECK_EQ(x.large_count, 1);
	CHECK_EQ(gitobj_parse_idx_head(guard_span(head, sizeof(head)), bytes - 1, &x), -EBADMSG);
	CHECK_EQ(gitobj_parse_idx_head(guard_span(head, sizeof(head)), bytes + 4, &x), -EBADMSG);
	CHECK_EQ(gitobj_parse_idx_head(guard_span(head, sizeof(head)), bytes + 24, &x), -EBADMSG);
	CHECK_EQ(gitobj_parse_idx_head(guard_span(head, sizeof(head) - 1), bytes, &x), -EBADMSG);
	head[8 + 4 * 200 + 3] = 1;
	CHECK_EQ(gitobj_parse_idx_head(guard_span(head, sizeof(head)), bytes, &x), -EBADMSG);
	head[7] = 1;
	CHECK_EQ(gitobj_parse_idx_head(guard_span(head, sizeof(head)), bytes, &x), -EPROTO);
}

TEST(names_of_refs)
{
	static const char *const good[] = {
		"refs/heads/main", "refs/heads/a/b.c", "refs/x",
		"refs/heads/\xe9", "refs/heads/@",     "refs/heads/a{b"
	};
	static const char *const bad[] = { "",
		                           "refs",
		                           "HEAD",
		                           "heads/x",
		                           "refs/",
		                           "refs//x",
		                           "refs/heads/",
		                           "refs/.x",
		                           "refs/heads/a..b",
		                           "refs/heads/x.lock",
		                           "refs/x.",
		                           "refs/heads/~",
		                           "refs/heads/a:b",
		                           "refs/heads/a b",
		                           "refs/heads/a@{b",
		                           "refs/a\\b",
		                           "refs/\x1b",
		                           "refs/a\x7f",
		                           "refs/../x",
		                           "/refs/x",
		                           "refs/x.lock/y" };
	char longer[GITOBJ_REF_PART_MAX + 8];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(gitobj_parse_ref_name_ok(span_str(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!gitobj_parse_ref_name_ok(span_str(bad[i])));
	memset(longer, 'x', sizeof(longer));
	memcpy(longer, "refs/", 5);
	CHECK(gitobj_parse_ref_name_ok(span_of(longer, GITOBJ_REF_PART_MAX + 5)));
	CHECK(!gitobj_parse_ref_name_ok(span_of(longer, GITOBJ_REF_PART_MAX + 6)));
	CHECK(gitobj_branch_ok(span_str("HEAD")));
	CHECK(!gitobj_branch_ok(span_str("refs/heads/HEAD")));
	CHECK(gitobj_branch_ok(span_str("refs/heads/x/refs")));
	CHECK(gitobj_branch_ok(span_str("refs/tags/x")));
	CHECK(gitobj_branch_ok(span_str("refs/stash")));
	/* each of these would be in the way of another on the host */
	CHECK(!gitobj_branch_ok(span_str("refs/heads/HEAD/x")));
	CHECK(!gitobj_branch_ok(span_str("refs/heads/refs")));
	CHECK(!gitobj_branch_ok(span_str("refs/heads/refs/tags/x")));
	/* and these are not the guest's own */
	CHECK(!gitobj_branch_ok(span_str("refs/remotes/origin/x")));
	CHECK(!gitobj_branch_ok(span_str("refs/berm/s1/x")));
	CHECK(!gitobj_branch_ok(span_str("refs/heads/")));
}

TEST(p14_what_a_tag_is_of)
{
	static const char hex[] = "object 0123456789abcdef0123456789abcdef01234567\n";
	static const char *const bad[] = { "", "type commit\n", "tag x\n" };
	struct gitobj_id id = { { 0 } };
	enum gitobj_type type = GITOBJ_BLOB;
	char text[128];

	(void)snprintf(text, sizeof(text), "%stype tag\ntag v1\ntagger T <t> 0 +0000\n\nx", hex);
	CHECK_EQ(gitobj_parse_tag(span_str(text), &id, &type), 0);
	CHECK_EQ(type, GITOBJ_TAG);
	CHECK_EQ(id.b[1], 0x23);
	for (size_t n = 0; n < strlen(hex) + strlen("type tag\n"); n++)
		CHECK_EQ(gitobj_parse_tag(span_of(text, n), &id, &type), -EBADMSG);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK_EQ(gitobj_parse_tag(span_str(bad[i]), &id, &type), -EBADMSG);
	(void)snprintf(text, sizeof(text), "%stype bush\n", hex);
	CHECK_EQ(gitobj_parse_tag(span_str(text), &id, &type), -EBADMSG);
}

TEST(refs_and_packed_refs)
{
	static const char packed[] = "# pack-refs with: peeled fully-peeled sorted \n"
				     "0123456789abcdef0123456789abcdef01234567 refs/heads/a\n"
				     "0123456789abcdef0123456789abcdef01234567 refs/tags/t\n"
				     "^1123456789abcdef0123456789abcdef01234567\n";
	struct span in = span_str(packed), name, target;
	struct gitobj_id id;

	CHECK_EQ(gitobj_parse_packed_ref(&in, &id, &name), 0);
	CHECK_SPAN(name, "refs/heads/a");
	CHECK_EQ(gitobj_parse_packed_ref(&in, &id, &name), 0);
	CHECK_SPAN(name, "refs/tags/t");
	CHECK_EQ(gitobj_parse_packed_ref(&in, &id, &name), -ENODATA);
	in = span_str("0123456789abcdef0123456789abcdef01234567 refs/heads/../x\n");
	CHECK_EQ(gitobj_parse_packed_ref(&in, &id, &name), 0);
	CHECK_SPAN(name, "refs/heads/../x");
	CHECK(!gitobj_parse_ref_name_ok(name));
	in = span_str("0123456789abcdef0123456789abcdef01234567\n");
	CHECK_EQ(gitobj_parse_packed_ref(&in, &id, &name), -EBADMSG);
	CHECK_EQ(gitobj_parse_ref(span_str("ref: refs/heads/x\n"), &id, &target), 0);
	CHECK_SPAN(target, "refs/heads/x");
	CHECK_EQ(gitobj_parse_ref(in, &id, &target), 0);
	CHECK_EQ(target.len, 0);
	CHECK_EQ(gitobj_parse_ref(span_str("ref: ../../x\n"), &id, &target), -EBADMSG);
	CHECK_EQ(gitobj_parse_ref(span_str(""), &id, &target), -EBADMSG);
}

TEST(records_of_a_stream_at_every_length)
{
	const struct gitobj_record recs[] = {
		{ .kind = GITOBJ_REC_OBJECT, .type = GITOBJ_TREE, .id = id_a(), .len = 77 },
		{ .kind = GITOBJ_REC_REF, .id = id_a(), .name = span_str("refs/heads/x") },
		{ .kind = GITOBJ_REC_REFUSED,
		  .name = span_str("any\x1b"),
		  .reason = span_str("why") },
		{ .kind = GITOBJ_REC_END, .objects = 1, .refs = 2, .refused = 3 },
	};
	uint8_t room[200];
	struct buf b;

	for (size_t i = 0; i < sizeof(recs) / sizeof(recs[0]); i++) {
		struct gitobj_record got;
		struct span in;

		buf_init(&b, room, sizeof(room));
		gitobj_put_record(&b, &recs[i]);
		for (size_t n = 0; n < b.len; n++) {
			in = guard_span(b.at, n);
			CHECK_EQ(gitobj_parse_record(&in, &got), -EAGAIN);
		}
		in = guard_span(b.at, b.len);
		CHECK_EQ(gitobj_parse_record(&in, &got), 0);
		CHECK_EQ(in.len, 0);
		CHECK_EQ(got.kind, recs[i].kind);
		CHECK_EQ(got.len, recs[i].len);
		CHECK_MEM(got.name, recs[i].name);
		CHECK_MEM(got.reason, recs[i].reason);
		CHECK_EQ(got.refused, recs[i].refused);
	}
	b.at[0] = 9;
	CHECK_EQ(gitobj_parse_record(&(struct span){ b.at, b.len }, &(struct gitobj_record){ 0 }),
	         -EBADMSG);
}

TEST_MAIN()

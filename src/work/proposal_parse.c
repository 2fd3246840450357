#include "work/proposal_parse.h"

#include "base/ck.h"

#include <errno.h>
#include <string.h>

#define KEY(k) (1U << PROPOSAL_KEY_##k)

enum {
	SECONDS_DIGITS_MAX = 19,
	NANOSECONDS_DIGITS = 9,
	MODE_MASK = 0777,
};

/* What our writer puts into the header of an extended header. */
#define PAX_NAME ".berm-pax"
#define PAX_MODE 0644
#define END_PATH ".berm-end"

/* What kinds of entries there are: which records each has, and may have. */
enum shape { FILE_, DIR_, LINK_, WHITEOUT_, OTHER_, END_, SHAPE_COUNT };

struct shape_rule {
	uint8_t type;
	bool mode; /* the header's counts; else it is 0 */
	uint8_t kind;
	uint32_t needs;
	uint32_t may;
	enum proposal_bad (*read)(const struct proposal_pax *p, struct proposal_entry *got);
};

static const struct {
	const char *word;
	enum proposal_why why;
} skipped[] = {
	{ "fifo", PROPOSAL_WHY_FIFO },     { "socket", PROPOSAL_WHY_SOCKET },
	{ "device", PROPOSAL_WHY_DEVICE }, { "metacopy", PROPOSAL_WHY_METACOPY },
	{ "deep", PROPOSAL_WHY_DEEP },     { "sparse", PROPOSAL_WHY_SPARSE },
};

static enum shape shape_of(uint8_t type, uint32_t seen)
{
	if (type == '5')
		return DIR_;
	if (type == '2')
		return LINK_;
	if (seen & KEY(ENTRIES))
		return END_;
	if (seen & KEY(WHITEOUT))
		return WHITEOUT_;
	return seen & KEY(SKIPPED) ? OTHER_ : FILE_;
}

static bool one_or_absent(const struct proposal_pax *p, enum proposal_key key)
{
	return !(p->seen & 1U << key) || span_is(p->value[key], "1");
}

/* A decimal as our writer writes it: without leading zeros. */
static bool number(struct span s, uint64_t max, uint64_t *ret)
{
	uint64_t got;

	if ((s.len > 1 && s.at[0] == '0') || !span_to_u64(s, &got) || got > max)
		return false;
	*ret = got;
	return true;
}

static bool time_of(struct span s, struct proposal_entry *got)
{
	struct span whole = { 0 };
	uint64_t seconds;
	uint64_t ns;

	if (!take_until(&s, '.', &whole) || whole.len > SECONDS_DIGITS_MAX ||
	    s.len != NANOSECONDS_DIGITS || !number(whole, INT64_MAX, &seconds) ||
	    !span_to_u64(s, &ns))
		return false;
	got->mtime_s = (int64_t)seconds;
	got->mtime_ns = (uint32_t)ns;
	return true;
}

static bool hex_digit(uint8_t c, unsigned *ret)
{
	if (c >= '0' && c <= '9')
		*ret = c - (unsigned)'0';
	else if (c >= 'a' && c <= 'f')
		*ret = c - (unsigned)'a' + 10;
	else
		return false;
	return true;
}

static bool sha256_of(struct span s, uint8_t ret[PROPOSAL_SHA256_BYTES])
{
	unsigned high;
	unsigned low;

	if (s.len != 2 * (size_t)PROPOSAL_SHA256_BYTES)
		return false;
	for (size_t i = 0; i < PROPOSAL_SHA256_BYTES; i++) {
		if (!hex_digit(s.at[2 * i], &high) || !hex_digit(s.at[2 * i + 1], &low))
			return false;
		ret[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

/* --- the map of a sparse file --- */

static bool take_extent(struct span *s, struct proposal_extent *ret)
{
	struct span one = { 0 };
	struct span off = { 0 };
	struct proposal_extent got = { 0 };

	if (!take_until(s, ';', &one) || !take_until(&one, ',', &off) ||
	    !number(off, PROPOSAL_FILE_BYTES_MAX, &got.at) ||
	    !number(one, PROPOSAL_FILE_BYTES_MAX, &got.len) || got.len == 0)
		return false;
	*ret = got;
	return true;
}

bool proposal_map_next(struct span *map, struct proposal_extent *ret)
{
	return take_extent(map, ret);
}

/* Ascending, apart, within the file, and together what is in the stream. */
static bool map_of(struct span s, struct proposal_entry *got)
{
	struct proposal_extent x;
	struct span count = { 0 };
	uint64_t sum = 0;
	uint64_t end = 0;
	uint64_t n;

	if (s.len == 0 || s.at[s.len - 1] == ';' || !take_until(&s, ':', &count) ||
	    count.at + count.len == s.at || !number(count, PROPOSAL_EXTENTS_MAX, &n))
		return false;
	got->map = s;
	for (uint64_t i = 0; i < n; i++) {
		if (!take_extent(&s, &x) || x.at < end || !ck_range(x.at, x.len, got->size))
			return false;
		end = x.at + x.len;
		sum += x.len; /* extents are apart and within got->size */
	}
	got->extent_count = (uint32_t)n;
	return s.len == 0 && sum == got->stored_bytes;
}

/* --- what the records say --- */

static enum proposal_bad read_content(const struct proposal_pax *p, struct proposal_entry *got)
{
	const uint32_t both = KEY(SPARSE) | KEY(FULL_SIZE);

	if (!number(p->value[PROPOSAL_KEY_SIZE], UINT64_MAX, &got->stored_bytes))
		return PROPOSAL_BAD_VALUE;
	got->size = got->stored_bytes;
	got->sparse = (p->seen & both) == both;
	if (!got->sparse && p->seen & both)
		return PROPOSAL_BAD_COMBINATION;
	if (got->sparse && !number(p->value[PROPOSAL_KEY_FULL_SIZE], UINT64_MAX, &got->size))
		return PROPOSAL_BAD_VALUE;
	if (got->size > PROPOSAL_FILE_BYTES_MAX || got->stored_bytes > got->size)
		return PROPOSAL_BAD_FILE_SIZE;
	if (got->sparse)
		return map_of(p->value[PROPOSAL_KEY_SPARSE], got) ? PROPOSAL_BAD_NONE
		                                                  : PROPOSAL_BAD_SPARSE;
	got->extent_count = got->size > 0;
	return PROPOSAL_BAD_NONE;
}

static enum proposal_bad read_dir(const struct proposal_pax *p, struct proposal_entry *got)
{
	uint64_t version;

	if (p->seen & KEY(OPAQUE) && p->seen & KEY(REDIRECT))
		return PROPOSAL_BAD_COMBINATION;
	if (p->seen & KEY(OPAQUE))
		got->flags |= PROPOSAL_OPAQUE;
	if (p->seen & KEY(REDIRECT)) {
		got->flags |= PROPOSAL_REDIRECT;
		got->target = p->value[PROPOSAL_KEY_REDIRECT];
		if (span_is(got->target, "."))
			got->target.len = 0; /* the root, which is refused by who knows the base */
		else if (got->target.len == 0 || wpath_parse(got->target, NULL) < 0)
			return PROPOSAL_BAD_PATH;
	}
	if (p->seen & KEY(VERSION)) {
		if (!number(p->value[PROPOSAL_KEY_VERSION], UINT32_MAX, &version))
			return PROPOSAL_BAD_VALUE;
		got->version = (uint32_t)version;
	}
	return PROPOSAL_BAD_NONE;
}

static enum proposal_bad read_link(const struct proposal_pax *p, struct proposal_entry *got)
{
	got->target = p->value[PROPOSAL_KEY_LINKPATH];
	got->size = got->target.len;
	if (got->target.len == 0 || got->target.len > PROPOSAL_TARGET_MAX ||
	    memchr(got->target.at, 0, got->target.len))
		return PROPOSAL_BAD_PATH;
	return PROPOSAL_BAD_NONE;
}

static enum proposal_bad read_end(const struct proposal_pax *p, struct proposal_entry *got)
{
	got->end = true;
	if (!span_is(got->path, END_PATH))
		return PROPOSAL_BAD_COMBINATION;
	if (!number(p->value[PROPOSAL_KEY_ENTRIES], UINT64_MAX, &got->entries) ||
	    !sha256_of(p->value[PROPOSAL_KEY_SHA256], got->sha256))
		return PROPOSAL_BAD_VALUE;
	return PROPOSAL_BAD_NONE;
}

/* The one reason that a directory may have is no other entry's, and the other way round. */
static enum proposal_bad read_skipped(const struct proposal_pax *p, struct proposal_entry *got)
{
	if (!(p->seen & KEY(SKIPPED)))
		return PROPOSAL_BAD_NONE;
	for (size_t i = 0; i < sizeof(skipped) / sizeof(skipped[0]); i++)
		if (span_is(p->value[PROPOSAL_KEY_SKIPPED], skipped[i].word))
			got->why = (uint8_t)skipped[i].why;
	if (got->why == PROPOSAL_WHY_NONE)
		return PROPOSAL_BAD_VALUE;
	return (got->why == PROPOSAL_WHY_DEEP) == (got->kind == PROPOSAL_DIR)
	               ? PROPOSAL_BAD_NONE
	               : PROPOSAL_BAD_COMBINATION;
}

static enum proposal_bad read_nothing(const struct proposal_pax *p, struct proposal_entry *got)
{
	(void)p;
	(void)got;
	return PROPOSAL_BAD_NONE;
}

static const struct shape_rule shapes[SHAPE_COUNT] = {
	[FILE_] = { '0', true, PROPOSAL_FILE, KEY(PATH) | KEY(MTIME) | KEY(SIZE),
	            KEY(SPARSE) | KEY(FULL_SIZE), read_content },
	[DIR_] = { '5', true, PROPOSAL_DIR, KEY(PATH) | KEY(MTIME),
	           KEY(OPAQUE) | KEY(REDIRECT) | KEY(SKIPPED) | KEY(VERSION), read_dir },
	[LINK_] = { '2', false, PROPOSAL_LINK, KEY(PATH) | KEY(MTIME) | KEY(LINKPATH), 0,
	            read_link },
	[WHITEOUT_] = { '0', false, PROPOSAL_WHITEOUT, KEY(PATH) | KEY(WHITEOUT), 0, read_nothing },
	[OTHER_] = { '0', false, PROPOSAL_OTHER, KEY(PATH) | KEY(SKIPPED), 0, read_nothing },
	[END_] = { '0', false, 0, KEY(PATH) | KEY(ENTRIES) | KEY(SHA256), 0, read_end },
};

/* What the records say, and only what they may. */
static enum proposal_bad read_records(const struct proposal_tar *tar, const struct proposal_pax *p,
                                      struct proposal_entry *got)
{
	const struct shape_rule *rule = &shapes[shape_of(tar->type, p->seen)];
	enum proposal_bad bad;

	if (tar->type != rule->type || (p->seen & rule->needs) != rule->needs ||
	    (p->seen & ~(rule->needs | rule->may)) != 0)
		return PROPOSAL_BAD_COMBINATION;
	if (!rule->mode && tar->mode != 0)
		return PROPOSAL_BAD_MODE_FIELD;
	got->kind = rule->kind;
	got->mode = tar->mode & MODE_MASK;
	if (tar->mode & ~(unsigned)MODE_MASK)
		got->flags |= PROPOSAL_MODE_CUT;
	got->path = p->value[PROPOSAL_KEY_PATH];
	if (span_is(got->path, "."))
		got->path.len = 0;
	else if (got->path.len == 0 || wpath_parse(got->path, NULL) < 0)
		return PROPOSAL_BAD_PATH;
	if (!one_or_absent(p, PROPOSAL_KEY_WHITEOUT) || !one_or_absent(p, PROPOSAL_KEY_OPAQUE))
		return PROPOSAL_BAD_VALUE;
	if (p->seen & KEY(MTIME) && !time_of(p->value[PROPOSAL_KEY_MTIME], got))
		return PROPOSAL_BAD_VALUE;
	bad = rule->read(p, got);
	return bad == PROPOSAL_BAD_NONE ? read_skipped(p, got) : bad;
}

/* The old fields must be what our writer makes of the records. */
static enum proposal_bad compare_fields(struct span block, const struct proposal_tar *tar,
                                        const struct proposal_entry *en)
{
	const uint64_t field_max = 077777777777;
	struct span name = en->end ? span_str(END_PATH) : en->path;
	struct span target = en->kind == PROPOSAL_LINK ? en->target : span_of("", 0);
	uint64_t size = en->stored_bytes <= field_max ? en->stored_bytes : 0;

	if (!proposal_tar_name_is(block, name.len > 0 ? name : span_str(".")))
		return PROPOSAL_BAD_NAME_FIELD;
	if (!proposal_tar_link_is(block, target))
		return PROPOSAL_BAD_LINK_FIELD;
	return tar->size == size ? PROPOSAL_BAD_NONE : PROPOSAL_BAD_SIZE_FIELD;
}

/* --- one entry --- */

static int bad(enum proposal_bad why, enum proposal_bad *ret)
{
	*ret = why;
	return -EBADMSG;
}

/* The extended header and its records, padding included. */
static int take_records(struct span *in, struct proposal_pax *ret, enum proposal_bad *ret_bad)
{
	struct proposal_tar tar = { 0 };
	struct span block = { 0 };
	struct span records;
	struct span pad;
	size_t pad_bytes;

	if (!take_span(in, PROPOSAL_BLOCK_BYTES, &block))
		return -EAGAIN;
	if (proposal_parse_tar(block, &tar, ret_bad) < 0)
		return -EBADMSG;
	if (tar.type != 'x')
		return bad(PROPOSAL_BAD_TYPE, ret_bad);
	if (tar.mode != PAX_MODE)
		return bad(PROPOSAL_BAD_MODE_FIELD, ret_bad);
	if (!proposal_tar_name_is(block, span_str(PAX_NAME)))
		return bad(PROPOSAL_BAD_NAME_FIELD, ret_bad);
	if (!proposal_tar_link_is(block, span_of("", 0)))
		return bad(PROPOSAL_BAD_LINK_FIELD, ret_bad);
	if (tar.size == 0 || tar.size > PROPOSAL_RECORDS_MAX)
		return bad(PROPOSAL_BAD_RECORDS_SIZE, ret_bad);
	pad_bytes = (size_t)(-tar.size % PROPOSAL_BLOCK_BYTES);
	if (!take_span(in, (size_t)tar.size, &records) || !take_span(in, pad_bytes, &pad))
		return -EAGAIN;
	if (!proposal_all_zero(pad))
		return bad(PROPOSAL_BAD_PADDING, ret_bad);
	return proposal_parse_pax(records, ret, ret_bad);
}

int proposal_parse_entry(struct span *in, struct proposal_entry *ret, enum proposal_bad *ret_bad)
{
	struct proposal_entry got = { 0 };
	struct proposal_pax pax = { 0 };
	struct proposal_tar tar = { 0 };
	struct span s = *in;
	struct span block = { 0 };
	enum proposal_bad why;
	int r = take_records(&s, &pax, ret_bad);

	if (r < 0)
		return r;
	if (!take_span(&s, PROPOSAL_BLOCK_BYTES, &block))
		return -EAGAIN;
	if (proposal_parse_tar(block, &tar, ret_bad) < 0)
		return -EBADMSG;
	if (tar.type == 'x')
		return bad(PROPOSAL_BAD_TYPE, ret_bad);
	why = read_records(&tar, &pax, &got);
	if (why == PROPOSAL_BAD_NONE)
		why = compare_fields(block, &tar, &got);
	if (why != PROPOSAL_BAD_NONE)
		return bad(why, ret_bad);
	*ret = got;
	*in = s;
	return 0;
}

/* --- the order of entries --- */

static int order_root(const struct proposal_entry *en, enum proposal_bad *ret_bad)
{
	if (en->end || en->path.len > 0 || en->kind != PROPOSAL_DIR)
		return bad(PROPOSAL_BAD_ROOT, ret_bad);
	return en->version == PROPOSAL_TAR_VERSION ? 0 : bad(PROPOSAL_BAD_VERSION, ret_bad);
}

/* Its directory must be the last entry, or one that the last entry is in. */
static int order_parent(const struct proposal_order *o, struct span last, struct span path,
                        enum proposal_bad *ret_bad)
{
	struct span parent = wpath_parent(path);

	if (span_equal(parent, last))
		return o->dir ? 0 : bad(PROPOSAL_BAD_BELOW, ret_bad);
	if (!wpath_beneath(parent, wpath_parent(last), NULL))
		return bad(wpath_beneath(last, path, NULL) && !o->dir ? PROPOSAL_BAD_BELOW
		                                                      : PROPOSAL_BAD_PARENT,
		           ret_bad);
	return 0;
}

static int order_check(const struct proposal_order *o, const struct proposal_entry *en,
                       enum proposal_bad *ret_bad)
{
	struct span last = span_of(o->path, o->len);
	int way;

	if (o->entries == 0)
		return order_root(en, ret_bad);
	if (en->end)
		return en->entries == o->entries ? 0 : bad(PROPOSAL_BAD_COUNT, ret_bad);
	if (en->version != 0)
		return bad(PROPOSAL_BAD_COMBINATION, ret_bad);
	if (o->entries >= PROPOSAL_ENTRIES_MAX)
		return bad(PROPOSAL_BAD_ENTRIES, ret_bad);
	way = wpath_cmp(last, en->path);
	if (way == 0)
		return bad(PROPOSAL_BAD_TWICE, ret_bad);
	if (way > 0)
		return bad(PROPOSAL_BAD_ORDER, ret_bad);
	return order_parent(o, last, en->path, ret_bad);
}

int proposal_order_next(struct proposal_order *o, const struct proposal_entry *en,
                        enum proposal_bad *ret_bad)
{
	if (o->over)
		return bad(PROPOSAL_BAD_AFTER, ret_bad);
	if (order_check(o, en, ret_bad) < 0)
		return -EBADMSG;
	o->over = en->end;
	if (en->end)
		return 0;
	o->entries++;
	o->dir = en->kind == PROPOSAL_DIR;
	o->len = (uint16_t)en->path.len;
	if (en->path.len > 0)
		memcpy(o->path, en->path.at, en->path.len);
	return 0;
}

static const char *const bad_texts[PROPOSAL_BAD_REASONS] = {
	[PROPOSAL_BAD_NONE] = "nothing is wrong with it",
	[PROPOSAL_BAD_CHECKSUM] = "the checksum of its header is wrong",
	[PROPOSAL_BAD_TYPE] = "its type is none that a proposal has",
	[PROPOSAL_BAD_MAGIC] = "its header is not of the pax form",
	[PROPOSAL_BAD_NAME_FIELD] = "its header has another name than its records",
	[PROPOSAL_BAD_MODE_FIELD] = "its mode is no mode of such an entry",
	[PROPOSAL_BAD_SIZE_FIELD] = "its header has another size than its records",
	[PROPOSAL_BAD_LINK_FIELD] = "its header has another link target than its records",
	[PROPOSAL_BAD_OTHER_FIELD] = "its header has an owner, a time or a device",
	[PROPOSAL_BAD_RECORDS_SIZE] = "its records are empty, or over 256 KiB",
	[PROPOSAL_BAD_RECORD] = "a record is malformed",
	[PROPOSAL_BAD_KEY] = "it has a record that no proposal has",
	[PROPOSAL_BAD_KEY_TWICE] = "it has a record twice",
	[PROPOSAL_BAD_VALUE] = "a record has a value that it cannot have",
	[PROPOSAL_BAD_COMBINATION] = "its records do not go together",
	[PROPOSAL_BAD_PATH] = "its path, or a path it points to, is malformed",
	[PROPOSAL_BAD_SPARSE] = "its map of holes is wrong",
	[PROPOSAL_BAD_FILE_SIZE] = "it is longer than a file can be",
	[PROPOSAL_BAD_PADDING] = "there is something where only zeros may be",
	[PROPOSAL_BAD_VERSION] = "it was written by another version of berm",
	[PROPOSAL_BAD_ROOT] = "the workspace itself is not its first entry",
	[PROPOSAL_BAD_TWICE] = "its path came before",
	[PROPOSAL_BAD_ORDER] = "it is not where the order of the paths has it",
	[PROPOSAL_BAD_PARENT] = "its directory did not come before it",
	[PROPOSAL_BAD_BELOW] = "it is below what is no directory",
	[PROPOSAL_BAD_ENTRIES] = "there are too many entries",
	[PROPOSAL_BAD_REDIRECTS] = "there are too many renamed directories",
	[PROPOSAL_BAD_CUT] = "the stream ends here: it was cut",
	[PROPOSAL_BAD_COUNT] = "the number of entries is not what the end says",
	[PROPOSAL_BAD_SHA256] = "the stream is not the one that was sent: its SHA-256 differs",
	[PROPOSAL_BAD_AFTER] = "something follows the end",
};

const char *proposal_bad_text(enum proposal_bad why)
{
	if ((unsigned)why >= PROPOSAL_BAD_REASONS)
		return "it is refused";
	return bad_texts[why];
}

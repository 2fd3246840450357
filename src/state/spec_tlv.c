/*
 * The bytes of a spec, between the command and the supervisor. One row a field says its tag, its
 * kind and where it lives in the struct; writer and reader both walk the rows, so they cannot
 * disagree.
 */
#include "state/spec.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum { SPEC_MAGIC = 0x63706562 }; /* "bepc" */

enum kind { KIND_U8, KIND_U16, KIND_U32, KIND_U64, KIND_BOOL, KIND_TEXT, KIND_LIST };

struct field {
	uint8_t tag; /* 1 to 63; never used again for something else */
	uint8_t kind;
	bool needed;
	uint32_t strings_max; /* LIST */
	size_t at;
};

/* clang-format off: a table is read by its columns */
#define AT(m) offsetof(struct spec, m)
static const struct field fields[] = {
	/* tag kind   needed  max               where */
	{ 1, KIND_TEXT, false, 0, AT(name) },
	{ 2, KIND_TEXT, true, 0, AT(image) },
	{ 3, KIND_TEXT, false, 0, AT(image_id) },
	{ 4, KIND_TEXT, false, 0, AT(hostname) },
	{ 5, KIND_TEXT, false, 0, AT(user) },
	{ 6, KIND_TEXT, false, 0, AT(cwd) },
	{ 7, KIND_LIST, true, SPEC_STRINGS_MAX, AT(argv) },
	{ 8, KIND_LIST, false, SPEC_STRINGS_MAX, AT(envp) },
	{ 9, KIND_LIST, false, SPEC_WARM_MAX, AT(warm) },
	{ 38, KIND_LIST, false, SPEC_STRINGS_MAX, AT(warm_env) },
	{ 10, KIND_U32, true, 0, AT(limits.cpus) },
	{ 11, KIND_U64, true, 0, AT(limits.memory_bytes) },
	{ 12, KIND_U64, true, 0, AT(limits.disk_bytes) },
	{ 13, KIND_U64, true, 0, AT(limits.pids) },
	{ 14, KIND_U64, true, 0, AT(limits.time_ms) },
	{ 15, KIND_U64, true, 0, AT(limits.idle_ms) },
	{ 16, KIND_U64, true, 0, AT(limits.output_bytes) },
	{ 17, KIND_U8, true, 0, AT(engine) },
	{ 18, KIND_U8, true, 0, AT(minimum_level) },
	{ 19, KIND_BOOL, true, 0, AT(tty) },
	{ 20, KIND_BOOL, true, 0, AT(stdin_open) },
	{ 21, KIND_BOOL, true, 0, AT(detach) },
	{ 22, KIND_BOOL, true, 0, AT(remove) },
	{ 23, KIND_BOOL, true, 0, AT(cold) },
	{ 24, KIND_BOOL, true, 0, AT(foreground_tty) },
	{ 25, KIND_U16, true, 0, AT(rows) },
	{ 26, KIND_U16, true, 0, AT(cols) },
	{ 27, KIND_TEXT, false, 0, AT(from) },
	{ 28, KIND_U32, true, 0, AT(epoch) },
	{ 29, KIND_U32, true, 0, AT(main_pid) },
	{ 30, KIND_BOOL, true, 0, AT(main_stdin_eof) },
	{ 31, KIND_BOOL, true, 0, AT(host_cpu) },
	{ 32, KIND_BOOL, true, 0, AT(network) },
	{ 33, KIND_TEXT, false, 0, AT(workspace) },
	{ 34, KIND_U64, true, 0, AT(collect_bytes) },
	{ 35, KIND_U32, true, 0, AT(collect_ms) },
	{ 36, KIND_BOOL, true, 0, AT(rescue) },
	{ 37, KIND_BOOL, true, 0, AT(linger) },
};
#undef AT
/* clang-format on */

enum { FIELD_COUNT = sizeof(fields) / sizeof(fields[0]), LIST_COUNT = 4, TAG_MAX = 63 };

static const size_t value_bytes[] = {
	[KIND_U8] = 1, [KIND_U16] = 2, [KIND_U32] = 4, [KIND_U64] = 8, [KIND_BOOL] = 1,
};

/* --- writing --- */

static void put_text(struct buf *out, const char *text)
{
	buf_put(out, text, strlen(text) + 1);
}

static void put_field_text(struct buf *out, uint8_t tag, const char *text)
{
	size_t len = strnlen(text, SPEC_BYTES_MAX);

	buf_put_u8(out, tag);
	buf_put_le32(out, (uint32_t)len + 1);
	put_text(out, text);
}

static void put_field_list(struct buf *out, const struct field *f, const char *const *list)
{
	uint32_t count = 0;
	uint64_t bytes = 4;

	for (; list[count]; count++) {
		bytes += strlen(list[count]) + 1;
		if (count >= f->strings_max || bytes > SPEC_BYTES_MAX) {
			out->over = true;
			return;
		}
	}
	buf_put_u8(out, f->tag);
	buf_put_le32(out, (uint32_t)bytes);
	buf_put_le32(out, count);
	for (uint32_t i = 0; i < count; i++)
		put_text(out, list[i]);
}

static void put_field_number(struct buf *out, const struct field *f, const uint8_t *at)
{
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	buf_put_u8(out, f->tag);
	buf_put_le32(out, (uint32_t)value_bytes[f->kind]);
	switch (value_bytes[f->kind]) {
	case 1:
		buf_put_u8(out, *at);
		return;
	case 2:
		memcpy(&v16, at, sizeof(v16));
		buf_put_le16(out, v16);
		return;
	case 4:
		memcpy(&v32, at, sizeof(v32));
		buf_put_le32(out, v32);
		return;
	default:
		memcpy(&v64, at, sizeof(v64));
		buf_put_le64(out, v64);
		return;
	}
}

static void put_field(struct buf *out, const struct field *f, const struct spec *s)
{
	const uint8_t *at = (const uint8_t *)s + f->at;
	const char *const *list;
	const char *text;

	switch (f->kind) {
	case KIND_TEXT:
		memcpy(&text, at, sizeof(text));
		if (text)
			put_field_text(out, f->tag, text);
		return;
	case KIND_LIST:
		memcpy(&list, at, sizeof(list));
		if (list)
			put_field_list(out, f, list);
		return;
	default:
		put_field_number(out, f, at);
		return;
	}
}

void spec_put(struct buf *out, const struct spec *s)
{
	buf_put_le32(out, SPEC_MAGIC);
	buf_put_le16(out, SPEC_VERSION);
	for (size_t i = 0; i < FIELD_COUNT; i++)
		put_field(out, &fields[i], s);
}

/* --- reading --- */

/* A list that was found, until there is memory for its pointers. */
struct found_list {
	const struct field *field;
	uint32_t count;
	struct span texts;
};

struct reading {
	struct spec spec;
	uint64_t seen; /* bit tag */
	struct found_list lists[LIST_COUNT];
	size_t list_count;
	size_t pointer_count; /* of all lists, with a NULL at the end of each */
};

static bool take_text(struct span *s, const char **ret)
{
	const void *nul = s->len > 0 ? memchr(s->at, '\0', s->len) : NULL;
	struct span text;

	if (!nul || !take_span(s, (size_t)((const uint8_t *)nul - s->at) + 1, &text))
		return false;
	*ret = (const char *)text.at;
	return true;
}

static bool read_list(struct reading *r, const struct field *f, struct span value)
{
	struct found_list got = { .field = f };
	const char *text;

	if (!take_le32(&value, &got.count) || got.count > f->strings_max)
		return false;
	got.texts = value;
	for (uint32_t i = 0; i < got.count; i++)
		if (!take_text(&value, &text))
			return false;
	if (value.len > 0 || r->list_count >= LIST_COUNT)
		return false;
	r->lists[r->list_count++] = got;
	r->pointer_count += got.count + 1;
	return true;
}

static bool read_number(uint8_t *at, const struct field *f, struct span value)
{
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	if (value.len != value_bytes[f->kind])
		return false;
	switch (value.len) {
	case 1:
		if (f->kind == KIND_BOOL && value.at[0] > 1)
			return false;
		return take_u8(&value, at);
	case 2:
		if (!take_le16(&value, &v16))
			return false;
		memcpy(at, &v16, sizeof(v16));
		return true;
	case 4:
		if (!take_le32(&value, &v32))
			return false;
		memcpy(at, &v32, sizeof(v32));
		return true;
	default:
		if (!take_le64(&value, &v64))
			return false;
		memcpy(at, &v64, sizeof(v64));
		return true;
	}
}

static bool read_value(struct reading *r, const struct field *f, struct span value)
{
	uint8_t *at = (uint8_t *)&r->spec + f->at;
	const char *text;

	switch (f->kind) {
	case KIND_TEXT:
		if (!take_text(&value, &text) || value.len > 0)
			return false;
		memcpy(at, &text, sizeof(text));
		return true;
	case KIND_LIST:
		return read_list(r, f, value);
	default:
		return read_number(at, f, value);
	}
}

static int read_field(struct reading *r, struct span *in, struct err *e)
{
	const struct field *f = NULL;
	struct span value;
	uint32_t len;
	uint8_t tag;

	if (!take_u8(in, &tag) || !take_le32(in, &len) || !take_span(in, len, &value))
		return err_set(e, -EBADMSG, "spec: cut short");
	for (size_t i = 0; i < FIELD_COUNT && !f; i++)
		f = fields[i].tag == tag ? &fields[i] : NULL;
	if (!f)
		return err_set(e, -EBADMSG, "spec: unknown field %u", tag);
	if (r->seen >> tag & 1)
		return err_set(e, -EBADMSG, "spec: field %u twice", tag);
	if (!read_value(r, f, value))
		return err_set(e, -EBADMSG, "spec: field %u is malformed", tag);
	r->seen |= UINT64_C(1) << tag;
	return 0;
}

static int read_all(struct reading *r, struct span in, struct err *e)
{
	uint32_t magic;
	uint16_t version;
	int code = 0;

	if (!take_le32(&in, &magic) || magic != SPEC_MAGIC || !take_le16(&in, &version))
		return err_set(e, -EBADMSG, "spec: not a spec");
	if (version != SPEC_VERSION)
		return err_set(
			e, -EBADMSG,
			"spec: version %u, and this berm reads %d: its programs are from two "
			"installations",
			version, SPEC_VERSION);
	while (code == 0 && in.len > 0)
		code = read_field(r, &in, e);
	for (size_t i = 0; code == 0 && i < FIELD_COUNT; i++)
		if (fields[i].needed && !(r->seen >> fields[i].tag & 1))
			code = err_set(e, -EBADMSG, "spec: field %u is missing", fields[i].tag);
	return code;
}

/* Fills the one array from the lists, each ended by a NULL, and points the spec at them. */
static void place_lists(struct reading *r, const char **at)
{
	for (size_t i = 0; i < r->list_count; i++) {
		struct found_list *l = &r->lists[i];

		memcpy((uint8_t *)&r->spec + l->field->at, &at, sizeof(at));
		for (uint32_t k = 0; k < l->count; k++)
			if (!take_text(&l->texts, at++))
				return; /* cannot be: read_list() has walked them */
		*at++ = NULL;
	}
}

int spec_parse(char *storage, size_t len, struct spec *ret, void **ret_lists, struct err *e)
{
	struct reading r = { 0 };
	const char **lists;
	int code;

	_Static_assert(FIELD_COUNT <= TAG_MAX, "tags are bits of `seen`");
	if (len > SPEC_BYTES_MAX)
		return err_set(e, -EBADMSG, "spec: longer than %d bytes", SPEC_BYTES_MAX);
	code = read_all(&r, span_of(storage, len), e);
	if (code < 0)
		return code;
	lists = calloc(r.pointer_count, sizeof(*lists));
	if (!lists)
		return err_set(e, -ENOMEM, "out of memory");
	place_lists(&r, lists);
	*ret = r.spec;
	*ret_lists = lists;
	return 0;
}

#include "state/jread.h"
#include "state/work_session.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

enum kind { KIND_U64, KIND_TEXT, KIND_BYTES };

struct field {
	const char *key;
	uint8_t kind;
	size_t at, size;
};

/* clang-format off: a table is read by its columns */
#define AT(m) offsetof(struct work_session_info, m), sizeof(((struct work_session_info *)NULL)->m)
static const struct field fields[] = {
	{ "id", KIND_TEXT, AT(id) },
	{ "created_ns", KIND_U64, AT(created_ns) },
	{ "changed_ns", KIND_U64, AT(changed_ns) },
	{ "snapshot_ns", KIND_U64, AT(snapshot_ns) },
	{ "root", KIND_BYTES, AT(root) },
	{ "root_dev", KIND_U64, AT(root_dev) },
	{ "root_ino", KIND_U64, AT(root_ino) },
	{ "root_btime_ns", KIND_U64, AT(root_btime_ns) },
	{ "mount", KIND_BYTES, AT(mount) },
	{ "agent", KIND_TEXT, AT(agent) },
	{ "image", KIND_TEXT, AT(image) },
	{ "image_id", KIND_TEXT, AT(image_id) },
	{ "sandbox", KIND_TEXT, AT(sandbox) },
	{ "engine", KIND_TEXT, AT(engine) },
	{ "ended", KIND_TEXT, AT(ended) },
	{ "message", KIND_TEXT, AT(message) },
	{ "why", KIND_TEXT, AT(why) },
	{ "spool_bytes", KIND_U64, AT(spool_bytes) },
	{ "expect_bytes", KIND_U64, AT(expect_bytes) },
	{ "undecided", KIND_U64, AT(undecided) },
	{ "left", KIND_U64, AT(left) },
	{ "commits_home", KIND_U64, AT(commits_home) },
	{ "commits_declined", KIND_U64, AT(commits_declined) },
	{ "handed_to", KIND_TEXT, AT(handed_to) },
	{ "boot", KIND_TEXT, AT(boot) },
};
#undef AT
/* clang-format on */

enum { FIELD_COUNT = sizeof(fields) / sizeof(fields[0]) };

static const char *const state_names[SESSION_STATE_COUNT] = {
	[SESSION_NONE] = "none",
	[SESSION_PACKING] = "packing",
	[SESSION_PACKED] = "packed",
	[SESSION_RUNNING] = "running",
	[SESSION_COLLECTING] = "collecting",
	[SESSION_UNCOLLECTED] = "uncollected",
	[SESSION_SPOOLED] = "spooled",
	[SESSION_PENDING] = "pending",
	[SESSION_APPLYING] = "applying",
	[SESSION_APPLIED] = "applied",
	[SESSION_UNCHANGED] = "unchanged",
};

const char *work_session_state_name(uint8_t state)
{
	return state < SESSION_STATE_COUNT ? state_names[state] : "none";
}

/* A path need not be UTF-8, and JSON has to be: hex, two digits a byte. */
static void put_hex(struct buf *out, const char *text)
{
	buf_put_u8(out, '"');
	for (; *text; text++)
		buf_printf(out, "%02x", (uint8_t)*text);
	buf_put_u8(out, '"');
}

static void put_field(struct buf *out, const struct field *f, const struct work_session_info *info)
{
	const uint8_t *at = (const uint8_t *)info + f->at;
	const char *text = (const char *)at;
	uint64_t number;

	buf_printf(out, ",\n \"%s\": ", f->key);
	if (f->kind == KIND_U64) {
		memcpy(&number, at, sizeof(number));
		buf_printf(out, "%llu",
		           (unsigned long long)(number < INT64_MAX ? number : INT64_MAX));
		return;
	}
	buf_put_json_str(out, span_str(text));
	if (f->kind != KIND_BYTES)
		return;
	buf_printf(out, ",\n \"%s_hex\": ", f->key);
	put_hex(out, text);
}

void work_session_put_json(struct buf *out, const struct work_session_info *info)
{
	buf_printf(out, "{\"state\": \"%s\",\n \"exit_code\": %u",
	           work_session_state_name(info->state), (unsigned)info->exit_code);
	for (size_t i = 0; i < FIELD_COUNT; i++)
		put_field(out, &fields[i], info);
	buf_put_str(out, "}\n");
}

static bool read_state(const json_t *o, uint8_t *ret)
{
	char name[16] = "";

	if (!jread_text(o, "state", name, sizeof(name)))
		return false;
	for (unsigned i = SESSION_PACKING; i < SESSION_STATE_COUNT; i++)
		if (strcmp(name, state_names[i]) == 0) {
			*ret = (uint8_t)i;
			return true;
		}
	return false;
}

static int nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_hex(const json_t *o, const char *key, char *ret, size_t size)
{
	char name[32];
	const char *text;
	struct buf b;
	size_t n = 0;

	buf_init(&b, name, sizeof(name));
	buf_printf(&b, "%s_hex", key);
	text = json_string_value(json_object_get(o, buf_cstr(&b)));
	if (!text)
		return false;
	for (; text[0]; text += 2, n++) {
		int high = nibble(text[0]);
		int low = text[1] ? nibble(text[1]) : -1;

		if (high < 0 || low < 0 || n + 1 >= size || (high == 0 && low == 0))
			return false;
		ret[n] = (char)(uint8_t)(high << 4 | low);
	}
	ret[n] = '\0';
	return true;
}

static bool read_field(const json_t *o, const struct field *f, struct work_session_info *info)
{
	uint8_t *at = (uint8_t *)info + f->at;
	uint64_t number = 0;

	if (f->kind == KIND_TEXT)
		return jread_text(o, f->key, (char *)at, f->size);
	if (f->kind == KIND_BYTES)
		return read_hex(o, f->key, (char *)at, f->size);
	memcpy(&number, at, sizeof(number)); /* what stands without it */
	if (!jread_u64(o, f->key, INT64_MAX, &number))
		return false;
	memcpy(at, &number, sizeof(number));
	return true;
}

int work_session_parse_json(struct span text, struct work_session_info *ret, struct err *e)
{
	_own_(jread_free) json_t *o = NULL;
	struct work_session_info got = { .undecided = SESSION_UNKNOWN, .left = SESSION_UNKNOWN };
	uint64_t code = 0;
	int r = jread_object(text, &o, e);

	if (r < 0)
		return r;
	if (!read_state(o, &got.state) || !jread_u64(o, "exit_code", UINT32_MAX, &code))
		return err_set(e, -EBADMSG, "its state cannot be read");
	got.exit_code = (uint32_t)code;
	for (size_t i = 0; i < FIELD_COUNT; i++)
		if (!read_field(o, &fields[i], &got))
			return err_set(e, -EBADMSG, "its '%s' cannot be read", fields[i].key);
	if (!work_session_id_ok(got.id))
		return err_set(e, -EBADMSG, "its id cannot be read");
	if (*got.handed_to && !work_session_id_ok(got.handed_to))
		return err_set(e, -EBADMSG, "its 'handed_to' cannot be read");
	*ret = got;
	return 0;
}

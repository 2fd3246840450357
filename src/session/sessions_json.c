#include "session/review_json.h"
#include "term/json_out.h"

void review_json_put_bytes(struct buf *b, const char *name, struct span s)
{
	buf_printf(b, "\"%s\":", name);
	buf_put_json_str(b, s);
	if (utf8_ok(s))
		return;
	buf_printf(b, ",\"%s_base64\":\"", name);
	buf_put_base64(b, s);
	buf_put_str(b, "\"");
}

/* "" is what is not known. */
static void put_known(struct buf *b, const char *name, const char *text)
{
	buf_printf(b, ",\"%s\":", name);
	if (*text)
		buf_put_json_str(b, span_str(text));
	else
		buf_put_str(b, "null");
}

static void put_count(struct buf *b, const char *name, bool known, uint64_t count)
{
	if (known)
		buf_printf(b, ",\"%s\":%llu", name, (unsigned long long)count);
	else
		buf_printf(b, ",\"%s\":null", name);
}

void review_json_put_session(struct buf *b, const struct work_session_info *info,
                             uint64_t disk_bytes)
{
	bool ended = *info->ended;

	buf_printf(b, "{\"id\":\"%s\",\"state\":\"%s\",", info->id,
	           info->state == SESSION_NONE ? "damaged" : work_session_state_name(info->state));
	review_json_put_bytes(b, "workspace", span_str(info->root));
	put_known(b, "agent", info->agent);
	put_known(b, "image", info->image);
	put_known(b, "image_id", info->image_id);
	put_known(b, "sandbox", info->sandbox);
	put_count(b, "created_ns", info->created_ns > 0, info->created_ns);
	put_count(b, "changed_ns", info->changed_ns > 0, info->changed_ns);
	put_count(b, "snapshot_ns", info->snapshot_ns > 0, info->snapshot_ns);
	put_count(b, "disk_bytes", true, disk_bytes);
	put_count(b, "undecided", info->state != SESSION_NONE && info->undecided < SESSION_UNKNOWN,
	          info->undecided);
	put_known(b, "ended", info->ended);
	put_count(b, "exit_code", ended, info->exit_code);
	put_known(b, "message", info->message);
	put_known(b, "why", info->why);
	put_known(b, "handed_to", info->handed_to);
	buf_put_str(b, "}");
}

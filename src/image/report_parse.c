#include "image/report.h"

#include <errno.h>
#include <string.h>

static const char *const fail_names[IMAGE_FAIL_COUNT] = {
	[IMAGE_FAIL_INTERNAL] = "internal", [IMAGE_FAIL_NOT_IMAGE] = "not-an-image",
	[IMAGE_FAIL_DAMAGED] = "damaged",   [IMAGE_FAIL_REFUSED] = "refused",
	[IMAGE_FAIL_ARCH] = "architecture", [IMAGE_FAIL_LIMIT] = "limit",
	[IMAGE_FAIL_SPACE] = "no-space",
};

const char *image_fail_name(enum image_fail f)
{
	return (unsigned)f < IMAGE_FAIL_COUNT ? fail_names[f] : "internal";
}

static int parse_fail(struct span rest, struct report *ret)
{
	struct span name;

	ret->kind = REPORT_FAIL;
	if (!take_until(&rest, ' ', &name) || rest.len == 0)
		return -EBADMSG;
	for (unsigned i = 0; i < IMAGE_FAIL_COUNT; i++) {
		if (span_is(name, fail_names[i])) {
			ret->fail = (enum image_fail)i;
			ret->text = rest;
			return 0;
		}
	}
	return -EBADMSG;
}

static int parse_progress(struct span rest, struct report *ret)
{
	uint64_t *const to[] = { &ret->in_bytes, &ret->total_bytes, &ret->out_bytes,
		                 &ret->entries };
	struct span word;

	ret->kind = REPORT_PROGRESS;
	for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++)
		if (!take_until(&rest, ' ', &word) || !span_to_u64(word, to[i]))
			return -EBADMSG;
	return rest.len == 0 ? 0 : -EBADMSG;
}

static int parse_id(struct span rest, enum report_kind kind, struct report *ret)
{
	ret->kind = kind;
	ret->text = rest;
	if (rest.len != IMAGE_ID_LEN)
		return -EBADMSG;
	for (size_t i = 0; i < rest.len; i++)
		if (!memchr("0123456789abcdef", rest.at[i], 16))
			return -EBADMSG;
	return 0;
}

static int parse_phase(struct span rest, struct report *ret)
{
	ret->kind = REPORT_PHASE;
	ret->text = rest;
	return span_is(rest, "read") || span_is(rest, "unpack") || span_is(rest, "write")
	               ? 0
	               : -EBADMSG;
}

static int parse_line(struct span line, struct report *ret)
{
	struct span word;

	if (memchr(line.at, 0, line.len) || !take_until(&line, ' ', &word))
		return -EBADMSG;
	if (span_is(word, "progress"))
		return parse_progress(line, ret);
	if (span_is(word, "phase"))
		return parse_phase(line, ret);
	if (span_is(word, "id"))
		return parse_id(line, REPORT_ID, ret);
	if (span_is(word, "done"))
		return parse_id(line, REPORT_DONE, ret);
	if (span_is(word, "fail"))
		return parse_fail(line, ret);
	if (span_is(word, "warn") && line.len > 0) {
		ret->kind = REPORT_WARN;
		ret->text = line;
		return 0;
	}
	return -EBADMSG;
}

int report_parse(struct span *in, struct report *ret)
{
	struct report got = { 0 };
	size_t window = in->len < REPORT_LINE_MAX ? in->len : REPORT_LINE_MAX;
	const uint8_t *end = window > 0 ? memchr(in->at, '\n', window) : NULL;
	size_t len;

	if (!end)
		return in->len < REPORT_LINE_MAX ? -EAGAIN : -EBADMSG;
	len = (size_t)(end - in->at);
	if (len == 0 || parse_line(span_of(in->at, len), &got) < 0)
		return -EBADMSG;
	*in = span_of(end + 1, in->len - len - 1);
	*ret = got;
	return 0;
}

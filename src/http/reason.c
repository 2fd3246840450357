#include "http/http.h"

struct reason {
	const char *word;
	uint16_t status;
};

static const struct reason reasons[HTTP_REASON_COUNT] = {
	[HTTP_FINE] = { "fine", 200 },
	[HTTP_BARE_CR] = { "bare-cr", 400 },
	[HTTP_BARE_LF] = { "bare-lf", 400 },
	[HTTP_CONTROL_BYTE] = { "control-byte", 400 },
	[HTTP_REQUEST_LINE] = { "request-line", 400 },
	[HTTP_STATUS_LINE] = { "status-line", 400 },
	[HTTP_HEAD_TOO_LARGE] = { "head-too-large", 431 },
	[HTTP_FIELDS_TOO_MANY] = { "fields-too-many", 431 },
	[HTTP_FIELD_NAME] = { "field-name", 400 },
	[HTTP_FIELD_SPACE] = { "field-space", 400 },
	[HTTP_FIELD_FOLD] = { "field-fold", 400 },
	[HTTP_FIELD_VALUE] = { "field-value", 400 },
	[HTTP_FIELD_REPEATED] = { "field-repeated", 400 },
	[HTTP_METHOD] = { "method", 400 },
	[HTTP_TRACE] = { "trace", 405 },
	[HTTP_CONNECT] = { "connect", 405 },
	[HTTP_VERSION] = { "version", 505 },
	[HTTP_TARGET] = { "target", 400 },
	[HTTP_TARGET_TOO_LONG] = { "target-too-long", 414 },
	[HTTP_SCHEME] = { "scheme", 400 },
	[HTTP_HOST_MISSING] = { "host-missing", 400 },
	[HTTP_HOST_REPEATED] = { "host-repeated", 400 },
	[HTTP_HOST] = { "host", 400 },
	[HTTP_HOST_MISMATCH] = { "host-mismatch", 400 },
	[HTTP_PATH_ESCAPE] = { "path-escape", 400 },
	[HTTP_PATH_BYTE] = { "path-byte", 400 },
	[HTTP_PATH_UTF8] = { "path-utf8", 400 },
	[HTTP_PATH_CLIMBS] = { "path-climbs", 400 },
	[HTTP_PATH_SLASH] = { "path-slash", 400 },
	[HTTP_PATH_BACKSLASH] = { "path-backslash", 400 },
	[HTTP_PATH_DOTS] = { "path-dots", 400 },
	[HTTP_FRAGMENT] = { "fragment", 400 },
	[HTTP_QUERY] = { "query", 400 },
	[HTTP_LENGTH] = { "length", 400 },
	[HTTP_LENGTH_REPEATED] = { "length-repeated", 400 },
	[HTTP_CODING] = { "coding", 400 },
	[HTTP_CODING_REPEATED] = { "coding-repeated", 400 },
	[HTTP_LENGTH_AND_CODING] = { "length-and-coding", 400 },
	[HTTP_BODY_FORBIDDEN] = { "body-forbidden", 400 },
	[HTTP_BODY_TOO_LARGE] = { "body-too-large", 413 },
	[HTTP_CHUNK_SIZE] = { "chunk-size", 400 },
	[HTTP_CHUNK_EXTENSION] = { "chunk-extension", 400 },
	[HTTP_CHUNK_END] = { "chunk-end", 400 },
	[HTTP_TRAILER] = { "trailer", 400 },
	[HTTP_TRAILERS_TOO_LARGE] = { "trailers-too-large", 400 },
	[HTTP_TRUNCATED] = { "truncated", 400 },
	[HTTP_OPTION] = { "option", 400 },
	[HTTP_EXPECT] = { "expect", 417 },
	[HTTP_UPGRADE] = { "upgrade", 400 },
	[HTTP_STATUS] = { "status", 400 },
	[HTTP_UNASKED] = { "unasked", 400 },
	[HTTP_PSEUDO_FIELD] = { "pseudo-field", 400 },
	[HTTP_FLOOD] = { "flood", 400 },
	[HTTP_PROTOCOL] = { "protocol", 400 },
};

const char *http_reason_word(enum http_reason why)
{
	return why < HTTP_REASON_COUNT ? reasons[why].word : "unknown";
}

uint16_t http_reason_status(enum http_reason why)
{
	return why < HTTP_REASON_COUNT ? reasons[why].status : 400;
}

struct span http_head_find(const struct http_head *h, const char *name)
{
	for (uint16_t i = 0; i < h->count; i++)
		if (span_is(h->fields[i].name, name))
			return h->fields[i].value;
	return span_of(NULL, 0);
}

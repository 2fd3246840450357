#include "http/chars.h"
#include "http/http.h"

#include <string.h>

bool field_parse_is(struct span a, const char *lower)
{
	if (a.len != strlen(lower))
		return false;
	for (size_t i = 0; i < a.len; i++)
		if (char_lower(a.at[i]) != (uint8_t)lower[i])
			return false;
	return true;
}

/* "Content_Length" becomes "Content-Length" behind some servers. */
static bool masquerades(struct span name)
{
	static const char *const words[] = { "content_length", "transfer_encoding" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		size_t n = strlen(words[i]);
		bool same = name.len == n && memchr(name.at, '_', n);

		for (size_t k = 0; same && k < n; k++)
			same = words[i][k] == '_' ? name.at[k] == '_' || name.at[k] == '-'
			                          : name.at[k] == (uint8_t)words[i][k];
		if (same)
			return true;
	}
	return false;
}

bool field_parse_name_ok(struct span name)
{
	if (name.len == 0 || name.len > HTTP_NAME_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++)
		if (!char_is(name.at[i], CHAR_TOKEN) || char_is(name.at[i], CHAR_UPPER))
			return false;
	return !masquerades(name);
}

bool field_parse_value_ok(struct span value)
{
	if (value.len == 0)
		return true;
	if (value.at[0] == ' ' || value.at[0] == '\t' || value.at[value.len - 1] == ' ' ||
	    value.at[value.len - 1] == '\t')
		return false;
	for (size_t i = 0; i < value.len; i++)
		if (!char_is(value.at[i], CHAR_VALUE))
			return false;
	return true;
}

bool field_parse_method_ok(struct span method)
{
	if (method.len == 0 || method.len > HTTP_METHOD_MAX)
		return false;
	for (size_t i = 0; i < method.len; i++)
		if (!char_is(method.at[i], CHAR_TOKEN) ||
		    (method.at[i] >= 'a' && method.at[i] <= 'z'))
			return false;
	return true;
}

bool field_parse_length(struct span value, uint64_t *ret)
{
	uint64_t got;

	if (value.len > 1 && value.at[0] == '0')
		return false;
	if (!span_to_u64(value, &got) || got > INT64_MAX)
		return false;
	*ret = got;
	return true;
}

static bool is_one_of(struct span name, const char *const *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (span_is(name, list[i]))
			return true;
	return false;
}

bool field_parse_is_hop(struct span name)
{
	static const char *const hop[] = {
		"connection",
		"content-length",
		"expect",
		"host",
		"http2-settings",
		"keep-alive",
		"proxy-authenticate",
		"proxy-authorization",
		"proxy-connection",
		"te",
		"transfer-encoding",
		"upgrade",
	};

	return is_one_of(name, hop, sizeof(hop) / sizeof(hop[0]));
}

/* Routing, framing, credentials and what changes how the body is read: RFC 9110, 6.5.1. */
bool field_parse_in_trailers(struct span name)
{
	static const char *const never[] = {
		"age",
		"authorization",
		"cache-control",
		"content-encoding",
		"content-range",
		"content-type",
		"cookie",
		"date",
		"expires",
		"if-match",
		"if-modified-since",
		"if-none-match",
		"if-range",
		"if-unmodified-since",
		"location",
		"max-forwards",
		"pragma",
		"range",
		"retry-after",
		"set-cookie",
		"trailer",
		"vary",
		"warning",
		"www-authenticate",
	};

	return !field_parse_is_hop(name) &&
	       !is_one_of(name, never, sizeof(never) / sizeof(never[0]));
}

#include "policy/secret.h"

#include <string.h>

static bool is_alpha(uint8_t c)
{
	return ((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

const char *secret_name_fault(struct span name)
{
	static const char why[] =
		"is no secret's name; write a variable's: letters, digits and '_', at most 64, no digit first";

	if (name.len == 0 || name.len > POLICY_SECRET_NAME_MAX || is_digit(name.at[0]))
		return why;
	for (size_t i = 0; i < name.len; i++)
		if (!is_alpha(name.at[i]) && !is_digit(name.at[i]) && name.at[i] != '_')
			return why;
	return NULL;
}

/* Those that frame a message or route it: a value there is a request for somebody else. */
static const char *const no_headers[] = {
	"host",
	"connection",
	"content-length",
	"transfer-encoding",
	"te",
	"upgrade",
	"trailer",
	"keep-alive",
	"proxy-connection",
	"expect",
	"proxy-authorization",
};

const char *secret_header_fault(struct span name)
{
	uint8_t room[POLICY_HEADER_MAX];
	struct span lower;

	if (name.len == 0 || name.len > POLICY_HEADER_MAX)
		return "is no header's name; 1 to 64 bytes";
	for (size_t i = 0; i < name.len; i++)
		if (!is_alpha(name.at[i]) && !is_digit(name.at[i]) &&
		    !(name.at[i] && strchr("!#$%&'*+-.^_`|~", name.at[i])))
			return "is no header's name; it has a character that none has";
	lower = secret_header_lower(name, room);
	for (size_t i = 0; i < sizeof(no_headers) / sizeof(no_headers[0]); i++)
		if (span_is(lower, no_headers[i]))
			return "is a header that frames or routes the request; no secret may stand in it";
	return NULL;
}

struct span secret_header_lower(struct span name, uint8_t *room)
{
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = name.at[i];

		room[i] = (uint8_t)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	return span_of(room, name.len);
}

const char *secret_prefix_fault(struct span prefix)
{
	if (prefix.len > POLICY_PREFIX_MAX)
		return "is a prefix of over 32 bytes";
	for (size_t i = 0; i < prefix.len; i++)
		if (prefix.at[i] < 0x20 || prefix.at[i] >= 0x7f)
			return "has a byte that no header's value has: a line end, NUL or non-ASCII";
	return NULL;
}

const char *secret_parameter_fault(struct span name)
{
	if (name.len == 0 || name.len > POLICY_PARAM_MAX)
		return "is no parameter's name; 1 to 128 bytes";
	for (size_t i = 0; i < name.len; i++)
		if (name.at[i] <= 0x20 || name.at[i] >= 0x7f || strchr("&=;%+#", name.at[i]))
			return "is no parameter's name; it has a character that would be escaped";
	return NULL;
}

const char *secret_source_fault(struct span what)
{
	if (what.len == 0 || what.len >= POLICY_SOURCE_MAX)
		return "is no source; 1 to 1023 bytes";
	for (size_t i = 0; i < what.len; i++)
		if (what.at[i] < 0x20 || what.at[i] == 0x7f)
			return "has a control character";
	return NULL;
}

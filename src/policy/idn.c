#include "policy/idn.h"

#include <errno.h>
#include <idn2.h>
#include <string.h>

static bool is_ascii(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] >= 0x80)
			return false;
	return true;
}

static int judge(struct span text, struct host_pattern *ret, struct err *e)
{
	enum host_fault fault;

	if (host_pattern_parse(text, ret, &fault) < 0)
		return err_set(e, -EINVAL, "%s", host_fault_text(fault));
	return 0;
}

/* What stands in front of the name: "", "*." or "**.". */
static size_t wildcard_len(struct span text)
{
	size_t n = 0;

	while (n < text.len && n < 2 && text.at[n] == '*')
		n++;
	return n > 0 && n < text.len && text.at[n] == '.' ? n + 1 : 0;
}

int idn_pattern_parse(struct span text, struct host_pattern *ret, struct err *e)
{
	char in[4 * POLICY_NAME_MAX + 1] = { 0 };
	uint8_t out[POLICY_NAME_MAX + 4];
	size_t star = wildcard_len(text);
	uint8_t *ascii = NULL;
	struct buf b;
	int r;

	if (is_ascii(text))
		return judge(text, ret, e);
	if (text.len - star >= sizeof(in) || memchr(text.at, 0, text.len))
		return err_set(e, -EINVAL, "%s", host_fault_text(HOST_FAULT_LONG));
	memcpy(in, text.at + star, text.len - star);
	r = idn2_lookup_u8((const uint8_t *)in, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
	if (r == IDN2_MALLOC)
		return err_set(e, -ENOMEM, "out of memory");
	if (r != IDN2_OK)
		return err_set(e, -EINVAL, "is no host name: %s", idn2_strerror(r));
	buf_init(&b, out, sizeof(out));
	buf_put(&b, text.at, star);
	buf_put_str(&b, (const char *)ascii);
	idn2_free(ascii);
	if (!buf_ok(&b))
		return err_set(e, -EINVAL, "%s", host_fault_text(HOST_FAULT_LONG));
	return judge(buf_span(&b), ret, e);
}

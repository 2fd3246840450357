#include "work/proposal_parse.h"

#include <errno.h>

enum { LENGTH_DIGITS_MAX = 6 }; /* of PROPOSAL_RECORDS_MAX */

static const char *const keys[PROPOSAL_KEY_COUNT] = {
	[PROPOSAL_KEY_PATH] = "path",
	[PROPOSAL_KEY_VERSION] = "BERM.version",
	[PROPOSAL_KEY_MTIME] = "mtime",
	[PROPOSAL_KEY_SIZE] = "size",
	[PROPOSAL_KEY_LINKPATH] = "linkpath",
	[PROPOSAL_KEY_WHITEOUT] = "BERM.whiteout",
	[PROPOSAL_KEY_OPAQUE] = "BERM.opaque",
	[PROPOSAL_KEY_REDIRECT] = "BERM.redirect",
	[PROPOSAL_KEY_SPARSE] = "BERM.sparse",
	[PROPOSAL_KEY_FULL_SIZE] = "BERM.size",
	[PROPOSAL_KEY_SKIPPED] = "BERM.skipped",
	[PROPOSAL_KEY_ENTRIES] = "BERM.entries",
	[PROPOSAL_KEY_SHA256] = "BERM.sha256",
};

/* "LENGTH REST\n", where LENGTH counts all of it, itself too. REST is what is returned. */
static bool take_record(struct span *in, struct span *ret)
{
	struct span digits = { 0 };
	struct span s = *in;
	struct span whole;
	uint64_t len;

	if (!take_until(&s, ' ', &digits) || digits.len > LENGTH_DIGITS_MAX || digits.len == 0 ||
	    digits.at[0] == '0' || !span_to_u64(digits, &len))
		return false;
	s = *in;
	/* a key of one byte, "=" and "\n" at the least */
	if (len < digits.len + 4 || !take_span(&s, (size_t)len, &whole) ||
	    whole.at[whole.len - 1] != '\n')
		return false;
	*ret = span_of(whole.at + digits.len + 1, whole.len - digits.len - 2);
	*in = s;
	return true;
}

static bool find_key(struct span name, unsigned *ret)
{
	for (unsigned i = 0; i < PROPOSAL_KEY_COUNT; i++) {
		if (!span_is(name, keys[i]))
			continue;
		*ret = i;
		return true;
	}
	return false;
}

static enum proposal_bad take_one(struct span *in, struct proposal_pax *got)
{
	struct span record;
	struct span name;
	unsigned key;

	if (!take_record(in, &record))
		return PROPOSAL_BAD_RECORD;
	if (!take_until(&record, '=', &name) || name.at + name.len == record.at)
		return PROPOSAL_BAD_RECORD; /* the second: there was no '=' */
	if (!find_key(name, &key))
		return PROPOSAL_BAD_KEY;
	if (got->seen & 1U << key)
		return PROPOSAL_BAD_KEY_TWICE;
	got->seen |= 1U << key;
	got->value[key] = record;
	return PROPOSAL_BAD_NONE;
}

int proposal_parse_pax(struct span in, struct proposal_pax *ret, enum proposal_bad *ret_bad)
{
	struct proposal_pax got = { 0 };

	while (in.len > 0) {
		enum proposal_bad bad = take_one(&in, &got);

		if (bad != PROPOSAL_BAD_NONE) {
			*ret_bad = bad;
			return -EBADMSG;
		}
	}
	*ret = got;
	return 0;
}

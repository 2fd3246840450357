#include "agents/settings_parse.h"

#include <string.h>

enum { FOLDED_MAX = 128 };

static bool holds(const char *text, size_t len, const char *word)
{
	size_t word_len = strlen(word);

	for (size_t i = 0; i + word_len <= len; i++)
		if (memcmp(text + i, word, word_len) == 0)
			return true;
	return false;
}

/* Letters and digits alone, in lower case: api-key, api_key and apiKey are one name. */
bool settings_parse_secret_key(struct span key)
{
	static const char *const words[] = {
		"apikey",    "secret",     "token",         "passw",  "credential", "privatekey",
		"accesskey", "authkey",    "authorization", "bearer", "cookie",     "signingkey",
		"oauth",     "passphrase", "clientkey",     NULL
	};
	char folded[FOLDED_MAX];
	size_t len = 0;

	for (size_t i = 0; i < key.len; i++) {
		uint8_t c = key.at[i];

		if (c >= 'A' && c <= 'Z')
			c = (uint8_t)(c | 0x20);
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')))
			continue;
		if (len == sizeof(folded))
			return true; /* no setting has such a name: leave it behind */
		folded[len++] = (char)c;
	}
	for (unsigned i = 0; words[i]; i++)
		if (holds(folded, len, words[i]))
			return true;
	return false;
}

bool settings_parse_secret_value(struct span text)
{
	static const char *const prefixes[] = { "sk-",         "ghp_",   "gho_",  "ghs_",
		                                "github_pat_", "glpat-", "xoxb-", "xoxp-",
		                                "AKIA",        "AIza",   "npm_",  "hf_",
		                                "Bearer ",     "ya29.",  NULL };

	for (unsigned i = 0; prefixes[i]; i++) {
		size_t len = strlen(prefixes[i]);

		if (text.len > len && memcmp(text.at, prefixes[i], len) == 0)
			return true;
	}
	return holds((const char *)text.at, text.len, "-----BEGIN ");
}

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

/* --- files --- */

static bool begins(struct span text, const char *with)
{
	size_t len = strlen(with);

	return text.len >= len && memcmp(text.at, with, len) == 0;
}

static bool ends(struct span text, const char *with)
{
	size_t len = strlen(with);

	return text.len >= len && memcmp(text.at + text.len - len, with, len) == 0;
}

static bool secret_file(struct span name)
{
	static const char *const names[] = {
		"credentials",      "credentials.json", ".credentials.json",
		"auth.json",        ".netrc",           "oauth_creds.json",
		".git-credentials", ".npmrc",           ".pypirc",
		".pgpass",          ".my.cnf",          ".vault-token",
		".htpasswd",        "Login Data",       "Cookies",
		"cookies.sqlite",   "logins.json",      NULL
	};
	static const char *const fronts[] = { ".env", "id_rsa", "id_ed25519", "id_ecdsa", NULL };
	static const char *const backs[] = {
		".pem", ".key", ".p12", ".pfx", ".jks", ".kdbx", NULL
	};

	for (unsigned i = 0; names[i]; i++)
		if (span_is(name, names[i]))
			return true;
	for (unsigned i = 0; fronts[i]; i++)
		if (begins(name, fronts[i]))
			return true;
	for (unsigned i = 0; backs[i]; i++)
		if (ends(name, backs[i]))
			return true;
	return false;
}

/* From the home directory, or, with a name in front of it, from anywhere. */
static bool in_folder(struct span path, const char *folder)
{
	size_t len = strlen(folder);

	for (size_t i = 0; i + len <= path.len; i++)
		if ((i == 0 || path.at[i - 1] == '/') && memcmp(path.at + i, folder, len) == 0 &&
		    (i + len == path.len || path.at[i + len] == '/'))
			return true;
	return false;
}

bool settings_parse_secret_path(struct span path)
{
	static const char *const folders[] = { ".ssh",
		                               ".gnupg",
		                               ".aws",
		                               ".azure",
		                               ".kube",
		                               ".docker",
		                               ".oci",
		                               ".password-store",
		                               ".mozilla",
		                               ".thunderbird",
		                               ".config/gh",
		                               ".config/gcloud",
		                               ".config/op",
		                               ".config/hub",
		                               ".config/sops",
		                               ".terraform.d",
		                               ".config/rclone",
		                               ".config/google-chrome",
		                               ".config/chromium",
		                               ".local/share/keyrings",
		                               NULL };
	size_t at = path.len;

	for (unsigned i = 0; folders[i]; i++)
		if (in_folder(path, folders[i]))
			return true;
	while (at > 0 && path.at[at - 1] != '/')
		at--;
	return secret_file(span_of(path.at + at, path.len - at));
}

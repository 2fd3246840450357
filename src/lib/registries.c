#include "lib/registries.h"

#include "base/buf.h"
#include "policy/host.h"

#include <errno.h>
#include <string.h>

/* Each in the case in which its program reads it; some read both. */
static const char *const variables[] = {
	"PIP_INDEX_URL",
	"PIP_EXTRA_INDEX_URL",
	"UV_INDEX_URL",
	"UV_DEFAULT_INDEX",
	"UV_EXTRA_INDEX_URL",
	"UV_INDEX",
	"NPM_CONFIG_REGISTRY",
	"npm_config_registry",
	"YARN_REGISTRY",
	"YARN_NPM_REGISTRY_SERVER",
	"GOPROXY",
	"GOSUMDB",
	"CARGO_REGISTRIES_CRATES_IO_INDEX",
	"RUSTUP_DIST_SERVER",
	"GEM_HOST_URL",
	"BUNDLE_MIRROR__ALL",
	"CONDA_CHANNEL_ALIAS",
	"DEBIAN_MIRROR",
};

static bool is_break(uint8_t c)
{
	return c == ' ' || c == ',' || c == '|' || c == '\t' || c == '\n';
}

/* Cuts a scheme, a user, a path and a plain "sparse+" off. */
static struct span host_part(struct span word)
{
	for (size_t i = 0; i + 2 < word.len; i++)
		if (memcmp(word.at + i, "://", 3) == 0) {
			word = span_of(word.at + i + 3, word.len - i - 3);
			break;
		}
	for (size_t i = 0; i < word.len; i++)
		if (word.at[i] == '/' || word.at[i] == '?' || word.at[i] == '#' ||
		    word.at[i] == '+') {
			word.len = i;
			break;
		}
	for (size_t i = word.len; i > 0; i--)
		if (word.at[i - 1] == '@')
			return span_of(word.at + i, word.len - i);
	return word;
}

static bool is_port(struct span text)
{
	uint64_t n;

	return span_to_u64(text, &n) && n > 0 && n <= UINT16_MAX;
}

static int add_host(struct strings *hosts, struct span word, struct err *e)
{
	struct span rest = host_part(word);
	char room[POLICY_NAME_MAX + 8];
	struct host_pattern ignored;
	struct span name;
	struct buf b;

	if (!take_until(&rest, ':', &name) || host_pattern_parse(name, &ignored, NULL) < 0 ||
	    ignored.kind != HOST_EXACT)
		return 0;
	buf_init(&b, room, sizeof(room));
	buf_put_span(&b, name);
	if (is_port(rest)) {
		buf_put_u8(&b, ':');
		buf_put_span(&b, rest);
	}
	(void)buf_cstr(&b);
	if (!buf_ok(&b) || hosts->count == hosts->max)
		return 0;
	for (size_t i = 0; i < hosts->count; i++)
		if (strcmp(hosts->items[i], room) == 0)
			return 0;
	return strings_add(hosts, room, b.len, e);
}

static int add_words(struct strings *hosts, const char *text, struct err *e)
{
	struct span rest = span_str(text);
	int r = 0;

	while (r == 0 && rest.len > 0) {
		size_t n = 0;

		while (n < rest.len && !is_break(rest.at[n]))
			n++;
		if (n > 0)
			r = add_host(hosts, span_of(rest.at, n), e);
		n += n < rest.len;
		rest.at += n;
		rest.len -= n;
	}
	return r;
}

static bool is_known(const char *variable, size_t len)
{
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		if (strlen(variables[i]) == len && memcmp(variables[i], variable, len) == 0)
			return true;
	return false;
}

int registries_find(struct strings *hosts, const char *const *env, const struct image_meta *meta,
                    struct err *e)
{
	const char *label = meta ? image_label(&meta->config, "berm.registries") : NULL;
	int r = label ? add_words(hosts, label, e) : 0;

	for (size_t i = 0; r == 0 && meta && meta->registries[i]; i++)
		r = add_words(hosts, meta->registries[i], e);
	for (size_t i = 0; r == 0 && env && env[i]; i++) {
		const char *equals = strchr(env[i], '=');

		if (equals && is_known(env[i], (size_t)(equals - env[i])))
			r = add_words(hosts, equals + 1, e);
	}
	return r;
}

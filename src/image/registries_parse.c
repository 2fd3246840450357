#include "image/registries.h"

#include <string.h>

/* `*` stands for any text within a component, `~` for the home directory of anybody. */
static const char *const files[] = {
	"etc/apt/sources.list",
	"etc/apt/sources.list.d/*.list",
	"etc/apt/sources.list.d/*.sources",
	"etc/apk/repositories",
	"etc/yum.repos.d/*.repo",
	"etc/pip.conf",
	"etc/xdg/pip/pip.conf",
	"~/.config/pip/pip.conf",
	"~/.pip/pip.conf",
	"etc/uv/uv.toml",
	"~/.config/uv/uv.toml",
	"etc/npmrc",
	"usr/etc/npmrc",
	"usr/local/etc/npmrc",
	"~/.npmrc",
	"~/.yarnrc",
	"~/.yarnrc.yml",
	"usr/local/go/go.env",
	"~/.config/go/env",
	"usr/local/cargo/config.toml",
	"usr/local/cargo/config",
	"~/.cargo/config.toml",
	"~/.cargo/config",
	"etc/gemrc",
	"~/.gemrc",
	"usr/local/bundle/config",
	"~/.bundle/config",
};

/* One component, with at most one `*` in the pattern. */
static bool fits(struct span pattern, struct span name)
{
	const uint8_t *star = memchr(pattern.at, '*', pattern.len);
	size_t before = star ? (size_t)(star - pattern.at) : 0;
	size_t behind = star ? pattern.len - before - 1 : 0;

	if (!star)
		return span_equal(pattern, name);
	return name.len > before + behind && memcmp(name.at, pattern.at, before) == 0 &&
	       memcmp(name.at + name.len - behind, star + 1, behind) == 0;
}

static bool take_home(struct span *path)
{
	struct span name;

	if (!take_until(path, '/', &name))
		return false;
	return span_is(name, "root") || (span_is(name, "home") && take_until(path, '/', &name));
}

static bool path_fits(struct span pattern, struct span path)
{
	struct span want;
	struct span have;

	while (take_until(&pattern, '/', &want)) {
		if (span_is(want, "~")) {
			if (!take_home(&path))
				return false;
			continue;
		}
		if (!take_until(&path, '/', &have) || !fits(want, have))
			return false;
	}
	return path.len == 0;
}

bool registries_parse_path(struct span path)
{
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (path_fits(span_str(files[i]), path))
			return true;
	return false;
}

/* --- hosts --- */

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_alnum(uint8_t c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool label_ok(struct span label)
{
	for (size_t i = 0; i < label.len; i++)
		if (!is_alnum(label.at[i]) && label.at[i] != '-' && label.at[i] != '_')
			return false;
	return label.len > 0 && label.len <= 63;
}

static bool all_digits(struct span label)
{
	for (size_t i = 0; i < label.len; i++)
		if (!is_digit(label.at[i]))
			return false;
	return true;
}

/* Two labels or more; one whose last is a number is an address to some reader. */
static bool name_ok(struct span name)
{
	struct span label = { 0 };
	unsigned labels = 0;

	if (name.len == 0 || name.len > IMAGE_REGISTRY_MAX || name.at[name.len - 1] == '.')
		return false;
	while (take_until(&name, '.', &label)) {
		if (!label_ok(label))
			return false;
		labels++;
	}
	return labels >= 2 && !all_digits(label);
}

static bool host_ok(struct span host)
{
	const uint8_t *colon = host.len > 0 ? memchr(host.at, ':', host.len) : NULL;
	size_t name_len = colon ? (size_t)(colon - host.at) : host.len;
	uint64_t port;

	if (host.len > IMAGE_REGISTRY_MAX || !name_ok(span_of(host.at, name_len)))
		return false;
	return !colon || (span_to_u64(span_of(colon + 1, host.len - name_len - 1), &port) &&
	                  port > 0 && port <= UINT16_MAX);
}

bool registries_parse_ok(struct span host)
{
	for (size_t i = 0; i < host.len; i++)
		if (host.at[i] >= 'A' && host.at[i] <= 'Z')
			return false;
	return host_ok(host);
}

/* What may stand around a URL in any of the files, and what ends its host. */
static bool ends_host(uint8_t c)
{
	return c <= ' ' || c >= 0x7f || memchr("/?#\"'`,;|<>()[]{}\\", c, 18) != NULL;
}

static bool is_web(const uint8_t *from, const uint8_t *scheme_end)
{
	size_t len = (size_t)(scheme_end - from);

	return (len >= 4 && memcmp(scheme_end - 4, "http", 4) == 0) ||
	       (len >= 5 && memcmp(scheme_end - 5, "https", 5) == 0);
}

static void skip_line(struct span *text)
{
	struct span line;

	(void)!take_until(text, '\n', &line);
}

static bool is_comment(struct span *text)
{
	while (text->len > 0 && (text->at[0] == ' ' || text->at[0] == '\t')) {
		text->at++;
		text->len--;
	}
	return text->len > 0 && (text->at[0] == '#' || text->at[0] == ';');
}

/* The first "://" of the line, or NULL. */
static const uint8_t *find_mark(const uint8_t *at, size_t len)
{
	for (; len >= 3; at++, len--)
		if (memcmp(at, "://", 3) == 0)
			return at;
	return NULL;
}

/* The host of the next URL of this line; the line is at its end where there is none. */
static bool take_of_line(struct span *text, struct span *ret_host)
{
	const uint8_t *end = memchr(text->at, '\n', text->len);
	size_t len = end ? (size_t)(end - text->at) : text->len;
	const uint8_t *mark = find_mark(text->at, len);
	const uint8_t *at;
	struct span host;
	bool web;

	if (!mark) {
		skip_line(text);
		return false;
	}
	web = is_web(text->at, mark);
	at = mark + 3;
	len -= (size_t)(at - text->at);
	text->len -= (size_t)(at - text->at);
	text->at = at;
	host = span_of(at, 0);
	while (host.len < len && !ends_host(at[host.len]))
		host.len++;
	text->at += host.len;
	text->len -= host.len;
	at = host.len > 0 ? memrchr(host.at, '@', host.len) : NULL;
	if (at)
		host = span_of(at + 1, host.len - (size_t)(at + 1 - host.at));
	if (!web || !host_ok(host))
		return false;
	*ret_host = host;
	return true;
}

bool registries_take_host(struct span *text, struct span *ret_host)
{
	while (text->len > 0) {
		if (is_comment(text))
			skip_line(text);
		else if (take_of_line(text, ret_host))
			return true;
	}
	return false;
}

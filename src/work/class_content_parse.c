#include "work/class.h"

#include <string.h>

/* ---- what became executable ---- */

static bool starts(struct span s, const char *magic, size_t len)
{
	return s.len >= len && memcmp(s.at, magic, len) == 0;
}

#define STARTS(s_, magic_) starts(s_, magic_, sizeof(magic_) - 1)

/* ELF, Mach-O in both orders and widths and its archives of several, PE, WebAssembly. */
static bool is_program(struct span head)
{
	return STARTS(head, "\x7f"
	                    "ELF") ||
	       STARTS(head, "\xfe\xed\xfa\xce") || STARTS(head, "\xfe\xed\xfa\xcf") ||
	       STARTS(head, "\xce\xfa\xed\xfe") || STARTS(head, "\xcf\xfa\xed\xfe") ||
	       STARTS(head, "\xca\xfe\xba\xbe") || STARTS(head, "MZ") || STARTS(head, "\0asm");
}

static bool is_archive(struct span head)
{
	return STARTS(head, "PK\x03\x04") || STARTS(head, "PK\x05\x06") ||
	       STARTS(head, "\x1f\x8b") || STARTS(head, "BZh") ||
	       STARTS(head, "\xfd"
	                    "7zXZ\0") ||
	       STARTS(head, "\x28\xb5\x2f\xfd") || STARTS(head, "7z\xbc\xaf\x27\x1c") ||
	       STARTS(head, "!<arch>\n") || STARTS(head, "Rar!\x1a\x07") ||
	       STARTS(head, "\xed\xab\xee\xdb");
}

static bool has_ending(struct span path, const char *ending)
{
	size_t n = strlen(ending);

	if (path.len <= n)
		return false;
	for (size_t i = 0; i < n; i++) {
		uint8_t c = path.at[path.len - n + i];

		if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != ending[i])
			return false;
	}
	return true;
}

static bool is_archive_name(struct span path)
{
	static const char *const endings[] = {
		".zip", ".jar", ".war",  ".ear",   ".aar",   ".whl",  ".egg", ".tar",
		".tgz", ".tbz", ".txz",  ".gz",    ".bz2",   ".xz",   ".zst", ".7z",
		".rar", ".deb", ".rpm",  ".gem",   ".a",     ".lib",  ".apk", ".ipa",
		".xpi", ".crx", ".vsix", ".nupkg", ".crate", ".phar",
	};

	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		if (has_ending(path, endings[i]))
			return true;
	}
	return false;
}

/* Does the target of a link at `path` leave the directory the link is in? */
static bool leaves(struct span target)
{
	struct span part;
	size_t down = 0;

	if (target.len == 0 || target.at[0] == '/')
		return true;
	while (take_until(&target, '/', &part)) {
		if (span_is(part, "..")) {
			if (down == 0)
				return true;
			down--;
		} else if (part.len > 0 && !span_is(part, ".")) {
			down++;
		}
	}
	return false;
}

static bool same_side(const struct class_side *a, const struct class_side *b)
{
	return a->exists && b->exists && a->kind == b->kind && span_equal(a->head, b->head);
}

static struct class_verdict x3(const char *reason)
{
	return (struct class_verdict){ .class = CLASS_X3, .reason = reason };
}

struct class_verdict class_by_content(struct span path, const struct class_side *was,
                                      const struct class_side *now)
{
	bool was_file = was->exists && was->kind == WORK_FILE;

	if (!now->exists || now->kind == WORK_DIR)
		return (struct class_verdict){ .class = CLASS_PLAIN };
	if (now->kind == WORK_LINK)
		return leaves(now->head) && !same_side(was, now)
		               ? x3("a link that leaves its directory")
		               : (struct class_verdict){ .class = CLASS_PLAIN };
	if ((now->mode & 0111) != 0 && (!was_file || (was->mode & 0111) == 0))
		return x3("became executable");
	if (is_program(now->head))
		return x3("a program");
	if (STARTS(now->head, "#!") && !(was_file && STARTS(was->head, "#!")))
		return x3("a script, by its first line");
	if (was->exists && (is_archive(now->head) || is_archive_name(path)))
		return x3("an archive in the place of another file");
	return (struct class_verdict){ .class = CLASS_PLAIN };
}

/* ---- lock files ---- */

bool class_is_lock_file(struct span path)
{
	static const char *const names[] = {
		"package-lock.json", "npm-shrinkwrap.json",
		"yarn.lock",         "pnpm-lock.yaml",
		"bun.lock",          "deno.lock",
		"poetry.lock",       "Pipfile.lock",
		"uv.lock",           "pdm.lock",
		"Cargo.lock",        "composer.lock",
		"Gemfile.lock",      "packages.lock.json",
		"Podfile.lock",      "Package.resolved",
		"pubspec.lock",      "mix.lock",
		"flake.lock",        "gradle.lockfile",
	};
	struct span name = wpath_last(path);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (span_is(name, names[i]))
			return true;
	}
	return false;
}

struct hosts {
	size_t count;
	struct span host[CLASS_HOSTS_MAX];
	bool more;
};

static bool is_host_byte(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '-' || c == ':' || c == '@' || c == '_' || c == '[' || c == ']' ||
	       c == '%' || c >= 0x80;
}

static bool has_host(const struct hosts *h, struct span host)
{
	for (size_t i = 0; i < h->count; i++) {
		if (span_equal(h->host[i], host))
			return true;
	}
	return false;
}

static void find_hosts(struct span text, struct hosts *ret)
{
	if (text.len > CLASS_HOSTS_BYTES) {
		text.len = CLASS_HOSTS_BYTES;
		ret->more = true;
	}
	for (const uint8_t *at; (at = memmem(text.at, text.len, "://", 3)) != NULL;) {
		struct span host;
		size_t n = 0;

		text = span_of(at + 3, text.len - (size_t)(at + 3 - text.at));
		while (n < text.len && is_host_byte(text.at[n]))
			n++;
		host = span_of(text.at, n);
		if (has_host(ret, host))
			continue;
		if (ret->count == CLASS_HOSTS_MAX)
			ret->more = true;
		else
			ret->host[ret->count++] = host;
	}
}

bool class_adds_host(struct span was, struct span now)
{
	struct hosts before = { 0 }, after = { 0 };

	find_hosts(was, &before);
	find_hosts(now, &after);
	for (size_t i = 0; i < after.count; i++) {
		if (!has_host(&before, after.host[i]))
			return true;
	}
	return after.more;
}

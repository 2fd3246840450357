#include "work/gitconfig.h"

#include <errno.h>
#include <string.h>

enum key_kind { PLAIN, URL, WORKTREE };

/* What may enter of a section. The list ends with an item without one. */
struct allowed {
	const char *section;
	enum { SUB_NONE, SUB_NEEDED } sub;
	enum key_kind kind;
	const char *keys; /* separated by blanks; NULL: any that the section has */
};

/*
 * None of these names a program, another file or a credential, by git-config(1) of git 2.45. What a
 * later git adds to a section that is here whole could: those have had display and housekeeping
 * alone so far.
 */
static const struct allowed list[] = {
	{ "advice", SUB_NONE, PLAIN, NULL },
	{ "branch", SUB_NONE, PLAIN, "autosetupmerge autosetuprebase sort" },
	{ "branch", SUB_NEEDED, PLAIN, "description merge rebase" },
	{ "branch", SUB_NEEDED, URL, "pushremote remote" },
	{ "color", SUB_NONE, PLAIN, NULL },
	{ "color", SUB_NEEDED, PLAIN, NULL },
	{ "core", SUB_NONE, PLAIN,
	  "abbrev autocrlf bare eol filemode ignorecase logallrefupdates precomposeunicode protecthfs "
	  "protectntfs quotepath repositoryformatversion safecrlf sparsecheckout sparsecheckoutcone "
	  "symlinks whitespace" },
	{ "core", SUB_NONE, WORKTREE, "worktree" },
	{ "diff", SUB_NONE, PLAIN,
	  "algorithm colormoved context ignoresubmodules mnemonicprefix noprefix renamelimit renames "
	  "submodule" },
	{ "extensions", SUB_NONE, PLAIN,
	  "compatobjectformat objectformat partialclone preciousobjects refstorage worktreeconfig" },
	{ "fetch", SUB_NONE, PLAIN, "prune prunetags recursesubmodules" },
	{ "gc", SUB_NONE, PLAIN, /* recentobjectshook is a command */
	  "aggressivedepth aggressivewindow auto autodetach autopacklimit bigpackthreshold "
	  "cruftpacks logexpiry maxcruftsize packrefs pruneexpire reflogexpire "
	  "reflogexpireunreachable rerereresolved rerereunresolved worktreepruneexpire "
	  "writecommitgraph" },
	{ "index", SUB_NONE, PLAIN, "version" },
	{ "init", SUB_NONE, PLAIN, "defaultbranch" },
	{ "log", SUB_NONE, PLAIN, NULL },
	{ "merge", SUB_NONE, PLAIN, "branchdesc conflictstyle ff log renamelimit renames stat" },
	{ "pack", SUB_NONE, PLAIN, NULL },
	{ "pull", SUB_NONE, PLAIN, "ff rebase" },
	{ "push", SUB_NONE, PLAIN, "autosetupremote default followtags recursesubmodules" },
	{ "rebase", SUB_NONE, PLAIN, "abbreviatecommands autosquash autostash updaterefs" },
	{ "remote", SUB_NONE, URL, "pushdefault" },
	{ "remote", SUB_NEEDED, PLAIN, "fetch partialclonefilter promisor prune push tagopt" },
	{ "remote", SUB_NEEDED, URL, "pushurl url" },
	{ "rerere", SUB_NONE, PLAIN, NULL },
	{ "status", SUB_NONE, PLAIN, NULL },
	{ "submodule", SUB_NONE, PLAIN, "active recurse" },
	{ "submodule", SUB_NEEDED, PLAIN,
	  "active branch fetchrecursesubmodules ignore path shallow" },
	{ "submodule", SUB_NEEDED, URL, "url" },
	{ "tag", SUB_NONE, PLAIN, "sort" },
	{ "user", SUB_NONE, PLAIN, "email name" },
	{ NULL, SUB_NONE, PLAIN, NULL },
};

static bool has_word(const char *words, struct span word)
{
	for (size_t len; *words; words += len + (words[len] == ' ')) {
		len = strcspn(words, " ");
		if (span_equal(span_of(words, len), word))
			return true;
	}
	return false;
}

static const struct allowed *find(const struct gitconfig_item *item)
{
	for (const struct allowed *a = list; a->section != NULL; a++) {
		if (span_is(item->section, a->section) && (a->sub == SUB_NEEDED) == item->has_sub &&
		    (a->keys == NULL || has_word(a->keys, item->key)))
			return a;
	}
	return NULL;
}

const char *gitconfig_why_text(enum gitconfig_why why)
{
	switch (why) {
	case GITCONFIG_KEPT:
		return "kept";
	case GITCONFIG_CHANGED:
		return "kept without the user and password in its URL";
	case GITCONFIG_UNLISTED:
		return "not among the settings that enter a guest";
	case GITCONFIG_URL:
		return "a URL that names a program";
	case GITCONFIG_OUTSIDE:
		return "a path outside the workspace";
	}
	return "?";
}

/* ---- values ---- */

static struct span rest(struct span s, size_t n)
{
	return span_of(s.at + n, s.len - n);
}

/* The length of "scheme://" in front, 0 if there is none. */
static size_t scheme_len(struct span url)
{
	for (size_t i = 0; i + 2 < url.len; i++) {
		uint8_t c = url.at[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (c == ':' && i > 0)
			return url.at[i + 1] == '/' && url.at[i + 2] == '/' ? i + 3 : 0;
		if (!letter &&
		    (i == 0 || ((c < '0' || c > '9') && c != '+' && c != '-' && c != '.')))
			return 0;
	}
	return 0;
}

/* Git runs git-remote-<name> for "<name>::address", and for schemes it does not know. */
static bool names_a_program(struct span url)
{
	static const char *const known[] = { "https://", "http://",    "ssh://",    "git://",
		                             "file://",  "git+ssh://", "ssh+git://" };
	size_t scheme = scheme_len(url);

	if (scheme == 0) {
		const uint8_t *colon = memchr(url.at, ':', url.len);
		size_t at = colon == NULL ? 0 : (size_t)(colon - url.at);

		/* an address that looks like an option, or a helper's */
		return url.len == 0 || url.at[0] == '-' ||
		       (colon != NULL && at + 1 < url.len && url.at[at + 1] == ':');
	}
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (span_is(span_of(url.at, scheme), known[i]))
			return false;
	}
	return true;
}

static bool is_web(struct span url)
{
	size_t n = scheme_len(url);

	return span_is(span_of(url.at, n), "https://") || span_is(span_of(url.at, n), "http://");
}

/*
 * Writes the URL to ret without what stands before the last "@" of its authority, where that can be
 * a password: all of it for the web, what follows ":" for other schemes, whose user is an address.
 */
static bool strip_password(struct span url, struct buf *ret)
{
	size_t scheme = scheme_len(url), end = scheme, keep;
	struct span authority;
	const uint8_t *at, *colon;

	while (end < url.len && url.at[end] != '/' && url.at[end] != '?' && url.at[end] != '#')
		end++;
	authority = span_of(url.at + scheme, end - scheme);
	at = scheme == 0 ? NULL : memrchr(authority.at, '@', authority.len);
	if (at == NULL) {
		buf_put_span(ret, url);
		return false;
	}
	keep = (size_t)(at - authority.at);
	colon = memchr(authority.at, ':', keep);
	if (is_web(url) || colon != NULL)
		keep = is_web(url) ? 0 : (size_t)(colon - authority.at);
	else
		keep++;
	buf_put(ret, url.at, scheme + keep);
	if (keep > 0 && colon != NULL)
		buf_put_u8(ret, '@');
	buf_put_span(ret, rest(url, (size_t)(at + 1 - url.at)));
	return is_web(url) || colon != NULL;
}

/* Relative, and not further up than `depth`. */
static bool stays_inside(struct span path, unsigned depth)
{
	struct span part;
	unsigned down = depth;

	if (path.len == 0 || path.at[0] == '/')
		return false;
	while (take_until(&path, '/', &part)) {
		if (span_is(part, "..") && down-- == 0)
			return false;
		if (part.len > 0 && !span_is(part, ".") && !span_is(part, ".."))
			down++;
	}
	return true;
}

/* ---- writing ---- */

static void put_quoted(struct buf *out, struct span s)
{
	buf_put_u8(out, '"');
	for (size_t i = 0; i < s.len; i++) {
		switch (s.at[i]) {
		case '\n':
			buf_put_str(out, "\\n");
			break;
		case '\t':
			buf_put_str(out, "\\t");
			break;
		case '\b':
			buf_put_str(out, "\\b");
			break;
		case '"':
		case '\\':
			buf_put_u8(out, '\\');
			buf_put_u8(out, s.at[i]);
			break;
		default:
			buf_put_u8(out, s.at[i]);
		}
	}
	buf_put_u8(out, '"');
}

static void put_sub(struct buf *out, struct span s)
{
	buf_put_str(out, " \"");
	for (size_t i = 0; i < s.len; i++) {
		if (s.at[i] == '"' || s.at[i] == '\\')
			buf_put_u8(out, '\\');
		buf_put_u8(out, s.at[i]);
	}
	buf_put_u8(out, '"');
}

/* Each item has its own header: git joins them, and nothing has to be remembered here. */
static void put_item(struct buf *out, const struct gitconfig_item *item, struct span value)
{
	buf_put_u8(out, '[');
	buf_put_span(out, item->section);
	if (item->has_sub)
		put_sub(out, item->sub);
	buf_put_str(out, "]\n\t");
	buf_put_span(out, item->key);
	if (item->has_value) {
		buf_put_str(out, " = ");
		put_quoted(out, value);
	}
	buf_put_u8(out, '\n');
}

static enum gitconfig_why clean_item(const struct gitconfig_item *item, unsigned depth,
                                     struct buf *out)
{
	const struct allowed *a = find(item);
	uint8_t storage[GITCONFIG_VALUE_MAX];
	struct buf value;
	bool changed;

	if (a == NULL)
		return GITCONFIG_UNLISTED;
	buf_init(&value, storage, sizeof(storage));
	if (a->kind == WORKTREE && !stays_inside(item->value, depth))
		return GITCONFIG_OUTSIDE;
	if (a->kind != URL) {
		put_item(out, item, item->value);
		return GITCONFIG_KEPT;
	}
	if (names_a_program(item->value))
		return GITCONFIG_URL;
	changed = strip_password(item->value, &value);
	put_item(out, item, buf_span(&value));
	return changed ? GITCONFIG_CHANGED : GITCONFIG_KEPT;
}

int gitconfig_clean(struct span text, unsigned depth, struct buf *out,
                    gitconfig_dropped_fn *dropped, void *arg, struct err *e)
{
	struct gitconfig_reader reader;
	struct gitconfig_item item;
	size_t before = out->len;
	int r;

	if (text.len > GITCONFIG_FILE_MAX)
		return err_set(e, -E2BIG, "over %d bytes of git configuration", GITCONFIG_FILE_MAX);
	gitconfig_begin(&reader, text);
	while ((r = gitconfig_next(&reader, &item)) == 0) {
		enum gitconfig_why why = clean_item(&item, depth, out);

		if (why != GITCONFIG_KEPT && dropped != NULL)
			dropped(arg, &item, why);
	}
	if (r == -ENODATA && buf_ok(out))
		return 0;
	out->len = before;
	if (r == -ENODATA)
		return err_set(e, -E2BIG, "the git configuration is too large");
	return err_set(e, r, "line %u is not git's syntax%s", reader.line,
	               r == -E2BIG ? ", or too long" : "");
}

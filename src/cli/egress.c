#include "cli/egress.h"

#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { READ_BYTES = 64 << 10, LABEL_MAX = 64 };

void egress_init(struct egress *g)
{
	*g = (struct egress){ .presets_fd = -1 };
}

void egress_fini(const struct egress *g)
{
	policy_draft_free(g->draft);
	if (g->presets_fd >= 0)
		(void)close(g->presets_fd);
}

/* The first flag makes the draft; without presets there is still a policy. */
static int begin(struct egress *g, struct cli *c, struct err *e)
{
	char path[PATH_MAX + 16];
	int r;

	if (g->draft)
		return 0;
	r = cli_paths(c, e);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/egress", c->paths.share);
	if (fd_open(path, O_RDONLY | O_DIRECTORY, 0, &g->presets_fd, NULL) < 0)
		g->presets_fd = -1;
	return policy_draft_new(policy_preset_dir, &g->presets_fd, &g->draft, e);
}

/* Of a pipe, a terminal or <(command) the length is not known before. */
static int read_text(int fd, char **ret_text, size_t *ret_len, struct err *e)
{
	_own_free_ char *text = malloc(POLICY_FILE_MAX + 1);
	size_t len = 0;

	if (!text)
		return err_set(e, -ENOMEM, "out of memory");
	while (len <= POLICY_FILE_MAX) {
		ssize_t n = read(fd, text + len, POLICY_FILE_MAX + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "read");
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (len > POLICY_FILE_MAX)
		return err_set(e, -EFBIG, "over %d bytes", POLICY_FILE_MAX);
	*ret_text = steal_ptr(&text);
	*ret_len = len;
	return 0;
}

/* The end of a long path says more than its beginning. */
static const char *label_of(const char *path)
{
	size_t len = strlen(path);

	if (strcmp(path, "-") == 0)
		return "stdin";
	return len > LABEL_MAX ? path + len - LABEL_MAX : path;
}

int egress_take_file(struct egress *g, struct cli *c, const char *path, struct err *e)
{
	bool from_stdin = strcmp(path, "-") == 0;
	_own_free_ char *text = NULL;
	_own_fd_ int fd = -1;
	size_t len = 0;
	int r = begin(g, c, e);

	if (r == 0 && !from_stdin)
		r = fd_open(path, O_RDONLY | O_NOCTTY, 0, &fd, e);
	if (r < 0)
		return r;
	r = read_text(from_stdin ? STDIN_FILENO : fd, &text, &len, e);
	if (r < 0)
		return err_wrap(e, "the policy file '%.200s'", path);
	return policy_draft_file(g->draft, label_of(path), span_of(text, len), e);
}

int egress_take(struct egress *g, struct cli *c, const struct arg *o, struct err *e)
{
	int r = begin(g, c, e);

	if (r < 0)
		return r;
	switch (o->id) {
	case EGRESS_ALLOW:
		return policy_draft_allow(g->draft, o->value, e);
	case EGRESS_DENY:
		return policy_draft_deny(g->draft, o->value, e);
	case EGRESS_PRESET:
		return policy_draft_preset(g->draft, o->value, e);
	case EGRESS_SECRET:
		return policy_draft_secret(g->draft, o->value, e);
	default:
		return egress_take_file(g, c, o->value, e);
	}
}

int egress_compile(const struct egress *g, uint8_t **ret_tlv, size_t *ret_len,
                   struct policy **ret_policy, struct err *e)
{
	_own_free_ uint8_t *tlv = NULL;
	size_t len = 0;
	int r = policy_draft_compile(g->draft, 1, &tlv, &len, e);

	if (r == 0 && ret_policy)
		r = policy_load(span_of(tlv, len), ret_policy, e);
	if (r < 0)
		return r;
	*ret_tlv = steal_ptr(&tlv);
	*ret_len = len;
	return 0;
}

static const char *const source_words[] = {
	[SECRET_ENV] = "variable",
	[SECRET_FILE] = "file",
	[SECRET_COMMAND] = "command",
	[SECRET_KEYRING] = "keyring",
};

/* A command's words, which have a NUL behind each, with blanks between them. */
static void put_what(struct buf *b, const struct policy_source *s, bool json)
{
	char room[POLICY_SOURCE_MAX];
	size_t len = s->what.len < sizeof(room) ? s->what.len : sizeof(room);

	memcpy(room, s->what.at, len);
	if (s->from == SECRET_COMMAND && len > 0)
		len--;
	for (size_t i = 0; i < len; i++)
		if (room[i] == '\0')
			room[i] = ' ';
	if (json)
		buf_put_json_str(b, span_of(room, len));
	else
		buf_put_escaped(b, span_of(room, len));
}

void egress_put_source(struct buf *b, const struct policy_source *s)
{
	buf_printf(b, "from the %s ", source_words[s->from]);
	put_what(b, s, false);
}

void egress_put_source_json(struct buf *b, const struct policy_source *s)
{
	static const char *const words[] = {
		[SECRET_ENV] = "env",
		[SECRET_FILE] = "file",
		[SECRET_COMMAND] = "command",
		[SECRET_KEYRING] = "keyring",
	};

	buf_printf(b, "\"from\":\"%s\",\"source\":", words[s->from]);
	put_what(b, s, true);
}

void egress_put_note(struct buf *b, struct span who, const char *what, struct span other)
{
	buf_put_escaped(b, who);
	buf_printf(b, " %s ", what);
	buf_put_escaped(b, other);
}

void egress_put_digest(struct buf *b, const struct policy *p)
{
	const uint8_t *digest = policy_digest(p);

	buf_put_str(b, "sha256:");
	for (unsigned i = 0; i < 32; i++)
		buf_printf(b, "%02x", digest[i]);
}

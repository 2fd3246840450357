/*
 * A sandbox's network, from a program: what a config says of it, and what is asked of one that
 * runs. The words are those of the command line's flags; policy/draft.h judges them.
 */
#include "api/berm_network.h"

#include "base/fdio.h"
#include "lib/egress_ask.h"
#include "lib/egress_log.h"
#include "lib/secret_source.h"
#include "policy/draft.h"
#include "policy/policy.h"
#include "state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert((int)BERM_RECORD_MAX >= (int)EGRESS_LINE_MAX, "a line always fits");

enum { NAME_BYTES = CONTROL_SECRET_NAME_MAX + 1 };

/* --- the config --- */

void network_fini(struct api_network *n)
{
	for (unsigned i = 0; i < n->count; i++) {
		free(n->words[i].label);
		free(n->words[i].text);
	}
	free(n->words);
	for (unsigned i = 0; i < n->value_count; i++)
		(void)close(n->values[i].fd);
	*n = (struct api_network){ 0 };
}

static int no_presets(void *arg, const char *name, char **ret_text, size_t *ret_len, struct err *e)
{
	(void)arg;
	(void)name;
	*ret_text = strdup("version: 1\nnetwork: { default: deny, rules: [] }\n");
	if (!*ret_text)
		return err_set(e, -ENOMEM, "out of memory");
	*ret_len = strlen(*ret_text);
	return 0;
}

static int add_to(struct policy_draft *d, const struct api_word *w, struct err *e)
{
	switch (w->kind) {
	case API_ALLOW:
		return policy_draft_allow(d, w->text, e);
	case API_DENY:
		return policy_draft_deny(d, w->text, e);
	case API_PRESET:
		return policy_draft_preset(d, w->text, e);
	case API_SECRET:
		return policy_draft_secret(d, w->text, e);
	default:
		return policy_draft_file(d, w->label, span_of(w->text, w->len), e);
	}
}

/* By itself; what presets there are is known at a start. */
static int judge(const struct api_word *w, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	int r;

	if (w->kind == API_PRESET)
		return spec_name_ok(w->text)
		               ? 0
		               : err_set(e, -EINVAL, "'%s' is no preset's name", w->text);
	r = policy_draft_new(no_presets, NULL, &d, e);
	return r == 0 ? add_to(d, w, e) : r;
}

static int copy_bytes(const char *text, size_t len, char **ret, struct err *e)
{
	char *copy = malloc(len + 1);

	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(copy, text, len);
	copy[len] = '\0';
	*ret = copy;
	return 0;
}

static int add_word(struct api_network *n, uint8_t kind, const char *label, const char *text,
                    size_t len, struct err *e)
{
	_own_free_ char *own_label = NULL;
	_own_free_ char *own = NULL;
	struct api_word *words;
	struct api_word w = { .kind = kind, .len = len };
	int r = copy_bytes(text, len, &own, e);

	if (r == 0)
		r = copy_bytes(label, strlen(label), &own_label, e);
	if (r < 0)
		return r;
	w.text = own;
	w.label = own_label;
	r = judge(&w, e);
	if (r == 0 && n->count == API_WORDS_MAX)
		r = err_set(e, -E2BIG, "more than %d words about the network", API_WORDS_MAX);
	if (r < 0)
		return r;
	words = realloc(n->words, (n->count + 1) * sizeof(*words));
	if (!words)
		return err_set(e, -ENOMEM, "out of memory");
	w.text = steal_ptr(&own);
	w.label = steal_ptr(&own_label);
	n->words = words;
	n->words[n->count++] = w;
	n->wanted = true;
	return 0;
}

static int add(struct berm_config *c, uint8_t kind, const char *label, const char *text, size_t len,
               struct berm_err *e)
{
	struct err why = { 0 };
	int r;

	if (!c || !text || !label)
		r = err_set(&why, -EINVAL, "%s is NULL", c ? "a word" : "the config");
	else
		r = add_word(&c->network, kind, label, text, len, &why);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_config_add_policy(struct berm_config *c, const char *label, const char *text, size_t len,
                           struct berm_err *e)
{
	return add(c, API_FILE, label, text, len, e);
}

int berm_config_add_preset(struct berm_config *c, const char *name, struct berm_err *e)
{
	return add(c, API_PRESET, "", name, name ? strlen(name) : 0, e);
}

int berm_config_add_allow(struct berm_config *c, const char *rule, struct berm_err *e)
{
	return add(c, API_ALLOW, "", rule, rule ? strlen(rule) : 0, e);
}

int berm_config_add_deny(struct berm_config *c, const char *rule, struct berm_err *e)
{
	return add(c, API_DENY, "", rule, rule ? strlen(rule) : 0, e);
}

/* --- secrets --- */

/* In place of one of that name before. Takes fd. */
static int put_value(struct api_network *n, const char *name, int fd, struct err *e)
{
	for (unsigned i = 0; i < n->value_count; i++) {
		if (strcmp(n->values[i].name, name) != 0)
			continue;
		(void)close(n->values[i].fd);
		n->values[i].fd = fd;
		return 0;
	}
	if (n->value_count == CONTROL_SECRETS_MAX) {
		(void)close(fd);
		return err_set(e, -E2BIG, "more than %d secrets", CONTROL_SECRETS_MAX);
	}
	(void)snprintf(n->values[n->value_count].name, NAME_BYTES, "%s", name);
	n->values[n->value_count++].fd = fd;
	return 0;
}

static int take_name(const char *word, char ret[static NAME_BYTES], struct err *e)
{
	const size_t len = strcspn(word, "@");

	if (!control_parse_name_ok(span_of(word, len)))
		return err_set(e, -EINVAL,
		               "'%.64s' begins with no secret's name; write a variable's: letters, "
		               "digits and '_', at most %d, no digit first",
		               word, CONTROL_SECRET_NAME_MAX);
	memcpy(ret, word, len);
	ret[len] = '\0';
	return 0;
}

static int add_secret(struct api_network *n, const char *word, struct span value, struct err *e)
{
	struct secret_value got = { .fd = -1 };
	char name[NAME_BYTES];
	int r = take_name(word, name, e);

	if (r == 0 && value.len == 0)
		r = err_set(e, -EINVAL, "the value of secret '%s' is empty", name);
	if (r == 0)
		r = secret_source_copy(name, value, &got, e);
	if (r == 0 && strchr(word, '@'))
		r = add_word(n, API_SECRET, "", word, strlen(word), e);
	if (r < 0) {
		if (got.fd >= 0)
			(void)close(got.fd);
		return r;
	}
	return put_value(n, name, got.fd, e);
}

int berm_config_add_secret(struct berm_config *c, const char *secret, const void *value, size_t len,
                           struct berm_err *e)
{
	struct err why = { 0 };
	int r;

	if (!c || !secret || !value)
		r = err_set(&why, -EINVAL, "%s is NULL", c ? "the secret" : "the config");
	else
		r = add_secret(&c->network, secret, span_of(value, len), &why);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_config_add_port(struct berm_config *c, const char *port, struct berm_err *e)
{
	struct api_network *n = c ? &c->network : NULL;
	struct publish what;
	struct err why = { 0 };
	int r;

	if (!n || !port)
		r = err_set(&why, -EINVAL, "%s is NULL", c ? "the port" : "the config");
	else
		r = publish_parse(port, &what, &why);
	if (r == 0 && n->port_count == PUBLISH_MAX)
		r = err_set(&why, -E2BIG, "more than %d ports", PUBLISH_MAX);
	if (r < 0)
		return api_tell(e, r, &why);
	n->ports[n->port_count++] = what;
	n->wanted = true;
	return 0;
}

/* --- what a start hands over --- */

static const struct api_value *find(const struct api_network *n, const char *name)
{
	for (unsigned i = 0; i < n->value_count; i++)
		if (strcmp(n->values[i].name, name) == 0)
			return &n->values[i];
	return NULL;
}

static int make_draft(const struct berm_sandbox *sb, const struct api_network *n,
                      struct policy_draft **ret, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	char path[PATH_MAX + 16];
	_own_fd_ int presets = -1;
	int r;

	/* where there is none a preset that is wanted is not found, which says it better */
	(void)snprintf(path, sizeof(path), "%s/egress", sb->b->paths.share);
	if (fd_open(path, O_RDONLY | O_DIRECTORY, 0, &presets, NULL) < 0)
		presets = -1;
	r = policy_draft_new(policy_preset_dir, &presets, &d, e);
	if (r == 0)
		r = policy_draft_slot(d, "registries", (const char *const *)sb->registries.items,
		                      (unsigned)sb->registries.count, e);
	for (unsigned i = 0; r == 0 && i < n->count; i++)
		r = add_to(d, &n->words[i], e);
	if (r == 0)
		*ret = steal_ptr(&d);
	return r;
}

static int compile(const struct berm_sandbox *sb, const struct api_network *n,
                   struct policy_draft **ret, struct egress_plan *plan, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_free_ uint8_t *tlv = NULL;
	size_t len = 0;
	int r = make_draft(sb, n, &d, e);

	if (r == 0)
		r = policy_draft_compile(d, 1, &tlv, &len, e);
	if (r == 0)
		r = egress_plan_policy(plan, span_of(tlv, len), e);
	if (r == 0)
		*ret = steal_ptr(&d);
	return r;
}

/* The value, with a place in the file that is this start's own. */
static int pass_value(struct egress_plan *plan, const struct api_value *v, struct err *e)
{
	char path[64];
	int fd = -1;
	int r;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", v->fd);
	r = fd_open(path, O_RDONLY, 0, &fd, e);
	return r == 0 ? egress_plan_secret(plan, v->name, fd, e) : r;
}

/* A value for each secret of the policy, and none beside. */
static int pass_values(const struct api_network *n, const struct policy_draft *d,
                       struct egress_plan *plan, struct err *e)
{
	unsigned found = 0;

	for (unsigned i = 0; i < policy_draft_secrets(d); i++) {
		const char *name = policy_draft_source(d, i).name;
		const struct api_value *v = find(n, name);
		int r;

		if (!v)
			return err_set(e, -EINVAL,
			               "the policy uses the secret '%s', and it was given no value",
			               name);
		r = pass_value(plan, v, e);
		if (r < 0)
			return r;
		found++;
	}
	if (found < n->value_count)
		return err_set(e, -EINVAL, "a secret has a value, and the policy no use for it");
	return 0;
}

int network_plan(const struct berm_sandbox *sb, const struct api_network *n,
                 struct egress_plan *plan, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	int r = compile(sb, n, &d, plan, e);

	if (r == 0)
		r = pass_values(n, d, plan, e);
	for (unsigned i = 0; r == 0 && i < n->port_count; i++)
		r = egress_plan_publish(plan, &n->ports[i], e);
	return r;
}

void network_keep(struct berm_sandbox *sb, const struct egress_plan *plan)
{
	sb->port_count = plan->port_count;
	for (unsigned i = 0; i < plan->port_count; i++)
		sb->ports[i] = plan->ports[i].at.port;
}

/* --- one that runs --- */

/* A connection to its supervisor, for one request. */
static int open_asker(struct berm_sandbox *sb, int *ret_fd, struct err *e)
{
	int r = sandbox_enter(sb, e);

	if (r < 0)
		return r;
	pump_once(sb);
	if (sb->ended)
		r = sandbox_gone(sb, NULL, 0, e);
	sandbox_leave(sb);
	if (r < 0)
		return r;
	r = egress_ask_open(sb->b->state_fd, sb->id, ret_fd, e);
	return r == -ENOENT ? err_set(e, -ESHUTDOWN, "the sandbox has ended") : r;
}

static int set_policy(struct berm_sandbox *sb, const struct berm_config *c, uint32_t expect,
                      uint64_t deadline_ms, uint32_t *ret_generation, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_free_ uint8_t *tlv = NULL;
	_own_fd_ int fd = -1;
	size_t len = 0;
	int r;

	if (!c)
		return err_set(e, -EINVAL, "the config is NULL");
	r = open_asker(sb, &fd, e);
	if (r == 0)
		r = make_draft(sb, &c->network, &d, e);
	if (r == 0)
		r = policy_draft_compile(d, 1, &tlv, &len, e);
	return r == 0 ? egress_ask_policy(fd, span_of(tlv, len), expect, deadline_ms,
	                                  ret_generation, e)
	              : r;
}

int berm_set_policy(struct berm_sandbox *sb, const struct berm_config *c, uint32_t expect,
                    int timeout_ms, uint32_t *ret_generation, struct berm_err *e)
{
	struct err why = { 0 };
	uint32_t generation = 0;
	int r = set_policy(sb, c, expect, pump_deadline(timeout_ms), &generation, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	if (ret_generation)
		*ret_generation = generation;
	return 0;
}

static int set_secret(struct berm_sandbox *sb, const char *name, struct span value,
                      uint64_t deadline_ms, struct err *e)
{
	struct secret_value got = { .fd = -1 };
	_own_fd_ int fd = -1;
	_own_fd_ int value_fd = -1;
	int r = open_asker(sb, &fd, e);

	if (r == 0)
		r = secret_source_copy(name, value, &got, e);
	value_fd = got.fd;
	return r == 0 ? egress_ask_secret(fd, name, value_fd, deadline_ms, e) : r;
}

int berm_set_secret(struct berm_sandbox *sb, const char *name, const void *value, size_t len,
                    int timeout_ms, struct berm_err *e)
{
	struct err why = { 0 };
	int r;

	if (!name || !value)
		r = err_set(&why, -EINVAL, "%s is NULL", name ? "the value" : "the name");
	else
		r = set_secret(sb, name, span_of(value, len), pump_deadline(timeout_ms), &why);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_remove_secret(struct berm_sandbox *sb, const char *name, int timeout_ms,
                       struct berm_err *e)
{
	struct err why = { 0 };
	_own_fd_ int fd = -1;
	int r = name ? open_asker(sb, &fd, &why) : err_set(&why, -EINVAL, "the name is NULL");

	if (r == 0)
		r = egress_ask_secret_rm(fd, name, pump_deadline(timeout_ms), &why);
	return r < 0 ? api_tell(e, r, &why) : 0;
}

int berm_get_port(struct berm_sandbox *sb, unsigned index, struct berm_err *e)
{
	struct err why = { 0 };
	int r = sandbox_enter(sb, &why);

	if (r < 0)
		return api_tell(e, r, &why);
	r = index < sb->port_count
	            ? sb->ports[index]
	            : err_set(&why, -EINVAL, "it published %u ports", sb->port_count);
	sandbox_leave(sb);
	return r < 0 ? api_tell(e, r, &why) : r;
}

/* --- records --- */

/* The file that is being written now. 0: there is none. */
static int open_records(struct berm_sandbox *sb, int *ret_fd, struct err *e)
{
	_own_fd_ int dir_fd = -1;
	int r = state_open_dir(sb->b->state_fd, sb->id, &dir_fd, e);

	if (r == 0)
		r = fd_openat(dir_fd, EGRESS_LOG_FILE, O_RDONLY | O_NOFOLLOW, 0, ret_fd, e);
	return r == -ENOENT ? 0 : r;
}

static bool same_file(int a, int b)
{
	struct stat x;
	struct stat y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* Whole lines from where it stopped; 0: none now. */
static ssize_t read_lines(struct berm_sandbox *sb, char *ret, size_t size)
{
	ssize_t n = sb->records_fd < 0 ? 0 : pread(sb->records_fd, ret, size, sb->records_at);
	const char *end = n > 0 ? memrchr(ret, '\n', (size_t)n) : NULL;

	if (!end)
		return 0;
	sb->records_at += end + 1 - ret;
	return end + 1 - ret;
}

static ssize_t read_records(struct berm_sandbox *sb, char *ret, size_t size, struct err *e)
{
	_own_fd_ int now = -1;
	ssize_t n = read_lines(sb, ret, size);
	int r;

	if (n != 0)
		return n;
	r = open_records(sb, &now, e);
	if (r < 0 || now < 0 || (sb->records_fd >= 0 && same_file(now, sb->records_fd)))
		return r;
	/* the one before was put aside, and may have grown until then */
	n = read_lines(sb, ret, size);
	if (n != 0)
		return n;
	if (sb->records_fd >= 0)
		(void)close(sb->records_fd);
	sb->records_fd = steal_fd(&now);
	sb->records_at = 0;
	return read_lines(sb, ret, size);
}

ssize_t berm_read_records(struct berm_sandbox *sb, char *ret, size_t size, struct berm_err *e)
{
	struct err why = { 0 };
	ssize_t n;
	int r = 0;

	if (!ret || size < BERM_RECORD_MAX)
		r = err_set(&why, -EINVAL, "room for at least %d bytes", BERM_RECORD_MAX);
	if (r == 0)
		r = sandbox_enter(sb, &why);
	if (r < 0)
		return api_tell(e, r, &why);
	n = read_records(sb, ret, size, &why);
	sandbox_leave(sb);
	return n < 0 ? api_tell(e, (int)n, &why) : n;
}

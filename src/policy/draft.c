#include "policy/draft_internal.h"

#include "base/fdio.h"
#include "policy/digest.h"
#include "policy/idn.h"
#include "policy/ports.h"
#include "policy/tlv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum {
	SECRETS_BYTES_MAX = 1 << 18, /* 64 secrets, each with 16 hosts and 8 paths */
	HEAD_BYTES_MAX = 128,        /* the records before the rules, and the last one's counts */
};

int policy_draft_new(policy_preset_fn *presets, void *arg, struct policy_draft **ret, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = calloc(1, sizeof(*d));
	uint8_t *rules;
	uint8_t *secrets;

	if (!d)
		return err_set(e, -ENOMEM, "out of memory");
	d->presets = presets;
	d->presets_arg = arg;
	rules = malloc(POLICY_TLV_MAX);
	buf_init(&d->rules, rules, rules ? POLICY_TLV_MAX : 0);
	secrets = malloc(SECRETS_BYTES_MAX);
	buf_init(&d->secrets, secrets, secrets ? SECRETS_BYTES_MAX : 0);
	if (!rules || !secrets)
		return err_set(e, -ENOMEM, "out of memory");
	*ret = steal_ptr(&d);
	return 0;
}

void policy_draft_free(struct policy_draft *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < d->secrets_count; i++)
		free(d->sources[i].what);
	for (unsigned i = 0; i < d->excludes_count; i++)
		free(d->excludes[i].pattern);
	for (unsigned i = 0; i < SLOTS_MAX; i++)
		free(d->slots[i]);
	free(d->rules.at);
	free(d->secrets.at);
	free(d);
}

int policy_preset_dir(void *arg, const char *name, char **ret_text, size_t *ret_len, struct err *e)
{
	char file[PRESET_NAME_MAX + 8];
	const int *dir_fd = arg;
	int r;

	(void)snprintf(file, sizeof(file), "%s.yaml", name);
	r = fd_read_file(*dir_fd, file, POLICY_FILE_MAX, ret_text, ret_len, e);
	if (r == -ENOENT)
		return err_set(e, -ENOENT, "there is no preset '%s'", name);
	return r;
}

static int too_large(struct err *e)
{
	return err_set(
		e, -EFBIG,
		"all rules and secrets come to over %d KiB when compiled, which is as much as a "
		"sandbox takes: leave some out, or use patterns",
		POLICY_TLV_MAX >> 10);
}

int draft_add_rule(struct policy_draft *d, const struct policy_rule *r, struct err *e)
{
	if (d->rules_count == POLICY_RULES_MAX)
		return err_set(e, -EFBIG, "more than %d rules", POLICY_RULES_MAX);
	if (r->kind == RULE_ADDRESS && d->address_rules_count == POLICY_ADDRESS_RULES_MAX)
		return err_set(e, -EFBIG, "more than %d address rules", POLICY_ADDRESS_RULES_MAX);
	tlv_put_rule(&d->rules, r);
	if (!buf_ok(&d->rules))
		return too_large(e);
	d->rules_count++;
	d->address_rules_count += r->kind == RULE_ADDRESS;
	return 0;
}

int draft_add_secret(struct policy_draft *d, const struct policy_secret *s, enum secret_from from,
                     struct span what, struct err *e)
{
	struct source *src = &d->sources[d->secrets_count];

	if (d->secrets_count == POLICY_SECRETS_MAX)
		return err_set(e, -EFBIG, "more than %d secrets", POLICY_SECRETS_MAX);
	for (unsigned i = 0; i < d->secrets_count; i++)
		if (span_is(s->name, d->sources[i].name))
			return err_set(e, -EINVAL,
			               "the secret %s is here twice; it may have several hosts",
			               d->sources[i].name);
	tlv_put_secret(&d->secrets, s);
	if (!buf_ok(&d->secrets))
		return err_set(e, -EFBIG, "secrets of over %d bytes", SECRETS_BYTES_MAX);
	src->what = malloc(what.len + 1);
	if (!src->what)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(src->what, what.at, what.len);
	src->what[what.len] = 0;
	src->what_len = what.len;
	src->from = from;
	memcpy(src->name, s->name.at, s->name.len);
	d->secrets_count++;
	return 0;
}

int draft_add_exclude(struct policy_draft *d, struct span pattern, const char *label, unsigned line,
                      struct err *e)
{
	size_t label_bytes = strlen(label) + 1;
	char *copy;

	if (d->excludes_count == POLICY_EXCLUDES_MAX)
		return err_set(e, -EFBIG, "more than %d patterns of what stays out",
		               POLICY_EXCLUDES_MAX);
	copy = malloc(pattern.len + 1 + label_bytes);
	if (!copy)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(copy, pattern.at, pattern.len);
	copy[pattern.len] = 0;
	memcpy(copy + pattern.len + 1, label, label_bytes);
	d->excludes[d->excludes_count++] = (struct left_out){ copy, line };
	return 0;
}

void secret_default_uses(struct policy_secret *s)
{
	if (s->uses_count > 0)
		return;
	s->uses[0] = (struct secret_use){ .name = span_str("authorization") };
	s->uses[1] = (struct secret_use){ .name = span_str("x-api-key") };
	s->uses_count = 2;
}

const struct slot *draft_slot(const struct policy_draft *d, struct span name)
{
	for (unsigned i = 0; i < SLOTS_MAX && d->slots[i]; i++)
		if (span_is(name, d->slots[i]->name))
			return d->slots[i];
	return NULL;
}

/* "host" or "host:port". */
static int fill(struct slot *s, const char *word, struct err *e)
{
	struct span text = span_str(word);
	const uint8_t *colon = memchr(text.at, ':', text.len);
	struct rule_ports ports = { 0 };
	struct span host = span_of(text.at, colon ? (size_t)(colon - text.at) : text.len);

	if (colon && !ports_take(span_of(colon + 1, text.len - host.len - 1), &ports))
		return err_set(e, -EINVAL, "'%s' has no port from 1 to 65535", word);
	if (s->count == POLICY_SLOT_HOSTS_MAX)
		return err_set(e, -EFBIG, "more than %d hosts", POLICY_SLOT_HOSTS_MAX);
	if (idn_pattern_parse(host, &s->hosts[s->count], e) < 0)
		return err_wrap(e, "'%s'", word);
	s->ports[s->count++] = ports;
	return 0;
}

static int add_slot(struct policy_draft *d, const char *name, const char *const *words,
                    unsigned count, struct err *e)
{
	_own_free_ struct slot *s = calloc(1, sizeof(*s));
	unsigned at = 0;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	while (at < SLOTS_MAX && d->slots[at])
		at++;
	if (at == SLOTS_MAX || strlen(name) > PRESET_NAME_MAX || draft_slot(d, span_str(name)))
		return err_set(e, -EINVAL, "the slot '%s' cannot be filled", name);
	memcpy(s->name, name, strlen(name));
	for (unsigned i = 0; i < count; i++)
		if (fill(s, words[i], e) < 0)
			return err_wrap(e, "slot %s", name);
	d->slots[at] = steal_ptr(&s);
	return 0;
}

/* Whatever failed, the draft is no policy any more. */
static int done(struct policy_draft *d, int r)
{
	d->spoilt |= r < 0;
	return r;
}

int policy_draft_slot(struct policy_draft *d, const char *slot, const char *const *words,
                      unsigned count, struct err *e)
{
	return done(d, add_slot(d, slot, words, count, e));
}

int draft_set_default(struct policy_draft *d, bool allow, const char *by, bool preset,
                      struct err *e)
{
	char *where = allow ? d->allow_by : d->deny_by;

	if (!allow && preset)
		return 0;
	if (!where[0])
		(void)snprintf(where, POLICY_ORIGIN_MAX + 1, "%s", by);
	if (d->allow_by[0] && d->deny_by[0])
		return err_set(e, -EINVAL,
		               "%s says default: deny, but %s says default: allow; drop one",
		               d->deny_by, d->allow_by);
	return 0;
}

static bool is_preset_name(struct span s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!(s.at[i] >= 'a' && s.at[i] <= 'z') && !(s.at[i] >= '0' && s.at[i] <= '9') &&
		    s.at[i] != '-')
			return false;
	return s.len > 0 && s.len <= PRESET_NAME_MAX;
}

static bool listed(char names[][PRESET_NAME_MAX + 1], unsigned count, struct span name)
{
	for (unsigned i = 0; i < count; i++)
		if (span_is(name, names[i]))
			return true;
	return false;
}

static int read_preset(struct policy_draft *d, const char *name, struct err *e)
{
	char label[PRESET_NAME_MAX + 8];
	_own_free_ char *text = NULL;
	size_t len = 0;
	int r = d->presets ? d->presets(d->presets_arg, name, &text, &len, e)
	                   : err_set(e, -ENOENT, "there is no preset '%s'", name);

	if (r == -ENOENT)
		return err_set(
			e, -EINVAL,
			"there is no preset '%s'; there are none, model-only, locked, standard, "
			"permissive and registries",
			name);
	if (r < 0)
		return r;
	(void)snprintf(label, sizeof(label), "preset %s", name);
	return file_take(d, label, true, span_of(text, len), e);
}

int draft_take_preset(struct policy_draft *d, struct span name, struct err *e)
{
	char *copy;
	int r;

	if (!is_preset_name(name))
		return err_set(e, -EINVAL,
		               "a preset's name has a-z, 0-9 and '-', at most %d of them",
		               PRESET_NAME_MAX);
	if (listed(d->open, d->open_count, name))
		return err_set(e, -EINVAL, "the preset '%.*s' includes itself", (int)name.len,
		               (const char *)name.at);
	if (listed(d->taken, d->taken_count, name))
		return 0;
	if (d->open_count == POLICY_PRESET_DEPTH_MAX || d->taken_count == POLICY_PRESETS_MAX)
		return err_set(e, -EFBIG, "too many presets that include presets");
	copy = d->open[d->open_count++];
	memcpy(copy, name.at, name.len);
	copy[name.len] = 0;
	memcpy(d->taken[d->taken_count++], copy, name.len + 1);
	r = read_preset(d, copy, e);
	d->open_count--;
	return r;
}

int policy_draft_preset(struct policy_draft *d, const char *name, struct err *e)
{
	int r = draft_take_preset(d, span_str(name), e);

	return done(d, r < 0 ? err_wrap(e, "--preset %s", name) : 0);
}

int policy_draft_file(struct policy_draft *d, const char *label, struct span text, struct err *e)
{
	return done(d, file_take(d, label, false, text, e));
}

/* Bytes of its record: each pattern with its file and line. */
static size_t workspace_bytes(const struct policy_draft *d)
{
	size_t bytes = POLICY_ORIGIN_MAX;

	for (unsigned i = 0; i < d->excludes_count; i++)
		bytes += strlen(d->excludes[i].pattern) + POLICY_ORIGIN_MAX + 2 + 2 + 4;
	return bytes;
}

static int put_workspace(const struct policy_draft *d, struct buf *b, struct err *e)
{
	_own_free_ struct policy_workspace *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(e, -ENOMEM, "out of memory");
	w->skip_cost_by = span_str(d->skip_cost_by);
	w->count = d->excludes_count;
	for (unsigned i = 0; i < w->count; i++) {
		struct policy_exclude x = policy_draft_exclude(d, i);
		struct span label = span_str(x.label);

		if (label.len > POLICY_ORIGIN_MAX)
			label.len = POLICY_ORIGIN_MAX;
		w->left_out[i] = (struct policy_left_out){ span_str(x.pattern), label, x.line };
	}
	tlv_put_workspace(b, w);
	return 0;
}

static bool says_workspace(const struct policy_draft *d)
{
	return d->excludes_count > 0 || d->skip_cost_by[0] != '\0';
}

static int put_body(const struct policy_draft *d, struct buf *b, struct err *e)
{
	tlv_put_default(b, d->allow_by[0] != 0);
	tlv_put_limits(b, &d->limits);
	buf_put_span(b, buf_span(&d->rules));
	buf_put_span(b, buf_span(&d->secrets));
	if (says_workspace(d) && put_workspace(d, b, e) < 0)
		return -ENOMEM;
	return buf_ok(b) ? 0 : too_large(e);
}

int policy_draft_compile(const struct policy_draft *d, uint64_t generation, uint8_t **ret_tlv,
                         size_t *ret_len, struct err *e)
{
	size_t size = HEAD_BYTES_MAX + d->rules.len + d->secrets.len + workspace_bytes(d);
	_own_free_ uint8_t *body_room = NULL;
	_own_free_ uint8_t *out_room = NULL;
	struct tlv_header h = { .version = says_workspace(d) ? TLV_VERSION_WORKSPACE : TLV_VERSION,
		                .generation = generation };
	struct buf body;
	struct buf out;

	if (d->spoilt)
		return err_set(e, -EINVAL, "the policy has a fault that was reported before");
	body_room = malloc(size);
	out_room = malloc(size + TLV_HEADER_BYTES);
	if (!body_room || !out_room)
		return err_set(e, -ENOMEM, "out of memory");
	buf_init(&body, body_room, size);
	if (put_body(d, &body, e) < 0)
		return err_wrap(e, "policy");
	h.body = buf_span(&body);
	policy_digest_of(h.body, h.digest);
	buf_init(&out, out_room, size + TLV_HEADER_BYTES);
	tlv_put_header(&out, &h);
	if (!buf_ok(&out) || out.len > POLICY_TLV_MAX)
		return too_large(e);
	*ret_len = out.len;
	*ret_tlv = steal_ptr(&out_room);
	return 0;
}

unsigned policy_draft_secrets(const struct policy_draft *d)
{
	return d->secrets_count;
}

struct policy_source policy_draft_source(const struct policy_draft *d, unsigned i)
{
	const struct source *s = &d->sources[i];

	return (struct policy_source){ s->name, s->from, span_of(s->what, s->what_len) };
}

unsigned policy_draft_excludes(const struct policy_draft *d)
{
	return d->excludes_count;
}

struct policy_exclude policy_draft_exclude(const struct policy_draft *d, unsigned i)
{
	const struct left_out *x = &d->excludes[i];

	return (struct policy_exclude){ x->pattern, x->pattern + strlen(x->pattern) + 1, x->line };
}

const char *policy_draft_skips_cost(const struct policy_draft *d)
{
	return d->skip_cost_by[0] ? d->skip_cost_by : NULL;
}

const char *policy_draft_unfilled(const struct policy_draft *d)
{
	return d->unfilled[0] ? d->unfilled : NULL;
}

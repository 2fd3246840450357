#include "vault/store_inner.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PLACEHOLDER_TRIES = 16 };

/* --- the arena --- */

static int arena_secret(struct store *s)
{
	_own_fd_ int fd = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
	void *at;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, sizeof(*s->arena)) < 0)
		return -errno;
	at = mmap(NULL, sizeof(*s->arena), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		return -errno;
	s->arena = at;
	s->is_memfd = true;
	if (madvise(at, sizeof(*s->arena), MADV_DONTFORK) < 0)
		return -errno;
	return 0;
}

static int arena_locked(struct store *s, struct err *e)
{
	void *at = mmap(NULL, sizeof(*s->arena), PROT_READ | PROT_WRITE,
	                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return err_sys(e, "memory for secrets");
	s->arena = at;
	if (mlock2(at, sizeof(*s->arena), MLOCK_ONFAULT) < 0)
		return err_set(
			e, -EPERM,
			"cannot lock %zu KiB of memory for secrets; raise RLIMIT_MEMLOCK (ulimit -l)",
			sizeof(*s->arena) >> 10);
	if (madvise(at, sizeof(*s->arena), MADV_DONTDUMP) < 0 ||
	    madvise(at, sizeof(*s->arena), MADV_WIPEONFORK) < 0)
		return err_sys(e, "memory for secrets");
	return 0;
}

static void arena_close(struct store *s)
{
	if (!s->arena)
		return;
	/* whatever else stands there was made from these, or is wiped where it is used */
	for (unsigned i = 0; i < STORE_VALUES; i++) {
		size_t len = i < STORE_SECRETS_MAX ? s->secrets[i].value_len
		                                   : s->retired[i - STORE_SECRETS_MAX].value_len;

		explicit_bzero(s->arena->value[i], len);
	}
	explicit_bzero(&s->arena->values, sizeof(s->arena->values));
	munmap(s->arena, sizeof(*s->arena));
	s->arena = NULL;
}

int store_new(struct store **ret, struct err *e)
{
	_own_(store_free) struct store *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "out of memory");
	if (arena_secret(s) < 0) {
		arena_close(s);
		s->is_memfd = false;
		r = arena_locked(s, e);
		if (r < 0)
			return r;
	}
	*ret = steal_ptr(&s);
	return 0;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	arena_close(s);
	for (unsigned i = 0; i < s->count; i++)
		free(s->secrets[i].placeholder);
	free(s);
}

const char *store_kind(const struct store *s)
{
	return s->is_memfd ? "memfd_secret" : "mlock";
}

/* --- looking things up --- */

int store_find(const struct store *s, struct span name)
{
	for (unsigned i = 0; i < s->count; i++)
		if (span_equal(store_name(s, i), name))
			return (int)i;
	return -ENOENT;
}

struct span store_name(const struct store *s, unsigned i)
{
	return span_of(s->secrets[i].name, s->secrets[i].name_len);
}

struct span store_value(const struct store *s, unsigned i)
{
	return span_of(s->arena->value[i], s->secrets[i].value_len);
}

unsigned store_count(const struct store *s)
{
	return s->live;
}

static struct span placeholder_of(const struct store *s, unsigned i)
{
	return span_of(s->secrets[i].placeholder, s->secrets[i].placeholder_len);
}

struct span store_placeholder(const struct store *s, struct span name)
{
	int i = store_find(s, name);

	return i < 0 ? span_of(NULL, 0) : placeholder_of(s, (unsigned)i);
}

/* --- what is derived --- */

static void rebuild(struct store *s)
{
	struct span texts[STORE_VALUES];
	unsigned count = 0;

	for (unsigned i = 0; i < s->count; i++)
		texts[i] = placeholder_of(s, i);
	needle_set_build(&s->placeholders, texts, s->count);

	for (unsigned i = 0; i < STORE_VALUES; i++) {
		bool retired = i >= STORE_SECRETS_MAX;
		const struct store_retired *r = &s->retired[retired ? i - STORE_SECRETS_MAX : 0];
		size_t len = retired ? r->value_len : s->secrets[i].value_len;

		if (len == 0)
			continue;
		s->owner[count] = retired ? r->secret : i;
		s->masks[count] = placeholder_of(s, s->owner[count]);
		texts[count++] = span_of(s->arena->value[i], len);
	}
	needle_set_build(&s->arena->values, texts, count);
}

static void wipe_retired(struct store *s, unsigned i)
{
	explicit_bzero(s->arena->value[STORE_SECRETS_MAX + i], s->retired[i].value_len);
	s->retired[i] = (struct store_retired){ 0 };
}

/* The value goes on being scrubbed where a reply may still hold it. */
static void retire(struct store *s, unsigned secret)
{
	unsigned to = 0;

	if (s->oldest && s->secrets[secret].value_len > 0) {
		for (unsigned i = 0; i < STORE_RETIRED_MAX; i++) {
			if (s->retired[i].value_len == 0) {
				to = i;
				break;
			}
			if (s->retired[i].epoch < s->retired[to].epoch)
				to = i;
		}
		wipe_retired(s, to);
		memcpy(s->arena->value[STORE_SECRETS_MAX + to], s->arena->value[secret],
		       s->secrets[secret].value_len);
		s->retired[to] = (struct store_retired){ .value_len = s->secrets[secret].value_len,
			                                 .epoch = s->epoch,
			                                 .secret = secret };
	}
	explicit_bzero(s->arena->value[secret], s->secrets[secret].value_len);
	s->secrets[secret].value_len = 0;
}

void store_user_add(struct store *s, struct store_user *u)
{
	u->epoch = s->epoch;
	u->next = NULL;
	u->prev = s->newest;
	if (s->newest)
		s->newest->next = u;
	else
		s->oldest = u;
	s->newest = u;
}

void store_user_remove(struct store *s, struct store_user *u)
{
	bool changed = false;

	if (u->prev)
		u->prev->next = u->next;
	else
		s->oldest = u->next;
	if (u->next)
		u->next->prev = u->prev;
	else
		s->newest = u->prev;
	for (unsigned i = 0; i < STORE_RETIRED_MAX; i++) {
		if (s->retired[i].value_len == 0)
			continue;
		if (s->oldest && s->oldest->epoch < s->retired[i].epoch)
			continue;
		wipe_retired(s, i);
		changed = true;
	}
	if (changed)
		rebuild(s);
}

/* --- changes --- */

static int judge_name(struct span name, struct err *e)
{
	if (name.len == 0 || name.len > POLICY_SECRET_NAME_MAX)
		return err_set(e, -EINVAL, "a secret's name has 1 to %d bytes",
		               POLICY_SECRET_NAME_MAX);
	for (size_t i = 0; i < name.len; i++) {
		uint8_t c = name.at[i];

		if (!((c | 0x20) >= 'a' && (c | 0x20) <= 'z') && !(c >= '0' && c <= '9') &&
		    c != '_')
			return err_set(e, -EINVAL, "a secret's name has letters, digits and '_'");
	}
	return 0;
}

static bool is_blank(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/* %s: the name, which is checked and so needs no escaping */
#define OF(name) (int)(name).len, (const char *)(name).at

static int judge_bytes(struct span name, struct span value, struct err *e)
{
	if (value.len == 0)
		return err_set(e, -EINVAL, "secret '%.*s' is empty", OF(name));
	if (value.len < STORE_VALUE_MIN)
		return err_set(
			e, -ERANGE,
			"secret '%.*s' is shorter than %d bytes: it would be found in replies by chance",
			OF(name), STORE_VALUE_MIN);
	if (value.len > STORE_VALUE_MAX)
		return err_set(e, -ERANGE, "secret '%.*s' is longer than %d bytes", OF(name),
		               STORE_VALUE_MAX);
	for (size_t i = 0; i < value.len; i++) {
		uint8_t c = value.at[i];

		if (c == '\n' || c == '\r')
			return err_set(e, -EINVAL,
			               "secret '%.*s' has a line end in it or behind it", OF(name));
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return err_set(e, -EINVAL, "secret '%.*s' has a control byte in it",
			               OF(name));
	}
	if (is_blank(value.at[0]) || is_blank(value.at[value.len - 1]))
		return err_set(e, -EINVAL, "secret '%.*s' begins or ends with a blank", OF(name));
	return 0;
}

/* Does one have the other in it, letters of either case alike? */
static bool within(struct span inner, struct span outer)
{
	if (inner.len == 0 || inner.len > outer.len)
		return false;
	for (size_t at = 0; at <= outer.len - inner.len; at++) {
		size_t i = 0;

		while (i < inner.len && ((inner.at[i] ^ outer.at[at + i]) & ~0x20) == 0)
			i++;
		if (i == inner.len)
			return true;
	}
	return false;
}

static int judge_value(struct store *s, struct span name, struct span value, struct err *e)
{
	int r = judge_bytes(name, value, e);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < s->count; i++) {
		if (within(placeholder_of(s, i), value))
			return err_set(e, -EINVAL, "secret '%.*s' has a placeholder in it",
			               OF(name));
		if (within(value, placeholder_of(s, i)))
			return err_set(e, -EINVAL, "secret '%.*s' is part of a placeholder",
			               OF(name));
	}
	return 0;
}

static void draw(void *arg, void *ret, size_t len)
{
	(void)arg;
	random_bytes(ret, len);
}

/* May it stand beside all others, and tell nothing of a value? */
static bool placeholder_fits(const struct store *s, struct span p, struct span value)
{
	if (within(p, value) || within(value, p))
		return false;
	for (unsigned i = 0; i < s->count; i++)
		if (within(p, placeholder_of(s, i)) || within(placeholder_of(s, i), p) ||
		    within(p, store_value(s, i)) || within(store_value(s, i), p))
			return false;
	return true;
}

/* A slot for a new name, with its placeholder. */
static int add_name(struct store *s, struct span name, struct span value, struct err *e)
{
	struct store_secret *slot = &s->secrets[s->count];
	_own_free_ uint8_t *room = malloc(PLACEHOLDER_ROOM);
	size_t len = 0;

	if (s->count == STORE_SECRETS_MAX)
		return err_set(e, -ENOSPC, "there are %d secrets already, removed ones included",
		               STORE_SECRETS_MAX);
	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	for (int i = 0; i < PLACEHOLDER_TRIES && len == 0; i++) {
		len = placeholder_make(value, draw, NULL, room);
		if (!placeholder_fits(s, span_of(room, len), value))
			len = 0;
	}
	if (len == 0)
		return err_set(e, -EINVAL, "no placeholder differs from secret '%.*s'", OF(name));
	memcpy(slot->name, name.at, name.len);
	slot->name_len = (uint8_t)name.len;
	slot->placeholder = steal_ptr(&room);
	slot->placeholder_len = (uint16_t)len;
	return (int)s->count++;
}

int store_set(struct store *s, struct span name, struct span value, struct err *e)
{
	int r = judge_name(name, e);
	int i;

	if (r < 0)
		return r;
	r = judge_value(s, name, value, e);
	if (r < 0)
		return r;
	i = store_find(s, name);
	if (i < 0)
		i = add_name(s, name, value, e);
	if (i < 0)
		return i;
	s->epoch++;
	if (s->secrets[i].value_len == 0)
		s->live++;
	s->secrets[i].missed = 0;
	retire(s, (unsigned)i);
	memcpy(s->arena->value[i], value.at, value.len);
	s->secrets[i].value_len = value.len;
	rebuild(s);
	return 0;
}

int store_read(struct store *s, struct span name, int fd, struct err *e)
{
	uint8_t *intake = s->arena->intake;
	size_t len = 0;
	int r = 0;

	while (len <= STORE_VALUE_MAX) {
		ssize_t n = read(fd, intake + len, STORE_VALUE_MAX + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			r = err_sys(e, "read the value of a secret");
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (r == 0)
		r = store_set(s, name, span_of(intake, len), e);
	explicit_bzero(intake, len);
	return r;
}

int store_remove(struct store *s, struct span name)
{
	int i = store_find(s, name);

	if (i < 0 || s->secrets[i].value_len == 0)
		return -ENOENT;
	s->epoch++;
	retire(s, (unsigned)i);
	s->live--;
	rebuild(s);
	return 0;
}

int store_export(const struct store *s, unsigned *at, struct span *ret_name, int *ret_fd,
                 struct err *e)
{
	for (; *at < s->count; ++*at) {
		struct span value = store_value(s, *at);

		if (value.len == 0)
			continue;
		*ret_name = store_name(s, *at);
		++*at;
		return fd_sealed("secret", value.at, value.len, ret_fd, e);
	}
	return -ENOENT;
}

#include "agents/agent_internal.h"

#include "base/fdio.h"
#include "policy/words.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
	LABEL_MAX = 80, /* room for a line and a column behind it in a rule's origin */
	FILE_NAME_MAX = AGENT_NAME_MAX + 8,
};

const char *agent_level_word(enum agent_level l)
{
	static const char *const words[AGENT_LEVELS] = {
		[AGENT_MODEL_ONLY] = "model-only",
		[AGENT_LOCKED] = "locked",
		[AGENT_STANDARD] = "standard",
	};

	return words[l];
}

bool agent_level_find(const char *word, enum agent_level *ret)
{
	for (unsigned i = 0; i < AGENT_LEVELS; i++) {
		if (strcmp(word, agent_level_word((enum agent_level)i)) == 0) {
			*ret = (enum agent_level)i;
			return true;
		}
	}
	return false;
}

bool agent_name_ok(const char *name)
{
	size_t len = strnlen(name, AGENT_NAME_MAX + 1);

	if (len == 0 || len > AGENT_NAME_MAX || name[0] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
		      name[i] == '-'))
			return false;
	return true;
}

/* --- texts --- */

void *agent_room(struct agent *a, size_t size)
{
	struct agent_piece *p = calloc(1, sizeof(*p) + size);

	if (!p)
		return NULL;
	p->next = a->pieces;
	a->pieces = p;
	return p->room;
}

const char *agent_keep(struct agent *a, struct span s)
{
	char *text = agent_room(a, s.len + 1);

	if (text && s.len > 0)
		memcpy(text, s.at, s.len);
	return text;
}

int agent_origin(struct agent *a, enum agent_field f, const char *label, unsigned line,
                 struct err *e)
{
	char text[PATH_MAX + 16];
	const char *got;

	(void)snprintf(text, sizeof(text), "%s:%u", label, line);
	got = agent_keep(a, span_str(text));
	if (!got)
		return err_set(e, -ENOMEM, "out of memory");
	a->origin[f] = got;
	return 0;
}

void agent_free(struct agent *a)
{
	if (!a)
		return;
	while (a->pieces) {
		struct agent_piece *p = a->pieces;

		a->pieces = p->next;
		free(p);
	}
	free(a);
}

static int agent_new(const char *name, struct agent **ret, struct err *e)
{
	static const char *const none[] = { NULL };
	const struct agent_words empty = { none, 0 };
	struct agent *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(e, -ENOMEM, "out of memory");
	(void)snprintf(a->name, sizeof(a->name), "%s", name);
	for (unsigned i = 0; i < AGENT_FIELDS; i++)
		a->origin[i] = "default";
	a->description = "";
	a->base = "default";
	a->apt = a->npm = a->pip = empty;
	a->command = a->interactive = a->task = empty;
	a->state = a->forward = a->exclude = a->notices = empty;
	*ret = a;
	return 0;
}

/* --- files --- */

int agent_read_fd(int fd, const char *label, char **ret_text, size_t *ret_len, struct err *e)
{
	_own_fd_ int owned = fd;
	struct stat st;
	int r;

	if (fstat(owned, &st) < 0)
		return err_sys(e, "%s", label);
	if (!S_ISREG(st.st_mode))
		return err_set(e, -EINVAL, "%s: is no regular file", label);
	r = fd_read_text(owned, AGENT_FILE_MAX, ret_text, ret_len, e);
	if (r == -EFBIG)
		return err_set(e, r, "%s: over %d bytes", label, AGENT_FILE_MAX);
	return r < 0 ? err_wrap(e, "%s", label) : 0;
}

int agent_read_file(int dir_fd, const char *path, const char *label, char **ret_text,
                    size_t *ret_len, struct err *e)
{
	struct err why = { 0 };
	int fd;
	int r = fd_openat(dir_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0, &fd, &why);

	/* a socket, a device without a driver */
	if (r == -ENXIO || r == -ENODEV)
		return err_set(e, -EINVAL, "%s: is no regular file", label);
	if (r < 0)
		return err_set(e, r, "%s: %s", label, strerror(-r));
	return agent_read_fd(fd, label, ret_text, ret_len, e);
}

/* One layer of a profile. */
struct layer {
	char label[PATH_MAX + FILE_NAME_MAX + 2];
	char *text;
	size_t len;
};

static int read_layer(int dir_fd, const char *name, struct layer *l, struct err *e)
{
	char file[FILE_NAME_MAX];

	if (dir_fd < 0)
		return -ENOENT;
	(void)snprintf(file, sizeof(file), "%s.yaml", name);
	return agent_read_file(dir_fd, file, l->label, &l->text, &l->len, e);
}

static int read_installed(const struct agent_where *w, const char *name, struct layer *l,
                          struct err *e)
{
	(void)snprintf(l->label, sizeof(l->label), "installed %s.yaml", name);
	return read_layer(w->installed_fd, name, l, e);
}

static int read_user(const struct agent_where *w, const char *name, struct layer *l, struct err *e)
{
	(void)snprintf(l->label, sizeof(l->label), "%s/%s.yaml", w->user_path ? w->user_path : ".",
	               name);
	return read_layer(w->user_fd, name, l, e);
}

static int unknown(const struct agent_where *w, const char *name, struct err *e)
{
	_own_free_ struct agent_list *list = NULL;
	const char *words[AGENT_LIST_MAX + 1] = { NULL };
	const char *near = NULL;

	if (agent_list(w, &list, NULL) == 0) {
		for (unsigned i = 0; i < list->count && i < AGENT_LIST_MAX; i++)
			words[i] = list->rows[i].name;
		near = words_nearest(span_str(name), words);
	}
	if (near)
		return err_set(e, -ENOENT, "there is no agent '%s'; did you mean '%s'?", name,
		               near);
	return err_set(e, -ENOENT, "there is no agent '%s' (see berm agent ls)", name);
}

/* --- the whole --- */

static int judge_names(const struct agent *a, struct err *e)
{
	for (unsigned i = 0; i < a->secrets.count; i++) {
		const char *name = a->secrets.at[i].name;

		if (strncmp(name, "BERM_", 5) == 0)
			return err_set(e, -EINVAL,
			               "%s: the secret %s begins with BERM_, which is "
			               "berm's own",
			               a->origin[AGENT_F_SECRETS], name);
		for (unsigned j = 0; j < a->set_count; j++)
			if (strcmp(a->set[j].name, name) == 0)
				return err_set(e, -EINVAL,
				               "%s: %s is a secret as well, and would lose its "
				               "placeholder",
				               a->origin[AGENT_F_SET], name);
	}
	return 0;
}

static int judge(const struct agent_where *w, const struct agent *a, struct err *e)
{
	_own_(policy_draft_free) struct policy_draft *d = NULL;
	_own_free_ uint8_t *tlv = NULL;
	int presets_fd = w->presets_fd;
	size_t len;
	int r;

	if (a->command.count == 0)
		return err_set(e, -EINVAL, "the agent '%s' has no command", a->name);
	if (a->cpus == 0 || a->memory_bytes == 0 || a->disk_bytes == 0)
		return err_set(e, -EINVAL, "the agent '%s' does not say its cpus, memory and disk",
		               a->name);
	r = judge_names(a, e);
	if (r == 0)
		r = policy_draft_new(policy_preset_dir, &presets_fd, &d, e);
	if (r == 0)
		r = agent_policy(a, AGENT_STANDARD, UINT64_MAX, d, e);
	return r < 0 ? r : policy_draft_compile(d, 1, &tlv, &len, e);
}

static const char *short_label(const struct layer *l)
{
	const char *slash = strrchr(l->label, '/');

	return strlen(l->label) > LABEL_MAX && slash ? slash + 1 : l->label;
}

static int add_layer(struct agent *a, const struct layer *l, struct err *e)
{
	unsigned at = a->sources_count;
	const char *label = agent_keep(a, span_str(short_label(l)));

	if (!label)
		return err_set(e, -ENOMEM, "out of memory");
	a->sources[at] = label;
	a->sources_count++;
	return agent_take(a, label, at, span_of(l->text, l->len), e);
}

/* user: the user's own file, or NULL */
static int put_together(const struct agent_where *w, const char *name, const struct layer *user,
                        struct agent **ret, struct err *e)
{
	_own_(agent_free) struct agent *a = NULL;
	_own_free_ struct layer *installed = calloc(1, sizeof(*installed));
	int r = installed ? agent_new(name, &a, e) : err_set(e, -ENOMEM, "out of memory");

	if (r < 0)
		return r;
	r = read_installed(w, name, installed, e);
	if (r == -ENOENT && !user)
		return unknown(w, name, e);
	if (r == -ENOENT)
		r = read_installed(w, "custom", installed, e);
	if (r == -ENOENT)
		return err_set(e, -ENOENT,
		               "the installation has no profiles of agents: install berm again");
	if (r == 0) {
		r = add_layer(a, installed, e);
		free(installed->text);
	}
	if (r == 0 && user)
		r = add_layer(a, user, e);
	if (r == 0)
		r = judge(w, a, e);
	if (r < 0)
		return r;
	a->user_own = user != NULL;
	*ret = steal_ptr(&a);
	return 0;
}

static int check_name(const char *name, struct err *e)
{
	if (agent_name_ok(name))
		return 0;
	return err_set(e, -EINVAL,
	               "'%.80s' is no agent's name: 1 to %d of a-z, 0-9 and '-', no '-' in front",
	               name, AGENT_NAME_MAX);
}

int agent_load(const struct agent_where *w, const char *name, struct agent **ret, struct err *e)
{
	_own_free_ struct layer *user = calloc(1, sizeof(*user));
	struct err why = { 0 };
	int r = check_name(name, e);

	if (r < 0)
		return r;
	if (!user)
		return err_set(e, -ENOMEM, "out of memory");
	r = read_user(w, name, user, &why);
	if (r == -ENOENT)
		return put_together(w, name, NULL, ret, e);
	if (r < 0)
		return err_set(e, r, "%s", why.text);
	r = put_together(w, name, user, ret, e);
	free(user->text);
	return r;
}

int agent_load_text(const struct agent_where *w, const char *name, const char *label,
                    struct span text, struct agent **ret, struct err *e)
{
	_own_free_ struct layer *user = calloc(1, sizeof(*user));
	_own_free_ char *copy = malloc(text.len + 1);
	int r = check_name(name, e);

	if (r < 0)
		return r;
	if (!user || !copy)
		return err_set(e, -ENOMEM, "out of memory");
	if (text.len > AGENT_FILE_MAX)
		return err_set(e, -EFBIG, "%s: over %d bytes", label, AGENT_FILE_MAX);
	if (text.len > 0)
		memcpy(copy, text.at, text.len);
	(void)snprintf(user->label, sizeof(user->label), "%s", label);
	user->text = copy;
	user->len = text.len;
	return put_together(w, name, user, ret, e);
}

int agent_flags_take(struct agent *a, const struct agent_flags *f, struct err *e)
{
	unsigned count = 0;

	if (f->egress && !agent_level_find(f->egress, &a->level))
		return err_set(e, -EINVAL, "--egress: '%s' is none of model-only, locked, standard",
		               f->egress);
	if (f->egress)
		a->origin[AGENT_F_EGRESS] = "--egress";
	if (f->image) {
		a->base = agent_keep(a, span_str(f->image));
		a->origin[AGENT_F_BASE] = "--image";
	}
	if (f->cpus) {
		a->cpus = f->cpus;
		a->origin[AGENT_F_CPUS] = "--cpus";
	}
	if (f->memory_bytes) {
		a->memory_bytes = f->memory_bytes;
		a->origin[AGENT_F_MEMORY] = "--memory";
	}
	if (f->disk_bytes) {
		a->disk_bytes = f->disk_bytes;
		a->origin[AGENT_F_DISK] = "--disk";
	}
	if (f->command && f->command[0]) {
		const char **at;

		while (f->command[count])
			count++;
		at = agent_room(a, (count + 1) * sizeof(*at));
		for (unsigned i = 0; at && i < count; i++) {
			at[i] = agent_keep(a, span_str(f->command[i]));
			if (!at[i])
				at = NULL;
		}
		if (!at)
			return err_set(e, -ENOMEM, "out of memory");
		a->command = (struct agent_words){ at, count };
		a->origin[AGENT_F_COMMAND] = "the command line";
	}
	return a->base ? 0 : err_set(e, -ENOMEM, "out of memory");
}

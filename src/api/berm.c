#include "api/berm_internal.h"

#include "base/fdio.h"
#include "state/state.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

_Static_assert((int)BERM_ID_MAX > (int)SPEC_ID_LEN, "an id fits");
_Static_assert((int)BERM_NAME_MAX == (int)SPEC_NAME_MAX + 1, "a name fits");
_Static_assert((int)BERM_IMAGE_ID_MAX == IMAGE_ID_LEN + 1, "an image's id fits");
_Static_assert(sizeof(struct berm_err) == 512, "its size is part of the interface");
_Static_assert((int)BERM_LEVEL_MICROVM == (int)LEVEL_MICROVM, "levels are the same numbers");
_Static_assert((int)BERM_ENGINE_KVM == (int)SPEC_ENGINE_KVM, "engines are the same numbers");

const char *berm_version(void)
{
	return BERM_VERSION;
}

int api_tell(struct berm_err *e, int r, const struct err *why)
{
	size_t len = why->len < sizeof(e->text) ? why->len : sizeof(e->text) - 1;

	if (!e)
		return r;
	e->code = r;
	memcpy(e->text, why->text, len);
	e->text[len] = '\0';
	return r;
}

/* --- structs that begin with their size --- */

int api_take_sized(const char *what, const void *from, void *ret, size_t size, struct err *e)
{
	const uint8_t *bytes = from;
	size_t got;

	if (!from)
		return err_set(e, -EINVAL, "%s is NULL", what);
	memcpy(&got, from, sizeof(got));
	/* what this library does not know of a newer header's struct must not be asked for */
	for (size_t i = size; i < got && got < size + 4096; i++)
		if (bytes[i] != 0)
			return err_set(e, -EINVAL,
			               "%s asks for what this libberm does not know: it "
			               "is version " BERM_VERSION,
			               what);
	if (got < sizeof(got) || got >= size + 4096)
		return err_set(e, -EINVAL, "%s: size must be sizeof(%s)", what, what);
	memset(ret, 0, size);
	memcpy(ret, from, got < size ? got : size);
	return 0;
}

int api_give_sized(const char *what, void *to, const void *from, size_t size, struct err *e)
{
	size_t got;

	memcpy(&got, to, sizeof(got));
	if (got < sizeof(got) || got >= size + 4096)
		return err_set(e, -EINVAL, "%s: size must be sizeof(%s)", what, what);
	memset((uint8_t *)to + sizeof(got), 0, got - sizeof(got));
	memcpy((uint8_t *)to + sizeof(got), (const uint8_t *)from + sizeof(got),
	       (got < size ? got : size) - sizeof(got));
	return 0;
}

/* --- the installation --- */

enum { PREFIX_LEVELS_MAX = 4 }; /* lib/x86_64-linux-gnu/libberm.so is three below it */

static bool is_prefix(const char *dir)
{
	char path[PATH_MAX + 64];

	(void)snprintf(path, sizeof(path), "%s/libexec/berm/berm-supervisor", dir);
	return access(path, X_OK) == 0;
}

/* The installation above the file this code was loaded from: libberm.so, or a program. */
static int own_prefix(char ret[PATH_MAX], struct err *e)
{
	char path[PATH_MAX];
	Dl_info info;

	if (dladdr((const void *)(uintptr_t)&berm_version, &info) == 0 || !info.dli_fname ||
	    !realpath(info.dli_fname, path))
		return err_set(e, -ENOENT, "libberm cannot tell where it is: name its prefix");
	for (int i = 0; i < PREFIX_LEVELS_MAX; i++) {
		char *slash = strrchr(path, '/');

		if (!slash)
			break;
		*slash = '\0';
		if (!is_prefix(path))
			continue;
		memcpy(ret, path, strlen(path) + 1);
		return 0;
	}
	return err_set(e, -ENOENT, "'%s' is in no installation of berm: name its prefix",
	               info.dli_fname);
}

static int find_paths(const char *prefix, const char *state_dir, struct paths *ret, struct err *e)
{
	char found[PATH_MAX];
	char exe[PATH_MAX + 16];
	char cwd[PATH_MAX];
	struct paths_input in = { .exe = exe, .state_dir = state_dir, .uid = geteuid() };
	int r;

	if (state_dir && !*state_dir)
		return err_set(e, -EINVAL, "the state directory's name is empty");
	if (prefix && !is_prefix(prefix))
		return err_set(e, -ENOENT, "'%s' is no installation of berm: it has no %s", prefix,
		               "libexec/berm/berm-supervisor");
	if (!prefix) {
		r = own_prefix(found, e);
		if (r < 0)
			return r;
	} else if (!realpath(prefix, found)) {
		return err_sys(e, "'%s'", prefix);
	}
	(void)snprintf(exe, sizeof(exe), "%s/bin/berm", found);
	in.cwd = getcwd(cwd, sizeof(cwd));
	if (!state_dir) {
		in.state_dir = secure_getenv("BERM_STATE_DIR");
		in.xdg_data_home = secure_getenv("XDG_DATA_HOME");
		in.home = secure_getenv("HOME");
	}
	return paths_from(&in, ret, e);
}

static int new (const char *prefix, const char *state_dir, struct berm **ret, struct err *e)
{
	struct berm *b;
	int r;

	if (!ret)
		return err_set(e, -EINVAL, "ret is NULL");
	b = calloc(1, sizeof(*b));
	if (!b)
		return err_set(e, -ENOMEM, "out of memory");
	b->refs = 1;
	b->state_fd = b->always_fd = -1;
	b->pid = getpid();
	r = pthread_mutex_init(&b->lock, NULL);
	if (r != 0) {
		free(b);
		return err_set(e, -r, "make a lock");
	}
	r = find_paths(prefix, state_dir, &b->paths, e);
	if (r == 0)
		r = paths_open_state(&b->paths, &b->state_fd, e);
	if (r == 0) {
		b->always_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
		r = b->always_fd < 0 ? err_sys(e, "eventfd") : 0;
	}
	if (r < 0) {
		berm_free(b);
		return r;
	}
	state_sweep(b->state_fd);
	*ret = b;
	return 0;
}

int berm_new(const char *prefix, const char *state_dir, struct berm **ret, struct berm_err *e)
{
	struct err why = { 0 };
	int r = new (prefix, state_dir, ret, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

void api_ref(struct berm *b)
{
	(void)__atomic_add_fetch(&b->refs, 1, __ATOMIC_RELAXED);
}

void berm_free(struct berm *b)
{
	if (!b || __atomic_sub_fetch(&b->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	if (b->pid == getpid())
		api_reap(b, -1);
	for (unsigned i = 0; i < b->unreaped_count; i++)
		(void)close(b->unreaped[i]);
	if (b->state_fd >= 0)
		(void)close(b->state_fd);
	if (b->always_fd >= 0)
		(void)close(b->always_fd);
	(void)pthread_mutex_destroy(&b->lock);
	free(b);
}

/* Whether it is done with: reaped, or not ours to reap. */
static bool reap(int pidfd)
{
	siginfo_t si = { 0 };
	int r = waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG);

	return r < 0 || si.si_pid != 0;
}

/*
 * Only of use to a caller that is the reaper of its orphans, PID 1 of a container above all, and
 * may not know it. A supervisor ends a moment after it said so, hence the list.
 */
void api_reap(struct berm *b, int pidfd)
{
	unsigned kept = 0;

	(void)pthread_mutex_lock(&b->lock);
	for (unsigned i = 0; i < b->unreaped_count; i++) {
		if (reap(b->unreaped[i]))
			(void)close(b->unreaped[i]);
		else
			b->unreaped[kept++] = b->unreaped[i];
	}
	b->unreaped_count = kept;
	if (pidfd >= 0 && (reap(pidfd) || kept == API_UNREAPED_MAX))
		(void)close(pidfd);
	else if (pidfd >= 0)
		b->unreaped[b->unreaped_count++] = pidfd;
	(void)pthread_mutex_unlock(&b->lock);
}

int api_check(const struct berm *b, struct err *e)
{
	if (!b)
		return err_set(e, -EINVAL, "the struct berm is NULL");
	if (b->pid != getpid())
		return err_set(e, -EPERM, "the struct berm is process %d's, which forked this one",
		               (int)b->pid);
	return 0;
}

static int find_image(const struct berm *b, const char *ref, char *ret_id, struct err *e)
{
	_own_(image_store_free) struct image_store *store = NULL;
	_own_(image_free) struct image *image = NULL;
	int r = api_check(b, e);

	if (r == 0 && !ret_id)
		r = err_set(e, -EINVAL, "ret_id is NULL");
	if (r == 0)
		r = image_store_open(b->state_fd, b->paths.share, &store, e);
	if (r == 0)
		r = image_open(store, ref ? ref : API_IMAGE, &image, e);
	if (r < 0 || !image)
		return r;
	memcpy(ret_id, image->meta->id, BERM_IMAGE_ID_MAX);
	return 0;
}

int berm_find_image(struct berm *b, const char *ref, char *ret_id, struct berm_err *e)
{
	struct err why = { 0 };
	int r = find_image(b, ref, ret_id, &why);

	return r < 0 ? api_tell(e, r, &why) : 0;
}

const char *berm_reason_name(int reason)
{
	return result_reason_name(reason < 0 || reason > UINT8_MAX ? UINT8_MAX : (uint8_t)reason);
}

/* A host's own settings while an engine is made, trains and goes: nothing of them may change, and signals find the host's threads only. */
#include "tiny_model.h"

#include <dirent.h>
#include <errno.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

extern char **environ;

#define TWO_THREADS "{" TINY_PARTS ", \"threads\": 2}"
#define TINY_PARTS                                                                                                            \
    "\"model\": {\"architectures\": [\"GPT2LMHeadModel\"], \"model_type\": \"gpt2\", \"vocab_size\": 11, \"n_positions\": 16, " \
    "\"n_embd\": 8, \"n_layer\": 1, \"n_head\": 2}, \"train_micro_batch_size_per_gpu\": 2, "                                     \
    "\"optimizer\": {\"type\": \"AdamW\", \"params\": {\"lr\": 0.01}}"

static void train(int steps) {
    ds_engine *e = engine_of(TWO_THREADS);
    ds_batch *b = tiny_batch(1, 1);
    float loss;
    for (; steps > 0; --steps) {
        assert_ok(ds_forward(e, b, &loss));
        assert_ok(ds_backward(e));
        assert_ok(ds_step(e));
    }
    ds_batch_destroy(b);
    ds_engine_destroy(e);
}

static int descriptors(void) {
    DIR *folder = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(folder)) ++n;
    closedir(folder);
    return n;
}

static size_t environment(char *text, size_t room) {
    size_t n = 0;
    char **v;
    for (v = environ; *v; ++v) n += (size_t)snprintf(text + n, room - n, "%s\n", *v);
    return n;
}

static void the_hosts_settings_stay(void **state) {
    static char before[1 << 16], after[1 << 16];
    struct sigaction actions[65];
    sigset_t mask, now;
    const int rounding = fegetround();
    char *locale;
    int s, open;
    (void)state;
    setlocale(LC_ALL, "C.UTF-8");
    train(1); /* what is opened once and kept is open now */
    locale = strdup(setlocale(LC_ALL, NULL));
    for (s = 1; s < 65; ++s) sigaction(s, NULL, &actions[s]);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    assert_true(environment(before, sizeof(before)) < sizeof(before));
    open = descriptors();
    feclearexcept(FE_ALL_EXCEPT);
    train(3);
    for (s = 1; s < 65; ++s) {
        struct sigaction a;
        if (sigaction(s, NULL, &a) == 0 && a.sa_handler != actions[s].sa_handler) fail_msg("the handler of signal %d has changed", s);
    }
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    assert_memory_equal(&mask, &now, 8); /* the kernel's part */
    environment(after, sizeof(after));
    assert_string_equal(before, after);
    assert_string_equal(locale, setlocale(LC_ALL, NULL));
    assert_int_equal(fegetround(), rounding);
    assert_true(1e-310 / 2 > 0); /* numbers near zero are not flushed on the host's thread */
    assert_int_equal(descriptors(), open);
    free(locale);
}

static volatile sig_atomic_t others;
static volatile sig_atomic_t signals;
static pthread_t main_thread;

static void note(int s) {
    (void)s;
    ++signals;
    if (!pthread_equal(pthread_self(), main_thread)) ++others;
}

static void *interrupt(void *stop) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL); /* not here either */
    while (!__atomic_load_n((int *)stop, __ATOMIC_ACQUIRE)) {
        kill(getpid(), SIGUSR1);
        usleep(200);
    }
    return NULL;
}

/* Signals sent to the process interrupt the host's thread, never a worker of the library; and a step survives being interrupted. */
static void signals_find_the_hosts_threads(void **state) {
    struct sigaction a;
    pthread_t sender;
    int stop = 0;
    (void)state;
    main_thread = pthread_self();
    memset(&a, 0, sizeof(a));
    a.sa_handler = note; /* without SA_RESTART: system calls are interrupted */
    sigaction(SIGUSR1, &a, NULL);
    assert_int_equal(pthread_create(&sender, NULL, interrupt, &stop), 0);
    train(60);
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    pthread_join(sender, NULL);
    assert_true(signals > 0);
    assert_int_equal(others, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {TEST(the_hosts_settings_stay), TEST(signals_find_the_hosts_threads)};
    return RUN(tests);
}

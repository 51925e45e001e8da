#include "progress.h"

#include <stdio.h>
#include <unistd.h>

progress start_progress(long total, int quiet) {
    progress p = {total, isatty(STDOUT_FILENO), quiet, 0, 0};
    return p;
}

static void show_bar(const progress *p, long step, double loss, double lr) {
    enum { width = 28 };
    char bar[width + 1];
    const long done = p->total ? step * width / p->total : 0;
    for (int i = 0; i < width; ++i) bar[i] = i < done ? '=' : i == done ? '>' : ' ';
    bar[width] = 0;
    const long left = p->total ? (long)((double)(p->total - step) * p->pace + 0.5) : 0;
    printf("\r[%s] %ld/%ld  loss %.4f  lr %.2e  %.0f tokens/s  %ld:%02ld left \033[K", bar, step, p->total, loss, lr, p->rate, left / 60, left % 60);
    fflush(stdout);
}

void show_step(progress *p, long epoch, long batch, long step, double loss, double lr, double tokens, double seconds) {
    const double keep = p->pace > 0 ? 0.9 : 0;
    p->pace = keep * p->pace + (1 - keep) * seconds;
    p->rate = keep * p->rate + (1 - keep) * (seconds > 0 ? tokens / seconds : 0);
    if (p->quiet) return;
    if (p->terminal) show_bar(p, step, loss, lr);
    else if (batch % 10 == 0) {
        printf("Epoch: %ld, Batch: %ld, Loss: %.4f\n", epoch, batch, loss);
        fflush(stdout);
    }
}

void end_progress(progress *p) {
    if (p->terminal && !p->quiet) printf("\r\033[K");
    fflush(stdout);
}

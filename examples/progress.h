/* What one sees while it trains: a bar on a terminal, a line every ten batches otherwise. */
#ifndef EXAMPLES_PROGRESS_H
#define EXAMPLES_PROGRESS_H

typedef struct progress {
    long total; /* steps of the run; 0: unknown */
    int terminal, quiet;
    double rate, pace; /* tokens a second and seconds a step, smoothed */
} progress;

progress start_progress(long total, int quiet);
void show_step(progress* p, long epoch, long batch, long step, double loss, double lr, double tokens, double seconds);
void end_progress(progress* p); /* before anything else is printed */

#endif

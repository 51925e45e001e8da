/* The trainer: examples/train and the command `dsrt train` are this. */
#ifndef EXAMPLES_TRAIN_H
#define EXAMPLES_TRAIN_H

#ifdef __cplusplus
extern "C" {
#endif

/* argv as main has it. The process's exit code: 0, or 130 when it was interrupted. Ends the process with 1 when a call fails. */
int train_main(int argc, char** argv);

#ifdef __cplusplus
}
#endif

#endif

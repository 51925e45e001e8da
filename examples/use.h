/* Using what was exported: classifying sentences, continuing texts. */
#ifndef EXAMPLES_USE_H
#define EXAMPLES_USE_H

void classify(const char* folder, char** sentences, int n); /* n 0: lines of stdin */
void continue_text(const char* folder, const char* prompt);

#endif

// What a thread does between two looks at a value that another is about to change.
#pragma once

namespace ds {

inline void pause_spinning() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace ds

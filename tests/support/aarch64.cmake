# Builds for Arm on another machine: Debian's cross compiler, Debian's arm64 libraries in DSRT_SYSROOT (tests/aarch64.sh fetches them), and qemu-user to run
# what was built.
cmake_path(SET default NORMALIZE ${CMAKE_CURRENT_LIST_DIR}/../../build/aarch64/root)
set(DSRT_SYSROOT ${default} CACHE PATH "Debian's arm64 libraries")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(triplet aarch64-linux-gnu)
set(CMAKE_C_COMPILER ${triplet}-gcc)
set(CMAKE_CXX_COMPILER ${triplet}-g++)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES DSRT_SYSROOT)  # what a probe is configured with, too
set(CMAKE_SYSROOT ${DSRT_SYSROOT})
set(CMAKE_LIBRARY_ARCHITECTURE ${triplet})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(kind LIBRARY INCLUDE PACKAGE)
  set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${DSRT_SYSROOT})
set(ENV{PKG_CONFIG_LIBDIR} ${DSRT_SYSROOT}/usr/lib/${triplet}/pkgconfig:${DSRT_SYSROOT}/usr/share/pkgconfig)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L ${DSRT_SYSROOT})

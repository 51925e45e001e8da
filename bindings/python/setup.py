"""Builds the inner module with SWIG against the libdsrt that pkg-config finds.
DSRT_BUNDLE=1 puts that library, and what it needs beyond libc and libstdc++, into the wheel."""
import os
import re
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

INTERFACE = Path(__file__).resolve().parent.parent / "swig"
BUNDLE = os.environ.get("DSRT_BUNDLE") == "1"
SYSTEM = re.compile(r"^(linux-vdso|ld-linux|libc|libm|libdl|libpthread|librt|libstdc\+\+|libgcc_s)[.-]")


def pkg_config(*flags):
    try:
        return subprocess.run(["pkg-config", *flags, "dsrt"], check=True, capture_output=True, text=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as e:
        raise SystemExit("dsrt: pkg-config does not find dsrt. Install libdsrt (cmake --install) and name its folder of dsrt.pc in "
                         f"PKG_CONFIG_PATH. {getattr(e, 'stderr', None) or e}")


class Build(build_ext):
    def build_extension(self, ext):
        swig = shutil.which("swig") or shutil.which("swig4.0")
        if not swig:
            raise SystemExit("dsrt: swig is missing (Debian: apt install swig)")
        made = Path(self.build_temp)
        made.mkdir(parents=True, exist_ok=True)
        package = Path(self.get_ext_fullpath(ext.name)).parent
        package.mkdir(parents=True, exist_ok=True)
        include, libdir = pkg_config("--variable=includedir")[0], pkg_config("--variable=libdir")[0]
        source = made / "native_wrap.cxx"
        subprocess.run([swig, "-c++", "-python", "-DSWIGWORDSIZE64", f"-I{include}", f"-I{INTERFACE}", "-outdir", str(package), "-o", str(source),
                        str(INTERFACE / "dsrt.i")], check=True)
        ext.sources = [str(source)]
        ext.include_dirs = [include, str(INTERFACE)]
        ext.extra_link_args = pkg_config("--libs")
        if BUNDLE:  # RPATH, not RUNPATH: it serves the library's own dependencies too
            ext.extra_link_args += ["-Wl,-rpath,$ORIGIN/lib", "-Wl,--disable-new-dtags"]
            self.bundle(Path(libdir) / "libdsrt.so.0", package / "lib")
        else:
            ext.extra_link_args += [f"-Wl,-rpath,{libdir}"]
        super().build_extension(ext)

    @staticmethod
    def bundle(library, folder):
        folder.mkdir(exist_ok=True)
        shutil.copy2(library.resolve(), folder / library.name)
        needs = subprocess.run(["ldd", str(library)], check=True, capture_output=True, text=True).stdout
        for name, path in re.findall(r"(\S+) => (/\S+)", needs):
            if not SYSTEM.match(name):
                shutil.copy2(Path(path).resolve(), folder / name)


setup(ext_modules=[Extension("dsrt._native", sources=[], language="c++", extra_compile_args=["-std=c++17", "-g0", "-fvisibility=hidden", "-w"])],
      cmdclass={"build_ext": Build})

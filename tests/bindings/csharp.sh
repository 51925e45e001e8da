#!/bin/sh
# csharp.sh BUILD: the assembly by CMake and Mono, its tests, and the trainer.
. "$(dirname "$0")/common.sh"
command -v mcs >/dev/null || skip "there is no mcs (Mono)"
command -v mono >/dev/null || skip "there is no mono"
command -v swig >/dev/null || skip "there is no swig"
if command -v ccache >/dev/null; then launcher=-DCMAKE_CXX_COMPILER_LAUNCHER=ccache; else launcher=; fi
case_of "cmake -S bindings/csharp" cmake -S "$source/bindings/csharp" -B "$work/build" -DCMAKE_CXX_FLAGS_RELEASE="$wrapper_flags" -DCMAKE_SHARED_LINKER_FLAGS=$lazy $launcher || finish
case_of "cmake --build" cmake --build "$work/build" || finish
for program in "$source/bindings/csharp/tests/Tests" "$source/bindings/csharp/tests/Mistakes" "$source/examples/csharp/Train"; do
    name=$(basename "$program")
    case_of "$name.cs compiles" mcs -langversion:latest -warnaserror -r:"$work/build/Dsrt.dll" "$program.cs" -out:"$work/build/$name.exe" || finish
done
LD_LIBRARY_PATH=$work/build:$LD_LIBRARY_PATH
counted noted mono "$work/build/Tests.exe"
readme_place
{ printf 'using System;\nusing Dsrt;\n\nstatic class Readme {\n    static void Main() {\n'; readme_program csharp; printf '    }\n}\n'; } >"$work/place/Readme.cs"
case_of "README.md's program compiles" mcs -langversion:latest -warnaserror -r:"$work/build/Dsrt.dll" "$work/place/Readme.cs" -out:"$work/build/Readme.exe" \
    && readme_runs mono "$work/build/Readme.exe"
program train "mono $work/build/Train.exe"
program mistakes "mono $work/build/Mistakes.exe"
if command -v python3 >/dev/null; then
    case_of "Dsrt.csproj is well-formed and names this version" python3 -c "
import sys, xml.etree.ElementTree as E
assert E.parse(sys.argv[1]).getroot().find('PropertyGroup/Version').text == '0.1.0'" "$source/bindings/csharp/Dsrt.csproj"
fi
finish

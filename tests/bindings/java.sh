#!/bin/sh
# java.sh BUILD: the jar by CMake, its tests, and the trainer.
. "$(dirname "$0")/common.sh"
command -v javac >/dev/null || skip "there is no javac"
command -v swig >/dev/null || skip "there is no swig"
if command -v ccache >/dev/null; then launcher=-DCMAKE_CXX_COMPILER_LAUNCHER=ccache; else launcher=; fi
case_of "cmake -S bindings/java" cmake -S "$source/bindings/java" -B "$work/build" -DCMAKE_CXX_FLAGS_RELEASE="$wrapper_flags" -DCMAKE_SHARED_LINKER_FLAGS=$lazy $launcher || finish
case_of "cmake --build" cmake --build "$work/build" || finish
jar=$work/build/dsrt.jar
rm -rf "$work/classes"
mkdir -p "$work/classes"
case_of "tests and example compile" javac -cp "$jar" -d "$work/classes" "$source"/bindings/java/src/test/java/*.java "$source/examples/java/Train.java" || finish
java="java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp $jar:$work/classes"  # small and quick to start
# The heap is touched before: what grows then is the library's.
# shellcheck disable=SC2086
counted noted $java -Xms128m -XX:+AlwaysPreTouch Tests
readme_place
{ printf 'import io.dsrt.*;\nimport java.util.*;\n\nclass Readme {\n    public static void main(String[] arguments) {\n'; readme_program java; printf '    }\n}\n'; } >"$work/place/Readme.java"
readme_runs java -cp "$jar" Readme.java
program train "$java Train"
program mistakes "$java Mistakes"
if command -v python3 >/dev/null; then
    case_of "pom.xml is well-formed and names this version" python3 -c "
import sys, xml.etree.ElementTree as E
root = E.parse(sys.argv[1]).getroot()
assert root.find('{*}artifactId').text == 'dsrt' and root.find('{*}version').text == '0.1.0'" "$source/bindings/java/pom.xml"
fi
finish

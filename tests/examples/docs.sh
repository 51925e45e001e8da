#!/bin/sh
# docs.sh CMAKE BUILD: the target `docs` makes HTML, and nothing that it reads is without words.
command -v doxygen >/dev/null || { echo "SKIPPED examples/docs: doxygen is not installed"; exit 0; }
"$1" --build "$2" --target docs >"$2/docs.log" 2>&1 || { tail -n 20 "$2/docs.log"; exit 1; }
for page in index.html engine_8h.html md_examples_guide_errors.html; do [ -s "$2/html/$page" ] || { echo "html/$page is missing"; exit 1; }; done
grep -q 'Runs the model on one micro-batch in training mode' "$2/html/engine_8h.html" || { echo "the words of ds_forward are missing"; exit 1; }

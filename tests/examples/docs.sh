#!/bin/sh
# docs.sh CMAKE BUILD: the target `docs` makes HTML, and nothing that it reads is without words.
command -v doxygen >/dev/null || { echo "SKIPPED examples/docs: doxygen is not installed"; exit 0; }
"$1" --build "$2" --target docs >"$2/docs.log" 2>&1 || { tail -n 20 "$2/docs.log"; exit 1; }
cd "$2/html" || exit 1
for page in index.html engine_8h.html md_examples_guide_errors.html; do [ -s $page ] || { echo "FAILED examples/docs: html/$page is missing"; exit 1; }; done
shows() { # PAGE WORDS WHAT
    tr '\n' ' ' <"$1" | grep -q "$2" || { echo "FAILED examples/docs: $1 lacks $3"; exit 1; }
}
shows engine_8h.html 'Runs the model on one micro-batch in training mode' "the words of ds_forward"
shows engine_8h.html '<dt><code>"max_new_tokens"</code></dt> *<dd>default 32' "the options of ds_generate as a list"
shows engine_8h.html 'href="status_8h.html#[a-z0-9]*"[^>]*>ds_free</a>' "links from words to the calls that they name"
shows status_8h.html 'DS_E_BUSY.*the handle is in use by another call' "the words of a status code"
shows abi_8h.html '<li>Callbacks run only on threads that are inside a dsrt call' "the conventions of every call"
shows structds__op__callbacks.html 'once, after the last use' "the words of a field"
shows md_bindings_csharp_README.html 'class="title">dsrt for C#' "the language's whole name"
! grep -l '\*\*<code>' md_*.html || { echo "FAILED examples/docs: bold words are not shown as such in these pages"; exit 1; }
python3 - <<'EOF'
import re
from pathlib import Path
from urllib.parse import unquote, urlparse
links = {(page.name, link) for page in Path().glob("*.html") for link in re.findall(r'(?:href|src)="([^"#]+)', page.read_text())}
lost = sorted((page, link) for page, link in links if not urlparse(link).scheme and not Path(unquote(urlparse(link).path)).exists())
for page, link in lost:
    print(f"FAILED examples/docs: {page} leads to {link}, which is not there")
raise SystemExit(bool(lost) or not links)
EOF

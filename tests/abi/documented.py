"""Every function, handle, struct, enum and callback type of the headers has words of its own: a comment before it or before the consecutive lines that it
stands in, or one on its line; and every field of a struct and constant of an enum, before it or on its line.   documented.py INCLUDE"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "examples/guide"))
from headers_filter import members  # noqa: E402

seen, silent = 0, []
for header in sorted(Path(sys.argv[1], "dsrt").glob("*.h")):
    if header.name == "dlpack.h":  # upstream's, unmodified
        continue
    for name, comment in members(header.read_text()):
        seen += 1
        if len(comment.split()) < 2:
            silent.append(f"{header.name}: {name}: no words say what it is")
probe = members("""/* Says what a does and what it returns. */
DS_API ds_status ds_a(int x);
DS_API ds_status ds_b(int x);

DS_API ds_status ds_c(int x);

/* A struct. */
typedef struct ds_s {
    /* A field that has words, over two
       lines. */
    int32_t (*update)(void *user, const char *name,
                      size_t n);
    void (*release)(void *user);
} ds_s;

/* An enum. */
enum {
    DS_X = 0, /* has words */
    DS_Y = 1
};
""")
found = {name: bool(words) for name, words in probe}  # it would notice
assert found == {"ds_a": True, "ds_b": True, "ds_c": False, "ds_s": True, "ds_s.update": True, "ds_s.release": False, "enum {": True, "DS_X": True, "DS_Y": False}, found
assert seen > 100, seen
print("\n".join("FAILED abi/documented: " + s for s in silent))
print(f"{seen - len(silent)} passed, {len(silent)} failed")
sys.exit(bool(silent))

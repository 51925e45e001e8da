# Sums up what the runners under `ctest -V` say: doctest, cmocka, and programs that end with "N passed, N failed". A test without counts is one
# case. Prints why something was skipped, what failed, and at last "P passed, F failed, S skipped".
function id(line) { return match(line, /^[0-9]+: /) ? substr(line, 1, RLENGTH - 2) + 0 : 0 }
/^[0-9]+: / { i = id($0); text = substr($0, length(i "") + 3) } !/^[0-9]+: / { i = 0; text = $0 }
i && text ~ /^\[doctest\] test cases:/ { split(text, part, "|"); pass[i] += part[2]; fail[i] += part[3]; skip[i] += part[4]; counted[i] = 1 }
i && text ~ /^\[  PASSED  \] [0-9]+ test/ { split(text, word, " "); pass[i] += word[4]; counted[i] = 1 }
i && text ~ /^\[  FAILED  \] .*: [0-9]+ test/ { n = text; sub(/^.*: /, "", n); fail[i] += n + 0; counted[i] = 1 }
i && text ~ /^\[  SKIPPED \] .*: [0-9]+ test/ { n = text; sub(/^.*: /, "", n); skip[i] += n + 0 }
i && text ~ /^[0-9]+ passed, [0-9]+ failed/ { split(text, word, " "); pass[i] += word[1]; fail[i] += word[3]; counted[i] = 1 }
i && text ~ /^SKIPPED / { print text; skip[i] += 1 }
/ Test +#[0-9]+: / {
    n = $0; sub(/^.* Test +#/, "", n); n += 0
    name = $0; sub(/^.* Test +#[0-9]+: /, "", name); sub(/ .*$/, "", name)
    if ($0 ~ /   Passed /) { if (!counted[n]) pass[n] += 1 }
    else if ($0 ~ /Skipped/) { print "SKIPPED " name; skip[n] += 1 }
    else { if (fail[n] == 0) fail[n] = 1; print "FAILED " name ": " substr($0, index($0, "*")) }
}
END {
    for (n in pass) p += pass[n]
    for (n in fail) f += fail[n]
    for (n in skip) s += skip[n]
    printf "%d passed, %d failed, %d skipped\n", p, f, s
}

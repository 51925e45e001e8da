# Lines of a log that say what failed.
/^[0-9]*: FAILED /p
/^[0-9]*: .*ERROR: .*Sanitizer/,+12p
/^[0-9]*: .*runtime error:/,+6p
/^[0-9]*: .*ERROR:.*CHECK/,+5p
/^[0-9]*: .*ERROR:.*REQUIRE/,+5p
/^[0-9]*: \[  ERROR   \]/,+3p

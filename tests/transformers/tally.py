"""What a script found. Its last line, "N passed, N failed", is what run.sh reads."""
import sys


class Tally:
    def __init__(self):
        self.passed = self.failed = 0
        self.aside = {}  # why cases are not compared -> how many

    def case(self, what, good, *more):
        """Where the case is not good, `what` is printed, and more lines about it."""
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED {what}", *more, sep="\n    ", flush=True)

    def leave(self, reason):
        self.aside[reason] = self.aside.get(reason, 0) + 1

    def finish(self):
        for reason, times in sorted(self.aside.items()):
            print(f"{times} {reason}")
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(self.failed != 0)

"""How much longer `python -c "import vlmbook"` takes than `python -c pass`, as the median over pairs."""

import argparse
import statistics
import subprocess
import sys
import time

BAR = 50


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pairs", type=int, default=30)
    pairs = arguments.parse_args().pairs
    for _ in range(3):                                     # warm the disk's cache
        milliseconds("import vlmbook")
    bare, importing = zip(*((milliseconds("pass"), milliseconds("import vlmbook")) for _ in range(pairs)), strict=True)
    extra = statistics.median(b - a for a, b in zip(bare, importing, strict=True))
    print(f"Python {sys.version.split()[0]}, {pairs} interleaved pairs, median ms: "
          f"pass {statistics.median(bare):.1f}, import vlmbook {statistics.median(importing):.1f}")
    print(f"median difference: {extra:.1f} ms (bar: at most {BAR})")
    sys.exit(extra > BAR)


def milliseconds(code):
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()

"""How much longer `python -c "import vlmbook"` takes than `python -c pass`, as the median over pairs."""

import argparse
import statistics
import subprocess
import sys
import time

BAR = 50


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pairs", type=int, default=30)
    pairs = arguments.parse_args().pairs
    for _ in range(3):  # warm the disk's cache
        milliseconds("import vlmbook")
    times = [(milliseconds("pass"), milliseconds("import vlmbook")) for _ in range(pairs)]
    bare, importing = map(statistics.median, zip(*times, strict=True))
    extra = statistics.median(after - before for before, after in times)
    print(
        f"Python {sys.version.split()[0]}, {pairs} interleaved pairs, median ms: "
        f"pass {bare:.1f}, import vlmbook {importing:.1f}"
    )
    print(f"median difference: {extra:.1f} ms (bar: at most {BAR})")
    sys.exit(extra > BAR)


def milliseconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()

"""`python -m vlmbook.cli` is `vlmbook`."""

import sys

from vlmbook.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m smcinfer``: the command line."""

import sys

from smcinfer.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m npTRPO`` is the ``nptrpo`` command."""

import sys

from npTRPO.cli import main

if __name__ == "__main__":
    sys.exit(main())

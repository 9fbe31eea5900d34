"""``python -m npTRPO`` and the ``nptrpo`` command."""

import os
import sys


def main() -> int:
    """Run the command with one BLAS thread, unless the environment says otherwise.

    At the sizes of these networks a second thread makes matrix products slower, and the number of
    threads decides the order of additions, and so the last bits of a run.
    """
    for library in ("OPENBLAS", "MKL", "OMP"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    # Modules of environments, as in my_envs:Env-v0, are found in the current directory too.
    # It comes last, so as to hide none.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    from npTRPO.cli import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main())

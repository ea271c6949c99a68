"""`python -m upright` is the command `upright`."""

import sys

if __name__ == "__main__":
    # Python puts the present folder first, where a stranger's file could stand in for any module.
    if not sys.flags.safe_path:
        del sys.path[0]
    from upright.cli import main

    main()

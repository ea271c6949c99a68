"""`python -m upright` is the command `upright`."""

from upright.cli import main

main()

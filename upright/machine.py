"""What there is of this machine."""

import os


def memory() -> int:
    """All of it, whoever uses it [bytes]; 0 where the system does not say."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

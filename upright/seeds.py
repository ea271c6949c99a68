"""Which seeds: the text on the command line, and what a seed may be."""

import operator
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Any

from upright.errors import UprightError, shown

_MOST_SEEDS = 100_000


def read_seeds(seeds: int | str | Iterable[Any]) -> tuple[int, ...]:
    """A number of them, text as on the command line, or the seeds themselves."""
    if isinstance(seeds, Iterable) and not isinstance(seeds, str):
        return check_seeds(seeds)
    return parse_seeds(seeds if isinstance(seeds, str) else shown(seeds))


def parse_seeds(text: str) -> tuple[int, ...]:
    """ "20" is 0 to 19, "1000:1020" is 1000 to 1019, "3,5,8" (or "3,") is just these."""
    expected = "expected a number of seeds (20), a range (1000:1020) or a list (3,5,8)"
    try:
        if ":" in text:
            first, end = map(int, text.split(":"))
            seeds, count = range(first, end), max(0, end - first)
            if not count:
                raise UprightError(f"seeds {text!r}: no seeds; the first must be below the second")
        elif "," in text:
            seeds = [int(part) for part in text.removesuffix(",").split(",")]
            count = len(seeds)
        else:
            count = int(text)
            seeds = range(count)
            if not seeds:
                raise ValueError
    except ValueError:
        raise UprightError(f"seeds {text!r}: {expected}") from None
    if count > _MOST_SEEDS:
        raise UprightError(f"{shown(count)} seeds; at most {_MOST_SEEDS} fit into one run")
    return check_seeds(seeds)


def check_seeds(seeds: Iterable[Any]) -> tuple[int, ...]:
    """Raises UprightError unless these are some different whole numbers from 0 to 2^32 - 1."""
    # One more than there may be: an endless iterable ends here.
    checked = tuple(_whole(seed) for seed in islice(seeds, _MOST_SEEDS + 1))
    if not checked:
        raise UprightError("no seeds; there must be at least one")
    if len(checked) > _MOST_SEEDS:
        raise UprightError(f"more than {_MOST_SEEDS} seeds; at most {_MOST_SEEDS} fit into one run")
    for seed, count in Counter(checked).items():
        if not 0 <= seed < 2**32:
            raise UprightError(f"seed {shown(seed)}; a seed must be at least 0 and below 2^32")
        if count > 1:
            raise UprightError(f"seed {seed} is given more than once")
    return checked


def _whole(seed: Any) -> int:
    try:
        return operator.index(seed)
    except TypeError:
        raise UprightError(f"seed {shown(seed)} is not a whole number") from None

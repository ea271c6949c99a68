"""Hostile files: each is refused in one line, or loads and gives finite results; nothing else.

python tests/reliability/files.py [--count N] [--seed S] [--only FORMAT] [--first K] [--out FILE]

Half of the files are others with some bytes changed. In the other half the content is changed and
the checksums are made right, so that it is reached.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np

from upright import DQN, Learner, UprightError, load_policy, tensors
from upright.cli import console, run_tables
from upright.online import saved
from upright.policy import Provenance, Score
from upright.runs import Run, checkpoint
from upright.runs.folder import Evaluated, FinalEvaluation, Stint
from upright.runs.provenance import describe_platform
from upright.runs.writer import RunWriter
from upright.tasks.catalogue import make_task
from upright.training.config import plan
from upright.training.runners import make_runner
from upright.training.seed_run import SeedRun
from upright.training.train import _describe

SECONDS, MEMORY = 10, 512 << 20  # of one file [s], [bytes]
AGENT = DQN(hidden=(3,), batch_size=2, replay_size=8, learning_starts=2)


class Raw(str):
    """JSON as it is, where Python would not write it."""


DEEP = Raw("[" * 3000 + "]" * 3000)
NUMBERS = (
    0,
    1,
    -1,
    2,
    5,
    49,
    51,
    2**16,
    2**31 - 1,
    2**31,
    -(2**31),
    2**32 - 1,
    2**53,
    0.5,
    1e38,
    1e-38,
)
POOL = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2,
        3,
        7,
        65536,
        2**31 - 1,
        2**31,
        -(2**31),
        2**32,
        2**63,
        10**40,
    ),
    *(0.0, -0.0, 0.5, 1.5, -2.5, 1e-45, 1e-300, 1e38, 3.5e38, -1e300, Raw("1e999"), Raw("-1e999")),
    *(Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("1" + "0" * 400), Raw("9" * 5000), DEEP),
    *(
        "",
        "x",
        "DQN",
        "\ud800",
        "\x1b[2J",
        "a\nb",
        "\0",
        "x" * 2000,
        "../../x",
        "1",
        "nan",
        "LunarLander-v3",
    ),
    *([], {}, [0], [1, 2], [1, [2]], [None], {"x": 1}, {"name": "DQN"}, [1e308] * 3, ["a", "b"]),
]


def hostile(chance):
    """A value of the pool; a copy, since it may be spoiled in its turn."""
    return deepcopy(chance.choice(POOL))


def nodes(value, found=None):
    """The places of a JSON value: (container, key)."""
    found = [] if found is None else found
    for key in value if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        if isinstance(value[key], dict | list):
            nodes(value[key], found)
    return found


def spoil(value, chance):
    """Some members of a JSON value replaced, dropped, or new; in place."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = nodes(value)
        if not places:
            return
        container, key = chance.choice(places)
        what = chance.random()
        if what < 0.4 and type(container[key]) in (int, float):
            container[key] = chance.choice(NUMBERS)  # one that is of the right type
        elif what < 0.75:
            container[key] = hostile(chance)
        elif what < 0.85:
            del container[key]
        elif isinstance(container, dict):
            container[chance.choice(("x", "name", "steps", "\ud800", "n" * 500))] = chance.choice(
                POOL
            )
        else:
            container.extend([hostile(chance)] * chance.choice((1, 2, 100)))


def render(value, chance):
    """JSON with raw parts, and now and then with a member twice."""
    raw = []

    def plain(part):
        if isinstance(part, Raw):
            raw.append(part)
            return f"<raw {len(raw) - 1}>"
        if isinstance(part, dict):
            return {key: plain(member) for key, member in part.items()}
        return [plain(member) for member in part] if isinstance(part, list) else part

    text = json.dumps(plain(value))
    for number, part in enumerate(raw):
        text = text.replace(f'"<raw {number}>"', part)
    if chance.random() < 0.05 and '": ' in text:
        parts = text.split('": ')
        place = chance.randrange(1, len(parts))
        name = parts[place - 1].rpartition('"')[2]
        parts[place] = f'0, "{name}": {parts[place]}'
        text = '": '.join(parts)
    return text


def spoil_arrays(named, chance):
    """One array of another shape, type or content, or none; in place."""
    name = chance.choice(sorted(named))
    array = named[name]
    changes = {
        "drop": lambda: named.pop(name),
        "fill": lambda: np.full_like(array, chance.choice((0, 1, 2, 200))),
        "double": lambda: np.concatenate([np.atleast_1d(array)] * 2),
        "flat": lambda: array.reshape(-1),
        "deep": lambda: array[None],
        "empty": lambda: np.zeros((0, 2**40), array.dtype),
        "retype": lambda: array.astype(chance.choice(("f4", "f8", "i4", "i8", "u1", "u4", "?"))),
        "bytes": lambda: np.frombuffer(chance.randbytes(array.nbytes), array.dtype).reshape(
            array.shape
        ),
    }
    if array.dtype.kind == "f":
        number = chance.choice((np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -1.0))
        changes["number"] = lambda: np.full_like(array, number)
    elif array.dtype.kind in "iu":
        changes["number"] = lambda: np.full_like(array, np.iinfo(array.dtype).max)
        changes["least"] = lambda: np.full_like(array, np.iinfo(array.dtype).min)
    with np.errstate(all="ignore"):
        changed = chance.choice(list(changes.values()))()
    if name in named:
        named[name] = changed
    if chance.random() < 0.05:
        named[chance.choice(("x", "8.weight", "state.x"))] = np.zeros(2, np.float32)


def container(named, header, chance, spoil_outside):
    """A safetensors file by hand, its checksums right."""
    digest = hashlib.sha256()
    entries, data = {}, b""
    codes = {np.dtype(kind): code for code, kind in tensors._DTYPES.items()}
    for name, array in sorted(named.items()):
        little = np.asarray(array, order="C")
        digest.update(f"{name} {little.dtype.str} {list(array.shape)}\n".encode())
        digest.update(little.data if little.size else b"")
        ends = [len(data), len(data) + little.nbytes]
        entries[name] = {
            "dtype": codes[little.dtype],
            "shape": list(array.shape),
            "data_offsets": ends,
        }
        data += little.tobytes()
    text = render({**header, "tensors_sha256": digest.hexdigest()}, chance)
    sealed = f'{text[:-1]}, "sha256": "{hashlib.sha256(text.encode()).hexdigest()}"}}'
    if spoil_outside:
        spoil(entries, chance)
    outside = render({"__metadata__": {"upright": sealed}, **entries}, chance).encode()
    return len(outside).to_bytes(8, "little") + outside + data


def spoil_bytes(content, chance):
    """Some bytes changed, cut, doubled or new."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 5))):
        place, size = chance.randrange(len(content) + 1), chance.choice((1, 1, 2, 8, 64, 500))
        part = content[place : place + size]
        kind = chance.randrange(7)
        if kind == 0 and part:
            content[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            content[place : place + size] = chance.randbytes(len(part))
        elif kind == 2:
            del content[place : place + size]
        elif kind == 3:
            content[place:place] = chance.randbytes(size)
        elif kind == 4:
            content[place:place] = part
        elif kind == 5:
            content[place : place + size] = bytes((chance.choice((0, 48, 57, 255)),)) * len(part)
        else:
            del content[place:]
    return bytes(content)


class Sealed:
    """A format of arrays and a header under checksums."""

    def __init__(self, path, kind, version, use):
        self.path, self.content, self.use = path, path.read_bytes(), use
        named, header = tensors.decode(self.content, kind, version)
        del header["tensors_sha256"]
        self.named, self.header = named, json.dumps(header)

    def spoiled(self, chance):
        named, header = dict(self.named), json.loads(self.header)
        what = chance.random()
        if what < 0.7:
            spoil(header, chance)
        if what > 0.6:
            spoil_arrays(named, chance)
        return container(named, header, chance, spoil_outside=what > 0.9)


class Json:
    """A format of JSON without a checksum."""

    def __init__(self, path, use):
        self.path, self.content, self.use = path, path.read_bytes(), use

    def spoiled(self, chance):
        members = json.loads(self.content)
        spoil(members, chance)
        return render(members, chance).encode()


class Csv:
    """Rows of numbers."""

    CELLS = (
        "",
        "nan",
        "inf",
        "-1",
        "1e999",
        "x",
        "9" * 400,
        '"',
        "\x00",
        "1,2",
        "\n",
        "\u0661",
        "1_0",
    )

    def __init__(self, path, use):
        self.path, self.content, self.use = path, path.read_bytes(), use

    def spoiled(self, chance):
        rows = [line.split(",") for line in self.content.decode().splitlines()]
        for _ in range(chance.choice((1, 1, 2, 4))):
            row = chance.choice(rows)
            kind = chance.randrange(4)
            if kind == 0 and row:
                row[chance.randrange(len(row))] = chance.choice(self.CELLS)
            elif kind == 1 and row:
                row.pop()
            elif kind == 2:
                row.append(chance.choice(self.CELLS))
            else:
                rows.insert(chance.randrange(len(rows) + 1), list(row))
        return "".join(",".join(row) + chance.choice(("\n", "\n", "\r\n")) for row in rows).encode()


def use_policy(policy):
    try:
        action = policy.act(np.zeros(policy.spec.observation_size))
        assert np.isfinite(action).all(), "the action is not finite"
    except UprightError:
        pass  # a network so large that it cannot say anything
    console.print_policy(policy)


def use_run(path):
    run = Run(path)
    run_tables.print_settings(run)
    run_tables.print_run(run)
    run_tables.print_runs([run], path.parent)
    repr(run)


def make_run(place):
    """A run of one seed, made by hand; and the seed with what it goes on with."""
    config = plan("CartPole-v1", agent=AGENT, seeds=1, steps=3000, physics={"gravity": 9.0})
    runner = make_runner(config)
    info = _describe(config, runner, ["a warning"])
    writer = RunWriter.create(place, info)
    seed = SeedRun(config, writer, writer.seeds[0])
    seed.begin()
    score = Score(9.0, 8.0, 10.0, 50)
    kept = replace(untrained(), provenance=config.provenance(0, 1000, score))
    writer.seeds[0].append("episodes", [(1, 20, 20, 20, 1), (2, 50, 30, 30, 1)])
    writer.seeds[0].append("evaluations", [(0, 0, 9.5, 9, 10, 1)])
    final = FinalEvaluation(9.0, 8.0, 3, 1.0, 9.0, 100)
    stint = Stint(info.started, ("train",), describe_platform("cpu"), 0, 1000, 1.0, 2.0)
    evaluated = Evaluated.of(kept)
    writer.seeds[0].save_info(
        steps=1000, episodes=2, kept=evaluated, final_evaluation=final, stints=(stint,)
    )
    state = runner.template()
    rows = np.zeros((8, state.memory.rows.shape[1]), np.float32)
    memory = state.memory._replace(rows=rows, added=np.array(50, np.int32))
    state = state._replace(
        memory=memory, steps=np.array(50, np.int32), episodes=np.array(2, np.int32)
    )
    seed.steps, seed.episodes, seed.kept, seed.last = 50, 2, kept, kept
    seed._unwritten = [np.zeros((50, seed._no_rows.shape[1]), np.float32)]
    seed._save_checkpoint(state)
    like = runner.template()
    return seed, SimpleNamespace(template=lambda: like, check=runner.check, spec=runner.spec)


@lru_cache
def untrained():
    spec = make_task("CartPole-v1").spec
    policy = AGENT.to_policy(AGENT.init(jax.random.key(0), spec), spec)
    provenance = Provenance(
        "DQN", 3, 50, Score(9.0, 8.0, 10.0, 50), {"mass": 1.0}, {"x": (0.0, 1.0)}
    )
    return replace(policy, provenance=provenance)


def formats(folder):
    """By name: a file that is right, how it is spoiled, and how it is used."""
    untrained().save(folder / "policy.safetensors")
    learner = Learner(make_task("CartPole-v1").spec, AGENT, seed=1)
    for _ in range(4):
        learner.act(np.zeros(4))
        learner.observe(1.0, np.zeros(4), False)
    learner.act(np.zeros(4))
    learner.save(folder / "learner.safetensors")
    run = folder / "run"
    seed, runner = make_run(run)
    saved.check_fit = lru_cache(saved.check_fit)  # which takes a twentieth of a second

    def use_checkpoint():
        # As before the training was killed: the state must not be there yet.
        found, _ = seed.read_checkpoint(runner)
        for policy in filter(None, (found.kept, found.last)):
            use_policy(policy)

    def use_learner():
        found = saved.decode(tensors.read(folder / "learner.safetensors", 1 << 30))
        use_policy(found.agent.to_policy(found.state, found.spec))

    def use_table():
        for table in (Run(run).table("episodes"), Run(run).table("evaluations")):
            assert all(column.dtype == np.float64 for column in table.values())

    newest = next(run.glob("seeds/00/checkpoints/*"))
    return {
        "policy": Sealed(
            folder / "policy.safetensors",
            "upright-policy",
            3,
            lambda: use_policy(load_policy(folder / "policy.safetensors")),
        ),
        "checkpoint": Sealed(newest, checkpoint.FORMAT, checkpoint.VERSION, use_checkpoint),
        "learner": Sealed(folder / "learner.safetensors", saved.FORMAT, saved.VERSION, use_learner),
        "run.json": Json(run / "run.json", lambda: use_run(run)),
        "seed.json": Json(run / "seeds" / "00" / "seed.json", lambda: use_run(run)),
        "csv": Csv(run / "seeds" / "00" / "episodes.csv", use_table),
    }


@contextmanager
def limits():
    """A file that takes long is bad, one that takes much memory, and a warning."""

    def late(*_):
        raise TimeoutError(f"more than {SECONDS} s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    if grown > MEMORY:
        raise MemoryError(f"{grown >> 20} MiB")


def use(kind):
    """As a command does, whose output nobody reads."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), limits():
        kind.use()


def try_file(name, kind, seed, number):
    """How one file ends: "loads", "refused", or what is bad."""
    chance = random.Random(f"{seed} {name} {number}")
    content = spoil_bytes(kind.content, chance) if number % 2 else kind.spoiled(chance)
    kind.path.write_bytes(content)
    try:
        use(kind)
    except UprightError as error:
        return "refused" if "\n" not in str(error) else f"several lines: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "loads"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only")
    parser.add_argument("--out")
    asked = parser.parse_args(arguments)
    results, bad = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name, kind in formats(Path(folder)).items():
            if asked.only not in (None, name):
                continue
            ends = {"loads": 0, "refused": 0, "bad": 0}
            use(kind)  # the file that is right
            begin = time.monotonic()
            for number in range(asked.first, asked.first + asked.count):
                end = try_file(name, kind, asked.seed, number)
                if end not in ends:
                    bad.append({"format": name, "number": number, "end": end[:300]})
                    repeat = f"--only {name} --first {number} --count 1 --seed {asked.seed}"
                    print(f"bad: {repeat}: {end[:300]}")
                    end = "bad"
                ends[end] += 1
            kind.path.write_bytes(kind.content)
            results[name] = ends
            print(f"{name}: {ends} in {time.monotonic() - begin:.0f} s", flush=True)
    tried = sum(sum(ends.values()) for ends in results.values())
    if asked.out:
        result = {"seed": asked.seed, "tried": tried, "bad": bad, "formats": results}
        Path(asked.out).write_text(json.dumps(result, indent=2) + "\n")
    print(f"tried {tried}, bad {len(bad)}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

"""Random command lines: every command, its options with good, odd and hostile values.

    python tests/reliability/commands.py [--count N] [--seed S] [--out FILE.json]

Bad is a trace, an exit status other than 0, 1, 2 and 130, an error in more than one line, a status
of 2 without an error, a character that moves the cursor, or a file half written. Line i depends on
seed and i alone: `--seed S --only i` repeats it.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import traceback
import types
import typing
import warnings
from dataclasses import is_dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
import tyro

from upright import cli
from upright.files import is_unfinished
from upright.runners import jit
from upright.training.progress import Status

PHASES = typing.get_args(typing.get_type_hints(Status)["phase"])  # how a line of progress begins
TRAINS = ("train", "doctor", "resume")
NUMBERS = ["0", "1", "2", "7", "-1", "1e4", "2.5", "nan", "inf", "-inf", "", "x", "0x10", "1_000"]
NUMBERS += [str(2**31), str(2**32), str(2**63), "9" * 40, "1e-320", "1e400", "٣", "1,2", " 3"]
TEXTS = ["", "x", "-", "--", "a b", "\x1b[2J", "a\nb", "\udc80", "é", "../..", "/dev/null"]
TEXTS += ["a" * 300, "x" * 5000, "None", "[bold]", "%s", "{}", "~", "a=1", "1:2", "a=1:2", "*"]
TASKS = ["CartPole-v1", "MountainCar-v0", "Pendulum-v1", "CartPoleContinuous-v0", "Taxi-v4"]
TASKS += ["upright/CartPole-v1", "cartpole-v1", "json:X-v0", "nowhere:X-v0", ":X-v0", "a:b:c"]
PATHS = ["run", "run/best.safetensors", "policy", "missing", "empty", "cut", "text", "run/run.json"]
PATHS += [".", "/", "new/folder", "text/below", "run/seeds/0", "damaged"]
GOOD = ["run", "policy", "run/best.safetensors", "."]
PHYSICS = ["gravity=1", "gravity=-1", "half_length=1.0", "half-length=2", "gravity=1:9", "gravity"]
SMALL = ["--steps", "60", "--seeds", "1", "--agent.hidden", "4", "--agent.learning-starts", "9"]
SMALL += ["--agent.batch-size", "4", "--agent.epsilon-decay-steps", "50"]


def options(command, prefix="--"):
    """The type of each field of a command, by its option; and the names of what has none."""
    found, positional = {}, []
    for name, hint in typing.get_type_hints(command, include_extras=True).items():
        noted = typing.get_origin(hint) is typing.Annotated
        kind, *notes = typing.get_args(hint) if noted else (hint,)
        option = prefix + name.replace("_", "-")
        if is_dataclass(kind):
            found |= options(kind, f"{prefix}{name}.")[0]
        elif any(note is tyro.conf.Positional for note in notes):
            positional.append((option, kind))
        else:
            found[option] = kind
    return found, positional


def values(name, kind, rng):
    """What follows an option: mostly something of its kind."""
    if rng.random() < 0.04:
        return []
    pool = NUMBERS
    if name in ("--target", "--run", "--runs", "--folder", "--out", "--gif", "--mp4"):
        pool = [*PATHS, *GOOD, *GOOD, *GOOD]
        if name in ("--gif", "--mp4"):
            pool = [f"{path}.{name[2:]}" for path in pool]
    elif name == "--task":
        pool = TASKS
    elif name in ("--physics", "--randomise"):
        pool = PHYSICS
    elif typing.get_origin(kind) is typing.Literal or isinstance(kind, types.UnionType):
        parts = [kind] if typing.get_origin(kind) is typing.Literal else typing.get_args(kind)
        chosen = [str(choice) for part in parts for choice in typing.get_args(part)]
        pool = [*chosen, *NUMBERS]
    if rng.random() < 0.08:
        pool = TEXTS
    count = int(rng.choice([1] * 12 + [2, 3]))
    return [str(rng.choice(np.array(pool, object))) for _ in range(count)]


def random_line(rng):
    """A command line; those that compute have tiny budgets, unless their own option says else."""
    name = str(rng.choice([*cli.COMMANDS, "show", "evaluate", "tasks", "runs"]))
    if rng.random() < 0.02:
        name = str(rng.choice(np.array(TEXTS, object)))
        return [name]
    known, positional = options(import_module(f"upright.cli.{name}").Command)
    line = [name]
    for option, kind in positional:
        line += values(option, kind, rng)
        if name == "merge":
            line += ["run", "--out", f"merged{rng.integers(3)}"]
    if name == "train" and rng.random() < 0.7:
        line += [*SMALL, "--out", f"out{rng.integers(3)}"]
    if name == "evaluate":
        line += ["--episodes", "2"]
    elif name == "doctor":
        line += ["--seeds", "1", "--steps", "900"]
    for option in rng.permutation([*known])[: rng.integers(0, 4)]:
        if option in ("--agent.replay-size", "--render") or name == "doctor":
            continue  # much memory, a window, long computations
        flag = known[option] is bool
        line += [
            str(option),
            *([] if flag and rng.random() < 0.8 else values(option, known[option], rng)),
        ]
    if rng.random() < 0.05:
        line.insert(int(rng.integers(len(line) + 1)), str(rng.choice(np.array(TEXTS, object))))
    return line


def affordable(line):
    """Whether a line that trains says itself that it is small, as the last word that counts."""
    if line[0] not in TRAINS:
        return True
    given = dict(zip(line, [*line[1:], ""], strict=True))
    small = {"1", "2", "7", "60", "-1", "0"}
    limits = ("--steps", "--seeds", "--episodes", "--evaluation-episodes", "--evaluate-every")
    if any(given.get(name, "1") not in small for name in limits if name != "--evaluate-every"):
        return not any(given.get(name, "x").strip().isdigit() for name in limits)
    return line[0] == "resume" or "--steps" in given


def prepare(folder):
    """A run, a policy, and files that are none."""
    os.chdir(folder)
    call(["train", "CartPole-v1", *SMALL, "--out", "run"])
    shutil.copy("run/best.safetensors", "policy")
    Path("cut").write_bytes(Path("policy").read_bytes()[:-5])
    Path("text").write_text("hello\n")
    for name in "empty", "damaged":
        Path(name).mkdir()
    Path("damaged/run.json").write_text('{"format": ')


def call(line):
    """Exit status, standard output, standard error; a trace is in the error."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv, warnings.showwarning, [*warnings.filters]
    sys.argv = ["upright", *line]
    status = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if end.code is not None else 0
        except BaseException:
            status = "trace"
            traceback.print_exc()
    sys.argv, warnings.showwarning, warnings.filters[:] = before
    return status, out.getvalue(), err.getvalue()


def complaint(status, output, errors):
    """What is bad about the end of a command, or None."""
    lines = [
        line for line in errors.splitlines() if not line.startswith((*PHASES, "upright: warning: "))
    ]
    if status not in (0, 1, 2, 130):
        return f"status {status}: {lines[-1] if lines else ''}"
    if "Traceback" in errors:
        return "a trace"
    if status == 2 and (len(lines) != 1 or not lines[0].startswith("upright: ")):
        return f"not one line: {lines}"
    if status == 0 and lines:
        return f"said in spite of status 0: {lines}"
    hidden = [c for c in output + errors if not c.isprintable() and c != "\n"]
    if hidden:
        return f"raw control characters {hidden[:5]}"
    if left := [path for path in Path().rglob(".*") if is_unfinished(path)]:
        return f"half written: {left}"
    return None


def one(seed, index):
    """Makes and runs line number `index`; the line, and what is bad about it."""
    rng = np.random.default_rng([seed, index])
    line = random_line(rng)
    while not affordable(line):
        line = random_line(rng)
    line = [argument.replace("\0", "") for argument in line]  # no shell can pass it
    return line, complaint(*call(line))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = options.out.absolute() if options.out else None
    jit.prepare()
    bad = {}
    chosen = range(options.count) if options.only is None else [options.only]
    with tempfile.TemporaryDirectory() as folder:
        prepare(folder)
        for tried, index in enumerate(chosen, 1):
            line, wrong = one(options.seed, index)
            if wrong:
                bad[index] = {"line": line, "bad": wrong}
                print(f"bad: --seed {options.seed} --only {index}: {line!r}: {wrong}")
            if tried % 100 == 0:
                print(f"{tried} of {len(chosen)}, bad {len(bad)}", flush=True)
        os.chdir("/")
    print(f"tried {len(chosen)}, bad {len(bad)}")
    if result:
        ends = {"seed": options.seed, "tried": len(chosen), "bad": bad}
        result.write_text(json.dumps(ends, indent=2) + "\n")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()

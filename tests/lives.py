"""A training that is killed again and again, as a program: lives.py FOLDER RUNNER KILLS.

Imports once and forks for each life, before JAX has started any thread. A life ends by a SIGKILL
to itself, in the middle of one of the calls by which a run folder is written, or at some moment.
"""

import io
import os
import random
import signal
import sys
import threading
import warnings
from pathlib import Path

from upright.agents.dqn import DQN
from upright.runs.seed_writer import SeedWriter
from upright.training.train import resume, train

QUICK = DQN(hidden=(8,), batch_size=8, replay_size=600, learning_starts=50, epsilon_decay_steps=500)
TASKS = {"compiled": "CartPole-v1", "hosted": "walks:Walk-v0"}


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_call(calls):
    """Of all that writes, in the call after so many; of a file, half has been written then."""

    def due():
        nonlocal calls
        calls -= 1
        return calls < 0

    def counted(function):
        def call(*arguments, **options):
            if due():
                die()
            return function(*arguments, **options)

        return call

    class File(io.BufferedWriter):
        def write(self, content):
            if due():
                super().write(content[: len(content) // 2])
                self.flush()
                die()
            return super().write(content)

    def open_path(path, mode="r", *arguments, **options):
        if mode in ("ab", "wb", "xb"):
            return File(io.FileIO(path, mode))
        return usual(path, mode, *arguments, **options)

    usual, Path.open = Path.open, open_path
    os.fsync, os.replace = counted(os.fsync), counted(os.replace)
    SeedWriter.append, os.truncate = counted(SeedWriter.append), counted(os.truncate)
    Path.unlink, Path.mkdir = counted(Path.unlink), counted(Path.mkdir)


def die_later(seconds):
    """Once it trains: after so long."""

    def watch(status):
        if status.phase == "training":
            threading.Timer(seconds, die).start()

    return watch


def live(out, runner, watch):
    task = TASKS[runner]
    if (out / "run.json").exists():
        resume(out, task=task, watch=watch)
        return
    budget = {"steps": 2500, "evaluate_every": 200, "evaluation_episodes": 2}
    budget |= {"checkpoint_every": 70, "runner": runner}
    train(task, agent=QUICK, seeds=2, out=out, watch=watch, **budget)


def main(out, runner, kills):
    """Prints how many lives it took."""
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    chance = random.Random(f"{runner} {kills}")
    lives = 0
    while True:
        child = os.fork()
        if not child:
            watch = None
            if lives < kills and lives % 4:
                die_in_call(chance.randrange(40))
            elif lives < kills:
                watch = die_later(chance.uniform(0, 0.1))
            live(out, runner, watch)
            os._exit(0)
        lives += 1
        chance.random()
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(lives, os.waitstatus_to_exitcode(status))
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))

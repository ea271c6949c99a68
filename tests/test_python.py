"""Upright in a script or a notebook: arguments of any sensible kind, Ctrl-C, clear refusals."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
import pytest
from walks import Counting

import upright
from upright import DQN, UprightError
from upright.errors import UprightWarning

QUICK = DQN(hidden=(8,), batch_size=8, learning_starts=50, replay_size=500)
SMALL = {"agent": QUICK, "seeds": 1, "steps": 300}


def make_cart(render_mode=None):
    return gym.make("CartPole-v1", max_episode_steps=60, render_mode=render_mode)


class Arm(Counting):
    """Somebody's own class, made without arguments."""

    def __init__(self):
        super().__init__(length=8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return upright.train(out=tmp_path_factory.mktemp("runs") / "run", **SMALL)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run whose task was made by a function."""
    return upright.train(make_cart, out=tmp_path_factory.mktemp("runs") / "made", **SMALL)


def kinds(run):
    """A run, and its best policy, in every way to say them."""
    best = run.path / "best.safetensors"
    return [run, run.path, str(run.path), run.best(), best, str(best)]


def test_a_policy_is_given_in_any_way(run):
    returns = [upright.evaluate(given, episodes=2).returns.tolist() for given in kinds(run)]
    assert returns == [returns[0]] * 6


def test_show_takes_whatever_it_is(run, capsys):
    for given in kinds(run):
        upright.show(given)
        assert "CartPole-v1" in capsys.readouterr().out


def test_a_run_is_given_in_any_way(run, tmp_path):
    for number, given in enumerate(kinds(run)[:3]):
        assert upright.plot(given, tmp_path / str(number))[0].exists()
    for number, given in enumerate(kinds(run)[:3]):
        upright.resume(given, steps=310 + number)
    assert upright.Run(run.path).results[0].steps == 312


def test_a_function_makes_the_task(made, tmp_path):
    assert (made.status, made.spec.task, made.spec.episode_steps) == ("finished", "make_cart()", 60)
    assert made.results[0].final_evaluation
    with pytest.raises(UprightError, match=r"'make_cart\(\)' was made by a function .* task="):
        upright.evaluate(made)
    assert max(upright.evaluate(made, task=make_cart, episodes=3).lengths) <= 60
    episode = upright.play(made, task=make_cart, files=tmp_path / "cart.gif")
    assert 0 < episode.steps <= 60
    assert (tmp_path / "cart.gif").exists()


def test_a_run_of_a_function_goes_on_with_it_alone(made):
    before = (made.path / "run.json").read_bytes()
    for task in (None, "CartPole-v1", Arm):
        with pytest.raises(UprightError, match=r"make_cart\(\)"):
            upright.resume(made, steps=400, task=task)
        assert (made.path / "run.json").read_bytes() == before
    assert upright.resume(made, steps=400, task=make_cart).results[0].steps == 400


class Breaks(Arm):
    def step(self, action):
        raise RuntimeError("no air")


@pytest.mark.filterwarnings("ignore:epsilon is still")
def test_a_training_that_failed_is_warned_of(tmp_path):
    with pytest.warns(UprightWarning, match="seed 0 failed: .* no air .*, and 1 more of 2 failed"):
        run = upright.train(Breaks, out=tmp_path / "run", **{**SMALL, "seeds": 2})
    assert run.status == "failed"
    with pytest.warns(UprightWarning, match="no air"):
        upright.resume(run, task=Breaks)


def test_a_class_or_a_lambda_is_a_task_too(tmp_path):
    run = upright.train(Arm, out=tmp_path / "arm", **SMALL)
    assert (run.spec.task, run.spec.observation_size) == ("Arm()", 1)
    run = upright.train(lambda: make_cart(), out=tmp_path / "cart", **SMALL)
    assert (run.spec.task, run.spec.episode_steps) == ("CartPole-v1()", 60)


def test_a_function_that_makes_no_pictures_is_told_how(made, tmp_path):
    def make_cart():
        return gym.make("CartPole-v1")

    with pytest.raises(UprightError, match="let it take render_mode"):
        upright.play(made, task=make_cart, files=tmp_path / "cart.gif")
    assert not list(tmp_path.iterdir())


# In a program of its own, where arguments are not held to their annotations as in the tests.
REFUSALS = {
    "train(3)": "task is 3; it must be an id such as 'CartPole-v1', or a function",
    "train(gym.make('CartPole-v1'))": "task is an environment, .*; give what makes it",
    "train(dict)": "makes a dict; it must make a gymnasium.Env",
    "train(lambda: 1 / 0)": "cannot be made: division by zero",
    "train(make_cart, runner='compiled')": "made by a function, so it is hosted",
    "train(make_cart, physics={'gravity': 3})": "let it set physics and env itself",
    "train(tsak='CartPole-v1')": "train has no argument 'tsak'; did you mean task",
    "train(agent=3)": r"agent is 3; it must be the settings of one, as upright\.DQN\(\)",
    "train(agent=DQN)": "agent is the class DQN; give its settings",
    "train(seeds=None)": "seeds 'None': expected a number of seeds",
    "train(steps='100')": "steps is '100'; it must be a whole number",
    "train(steps=True)": "steps is True; it must be a whole number",
    "train(preset='artcle')": "unknown preset 'artcle'; did you mean article",
    "train(preset=None)": "preset is None; it must be one of default, article",
    "train(runner='compield')": "runner is 'compield'; it must be auto, compiled or hosted",
    "train(render='humn')": "render is 'humn'; it must be 'human'",
    "train(physics=3)": "physics is 3; it must be parameters by name",
    "train(physics={'gravty': 3})": "no parameter 'gravty'; did you mean gravity",
    "train(env={'size': [4]})": r"env: size is \[4\]; it must be a finite number",
    "train(env={5: 1})": "env has a name 5; it must be the environment's arguments by name",
    "train(physics={5: 1})": "physics has a name 5; it must be parameters by name",
    "train(physics={'gravity': 10**5000})": "gravity is a number of more than 40 digits; it must",
    "train(randomise={'gravity': 10**5000})": "gravity is a number of more than 40 .*lowest, high",
    "train(environments=10**5000)": "environments is a number of more than 40 digits; it must be",
    "Channel('x', 'm', scale=10**5000)": "'x': scale is a number of more than 40 digits; it must",
    "register(10**5000, dict)": "task id a number of more than 40 digits; it must be a name",
    "train(randomise={5: (1, 2)})": "randomise has a name 5; it must be parameters by name",
    "train(seeds=[10**5000])": "seed a number of more than 40 digits; a seed must be",
    "train(env={'x': 1}, physics={'gravity': 1})": "physics and env are both given",
    "train(out=3)": "out is 3; it must be the path of a folder",
    "train(watch=3)": "watch is 3; it must be a function",
    "train(join=True)": "give its folder: out",
    "DQN(gama=0.9)": "DQN has no argument 'gama'; did you mean gamma",
    "DQN(hidden='64')": "hidden is '64'; it must be a tuple of whole numbers",
    "evaluate(3)": "policy is 3; it must be a Policy, a Run, or the path of one",
    "evaluate('nowhere')": "nowhere: ",
    "evaluate(run, episodes='3')": "episodes is '3'; it must be a whole number",
    "evaluate(run, physics=[1])": "physics is .*; it must be parameters by name",
    "evaluate(run, physics={None: 1})": "physics has a name None; it must be parameters by name",
    "evaluate(run, env={5: 1})": "env has a name 5; it must be the environment's arguments by name",
    "evaluate(run, env={'id': 'x'})": "env: id is upright's to set",
    "evaluate(run, episodes=10**5000)": "episodes is a number of more than 40 digits",
    "evaluate(run, task='CartPole-v9')": "'CartPole-v9'.* `v0`",
    "plot(run.best())": r"run is Policy\(.*\); it must be a Run, or the folder of one",
    "resume(None)": "run is None; it must be a Run",
    "resume(run, steps='9')": "steps is '9'; it must be a whole number",
    "resume(run, episodes=9)": "this run's budget is in steps; use steps",
    "play(run, files=3)": "files is 3; it must be paths of videos",
    "show(3)": "target is 3; it must be a Run, a Policy, or the path of one",
    "merge(run, 'x')": "one run alone",
    "merge([run, run], 3)": "out is 3; it must be the path of a folder",
    "Run(3)": "run is 3; it must be the folder of a run",
    "find_runs(3)": "place is 3; it must be a folder",
    "load_policy(3)": "policy is 3; it must be the path of a policy file",
    "register('Wheel-v7', None)": "must be the task's class, or a function",
    "register('Wheel-v7', object())": "must be the task's class, or a function",
    "register(3, dict)": "task id 3; it must be a name with a version",
    "run.best().act(['a'])": "observation is .*; it must be numbers",
    "run.best().act(['1', '2', '3', '4'])": "observation is .*; it must be numbers",
    "run.best().act(None)": "observation is None; it must be numbers",
    "run.best().act([0, [1]])": "observation is .*; it must be numbers",
    "Learner('CartPole-v1')": r"spec is 'CartPole-v1'; it must be an upright\.Spec",
    "learner.observe(None, [0] * 4, False)": "reward is None; it must be numbers",
    "learner.observe([1, 2], [0] * 4, False)": r"reward of shape \(2,\): expected one number",
    "learner.observe(1, 'x', False)": "observation is 'x'; it must be numbers",
    "learner.observe(1, [0] * 4, False, action='x')": "action is 'x'; it must be numbers",
}
ASK = """
import json, sys
import gymnasium as gym
import numpy as np
from upright import *
def make_cart(): return gym.make("CartPole-v1")
assert DQN(hidden=[64, 32]) == DQN(hidden=np.array([64, 32])) == DQN(hidden=(64, 32))
assert type(DQN(gamma=np.float32(0.5)).gamma) is float
run = Run(sys.argv[1])
learner = Learner(run.spec, DQN(hidden=[8]))
learner.act([0, 0, 0, 0])
said = {}
for words in json.load(sys.stdin):
    try:
        eval(words)
    except UprightError as error:
        said[words] = str(error)
    except Exception as error:
        said[words] = repr(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def refusals(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("refusals")
    done = subprocess.run(
        [sys.executable, "-c", ASK, run.path],
        input=json.dumps(list(REFUSALS)),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not list(folder.iterdir())
    return json.loads(done.stdout)


@pytest.mark.parametrize("words", REFUSALS)
def test_a_wrong_argument_is_one_line_in_pythons_words(refusals, words):
    said = refusals[words]
    assert re.search(REFUSALS[words], said)
    assert "--" not in said
    assert len(said.splitlines()) == 1


def test_a_learner_says_what_it_is(run):
    learner = upright.Learner(run.spec, QUICK)
    assert repr(learner) == "Learner(CartPole-v1: DQN, seed 0, step 0)"


def test_what_things_are_is_one_short_line(run):
    evaluation = upright.evaluate(run, episodes=3)
    for thing in (run, run.best(), run.spec, evaluation):
        assert len(repr(thing)) < 120
        assert "array" not in repr(thing)
    assert repr(run.best()).startswith("Policy(CartPole-v1: 4-8-2, by DQN, seed 0, step ")
    assert repr(evaluation).startswith("Evaluation(3 episodes: mean return ")


PROGRAM = """
import upright
try:
    run = upright.train(
        seeds=2, steps=10**8, agent=upright.DQN(hidden=[8]), out="run", watch=print
    )
except KeyboardInterrupt as end:
    print(end.run.status, end)
    raise
print("it goes on")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_follows_when_all_is_saved(tmp_path, name):
    number = getattr(signal, name)
    command = [sys.executable, "-c", PROGRAM]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as process:
        while not (tmp_path / "run" / "best.safetensors").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    assert process.returncode == -number
    assert "it goes on" not in output
    said = output if name == "SIGINT" else errors
    assert "run holds all that was learned, go on with: upright.resume('run')" in said
    run = upright.Run(tmp_path / "run")
    assert run.status == "interrupted"
    assert all((path / "last.safetensors").exists() for path in (run.path / "seeds").iterdir())


def test_a_window_that_nobody_sees_is_refused(tmp_path, monkeypatch, run):
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    before = (run.path / "run.json").read_bytes()
    with pytest.raises(UprightError, match="no display for a window; leave render out"):
        upright.train(render="human", **SMALL)
    with pytest.raises(UprightError, match="no display for a window"):
        upright.resume(run, steps=500, render="human")
    assert not list(tmp_path.iterdir())
    assert (run.path / "run.json").read_bytes() == before


def test_nothing_is_shown_where_nobody_looks(tmp_path, capfd):
    upright.train(out=tmp_path / "run", **SMALL)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "imports",
    [
        "import gymnasium; import upright",
        "import upright; import gymnasium",
        "from gymnasium import spaces; import upright; import gymnasium",
        "import upright, importlib; importlib.reload(upright); import gymnasium",
        "import upright, gymnasium, importlib; importlib.reload(upright)",
    ],
)
def test_gymnasium_and_upright_are_imported_in_any_order(imports):
    program = f"{imports}; assert 'upright/CartPole-v1' in gymnasium.registry"
    folder = Path(upright.__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True)
    assert done.returncode == 0, done.stderr

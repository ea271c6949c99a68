"""The hosted runner: agents in any Gymnasium environment."""

import os
import re
import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import jax
import numpy as np
import pytest
from walks import Counting, Walk, files, outcomes, states

import upright
from upright import DQN, Run, UprightError
from upright.runs.folder import policy_path, seed_folder
from upright.tasks.catalogue import make_task

QUICK = DQN(
    hidden=(8,),
    batch_size=8,
    replay_size=600,
    learning_starts=50,
    gradient_steps=1,
    epsilon_decay_steps=200,
)
BUDGET = {"steps": 300, "evaluate_every": 100, "evaluation_episodes": 1, "checkpoint_every": 50}


def train(task, out, **arguments):
    return upright.train(task, out=out, **{"agent": QUICK, "seeds": "5,", **BUDGET, **arguments})


@pytest.fixture
def register(monkeypatch):
    """Registers an environment for the time of a test."""

    def register(name, *arguments, **options):
        gym.register(name, *arguments, **options)
        monkeypatch.setitem(gym.registry, name, gym.registry.pop(name))

    return register


@pytest.fixture
def walk(monkeypatch):
    """Walks numbered from 1 on, and one group for all seeds."""
    monkeypatch.setattr(Walk, "made", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    return monkeypatch


class Recorded(gym.Env):
    """Plays back what a compiled run has stored, and expects its actions."""

    action_space = gym.spaces.Discrete(2)

    def __init__(self, rows, ends, scales, count):
        scales = np.array(scales, np.float32)
        self.observation_space = gym.spaces.Box(-scales, scales)
        self.action_space = gym.spaces.Discrete(count)
        size = len(scales)
        self.observations, self.nexts = rows[:, :size], rows[:, size + 3 : -1]
        self.actions, self.rewards, self.discounts = rows[:, size : size + 3].T
        self.ends = ends
        self.time, self.plays = 0, False

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        # The first one that is reset learns, the others evaluate.
        self.plays = self.plays or not Recorded.begun
        Recorded.begun = True
        return self.observations[self.time % len(self.observations)], {}

    def step(self, action):
        if not self.plays:
            return self.observations[0], 0.0, True, False, {}
        time, self.time = self.time, self.time + 1
        assert action == self.actions[time], time
        terminated = self.discounts[time] == 0
        return (
            self.nexts[time],
            self.rewards[time],
            terminated,
            not terminated and self.ends[time],
            {},
        )


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("CartPole-v1", {"gradient_steps": 1}),
        ("CartPole-v1", {"gradient_steps": 2, "target_update": "episodes", "target_interval": 3}),
        ("PendulumDiscrete-v1", {"gradient_steps": 1}),  # its episodes end by their time limit
    ],
)
def test_the_same_transitions_give_the_same_agent_through_both_runners(
    tmp_path, register, monkeypatch, task, changes
):
    agent = replace(QUICK, **changes)
    compiled = train(task, tmp_path / "compiled", agent=agent, steps=420)
    expected = states(compiled)[5]
    spec = make_task(task).spec
    ends = np.isin(np.arange(1, 421), compiled.table("episodes")["step"])
    assert ends.any()
    monkeypatch.setattr(Recorded, "begun", False, raising=False)
    # The first one that is played is learned from.
    monkeypatch.setattr("upright.checks.determinism.glance", lambda env: None)

    def make():
        rows = np.asarray(expected.memory.rows)
        scales = [channel.scale for channel in spec.observation.channels]
        return Recorded(rows, ends, scales, spec.action_size)

    register("Recorded-v0", make)
    hosted = train("Recorded-v0", tmp_path / "hosted", agent=agent, steps=420)
    assert hosted.status == "finished", hosted.results[0].error
    found = states(hosted)[5]
    assert np.array_equal(found.memory.rows, expected.memory.rows)
    for (name, a), b in zip(
        jax.tree.leaves_with_path(expected.agent), jax.tree.leaves(found.agent), strict=True
    ):
        np.testing.assert_array_equal(a, b, jax.tree_util.keystr(name))


def bits(tree):
    return [(str(leaf.dtype), np.asarray(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def rows_of(run, name, seed):
    return (seed_folder(run.path, seed) / f"{name}.csv").read_text().splitlines()[1:]


@pytest.mark.parametrize("cores", [1, 3])
def test_a_seed_alone_is_bit_for_bit_the_seed_among_eight(tmp_path, monkeypatch, cores):
    """In one group of eight, and in the last one of groups of three, three and two."""
    # So large that a product of all seeds together would add in another order.
    agent = replace(QUICK, hidden=(32, 32), batch_size=32)
    alone = train("Walk-v0", tmp_path / "alone", seeds="7,", steps=150, agent=agent)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    among = train("Walk-v0", tmp_path / "among", seeds=8, steps=150, agent=agent)
    found = states(among)
    assert bits(found[7]) == bits(states(alone)[7])
    assert len({str(bits(found[seed].agent.params)) for seed in range(8)}) == 8
    for name in ("episodes", "evaluations", "learning"):
        assert rows_of(among, name, 7) == rows_of(alone, name, 7) != []
    for name in ("kept", "last"):
        path = f"seeds/07/{name}.safetensors"
        assert (among.path / path).read_bytes() == (alone.path / path).read_bytes()


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2,
    reason="needs a choice of cores",
)
def test_the_number_of_cores_does_not_matter(tmp_path):
    program = (
        "import os, sys;"
        "os.sched_setaffinity(0, set(list(os.sched_getaffinity(0))[: int(sys.argv[1])]));"
        "import test_hosted; test_hosted.train('Walk-v0', sys.argv[2], seeds=3)"
    )
    runs = [tmp_path / "1", tmp_path / "2"]
    for run in runs:
        command = [sys.executable, "-c", program, run.name, run]
        subprocess.run(command, cwd=os.path.dirname(__file__), check=True)
    assert files(Run(runs[0])) == files(Run(runs[1]))


@pytest.mark.parametrize(("terminates", "discount"), [(True, 0), (False, 1)])
def test_what_is_stored_of_an_episode_and_its_end(tmp_path, register, terminates, discount):
    """Three steps, true last observation, no reset step; only a termination ends the value."""
    make = lambda: Counting(3, terminates)  # noqa: E731
    register("Counting-v0", make, max_episode_steps=3)
    run = train("Counting-v0", tmp_path / "run", steps=60)
    observation, _, reward, discounts, following, ended = states(run)[5].memory.rows.T
    assert list(observation) == [0, 1, 2] * 20
    assert list(following) == [1, 2, 3] * 20
    assert list(reward) == [1] * 60
    assert list(discounts) == [1, 1, discount] * 20
    assert list(ended) == [0, 0, 1] * 20
    table = run.table("episodes")
    assert list(table["step"]) == list(range(3, 61, 3))
    assert set(table["length"]) == set(table["return"]) == {3}
    assert set(table["terminated"]) == {int(terminates)}


def test_wrappers_of_the_registration_are_respected(tmp_path, register):
    half = gym.wrappers.ClipReward.wrapper_spec(max_reward=0.5)
    register("Clipped-v0", Counting, additional_wrappers=(half,))
    register("Tenfold-v0", lambda: gym.wrappers.TransformReward(Counting(), lambda r: 10 * r))
    for name, expected in [("Clipped-v0", 1.5), ("Tenfold-v0", 30)]:
        run = train(name, tmp_path / name, steps=60)
        assert set(run.table("episodes")["return"]) == {expected}
        assert set(run.table("evaluations")["mean_return"]) == {expected}
        assert run.results[0].final_evaluation.mean_return == expected


def test_finite_bounds_are_the_scaling(tmp_path, register):
    register("Counting-v0", Counting)
    policy = train("Counting-v0", tmp_path / "run", steps=60).policy(5)
    assert (list(policy.offset), list(policy.scale)) == ([4], [4])
    assert list(policy.choose(np.array([[0.0], [8.0]]))) == [
        int(np.argmax(policy.q_values(np.array(x)))) for x in ([0.0], [8.0])
    ]


@pytest.fixture(scope="module")
def walked(tmp_path_factory):
    """Three seeds without a mishap."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
        return train("Walk-v0", tmp_path_factory.mktemp("runs") / "run", seeds=3)


def test_without_bounds_the_scaling_is_mean_and_standard_deviation(walked):
    """Of all observations that were acted on."""
    for seed, state in states(walked).items():
        seen = np.asarray(state.memory.rows, np.float64)[:, :2]
        assert len(seen) == 300
        policy = upright.load_policy(policy_path(walked.path, seed, "last"))
        np.testing.assert_allclose(policy.offset, seen.mean(axis=0), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(policy.scale, seen.std(axis=0), rtol=1e-4)


def test_an_evaluation_uses_exactly_that_scaling(walked):
    """Greedy episodes by hand: ReLU layers on (observation - offset) / scale."""
    table = walked.table("evaluations")
    for seed in walked.seeds:
        policy = upright.load_policy(policy_path(walked.path, seed, "last"))
        (w1, w2), (b1, b2) = policy.weights, policy.biases
        env = gym.make("Walk-v0")
        judged = upright.evaluate(policy, episodes=5, seed=2025)  # where training evaluates, too
        returns = []
        for start in judged.reset_seeds:
            observation, _ = env.reset(seed=start)
            total, over = 0.0, False
            while not over:
                scaled = (observation.astype(np.float32) - policy.offset) / policy.scale
                q = w2 @ np.maximum(w1 @ scaled + b1, 0) + b2
                observation, reward, terminated, truncated, _ = env.step(q.argmax())
                total, over = total + reward, terminated or truncated
            returns.append(total)
        np.testing.assert_allclose(judged.returns, returns)
        mine = (table["seed"] == seed) & (table["step"] == 300)
        np.testing.assert_allclose(table["mean_return"][mine], returns[0], rtol=1e-5)


class Odd(gym.Env):
    """Whole numbers in a matrix, and actions that begin at 5."""

    observation_space = gym.spaces.Box(-10, 30, (2, 3), np.int32)
    action_space = gym.spaces.Discrete(3, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.array([[0, 1, 2], [3, 4, 5]], np.int32), {}

    def step(self, action):
        assert type(action) is int
        assert self.action_space.contains(action)
        # NumPy's numbers, as many environments return them.
        return np.full((2, 3), action, np.int32), np.float32(action), np.True_, np.False_, {}


def test_matrices_whole_numbers_and_shifted_actions_are_understood(tmp_path, register):
    register("Odd-v0", Odd)
    run = train("Odd-v0", tmp_path / "run", steps=100)
    assert run.status == "finished", run.results[0].error
    rows = np.asarray(states(run)[5].memory.rows)
    assert rows[:, :6].tolist() == [[0, 1, 2, 3, 4, 5]] * 100
    assert set(rows[:, 6]) == {0, 1, 2}
    assert np.array_equal(rows[:, 9:15], np.tile(rows[:, 6:7] + 5, 6))
    assert np.array_equal(rows[:, 7], rows[:, 6] + 5)
    policy = run.policy(5)
    assert policy.spec.observation.channels[4].name == "observation[1, 1]"
    assert (list(policy.offset), list(policy.scale)) == ([10] * 6, [20] * 6)
    judged = upright.evaluate(policy, episodes=1)
    assert judged.returns[0] == 5 + policy.choose(np.array([[0.0, 1, 2, 3, 4, 5]]))[0]


def test_bounds_beyond_float32_are_none(tmp_path, register):
    class Wide(Counting):
        observation_space = gym.spaces.Box(-1e300, 1e300, (1,), np.float64)

    register("Wide-v0", Wide)
    run = train("Wide-v0", tmp_path / "run", steps=60)
    np.testing.assert_allclose(run.policy(5).offset, 1, rtol=1e-5)


def broken(number, episode, step, result):
    """What one walk does in one step (0: the reset) of one episode."""

    def mishap(walk, place):
        if (walk.number, walk.episodes, walk.steps) == (number, episode, step):
            if result is None:
                raise RuntimeError("gearbox")
            return result
        return None

    return staticmethod(mishap)


NAN, INF = float("nan"), float("inf")


@pytest.mark.filterwarnings("ignore:.*seed 1 failed")
# Walk 1 tells the spec, 2 to 4 are those of the three seeds, the fifth evaluates them in turn.
@pytest.mark.parametrize(
    ("where", "result", "complaint"),
    [
        (
            (3, 4, 2),
            None,
            "in step {0}, episode 4, the environment's step raised RuntimeError: gearbox",
        ),
        ((3, 4, 2), [INF, -INF], "in step {0}, episode 4, the environment's observation is not"),
        ((3, 4, 2), [1, 2, 3], "in step {0}, episode 4, the environment's observation has shape"),
        ((3, 4, 0), [0, NAN], "at the reset of episode 4, the environment's observation"),
        ((3, 1, 0), None, "at the reset of episode 1, the environment's reset raised Runtime"),
        ((5, 2, 0), None, "while it was evaluated, the environment's reset raised RuntimeError"),
        ((5, 5, 3), None, "while it was evaluated, the environment's step raised RuntimeError"),
        ((5, 5, 3), [NAN, 0], "while it was evaluated, the environment's observation"),
    ],
)
def test_a_seed_whose_environment_fails_stops_alone_and_can_go_on(
    tmp_path, walk, walked, where, result, complaint
):
    """Once the environment is mended, the run ends as if nothing had been."""
    table = walked.table("episodes")
    begin = table["step"][(table["seed"] == 1) & (table["episode"] == 3)][0]
    walk.setattr(Walk, "mishap", broken(*where, result))
    run = train("Walk-v0", tmp_path / "run", seeds=3)
    for again in (False, True):
        if again:  # not mended yet
            walk.setattr(Walk, "made", 0)
            # The others have finished: walk 2 is that of the seed, 3 evaluates. They are new: the
            # episode that went wrong is their first one.
            walk.setattr(Walk, "mishap", broken({3: 2, 5: 3}[where[0]], 1, where[2], result))
            run = upright.resume(run.path)
        assert run.status == "failed"
        assert [result.state for result in run.results] == ["finished", "failed", "finished"]
        error = run.results[1].error
        assert error.startswith(complaint.format(int(begin) + max(1, where[2])))
        for seed in (0, 2):
            assert run.results[seed].final_evaluation == walked.results[seed].final_evaluation
            for name in ("episodes", "evaluations", "learning"):
                assert rows_of(run, name, seed) == rows_of(walked, name, seed)
    walk.setattr(Walk, "mishap", staticmethod(lambda walk, place: None))
    mended = upright.resume(run.path)
    assert mended.status == "finished"
    assert files(mended) == files(walked)
    assert outcomes(mended) == outcomes(walked)


def test_a_failed_environment_is_one_line_and_status_2(tmp_path, walk, call):
    walk.setattr(Walk, "mishap", broken(2, 2, 1, None))
    out = tmp_path / "run"
    command = ["train", "Walk-v0", "--seeds", "1", "--steps", "600", "--out", out]
    status, _, errors = call(*command, "--agent.hidden", "8")
    assert status == 2
    error = Run(out).results[0].error
    line = errors.splitlines()[-1]
    assert line.startswith(f"upright: seed 0: {error}; fix it, then continue with: ")
    assert line.endswith(f"upright resume {out}")


class Bad(gym.Env):
    def __init__(self, observation=Counting.observation_space, action=Counting.action_space):
        self.observation_space, self.action_space = observation, action


BOX = gym.spaces.Box(0, 1, (2,))


@pytest.mark.parametrize(
    ("task", "spaces", "complaint"),
    [
        ("Bad-v0", {"observation": gym.spaces.Dict({"a": BOX})}, "Dict.*FlattenObservation"),
        ("Bad-v0", {"observation": gym.spaces.Tuple([BOX])}, "Tuple.*FlattenObservation"),
        ("Bad-v0", {"observation": gym.spaces.Discrete(4)}, r"Discrete\(4\), no Box"),
        ("Bad-v0", {"action": BOX}, "DQN chooses among values, Bad-v0 has a continuous action"),
        ("Bad-v0", {"action": gym.spaces.MultiDiscrete([2, 2])}, "MultiDiscrete.*need Discrete"),
        ("LunarLander-v3", {}, r"gymnasium\[box2d\]"),
        ("no_such_module:Arm-v0", {}, "no module 'no_such_module'"),
        ("Wolk-v0", {}, "did you mean Walk-v0"),
        ("Walk-v7", {}, "Walk"),
        ("", {}, "task ''"),
        ("a:b:c", {}, "task 'a:b:c'"),
    ],
)
def test_what_cannot_be_trained_is_one_line(
    tmp_path, monkeypatch, register, call, task, spaces, complaint
):
    register("Bad-v0", Bad, kwargs=spaces)
    monkeypatch.chdir(tmp_path)
    status, output, errors = call("train", task, "--seeds", "1")
    assert (status, output) == (2, "")
    line = errors.splitlines()[-1]
    assert re.search(complaint, line), line
    assert [line for line in errors.splitlines() if not line.startswith("compiling")] == [line]
    assert not list(tmp_path.iterdir())


MODULE = """
import gymnasium as gym
import numpy as np

class Arm(gym.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space = gym.spaces.Box(-1.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), float(action), self.steps == 5, False, {}

    def render(self):
        return np.zeros((64, 64, 3), np.uint8)

gym.register("Arm-v0", Arm)
"""


def test_a_module_in_this_folder_is_imported_only_if_the_user_names_it(tmp_path, monkeypatch, call):
    (tmp_path / "my_robot.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "upright", "train", "my_robot:Arm-v0", "--out", "run"]
    command += ["--seeds", "1", "--steps", "600", "--agent.hidden", "8"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "my_robot:Arm-v0" in done.stdout
    kept = {"evaluate": [], "play": ["--gif", "arm.gif"], "resume": ["--steps", "700"]}
    before = (tmp_path / "run" / "run.json").read_bytes()
    for name, options in kept.items():
        status, output, errors = call(name, "run", *options)
        assert (status, output) == (2, "")
        assert re.search("trust .*: --task my_robot:Arm-v0$", errors.splitlines()[-1])
        status, _, _ = call(name, "run", *options, "--task", "Arm-v0")
        assert status == 2
        assert "my_robot" not in sys.modules
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    try:
        for name, options in kept.items():
            status, _, errors = call(name, "run", *options, "--task", "my_robot:Arm-v0")
            assert status == 0, errors
    finally:
        sys.modules.pop("my_robot", None)
        gym.registry.pop("Arm-v0", None)
    assert (tmp_path / "arm.gif").exists()
    assert Run("run").results[0].steps == 700


def test_another_task_than_the_run_has_is_refused(walked):
    before = (walked.path / "run.json").read_bytes()
    with pytest.raises(UprightError, match="its task is Walk-v0, not CartPole-v1"):
        upright.resume(walked.path, steps=400, task="CartPole-v1")
    assert (walked.path / "run.json").read_bytes() == before

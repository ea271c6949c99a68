"""examples/own_plant.py: a plant of one's own goes through every command."""

import importlib
import json
from pathlib import Path

import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import upright
from upright.errors import UprightError
from upright.figures import channels
from upright.runs import Run
from upright.tasks import parameters
from upright.tasks.catalogue import load, make_task
from upright.tasks.symmetry import check_mirror

EXAMPLES = Path(__file__).parent.parent / "examples"
ID = "own_plant:Wheel-v0"
TRAIN = ["train", ID, "--seeds", "2", "--steps", "2000", "--agent.epsilon-decay-steps", "1000"]


@pytest.fixture(autouse=True)
def here(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    load(ID)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Of two seeds, with the wheel's mass randomised."""
    path = tmp_path_factory.mktemp("runs") / "wheel"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(EXAMPLES)
        return upright.train(
            ID,
            seeds=2,
            steps=2000,
            agent=upright.DQN(epsilon_decay_steps=1000),
            physics={"rod_mass": 0.12},
            randomise={"wheel_mass": (0.08, 0.12)},
            out=path,
        )


def test_the_equations_of_motion_by_hand():
    plant = importlib.import_module("own_plant")
    p = plant.WheelPendulum(friction=0.0)
    # I = 0.1 0.2^2 / 3 + 0.1 0.2^2 = 0.016 / 3, falling 0.15 * 0.2 * 9.81 sin(0.1) = 0.029381,
    # wheel 0.1 * 0.06^2 / 2 = 0.00018; torque 0.05: (0.029381 - 0.05) / I = -3.8661, 277.78
    rates = plant.dynamics(jnp.array([0.1, 0.5, 10.0]), jnp.array([0.05]), p)
    np.testing.assert_allclose(rates, [0.5, -3.8661, 277.78], rtol=1e-4)


def test_without_torque_and_friction_energy_and_momentum_stay():
    plant = importlib.import_module("own_plant")
    task = plant.WheelTask(plant=plant.WheelPendulum(friction=0.0))
    state = task.reset(jax.random.key(0))._replace(x=jnp.array([0.1, 0.0, 30.0]))
    step = jax.jit(task.step)
    for _ in range(100):
        state, _ = step(state, jnp.zeros(1))
    angle, rate, wheel = np.asarray(state.x)
    # I rate^2 / 2 + 0.2943 cos(angle), with I = 0.016 / 3
    energy = 0.016 / 6 * rate**2 + 0.2943 * np.cos(angle)
    assert energy == pytest.approx(0.2943 * np.cos(0.1), rel=1e-4)
    assert wheel == 30.0


def test_it_is_symmetric_and_gymnasium_has_no_objection():
    check_mirror(make_task(ID))
    check_env(gym.make("upright/Wheel-v0").unwrapped)
    assert set(parameters.of(make_task(ID))) >= {"wheel_mass", "torque", "dt"}


def test_dqn_balances_it_with_its_own_physics_and_randomised(run):
    for result in run.results:
        assert result.final_evaluation.worst_return > 450
        assert result.randomised_evaluation.worst_return > 450
    assert run.info.config.physics == {"rod_mass": 0.12}
    assert run.info.config.randomise == {"wheel_mass": (0.08, 0.12)}
    provenance = run.best().provenance
    assert provenance.physics == {"rod_mass": 0.12}
    assert provenance.randomise == {"wheel_mass": (0.08, 0.12)}


def test_show_and_plot_need_no_module(run, call):
    status, output, _ = call("show", run.path)
    assert status == 0
    assert "rod_mass 0.12, wheel_mass 0.08 to 0.12" in output
    assert "randomised physics (rod_mass 0.12, wheel_mass 0.08 to 0.12): mean return" in output
    assert call("plot", run.path)[0] == 0


def test_evaluate_says_with_which_physics(run, call):
    status, output, _ = call("evaluate", run.path, "--task", ID, "--episodes", "3")
    assert status == 0
    assert "nominal physics (rod_mass 0.12)" in output
    assert "randomised physics (rod_mass 0.12, wheel_mass 0.08 to 0.12)" in output
    policy = run.path / "best.safetensors"
    status, output, _ = call("evaluate", policy, "--task", ID, "--episodes", "3", "--json")
    (result,) = json.loads(output).values()
    assert len(result["returns"]) == len(result["randomised"]["returns"]) == 3
    assert result["returns"] != result["randomised"]["returns"]


def test_play_writes_its_channels_and_has_no_window(run, call, monkeypatch, tmp_path):
    files = "--gif", tmp_path / "a.gif", "--mp4", tmp_path / "a.mp4"
    status, output, _ = call("play", run.path, "--task", ID, "--randomised", *files)
    assert status == 0
    assert "randomised physics (rod_mass 0.12, wheel_mass 0.08 to 0.12)" in output
    assert (tmp_path / "a.gif").read_bytes().startswith(b"GIF89a")
    assert (tmp_path / "a.mp4").stat().st_size > 1000
    monkeypatch.setenv("DISPLAY", ":0")
    status, _, errors = call("play", run.path, "--task", ID)
    assert (status, errors.count("\n")) == (2, 1)
    assert "Wheel-v0 has no picture for a window; write its channels over time" in errors


def test_a_trace_grows_to_its_end_and_has_names_and_units():
    spec = make_task(ID).spec
    observations = np.linspace([0.0, 0, 0], [0.1, 1, 50], 20, dtype=np.float32)
    inputs = np.full((20, 1), 0.05, np.float32)
    some = channels.traces(spec, observations, inputs)
    assert [trace.label for trace in some] == [
        "angle\n[rad]",
        "angular\nvelocity\n[rad/s]",
        "wheel\nspeed\n[rad/s]",
        "torque\n[N m]",
    ]
    frames = [*channels.frames("Wheel-v0", some, np.arange(20) * 0.02, "s")]
    blue = [int(((f[..., 2] > 150) & (f[..., 0] < 80)).sum()) for f in frames]
    assert len(frames) == 20
    assert blue == sorted(blue)
    assert blue[-1] > 3 * blue[4] > 0


def test_resume_goes_on_as_if_it_had_had_the_budget_from_the_beginning(call, tmp_path):
    for name, steps in (("whole", 1500), ("part", 700)):
        arguments = ["--steps", steps, "--seeds", 1, "--randomise", "friction=0.0:2e-5"]
        assert call(*TRAIN, *arguments, "--out", tmp_path / name)[0] == 0
    path = tmp_path / "part"
    status, _, errors = call("resume", path, "--steps", 1500)
    assert status == 2
    assert f"its task is in the module 'own_plant'; if you trust it: --task {ID}" in errors
    assert call("resume", path, "--steps", 1500, "--task", ID)[0] == 0
    tables = [(tmp_path / name / "seeds/00/episodes.csv").read_text() for name in ("whole", "part")]
    assert tables[0] == tables[1]


def test_a_policy_is_not_played_before_its_module_is_typed(run, monkeypatch):
    monkeypatch.setattr("upright.tasks.catalogue._ENTRIES", {})
    monkeypatch.delitem(gym.registry, "upright/Wheel-v0")
    with pytest.raises(UprightError, match=r"'Wheel-v0' is not known here; .* task=.MODULE:Wheel"):
        upright.evaluate(run.best())


def test_doctor_has_no_problem_with_it(call):
    status, output, _ = call("doctor", ID, "--seeds", 1, "--physics.rod-mass", 0.12)
    assert status == 0
    assert "0 problems" in output


def test_tasks_lists_it(call):
    status, output, _ = call("tasks", ID, "--json")
    assert status == 0
    described = json.loads(output)
    assert described["parameters"]["wheel_mass"] == {
        "value": 0.1,
        "unit": "kg",
        "bounds": "above 0",
    }
    assert described["symmetric"]
    listed = json.loads(call("tasks", "--json")[1])
    assert listed["native"]["Wheel-v0"]["dt"] == 0.02
    assert "LunarLander-v3" in listed["others"]


def test_joining_with_other_physics_is_refused_by_name(run, call):
    path = run.path
    settings = ["--seeds", "7", "--randomise", "wheel_mass=0.08:0.12", "--physics", "rod_mass=0.2"]
    status, _, errors = call(*TRAIN, *settings, "--out", path, "--join")
    assert status == 2
    assert "physics.rod_mass is 0.12 and 0.2 here" in errors
    assert Run(path).seeds == [0, 1]

"""Parameters of plants and tasks: names, bounds, and what is drawn anew for each episode."""

from dataclasses import dataclass, fields, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import upright
from upright import parameters
from upright.errors import UprightError
from upright.evaluation import native
from upright.evaluation.episodes import judge
from upright.evaluation.players import Stopped
from upright.parameters import Parameters, parameter
from upright.plants.acrobot import Acrobot
from upright.plants.cartpole import CartPole
from upright.tasks import parameters as by_name
from upright.tasks.cartpole import CartPoleTask
from upright.tasks.catalogue import NAMES, make_task
from upright.tasks.mountain_car import MountainCarTask
from upright.tasks.pendulum import PendulumDiscreteTask, PendulumTask
from upright.tasks.randomised import Randomised, in_this_episode, with_time_limit
from upright.tasks.symmetry import check_mirror
from upright.training import runners

RANGES = {"half_length": (0.25, 1.0), "pole_mass": (0.05, 0.3)}


@dataclass(frozen=True)
class Cart(Parameters):
    """A bound of every kind."""

    mass: float = parameter(1.0, above=0)
    friction: float = parameter(0.0, at_least=0)
    slope: float = parameter(0.0)
    start: tuple[float, float] = parameter((-1.0, 1.0), ordered=True)
    limits: tuple[float, float] = parameter((1.0, 2.0), above=0)
    forces: tuple[float, ...] = parameter((-1.0, 1.0), several=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mass": 0}, "mass is 0; it must be above 0"),
        ({"mass": -2.0}, "mass is -2.0; it must be above 0"),
        ({"friction": -1e-9}, "friction is -1e-09; it must be at least 0"),
        ({"slope": float("inf")}, "slope is inf; it must be a number, finite in single precision"),
        ({"slope": True}, "slope is True; it must be a number"),
        ({"slope": "1"}, "slope is '1'; it must be a number"),
        ({"slope": (1.0,)}, "slope is (1.0,); it must be a number"),
        ({"start": (1.0, -1.0)}, "start is (1.0, -1.0); its first number must not be above its"),
        ({"start": (1.0,)}, "start is (1.0,); it must be 2 numbers"),
        ({"start": 1.0}, "start is 1.0; it must be 2 numbers"),
        ({"limits": (1.0, 0.0)}, "limits is (1.0, 0.0); it must be above 0"),
        ({"forces": ()}, "forces is (); it must be numbers"),
        ({"forces": (1.0, float("nan"))}, "it must be numbers, finite in single precision"),
    ],
)
def test_a_value_out_of_its_bounds_is_one_line(values, message):
    for make in (lambda: Cart(**values), lambda: replace(Cart(), **values)):
        with pytest.raises(UprightError) as caught:
            make()
        assert message in str(caught.value)


def test_what_fits_is_kept_as_python_numbers():
    cart = Cart(mass=np.float32(0.5), friction=0, start=[1, 1], forces=np.array([3, 1, 2]))
    assert cart == Cart(mass=0.5, friction=0.0, start=(1.0, 1.0), forces=(3.0, 1.0, 2.0))
    assert hash(cart) == hash(replace(cart))


@pytest.mark.parametrize("name", NAMES)
def test_every_number_of_a_plant_and_a_task_says_its_bounds(name):
    task = make_task(name)
    for owner in (task, task.plant):
        assert isinstance(owner, Parameters)
        names = {member.name for member in fields(owner)} - {"plant", "episode_steps"}
        assert names == parameters.bounds(owner).keys()
        assert all("bounds" in f.metadata for f in fields(owner) if f.name in names)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Acrobot(inertia_1=-2.0),
        lambda: Acrobot(center_2=-0.1),
        lambda: CartPole(gravity=-9.8),
        lambda: CartPoleTask(start_range=-0.05),
        lambda: CartPoleTask(force=-10.0),
        lambda: CartPoleTask(angle_limit=0.0),
        lambda: MountainCarTask(start=(-0.4, -0.6)),
        lambda: PendulumTask(start=(-1.0, 1.0)),
        lambda: PendulumTask(rate_limit=0.0),
        lambda: PendulumDiscreteTask(torques=()),
    ],
)
def test_senseless_physics_is_refused(make):
    with pytest.raises(UprightError):
        make()


def test_a_changed_task_differs_in_that_alone():
    task = make_task("CartPole-v1", {"half_length": 1, "force": 5})
    assert task == CartPoleTask(plant=CartPole(half_length=1.0), force=5.0)


def test_values_that_jax_computes_pass():
    def doubled(mass):
        return replace(Cart(), mass=mass).mass * 2

    assert jax.jit(doubled)(jnp.float32(0.5)) == 1.0


def randomised(name="CartPole-v1", ranges=RANGES):
    return make_task(name, randomise=ranges)


def test_each_episode_has_its_own_parameters_within_the_ranges():
    task = randomised()
    states = jax.vmap(task.reset)(jax.random.split(jax.random.key(0), 4000))
    for name, (low, high) in RANGES.items():
        values = np.asarray(states.drawn[name])
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        # The mean of 4000 uniform ones: 0.29 / sqrt(4000) = 0.005 of the range, three of them.
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.015 * (high - low))
    correlation = np.corrcoef(states.drawn["half_length"], states.drawn["pole_mass"])[0, 1]
    assert abs(correlation) < 0.06


def test_a_step_is_that_of_the_task_with_these_parameters(rng):
    task = randomised()
    state = task.reset(jax.random.key(3))
    for _ in range(20):
        plain, inner = in_this_episode(task, state)
        assert plain.plant.half_length == pytest.approx(float(state.drawn["half_length"]))
        action = jnp.asarray(rng.choice([-10.0, 10.0], 1), jnp.float32)
        state, ours = task.step(state, action)
        _, theirs = plain.step(inner, action)
        np.testing.assert_allclose(ours.observation, theirs.observation, rtol=1e-6)
        assert np.array_equal(task.observe(state), ours.observation)


@pytest.mark.parametrize("name", NAMES)
def test_every_native_task_can_be_randomised(name):
    task = make_task(name)
    gravity = task.plant.gravity
    drawn = Randomised(task, (("gravity", gravity, 2 * gravity),))
    assert drawn.spec == task.spec
    assert hash(drawn) == hash(Randomised(task, (("gravity", gravity, 2 * gravity),)))
    assert with_time_limit(drawn, 7).episode_steps == 7
    check_mirror(drawn)


def test_a_parameter_of_the_task_can_be_drawn():
    task = randomised(ranges={"position_limit": (0.0001, 0.001)})
    assert task.spec.observation.channels[0].terminates_above == 2.4  # the nominal spec

    def push(observations):
        return jnp.zeros(len(observations), jnp.int32)

    keys = jax.random.split(jax.random.key(0), 10)
    assert native.play(task, push, keys)[0].max() < 5


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"half_lenght": (0.1, 0.2)}, "no parameter 'half_lenght'; did you mean half_length?"),
        ({"zzz": (0.1, 0.2)}, "no parameter 'zzz'; known: gravity, cart_mass"),
        (
            {"half_length": (1.0, 0.5)},
            "half_length is from 1 to 0.5; the first must not be",
        ),
        ({"half_length": (0.0, 0.5)}, "randomise: half_length is 0.0; it must be above 0"),
        ({"half_length": (0.1, "a")}, "randomise: half_length is 'a'; it must be a number"),
        ({"half_length": 0.5}, "randomise: half_length is 0.5; it must be (lowest, highest)"),
        ({"force": (5.0, 10.0)}, "force decides what the actions are, so it cannot be drawn"),
        ({"episode_steps": (5, 10)}, "the time limit is Gymnasium's max_episode_steps"),
    ],
)
def test_a_range_without_sense_is_one_line(ranges, message):
    with pytest.raises(UprightError) as caught:
        randomised(ranges=ranges)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_numbers_cannot_be_drawn():
    with pytest.raises(UprightError, match="rate_limits is several numbers"):
        randomised("Acrobot-v1", {"rate_limits": (1.0, 2.0)})


def test_parameters_of_a_plain_dataclass_are_its_floats():
    @dataclass(frozen=True)
    class Plain:
        gain: float = 2.0
        steps: int = 3
        name: str = "plain"

    assert by_name.of(Plain()).keys() == {"gain"}
    assert by_name.change(Plain(), {"gain": 3}) == Plain(gain=3.0)


def test_the_order_in_which_ranges_are_given_changes_nothing():
    ranges = {"half_length": (0.25, 1.0), "pole_mass": (0.05, 0.3)}
    one, other = (
        make_task("CartPole-v1", None, given) for given in (ranges, dict(reversed(ranges.items())))
    )
    assert one == other


def test_ctrl_c_between_the_two_final_evaluations_leaves_the_rest_to_a_resume(
    tmp_path, monkeypatch
):
    """With nominal physics it was evaluated, with randomised ones not yet."""
    asked = []

    def judge_once(policy, where, *arguments):
        asked.append(bool(where.randomise))
        if where.randomise:
            raise Stopped
        return judge(policy, where, *arguments)

    settings = {"seeds": 1, "steps": 600, "randomise": {"half_length": (0.4, 0.6)}}
    with monkeypatch.context() as patch:
        patch.setattr(runners, "judge", judge_once)
        run = upright.train("CartPole-v1", out=tmp_path / "run", **settings)
    assert asked == [False, True]
    assert run.results[0].state == "interrupted"
    run = upright.resume(run.path)
    assert run.status == "finished"
    assert run.results[0].randomised_evaluation is not None

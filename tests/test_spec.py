"""What a task says of itself: ranges, actions, symmetry, and its JSON form."""

import json
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from upright import DQN, Channel, Choice, Continuous, Mirror, Spec, UprightError, Vector
from upright.tasks.catalogue import NAMES, make_task

ANGLE = Channel("angle", "rad", minimum=-math.pi, maximum=math.pi, terminates_above=1.5)
RATE = Channel("rate", "rad/s", scale=None)
FORCE = Channel("force", "N", minimum=-10.0, maximum=10.0)
SPIN = Channel("spin", "N m", minimum=0.0, maximum=2.0)
CHOICE = Choice("force", "N", (-10.0, 0.0, 10.0))
SPEC = Spec("test", Vector((ANGLE, RATE)), CHOICE, dt=0.02, episode_steps=None)
MIRROR = Mirror(observation_signs=(-1, -1), action_order=(2, 1, 0))


@pytest.mark.parametrize(
    "spec",
    [
        SPEC,
        replace(SPEC, mirror=MIRROR, solved_return=475.0),
        replace(SPEC, action=Continuous((FORCE, SPIN)), dt=None, episode_steps=500),
    ],
)
def test_a_spec_comes_back_from_its_json(spec):
    text = json.dumps(spec.to_dict(), allow_nan=False)
    assert Spec.from_dict(json.loads(text)) == spec


def test_the_sizes_are_those_of_a_network_and_of_the_plant():
    several = replace(SPEC, action=Continuous((FORCE, SPIN)))
    assert (SPEC.observation_size, SPEC.action_size, SPEC.input_size) == (2, 3, 1)
    assert (several.observation_size, several.action_size, several.input_size) == (2, 2, 2)


@pytest.mark.parametrize("arrays", [np, jnp])
def test_a_choice_is_looked_up_for_any_batch(arrays):
    one = CHOICE.physical(arrays.asarray(2))
    batch = CHOICE.physical(arrays.asarray([[0, 1], [2, 0]]))
    np.testing.assert_array_equal(one, [10.0])
    np.testing.assert_array_equal(batch, [[[-10.0], [0.0]], [[10.0], [-10.0]]])
    assert batch.dtype == np.float32


def test_a_choice_is_looked_up_in_a_compiled_function():
    np.testing.assert_array_equal(jax.jit(CHOICE.physical)(0), [-10.0])


@pytest.mark.parametrize("arrays", [np, jnp])
def test_a_continuous_action_is_clipped_to_its_bounds(arrays):
    action = Continuous((FORCE, SPIN)).physical(arrays.asarray([[-11.0, 1.0], [3.0, -0.5]]))
    np.testing.assert_array_equal(action, [[-10.0, 1.0], [3.0, 0.0]])


@pytest.mark.parametrize("arrays", [np, jnp])
def test_a_mirror_changes_signs_and_places(arrays):
    arms = Mirror(
        observation_signs=(1, 1, -1), observation_order=(1, 0, 2), action_order=(1, 0)
    )  # left and right change places, the torso leans to the other side
    observed = arms.observation(arrays.asarray([[1.0, 2.0, 3.0]], np.float32))
    np.testing.assert_array_equal(observed, [[2.0, 1.0, -3.0]])
    assert observed.dtype == np.float32
    np.testing.assert_array_equal(arms.action(arrays.asarray([0.5, -0.5])), [-0.5, 0.5])
    np.testing.assert_array_equal(arms.index(arrays.asarray([0, 1, 1])), [1, 0, 0])


def test_opposites_are_found_where_every_value_has_one():
    assert CHOICE.opposites() == (2, 1, 0)
    assert Choice("torque", "N m", (1.0, -1.0)).opposites() == (1, 0)
    assert Choice("torque", "N m", (0.0, 1.0)).opposites() is None
    assert Choice("torque", "N m", (1.0, 1.0, -1.0, -1.0)).opposites() is None


def test_a_mirror_without_an_order_leaves_choices_as_they_are():
    assert Mirror((1, -1)).index(2) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Channel("x", "m", scale=0.0), "channel 'x': scale is 0.0; it must be above 0"),
        (lambda: Channel("x", "m", offset=math.nan), "channel 'x': offset is nan"),
        (
            lambda: Channel("x", "m", minimum=2.0, maximum=1.0),
            "channel 'x': minimum is 2.0, maximum is 1.0; minimum must not be greater",
        ),
        (
            lambda: Channel("x", "m", terminates_below=1.0, terminates_above=-1.0),
            "terminates_below is 1.0, terminates_above is -1.0",
        ),
        (lambda: Vector(()), "the observation has no channels"),
        (lambda: Choice("force", "N", ()), r"action 'force': values are \(\)"),
        (lambda: Choice("force", "N", (0.0, math.inf)), "must be finite"),
        (lambda: Continuous(()), "the action has no channels"),
        (
            lambda: Continuous((Channel("force", "N", minimum=0.0),)),
            "action 'force': it is between 0.0 and inf; a continuous action needs finite bounds",
        ),
        (lambda: replace(SPEC, dt=0.0), "task 'test': dt is 0.0 s; it must be above 0"),
        (lambda: Mirror((2, 1)), r"observation_signs are \(2, 1\); each must be 1 or -1"),
        (
            lambda: Mirror((1, 1, 1), observation_order=(1, 2, 0)),
            r"observation_order is \(1, 2, 0\); applied twice it must be 0 to 2 again",
        ),
        (lambda: Mirror((1, 1), observation_order=(0, 2)), "applied twice it must be 0 to 1 again"),
        (lambda: Mirror((1,), action_order=(0, 0)), "action_order is"),
        (
            lambda: Mirror((1, -1), observation_order=(1, 0)),
            "what changes places must have the same sign",
        ),
        (
            lambda: replace(SPEC, mirror=Mirror((1, 1, 1))),
            r"task 'test': observation_signs of its mirror is \(1, 1, 1\); it must have 2 entries",
        ),
        (
            lambda: replace(SPEC, mirror=Mirror((1, 1), action_order=(1, 0))),
            r"action_order of its mirror is \(1, 0\); it must have 3 entries",
        ),
        (
            lambda: replace(SPEC, mirror=Mirror((1, 1), action_signs=(1, 1, -1))),
            "its action is a Choice; say by action_order",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(make, message):
    with pytest.raises(UprightError, match=rf"^[^\n]*{message}[^\n]*$"):
        make()


@pytest.mark.parametrize("name", NAMES)
def test_dqn_refuses_a_continuous_action_with_the_way_out(name):
    spec = make_task(name).spec
    if isinstance(spec.action, Choice):
        DQN().fits(spec)
        return
    with pytest.raises(UprightError, match=r"^[^\n]*as PendulumDiscrete-v1 has[^\n]*$") as told:
        DQN().fits(spec)
    assert f"{name} has a continuous action ({spec.action.channels[0].name})" in str(told.value)

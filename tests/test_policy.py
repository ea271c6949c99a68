"""The policy file: what it holds, who can read it, and what a damaged one does."""

import json
import math
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file, save_file
from walks import reseal

import upright
from upright import UprightError, load_policy
from upright.policy import Policy, Provenance, Score
from upright.spec import Channel, Choice, Continuous, Mirror, Spec, Vector


@pytest.fixture
def path(tmp_path, untrained):
    untrained[0].save(tmp_path / "policy.safetensors")
    return tmp_path / "policy.safetensors"


def test_it_agrees_with_the_network_it_was_made_of(path, untrained, rng):
    observations = rng.uniform(-1, 1, (10_000, 4)).astype(np.float32) * [2.4, 3, 0.21, 3]
    state = untrained[1]
    expected = np.asarray(state.params((observations / state.scale).astype(np.float32)))
    q_values = load_policy(path).q_values(observations)
    assert np.abs(q_values - expected).max() < 1e-5
    assert np.array_equal(load_policy(path).choose(observations), q_values.argmax(axis=1))


def linear(spec, weight, bias):
    """A policy of one layer whose outputs are weight @ x + bias."""
    size = spec.observation_size
    return Policy(
        spec=spec,
        weights=(np.array(weight, np.float32),),
        biases=(np.array(bias, np.float32),),
        offset=np.zeros(size, np.float32),
        scale=np.ones(size, np.float32),
        provenance=Provenance("none", seed=0, step=0),
    )


def arm(action):
    """Two numbers are observed."""
    channels = (Channel("angle", "rad"), Channel("rate", "rad/s"))
    return Spec("Arm-v0", Vector(channels), action, dt=0.02, episode_steps=None)


VOLTS = Choice("voltage", "V", (-6.0, 0.0, 4.5))
MOTORS = Continuous(
    (
        Channel("shoulder torque", "N m", minimum=-2.0, maximum=2.0),
        Channel("elbow torque", "N m", minimum=-0.1, maximum=0.3),
    )
)


def test_a_choice_is_made_by_index_and_acts_in_its_unit():
    policy = linear(arm(VOLTS), [[1, 0], [0, 1], [-1, -1]], [0, 0, 0])
    # Outputs (a, b, -a - b) of the observation (a, b).
    observations = np.array([[2.0, 1.0], [1.0, 2.0], [-2.0, -1.0], [1.0, 1.0]])
    assert policy.choose(observations).tolist() == [0, 1, 2, 0], "of equal outputs the first"
    assert policy.act(observations).tolist() == [-6.0, 0.0, 4.5, -6.0]
    assert policy.q_values([2.0, 1.0]).tolist() == [2.0, 1.0, -3.0]
    one = policy.choose(observations[2]), policy.act(observations[2])
    assert one == (2, 4.5)
    assert [type(value) for value in one] == [int, float]


def test_a_continuous_action_is_clipped_to_its_bounds():
    # A third output, as of a network that also tells a deviation, is none of the action.
    policy = linear(arm(MOTORS), [[1, 0], [0, 1], [1, 1]], [0.5, 0, 0])
    np.testing.assert_array_equal(policy.act([1.0, 0.25]), [1.5, 0.25])
    np.testing.assert_array_equal(policy.act([9.0, -9.0]), [2.0, -0.1])
    np.testing.assert_array_equal(policy.act([[-9.0, 9.0], [0, 0]]), [[-2.0, 0.3], [0.5, 0.0]])
    np.testing.assert_array_equal(policy.outputs([1.0, 0.25]), np.float32([1.5, 0.25, 1.25]))
    for refused in (policy.choose, policy.q_values):
        with pytest.raises(UprightError, match=r"Arm-v0 has a continuous action.* use act"):
            refused([0.0, 0.0])


def test_a_terminal_shows_what_a_policy_does_and_where_it_comes_from(tmp_path, call):
    policy = replace(
        linear(arm(MOTORS), [[1, 0], [0, 1]], [0, 0]),
        provenance=Provenance(
            "DQN", 7, 2000, Score(9.5, 8.0, 11.0, 50), {"gravity": 3.7}, {"mass": (0.1, 0.3)}
        ),
    )
    policy.save(tmp_path / "arm.safetensors")
    status, output, _ = call("show", tmp_path / "arm.safetensors")
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert status == 0
    assert lines[:6] == [
        "task Arm-v0",
        "network 2-2, ReLU, clip",
        "action shoulder torque from -2 to 2 N m, elbow torque from -0.1 to 0.3 N m, every 0.02 s",
        "trained by DQN, seed 7, step 2000",
        "physics gravity 3.7, mass 0.1 to 0.3",
        "evaluation mean return 9.5, from 8 to 11.0, in 50 episodes",
    ]


def random_policy(seed):
    """Of either kind of action, with any names, units, ranges and sizes."""
    rng = np.random.default_rng(seed)

    def channel(finite):
        low, high = np.sort(rng.normal(scale=10, size=2)).tolist()
        return Channel(
            name=f"channel {rng.integers(100)} \u00b5",
            unit="m/s\u00b2",
            scale=None if rng.random() < 0.3 else float(rng.uniform(0.1, 9)),
            offset=float(rng.normal()),
            minimum=low if finite else -math.inf,
            maximum=high if finite else math.inf,
            terminates_below=low if rng.random() < 0.5 else -math.inf,
            terminates_above=high if rng.random() < 0.5 else math.inf,
        )

    inputs, actions = rng.integers(1, 6, 2).tolist()
    if seed % 2:
        action = Continuous(tuple(channel(finite=True) for _ in range(actions)))
        extra = int(rng.integers(3))
    else:
        action = Choice("force", "N", tuple(rng.normal(size=actions + 1).tolist()))
        actions, extra = actions + 1, 0
    sizes = [inputs, *rng.integers(1, 9, rng.integers(3)).tolist(), actions + extra]
    random = {"gravity": float(rng.uniform(1, 9))}, {"length": (0.5, float(rng.uniform(1, 2)))}
    return Policy(
        spec=Spec(
            task="Random-v0",
            observation=Vector(tuple(channel(finite=rng.random() < 0.5) for _ in range(inputs))),
            action=action,
            dt=0.02 if rng.random() < 0.5 else None,
            episode_steps=int(rng.integers(1, 999)) if rng.random() < 0.5 else None,
            solved_return=float(rng.normal()) if rng.random() < 0.5 else None,
            mirror=mirror(rng, inputs, action) if rng.random() < 0.5 else None,
        ),
        weights=tuple(
            rng.normal(scale=3, size=shape).astype(np.float32)
            for shape in zip(sizes[1:], sizes, strict=False)
        ),
        biases=tuple(rng.normal(size=size).astype(np.float32) for size in sizes[1:]),
        offset=rng.normal(size=inputs).astype(np.float32),
        scale=rng.uniform(0.1, 9, inputs).astype(np.float32),
        provenance=Provenance(
            "DQN",
            seed=int(rng.integers(99)),
            step=int(rng.integers(9999)),
            evaluation=Score(*rng.normal(size=3).tolist(), 50) if rng.random() < 0.5 else None,
            physics=random[0] if rng.random() < 0.5 else {},
            randomise=random[1] if rng.random() < 0.5 else {},
        ),
    )


def mirror(rng, inputs, action):
    """All signs at random, and the values of a Choice in reverse."""
    signs = tuple(rng.choice([-1, 1], inputs).tolist())
    if isinstance(action, Choice):
        return Mirror(signs, action_order=tuple(reversed(range(len(action.values)))))
    return Mirror(signs)


@pytest.mark.parametrize("seed", range(40))
def test_a_policy_that_is_written_and_read_again_is_the_same(seed, rng):
    policy = random_policy(seed)
    again = Policy.from_bytes(policy.to_bytes())
    assert (again.spec, again.provenance) == (policy.spec, policy.provenance)
    assert (again.sizes, again.head) == (policy.sizes, policy.head)
    observations = rng.normal(scale=100, size=(50, policy.spec.observation_size))
    np.testing.assert_array_equal(again.act(observations), policy.act(observations))


@pytest.mark.parametrize("seed", range(40))
def test_an_action_never_leaves_its_bounds(seed, rng):
    policy = random_policy(seed)
    size = policy.spec.observation_size
    for scale in (1e-3, 1.0, 1e3, 1e9):
        actions = policy.act(rng.normal(scale=scale, size=(200, size)))
        if isinstance(policy.spec.action, Choice):
            assert set(actions.tolist()) <= set(policy.spec.action.values)
        else:
            for values, channel in zip(actions.T, policy.spec.action.channels, strict=True):
                assert channel.minimum <= values.min() <= values.max() <= channel.maximum
    for number in (np.nan, np.inf, -np.inf):
        with pytest.raises(UprightError, match="observation is not finite"):
            policy.act(np.full(size, number))


def test_an_observation_beyond_what_the_network_can_count_gets_no_action():
    # 1e38 * 1e5 is more than the largest float32, 3.4e38; the difference of two such is a NaN.
    policy = linear(arm(MOTORS), [[1e5, -1e5], [1, 0]], [0, 0])
    with pytest.raises(UprightError, match="too large for the network"):
        policy.act([1e38, 1e38])


@pytest.mark.parametrize(
    "observation",
    [[0.0] * 3, [[0.0] * 5], np.array(0.0), np.zeros((1, 1, 4)), [0, 0, np.nan, 0], [np.inf] * 4],
)
def test_an_observation_that_is_none_gets_no_action(path, observation):
    with pytest.raises(UprightError, match=r"^observation (of shape|is not finite)"):
        load_policy(path).act(observation)


def test_tensors_are_named_and_laid_out_as_in_torch(path, untrained):
    tensors = load_file(path)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    assert shapes == {
        "0.weight": (128, 4),
        "0.bias": (128,),
        "2.weight": (128, 128),
        "2.bias": (128,),
        "4.weight": (2, 128),
        "4.bias": (2,),
    }
    np.testing.assert_array_equal(
        tensors["0.weight"], np.array(untrained[1].params.layers[0].weight).T
    )


def test_the_header_says_what_an_engineer_needs(path):
    with safetensors.safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["upright"])
    assert (header["format"], header["version"]) == ("upright-policy", 3)
    spec = header["spec"]
    units = {channel["name"]: channel["unit"] for channel in spec["observation"]["channels"]}
    assert units == {
        "cart position": "m",
        "cart velocity": "m/s",
        "pole angle": "rad",
        "pole angular velocity": "rad/s",
    }
    assert (spec["task"], spec["dt"]) == ("CartPole-v1", 0.02)
    action = {"kind": "choice", "name": "force", "unit": "N", "values": [-10.0, 10.0]}
    assert spec["action"] == action
    np.testing.assert_allclose(header["scale"], [2.4, 3.0, 0.2094395, 3.0], rtol=1e-6)
    assert header["provenance"]["seed"] == 3


def test_saving_what_was_loaded_gives_the_same_bytes(path, tmp_path):
    load_policy(path).save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_reading_needs_numpy_alone(path):
    """Every other package is refused; the interpreter's own modules are not."""
    program = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {{"numpy", "upright"}}:
            raise ImportError(f"{{name}} is refused")
sys.meta_path.insert(0, Refuse())
import upright
policy = upright.load_policy({str(path)!r})
assert policy.act([0.0, 0.0, 0.1, 0.0]) in (-10.0, 10.0)
assert "jax" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_any_flipped_bit_is_noticed(path, tmp_path, rng):
    content = path.read_bytes()
    header = int.from_bytes(content[:8], "little") + 8
    broken = tmp_path / "broken.safetensors"
    for position in [*range(header), *rng.integers(header, len(content), 200)]:
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        broken.write_bytes(damaged)
        with pytest.raises(UprightError, match=r"^[^\n]*broken\.safetensors: [^\n]+$"):
            load_policy(broken)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.5, 0.999])
def test_a_cut_file_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(UprightError, match=r"policy\.safetensors: "):
        load_policy(path)


def test_a_pickle_is_refused_and_not_run(path, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UprightError, match="not a policy file"):
        load_policy(path)
    assert not (tmp_path / "exploded").exists()


def test_a_foreign_safetensors_file_is_refused(path):
    save_file({"weight": np.zeros((2, 2), np.float32)}, path)
    with pytest.raises(UprightError, match="not a policy of upright"):
        load_policy(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x02\x00\x00\x00\x00\x00\x00\x00[]",
        b"\x04\x00\x00\x00\x00\x00\x00\x00null",
        (100_000).to_bytes(8, "little") + b"[" * 100_000,
        b"\xff" * 64,
        b'{"a": 1}',
    ],
)
def test_nonsense_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(UprightError, match="not a policy file"):
        load_policy(path)


def test_an_older_file_is_refused_with_its_version(path):
    reseal(path, spoil(version=2))
    with pytest.raises(UprightError, match="policy format 2; this version of upright reads 3"):
        load_policy(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UprightError, match=r"nowhere\.safetensors: cannot be read"):
        load_policy(tmp_path / "nowhere.safetensors")


def test_a_failed_save_leaves_the_old_file(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(
        "os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    with pytest.raises(UprightError, match="No space left"):
        load_policy(path).save(path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_public_names_are_all_there():
    for name in upright.__all__:
        assert getattr(upright, name).__doc__, name


def spoil(**members):
    return lambda header, tensors: header.update(members)


def network(**members):
    return lambda header, tensors: header["network"].update(members)


def provenance(**members):
    return lambda header, tensors: header["provenance"].update(members)


SCORE = {"mean_return": 9.0, "min_return": 8.0, "max_return": 10.0, "episodes": 50}


@pytest.mark.parametrize(
    "change",
    [
        spoil(format="something"),
        network(activation="tanh"),
        network(head="squash"),
        network(head="clip"),
        network(head=["argmax"]),
        network(sizes=[]),
        network(sizes=[4]),
        network(sizes=[4, 64, 128, 2]),
        network(sizes=None),
        spoil(network=None),
        spoil(provenance=[1]),
        spoil(provenance={}),
        provenance(agent=7),
        provenance(seed="3"),
        provenance(seed=-1),
        provenance(step="soon"),
        provenance(step=True),
        provenance(evaluation=[9.0]),
        provenance(evaluation={"mean_return": 9.0}),
        provenance(evaluation={**SCORE, "mean_return": [1]}),
        provenance(evaluation={**SCORE, "episodes": 1.5}),
        provenance(physics=["gravity"]),
        provenance(physics={"gravity": "moon"}),
        provenance(randomise={"gravity": 9.8}),
        provenance(randomise={"gravity": [1.0, 2.0, 3.0]}),
        spoil(scale=[1.0, 1.0, 1.0, 0.0]),
        spoil(offset=[1.0]),
        lambda header, tensors: header["spec"].update(dt=0),
        lambda header, tensors: header["spec"].update(observation=[]),
        lambda header, tensors: header["spec"].update(action="force"),
        lambda header, tensors: header["spec"].update(mirror={"observation_signs": [0, 0, 0, 0]}),
        lambda header, tensors: header["spec"].pop("task"),
        lambda header, tensors: tensors.pop("4.bias"),
        lambda header, tensors: tensors["0.weight"].fill(np.nan),
        lambda header, tensors: tensors.update(more=np.zeros(1, np.float32)),
    ],
)
def test_a_strangers_header_is_checked_in_every_part(path, change):
    reseal(path, change)
    with pytest.raises(UprightError, match=r"policy\.safetensors: "):
        load_policy(path)


def test_a_policy_cannot_have_a_module_imported(path, tmp_path, monkeypatch):
    """Gymnasium would import what stands before a colon."""
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    reseal(path, lambda header, tensors: header["spec"].update(task="evil:Robot-v0"))
    with pytest.raises(UprightError, match=r"is not known .* task=.evil:Robot-v0"):
        upright.evaluate(load_policy(path), episodes=1)
    assert not (tmp_path / "exploded").exists()

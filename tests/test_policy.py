"""The policy file: what it holds, who can read it, and what a damaged one does."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file, save_file

import upright
from upright import UprightError, load_policy
from upright.tensors import encode


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
    assert np.array_equal(load_policy(path).act(observations), q_values.argmax(axis=1))


def test_one_observation_or_a_batch(path, rng):
    policy = load_policy(path)
    observations = rng.normal(size=(5, 4))
    actions = policy.act(observations)
    assert actions.shape == (5,)
    assert [policy.act(observation) for observation in observations] == list(actions)
    assert isinstance(policy.act(observations[0]), int)
    np.testing.assert_allclose(
        policy.q_values(observations)[2], policy.q_values(observations[2]), rtol=1e-5
    )


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
    assert (header["format"], header["version"]) == ("upright-policy", 2)
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
    assert header["training"]["seed"] == 3


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
assert policy.act([0.0, 0.0, 0.1, 0.0]) in (0, 1)
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


def test_another_version_is_refused_by_name(path, monkeypatch):
    monkeypatch.setattr("upright.policy.VERSION", 3)
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


def reseal(path, change):
    """The same file with another header, its checksums right: what a stranger could write."""
    tensors = load_file(path)
    with safetensors.safe_open(path, "numpy") as file:
        header = json.loads(file.metadata()["upright"])
    for checksum in ("sha256", "tensors_sha256"):
        del header[checksum]
    change(header, tensors)
    kind, version = header.pop("format"), header.pop("version")
    path.write_bytes(encode(tensors, kind, version, header))


def spoil(**members):
    return lambda header, tensors: header.update(members)


@pytest.mark.parametrize(
    "change",
    [
        spoil(format="something"),
        spoil(network={"activation": "tanh", "sizes": [4, 128, 128, 2]}),
        spoil(network={"activation": "relu", "sizes": []}),
        spoil(network={"activation": "relu", "sizes": [4]}),
        spoil(network={"activation": "relu", "sizes": [4, 64, 128, 2]}),
        spoil(network=None),
        spoil(training=[1]),
        spoil(training={"step": "soon"}),
        spoil(training={"evaluation": {"mean_return": [1]}}),
        spoil(scale=[1.0, 1.0, 1.0, 0.0]),
        spoil(offset=[1.0]),
        lambda header, tensors: header["spec"].update(dt=0),
        lambda header, tensors: header["spec"].update(observation=[]),
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
    with pytest.raises(UprightError, match=r"is not known .* --task evil:Robot-v0"):
        upright.evaluate(load_policy(path), episodes=1)
    assert not (tmp_path / "exploded").exists()

"""Numbers nobody expects: refused in one line where they come in, before memory is taken."""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
from walks import reseal

import upright
from upright import DQN, Channel, Choice, Learner, Spec, UprightError, Vector
from upright.parameters import check_settings, setting
from upright.plain import parse
from upright.runners.fit import check_fit
from upright.runs import Run
from upright.tasks.catalogue import make_task
from upright.training.config import plan

SPEC = make_task("CartPole-v1").spec
SMALL = DQN(hidden=(4,), batch_size=4, replay_size=16, learning_starts=4)


@pytest.mark.parametrize(
    "words",
    [
        "--agent.batch-size 100000000000000000000",
        "--agent.batch-size 1048577",
        "--agent.gradient-steps 2147483648",
        "--agent.hidden 2147483648",
        "--agent.hidden 8 -1",
        "--agent.environments 1000000000",
        "--agent.replay-size 9223372036854775808",
        "--agent.replay-size 8",
        "--agent.learning-starts 2147483648",
        "--agent.epsilon-decay-steps 99999999999",
        "--agent.target-interval 2147483648",
        "--agent.learning-rate 1e300",
        "--agent.max-gradient-norm 1e39",
        "--agent.gamma nan",
        "--agent.hidden 65536 65536",
        "--agent.hidden 65536 --agent.batch-size 1048576 --agent.replay-size 1048576",
        "--agent.batch-size 1048576 --agent.replay-size 1048576 --agent.gradient-steps 65536",
        "--episodes 10000000000",
        "--steps 0",
        "--steps -5",
        "--evaluation-episodes 2147483647",
        "--evaluate-every 99999999999999999999",
        "--seeds 100000000000000000000",
        "--seeds 0:99999999999999999999999",
    ],
)
def test_a_number_that_cannot_be_is_one_line_and_leaves_nothing(call, tmp_path, words):
    status, _, errors = call("train", "CartPole-v1", "--out", tmp_path / "run", *words.split())
    assert (status, errors.count("\n")) == (2, 1), errors
    assert errors.startswith("upright: ")
    assert not (tmp_path / "run").exists()


def test_what_fits_by_parts_and_not_together_is_refused(monkeypatch):
    """What is largest is named."""
    check_fit(SMALL, SPEC)
    monkeypatch.setattr("os.sysconf", lambda name: 1 << 16)  # 4 GiB, by pages of 64 KiB
    check_fit(DQN(replay_size=10**7), SPEC, seeds=8)
    with pytest.raises(UprightError, match=r"the experience that is kept would take 4\.5 GiB"):
        check_fit(DQN(replay_size=10**7), SPEC, seeds=10)
    with pytest.raises(UprightError, match="a step of learning"):
        check_fit(DQN(hidden=(2**16,), batch_size=2**15, replay_size=2**16), SPEC)
    with pytest.raises(UprightError, match="an evaluation"):
        check_fit(DQN(hidden=(2**14,)), SPEC, evaluated=10**5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[NaN]", "NaN is no number"),
        ("-Infinity", "-Infinity is no number"),
        ("1e999", "64 bits do not hold"),
        ("1" + "0" * 400, "64 bits do not hold"),
        ("9223372036854775808", "64 bits do not hold"),
        ('{"a": 1, "a": 2}', "twice"),
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("[" * 50 + "]" * 50, "nested too deeply"),
        (r'["\ud800"]', "half of a surrogate pair"),
        (r'{"\udfff": 1}', "half of a surrogate pair"),
    ],
)
def test_what_json_leaves_open_is_refused(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        parse(text)
    with pytest.raises(ValueError, match=complaint):
        parse(text.encode())


def test_every_other_json_value_is_read_as_it_is():
    value = {"a": [1, -1, 1.5, True, None, "µ\n\U0001f600"], "": {}, "n": 2**63 - 1}
    assert parse(json.dumps(value)) == parse(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize(
    "make",
    [
        lambda: Channel("x", "m", scale=1e-50),
        lambda: Channel("x", "m", scale=1e300),
        lambda: Channel("x", "m", scale=True),
        lambda: Channel("x", "m", scale="1"),
        lambda: Channel("x", "m", offset=1e39),
        lambda: Channel("x", "m", minimum=-1e300),
        lambda: Channel("x", "m", maximum=None),
        lambda: Channel(5, "m"),
        lambda: Channel("\ud800", "m"),
        lambda: Choice("u", "N", (0.0, 1e39)),
        lambda: Choice("u", "N", (0.0, "1")),
        lambda: replace(SPEC, dt="soon"),
        lambda: replace(SPEC, dt=1e-50),
        lambda: replace(SPEC, episode_steps=0),
        lambda: replace(SPEC, episode_steps=True),
        lambda: replace(SPEC, episode_steps=10**40),
        lambda: replace(SPEC, solved_return=float("nan")),
        lambda: DQN(hidden=(4,) * 1000),
        lambda: DQN(max_gradient_norm=float("inf")),
    ],
)
def test_a_spec_or_setting_beyond_single_precision_is_refused(make):
    with pytest.raises(UprightError, match=r"\A[^\n]{1,400}\Z"):
        make()


def test_a_whole_number_where_a_real_one_is_meant_is_one():
    """JAX would make an integer of 32 bits of it."""

    @dataclass(frozen=True)
    class Settings:
        norm: float = setting(0.0, at_least=0)
        __post_init__ = check_settings

    assert isinstance(Settings(2**40).norm, float)
    for norm, complaint in ((10**400, "finite in single precision"), (-1, "at least 0")):
        with pytest.raises(UprightError, match=rf"^norm is .* must be {complaint}$"):
            Settings(norm)


@pytest.fixture(scope="module")
def learner():
    """Between act and observe, after some steps."""
    learner = Learner(SPEC, SMALL, seed=0)
    for _ in range(6):
        learner.act(np.zeros(4))
        learner.observe(1.0, np.zeros(4), False)
    learner.act(np.zeros(4))
    return learner


@pytest.mark.parametrize("reward", [1e300, -1e39, 10**400, float("nan"), "much", [1.0, 2.0], 1j])
def test_a_reward_that_single_precision_does_not_hold_is_refused(learner, reward):
    steps = learner.steps
    with pytest.raises(UprightError, match=r"^reward (is|of shape)"):
        learner.observe(reward, np.zeros(4), False)
    assert learner.steps == steps


@pytest.mark.parametrize("number", [1e38, 1e300, 10**400, None, "a"])
def test_an_observation_beyond_what_can_be_computed_gets_no_action(learner, number, untrained):
    observation = [3e38 if number == 1e38 else number, 0, 0, 0]
    policy = untrained[0]
    large = replace(policy, weights=tuple(weight * 1e3 for weight in policy.weights))
    with pytest.raises(UprightError, match=r"^observation is"):
        large.act(observation)
    if number != 1e38:
        with pytest.raises(UprightError, match=r"^observation is"):
            learner.act(observation)


def test_a_learner_whose_network_cannot_say_anything_gives_no_action():
    huge = Spec("t", Vector((Channel("x", "m", scale=1e-30),)), Choice("u", "N", (0.0, 1.0)), 1, 9)
    with pytest.raises(UprightError, match="observation is too large for the network"):
        Learner(huge, replace(SMALL, hidden=()), seed=0).act([1e30])


@pytest.mark.parametrize(
    "change",
    [
        lambda header, named: header["agent"].update(batch_size=2**31),
        lambda header, named: header["agent"].update(replay_size=2**31 - 1),
        lambda header, named: header["agent"].update(replay_size=4),
        lambda header, named: header["agent"].update(hidden=[2**16, 2**16]),
        lambda header, named: header["agent"].update(environments=2),
        lambda header, named: header.update(agent={}),
        lambda header, named: header.update(agent=[["name", "DQN"]]),
        lambda header, named: header["spec"]["observation"].update(channels=[]),
        lambda header, named: header.update(seed=2**32),
        lambda header, named: header.update(seed=1.0),
        lambda header, named: header.update(steps=-1),
        lambda header, named: header.update(steps=7),
        lambda header, named: header.update(calls=2**31),
        lambda header, named: header.pop("calls"),
        lambda header, named: named["memory.rows"].fill(np.nan),
        lambda header, named: named.update({"memory.rows": named["memory.rows"][:3]}),
        lambda header, named: named.update({"acted.action": np.array([9], np.int32)}),
        lambda header, named: named.update({"state.scale": np.zeros(4, np.float32)}),
        lambda header, named: named.update(more=np.zeros(1)),
    ],
)
def test_a_learners_file_is_checked_whole_before_anything_is_compiled(
    learner, tmp_path, monkeypatch, change
):
    path = tmp_path / "learner.safetensors"
    learner.save(path)
    monkeypatch.setattr(Learner, "_compile", lambda self: pytest.fail("compiled"))
    reseal(path, change)
    with pytest.raises(UprightError, match=r"\A[^\n]*learner\.safetensors: [^\n]+\Z"):
        Learner.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["spec"].update(episode_steps=10**18),
        lambda header: header["spec"].update(dt=1e-300),
        lambda header: header["spec"].update(dt="0.02"),
        lambda header: header["spec"]["action"].update(values=[1e39, 2.0]),
        lambda header: header["spec"]["action"].update(values=[True, 2.0]),
        lambda header: header["spec"]["action"].update(more=1),
        lambda header: header["spec"].update(task="\ud800"),
        lambda header: header["provenance"].update(step=10**40),
        lambda header: header["provenance"].update(physics={"mass": 10**400}),
        lambda header: header["provenance"].update(randomise={"mass": [2.0, 1.0]}),
        lambda header: header.update(scale=[1e-45, 1.0, 1.0, 1.0]),
        lambda header: header.update(offset=[1e39, 1.0, 1.0, 1.0]),
        lambda header: header.update(offset=["1", 1.0, 1.0, 1.0]),
        lambda header: header["network"].update(sizes=[4.0, 128, 128, 2]),
    ],
)
def test_a_policy_with_such_numbers_is_refused_by_show(untrained, tmp_path, call, change):
    path = tmp_path / "policy.safetensors"
    untrained[0].save(path)
    reseal(path, lambda header, named: change(header))
    status, _, errors = call("show", path)
    assert (status, errors.count("\n")) == (2, 1), errors
    assert errors.startswith(f"upright: {path}: ")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return upright.train(
        "CartPole-v1", agent=SMALL, seeds=1, steps=200, out=tmp_path_factory.mktemp("runs") / "run"
    )


@pytest.fixture
def run(trained, tmp_path):
    return Run(shutil.copytree(trained.path, tmp_path / "run"))


RUN = {
    "steps": None,
    "seeds": [],
    "evaluate_every": 0,
    "agent": {},
    "physics": {"gravity": 1e39},
    "randomise": {"gravity": [1.0]},
    "task": 5,
}


@pytest.mark.parametrize(("name", "value"), [*RUN.items(), ("seeds", [2**32]), ("steps", -1)])
def test_a_run_json_with_such_numbers_is_damaged_for_every_command(
    run, call, tmp_path, name, value
):
    path = run.path / "run.json"
    members = json.loads(path.read_text())
    members["config"][name] = value
    path.write_text(json.dumps(members))
    for command in ("show", "plot", "resume", "evaluate", "play"):
        status, _, errors = call(command, run.path)
        assert (status, errors.count("\n")) == (2, 1), (command, errors)
        assert "run.json is damaged (" in errors, command
    status, output, _ = call("runs", run.path.parent)
    assert "left out" in output
    assert "run.json is damaged (" in output
    status, _, errors = call("merge", run.path, run.path, "--out", tmp_path / "out")
    assert (status, "run.json is damaged (" in errors) == (2, True)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"steps": 200', '"steps": -200'),
        ('"steps": 200', '"steps": NaN'),
        ('"steps": 200', '"steps": 1, "steps": 200'),
        ('"steps": 200', '"steps": ' + "9" * 5000),
        ('"seed": 0', '"seed": false'),
    ],
)
def test_a_seed_json_with_such_numbers_is_damaged(run, old, new):
    path = run.path / "seeds" / "00" / "seed.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    result = Run(run.path).results[0]
    assert result.state == "failed"
    assert re.fullmatch(r"[^\n]*seed\.json is damaged \([^\n]+\)", result.error)


@pytest.mark.parametrize("rows", ["1,2\n", "5\n", "1,2,3,4,x\n", "\n", "1,2,3,4,5,6\n"])
def test_a_table_with_such_a_row_names_its_line(run, rows):
    path = run.path / "seeds" / "00" / "episodes.csv"
    text = path.read_bytes()
    lines = text.count(b"\n")
    path.write_bytes(text + rows.encode())
    with pytest.raises(UprightError, match=rf"episodes\.csv: line {lines + 1} is damaged; it"):
        run.table("episodes")


def test_a_table_without_its_columns_is_refused(run):
    path = run.path / "seeds" / "00" / "episodes.csv"
    path.write_bytes(path.read_bytes().replace(b"return", b"step", 1))
    with pytest.raises(UprightError, match=r"episodes\.csv: is damaged; its first line must"):
        run.table("episodes")


def test_a_checkpoint_cannot_have_other_files_cut(run, tmp_path):
    """The tables that it names are those of a seed; no path leads out of its folder."""
    victim = tmp_path / "victim.csv"
    victim.write_text("a,b\n" * 10)

    def name_it(header, named):
        seal = {"size": 1, "sha256": hashlib.sha256(b"a").hexdigest()}
        header["counters"]["tables"][str(victim.with_suffix(""))] = seal

    for path in run.path.glob("seeds/00/checkpoints/*"):
        reseal(path, name_it)
    with pytest.raises(UprightError, match="its checkpoint is of other tables"):
        upright.resume(run.path, steps=300)
    assert victim.read_text() == "a,b\n" * 10


@pytest.mark.parametrize("use", ["train", "show", "load", "save"])
def test_a_null_byte_in_a_name_is_one_line(use, untrained):
    name = "a\0b"
    uses = {
        "train": lambda: upright.train("CartPole-v1", agent=SMALL, steps=100, out=name),
        "show": lambda: Run(name),
        "load": lambda: upright.load_policy(name),
        "save": lambda: untrained[0].save(name),
    }
    with pytest.raises(UprightError, match=r"null byte|not a run folder"):
        uses[use]()


def test_a_plan_and_its_record_have_the_same_bounds():
    config = plan("CartPole-v1", steps=100)
    with pytest.raises(UprightError, match="steps is 2147483648; it must be at least 1 and below"):
        replace(config, steps=2**31)
    with pytest.raises(UprightError, match="neither steps nor episodes"):
        replace(config.record(), steps=None)

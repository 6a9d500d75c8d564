"""Learning from recorded play: losses in closed form, masks, and small games with known answers."""

import copy
import json
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from hftlib.agents import checkpoint, offline
from hftlib.agents.offline import (
    SETTINGS,
    BCSettings,
    CQLSettings,
    IQLSettings,
    fit_inputs,
    make_sample,
    train_offline,
)
from hftlib.agents.offline_learner import expectile_loss, make_learner
from hftlib.agents.offline_policy import DrawnPolicy, OfflinePolicy, draw_actions, valid_actions
from hftlib.sessions.dataset import TransitionDataset, Transitions
from hftlib.sessions.vocabulary import (
    ACTIVE,
    BUY,
    N_ACTIONS,
    N_ADJUSTMENTS,
    RUGGED,
    SELL,
    SIDEBET,
    WAIT,
)

TICK, PHASE, GAME_ID, BALANCE, QTY = 0, 2, 8, 9, 10
SMALL = {"n_updates": 30, "batch_size": 32, "hidden": (16,), "n_evaluations": 3}
KINDS = (BCSettings, IQLSettings, CQLSettings)


@pytest.fixture(autouse=True)
def _sources_stand_still(monkeypatch):
    """A file that is edited while a test runs would hide its checkpoint."""
    monkeypatch.setattr(checkpoint, "hash_sources", lambda folder: "")
    monkeypatch.setattr(offline, "hash_sources", lambda folder: "")


class Table(NamedTuple):
    """Transitions by column."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    next_observations: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class Source:
    """A table that is drawn from."""

    def __init__(self, **columns):
        n = len(columns["actions"])
        columns.setdefault("truncated", np.zeros(n, dtype=bool))
        self.table = Table(**columns)

    def __len__(self):
        return len(self.table.actions)

    def batch(self, index):
        return Table(*(column[index] for column in self.table))


def code(choice: int, adjustment: int = 0) -> int:
    return choice * N_ADJUSTMENTS + adjustment


def observe(tick, phase=ACTIVE, balance=1.0, qty=0.0) -> np.ndarray:
    """Observations of shape (n, 36) that differ in these features only."""
    parts = np.broadcast_arrays(tick, phase, balance, qty)
    seen = np.zeros((parts[0].size, 36), dtype=np.float32)
    seen[:, [TICK, PHASE, BALANCE, QTY]] = np.stack([p.ravel() for p in parts], axis=1)
    return seen


def make_chain(n: int = 4000, seed: int = 0) -> Source:
    """Three states by tick; any kind of buying moves on, anything else stays, all random.

    Only buying in state 2 pays, 1, and ends the game: with a discount of .5 the values of
    buying are .25, .5 and 1, those of all else half the state's.
    """
    rng = np.random.default_rng(seed)
    state = rng.integers(3, size=n)
    choice = rng.choice([WAIT, BUY, BUY, SIDEBET], size=n)
    moves = choice == BUY
    ends = (state == 2) & moves
    return Source(
        observations=observe(state),
        actions=code(choice, rng.integers(N_ADJUSTMENTS, size=n)),
        rewards=ends.astype(np.float64),
        next_observations=observe(state + moves, np.where(ends, RUGGED, ACTIVE)),
        terminated=ends,
    )


def make_random(n: int = 200, seed: int = 0) -> Source:
    """Noise of the right shapes."""
    rng = np.random.default_rng(seed)
    seen = rng.normal(size=(2, n, 36)).astype(np.float32)
    seen[:, :, PHASE] = ACTIVE
    seen[:, :, BALANCE] = 1.0
    return Source(
        observations=seen[0],
        actions=rng.integers(N_ACTIONS, size=n),
        rewards=rng.normal(size=n),
        next_observations=seen[1],
        terminated=rng.random(n) < 0.1,
    )


def set_outputs(network, values) -> None:
    """The network says `values`, whatever it sees."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[-1].bias.copy_(torch.as_tensor(values, dtype=torch.float32))


# ----- masks -----


def test_the_mask_follows_phase_balance_and_position():
    seen = observe(
        0, [ACTIVE, ACTIVE, ACTIVE, RUGGED, 1], [1, 0.001, 0.0009, 1, 1], [0, 2, 0, 2, 0]
    )
    choices = valid_actions(seen).reshape(5, 4, N_ADJUSTMENTS)
    assert (choices == choices[:, :, :1]).all()  # every change of the bet is always allowed
    expected = {  # WAIT, BUY, SELL, SIDEBET
        0: (True, True, False, True),
        1: (True, False, True, True),
        2: (True, False, False, False),
        3: (True, False, False, False),
        4: (True, False, False, False),
    }
    assert {k: tuple(row) for k, row in enumerate(choices[:, :, 0].tolist())} == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_never_takes_an_action_that_is_not_allowed(kind):
    policy = train_offline(make_random(), kind(**SMALL), 0).policy
    rng = np.random.default_rng(1)
    seen = observe(
        rng.integers(100, size=500), ACTIVE, rng.choice([0, 1.0], 500), rng.choice([0, 1.0], 500)
    )
    valid = valid_actions(seen)
    for temperature in (0.0, 1.0):
        chances = policy.probabilities(seen, temperature)
        assert (chances[~valid] == 0).all()
        np.testing.assert_allclose(chances.sum(axis=1), 1, rtol=1e-12)
    for actions in (policy.act(seen), policy.act(seen, rng)):
        assert actions.shape == (500, 2) and actions.dtype == np.int64
        assert valid[np.arange(500), actions @ [N_ADJUSTMENTS, 1]].all()


def test_greedy_actions_are_the_most_probable_ones():
    policy = train_offline(make_random(), BCSettings(**SMALL), 0).policy
    seen = make_random(seed=3).table.observations
    best = policy.probabilities(seen).argmax(axis=1)
    np.testing.assert_array_equal(policy.act(seen) @ [N_ADJUSTMENTS, 1], best)
    np.testing.assert_array_equal(policy.probabilities(seen, 0.0).argmax(axis=1), best)


def test_draws_have_the_frequencies_of_their_chances():
    chances = np.array([0.0, 0.1, 0.6, 0.3])
    n = 40_000
    drawn = draw_actions(np.tile(chances, (n, 1)), np.random.default_rng(0))
    shares = np.bincount(drawn, minlength=4) / n
    assert shares[0] == 0
    np.testing.assert_allclose(shares, chances, atol=4 * np.sqrt(0.25 / n))


def test_the_name_of_the_game_changes_nothing():
    source = make_random()
    trained = train_offline(source, IQLSettings(**SMALL), 0)
    renamed = copy.deepcopy(source)
    for seen in (renamed.table.observations, renamed.table.next_observations):
        seen[:, GAME_ID] = np.random.default_rng(9).random(len(seen))
    again = train_offline(renamed, IQLSettings(**SMALL), 0)
    np.testing.assert_array_equal(
        trained.policy.probabilities(source.table.observations),
        again.policy.probabilities(renamed.table.observations),
    )


# ----- losses -----


def make_one(learner_settings, reward=2.0, is_terminated=False, action=9, **seen):
    """A learner and a batch of one transition between states that allow waiting and buying."""
    source = Source(
        observations=observe([0.0], **seen),
        actions=np.array([action]),
        rewards=np.array([reward]),
        next_observations=observe([1.0]),
        terminated=np.array([is_terminated]),
    )
    sample = make_sample(source.table, fit_inputs(source))
    return make_learner(learner_settings, 0), sample


def bump(**values) -> np.ndarray:
    """36 numbers, 0 but at the named choices without a change of the bet."""
    outputs = np.zeros(N_ACTIONS)
    for name, value in values.items():
        outputs[code({"wait": WAIT, "buy": BUY, "sell": SELL, "sidebet": SIDEBET}[name])] = value
    return outputs


def test_cloning_pays_the_negative_log_probability_among_allowed_actions():
    learner, sample = make_one(BCSettings(**SMALL))
    set_outputs(learner.actor, bump(buy=2.0, sell=50.0))  # selling is not allowed
    n_others = 3 * N_ADJUSTMENTS - 1
    expected = np.log(np.exp(2.0) + n_others) - 2.0
    assert learner.find_losses(sample)["policy_loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("is_terminated", [False, True])
def test_conservative_learning_descends_the_double_q_error_and_the_penalty(is_terminated):
    settings = CQLSettings(**SMALL, gamma=0.5, reward_scale=3.0, penalty=2.0)
    learner, sample = make_one(settings, is_terminated=is_terminated)
    set_outputs(learner.actor, bump(wait=4.0, buy=1.0, sell=50.0))
    set_outputs(learner.target, bump(wait=6.0, buy=9.0, sell=70.0))
    losses = learner.find_losses(sample)
    target = 3.0 * 2.0 + (0 if is_terminated else 0.5 * 6.0)  # the learnt net's choice, priced
    assert losses["critic_loss"].item() == pytest.approx((1.0 - target) ** 2 / 2, rel=1e-5)
    excess = np.log(np.exp(4.0) + np.exp(1.0) + 3 * N_ADJUSTMENTS - 2) - 1.0
    assert losses["penalty"].item() == pytest.approx(2.0 * excess, rel=1e-5)


@pytest.mark.parametrize("is_terminated", [False, True])
def test_implicit_learning_asks_only_about_the_recorded_action(is_terminated):
    settings = IQLSettings(**SMALL, gamma=0.5, expectile=0.8, sharpness=0.1, max_weight=1.2)
    learner, sample = make_one(settings, is_terminated=is_terminated)
    set_outputs(learner.value, [3.0])
    for net, own in zip(learner.critics, (1.0, 2.0), strict=True):
        set_outputs(net, bump(wait=80.0, buy=own))
    for net, own in zip(learner.target_critics, (4.0, 5.0), strict=True):
        set_outputs(net, bump(wait=90.0, buy=own))
    set_outputs(learner.actor, np.zeros(N_ACTIONS))
    losses = learner.find_losses(sample)
    advantage = 4.0 - 3.0  # the smaller target twin less the state's value
    assert losses["value_loss"].item() == pytest.approx(0.8 * advantage**2, rel=1e-5)
    target = 2.0 + (0 if is_terminated else 0.5 * 3.0)
    expected = (1 - target) ** 2 + (2 - target) ** 2
    assert losses["critic_loss"].item() == pytest.approx(expected, rel=1e-5)
    push = min(np.exp(0.1 * advantage), 1.2)
    expected = push * np.log(3 * N_ADJUSTMENTS)
    assert losses["policy_loss"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_action_that_is_not_allowed_teaches_nothing(kind):
    learner, sample = make_one(kind(**SMALL), action=code(SELL))
    losses = learner.find_losses(sample)
    assert all(loss.item() == 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    gradients = [x.grad for x in learner.parameters() if x.grad is not None]
    assert gradients and all((gradient == 0).all() for gradient in gradients)


def test_the_losses_of_implicit_learning_touch_networks_of_their_own():
    owners = {"value_loss": "value", "critic_loss": "critics", "policy_loss": "actor"}
    for name, owner in owners.items():
        learner, source = make_learner(IQLSettings(**SMALL), 0), make_random()
        learner.find_losses(make_sample(source.table, fit_inputs(source)))[name].backward()
        moved = {
            part
            for part, network in learner.named_children()
            if any(x.grad is not None and x.grad.any() for x in network.parameters())
        }
        assert moved == {owner}


@pytest.mark.parametrize("expectile", [0.1, 0.5, 0.9])
def test_the_expectile_minimises_its_loss(expectile):
    values = torch.linspace(-1, 3, 101, dtype=torch.float64)
    grid = torch.linspace(-1, 3, 2001, dtype=torch.float64)
    losses = torch.stack([expectile_loss(values - c, expectile).mean() for c in grid])
    found = grid[losses.argmin()]
    above, below = (values - found).clamp(min=0).sum(), (found - values).clamp(min=0).sum()
    assert (expectile * above / ((1 - expectile) * below)).item() == pytest.approx(1, abs=0.01)


# ----- known answers -----


def test_cloning_finds_the_frequencies_of_the_recorded_actions():
    rng = np.random.default_rng(0)
    state = rng.integers(2, size=5000)
    buys = rng.random(5000) < np.array([0.2, 0.7])[state]
    source = make_chain(5000)
    source.table = source.table._replace(
        observations=observe(state), actions=np.where(buys, code(BUY), code(WAIT))
    )
    settings = BCSettings(n_updates=500, batch_size=512, hidden=(16,), learning_rate=1e-2)
    chances = train_offline(source, settings, 0).policy.probabilities(observe([0, 1]))
    for k in range(2):  # standard error of a share: .01
        assert chances[k, code(BUY)] == pytest.approx(buys[state == k].mean(), abs=0.04)
        assert chances[k, [code(BUY), code(WAIT)]].sum() == pytest.approx(1, abs=0.02)


def test_double_q_learning_without_a_penalty_finds_the_values_of_the_chain():
    settings = CQLSettings(
        n_updates=600, hidden=(16,), learning_rate=1e-2, gamma=0.5, penalty=0.0, tau=0.05
    )
    policy = train_offline(make_chain(), settings, 0).policy
    inputs = torch.from_numpy(offline.scale_observations(policy.scaler, observe([0, 1, 2])))
    values = policy.network(inputs).numpy().reshape(3, 4, N_ADJUSTMENTS)
    best = np.array([0.25, 0.5, 1.0])[:, None]
    np.testing.assert_allclose(values[:, BUY], best.repeat(N_ADJUSTMENTS, axis=1), atol=0.1)
    np.testing.assert_allclose(values[:, WAIT], best.repeat(N_ADJUSTMENTS, axis=1) / 2, atol=0.1)


@pytest.mark.parametrize(
    "settings",
    [
        IQLSettings(
            n_updates=500, hidden=(16,), learning_rate=1e-2, gamma=0.5, sharpness=10.0, tau=0.05
        ),
        CQLSettings(
            n_updates=500, hidden=(16,), learning_rate=1e-2, gamma=0.5, penalty=0.05, tau=0.05
        ),
    ],
    ids=lambda settings: settings.algo,
)
def test_learners_of_values_find_the_way_through_the_chain(settings):
    policy = train_offline(make_chain(), settings, 0).policy
    np.testing.assert_array_equal(policy.act(observe([0, 1, 2]))[:, 0], [BUY, BUY, BUY])


def test_a_bandit_is_left_at_its_better_arm_where_the_players_preferred_the_worse():
    rng = np.random.default_rng(0)
    n = 3000
    buys = rng.random(n) < 0.25
    source = Source(
        observations=observe(np.zeros(n)),
        actions=np.where(buys, code(BUY), code(WAIT)),
        rewards=np.where(buys, 1.0, 0.5) + rng.normal(0, 0.3, n),
        next_observations=observe(np.zeros(n), RUGGED),
        terminated=np.ones(n, dtype=bool),
    )
    start = observe([0.0])
    common = {"n_updates": 200, "hidden": (8,), "learning_rate": 1e-2}
    cloned = train_offline(source, BCSettings(**common), 0).policy
    assert cloned.act(start)[0, 0] == WAIT
    for kind in (IQLSettings(**common, sharpness=10.0), CQLSettings(**common, penalty=0.05)):
        assert train_offline(source, kind, 0).policy.act(start)[0, 0] == BUY


# ----- the loop -----


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_writes_the_same_bytes(kind, tmp_path):
    for name in ("a", "b"):
        train_offline(make_random(), kind(**SMALL), 7).policy.save(tmp_path / name)
    train_offline(make_random(), kind(**SMALL), 8).policy.save(tmp_path / "c")
    first, second, other = ((tmp_path / name).read_bytes() for name in "abc")
    assert first == second != other


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("kind", KINDS)
def test_stopped_and_resumed_is_bit_for_bit_uninterrupted(kind, tmp_path):
    settings, read = kind(**SMALL), []

    class Watched(Source):
        def batch(self, index):
            read.append(index)
            if len(read) == 26:  # the first is for the scaling: in update 25
                raise StoppedError
            return super().batch(index)

    source = Watched(**make_random().table._asdict())
    with pytest.raises(StoppedError):
        train_offline(source, settings, 0, scratch=tmp_path)
    resumed = train_offline(source, settings, 0, scratch=tmp_path)
    assert len(read) == 26 + 1 + 10  # from update 20, the last point of the curve, to 30
    through = train_offline(make_random(), settings, 0)
    assert resumed.curve == through.curve
    for path, trained in ((tmp_path / "a", resumed), (tmp_path / "b", through)):
        trained.policy.save(path)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_curve_has_evenly_spaced_means_and_the_share_left_out():
    trained = train_offline(make_random(), BCSettings(**SMALL), 0)
    assert [point[0] for point in trained.curve[::2]] == [10, 20, 30]
    assert {point[1] for point in trained.curve} == {"policy_loss", "left_out"}
    valid = valid_actions(make_random().table.observations)
    share = 1 - valid[np.arange(200), make_random().table.actions].mean()
    found = np.mean([value for _, name, value in trained.curve if name == "left_out"])
    assert found == pytest.approx(share, abs=5 * np.sqrt(0.25 / (30 * 32)))


def test_a_policy_is_the_same_after_saving_and_holds_no_code(tmp_path):
    policy = train_offline(make_random(), CQLSettings(**SMALL), 0).policy
    path = tmp_path / "policy.pt"
    policy.save(path)
    loaded = OfflinePolicy.load(path)
    seen = make_random(seed=1).table.observations
    np.testing.assert_array_equal(loaded.probabilities(seen), policy.probabilities(seen))
    assert loaded.about == json.loads(json.dumps(policy.about))
    assert loaded.about["algo"] == "cql" and loaded.about["settings"]["penalty"] == 1.0
    assert set(torch.load(path, weights_only=True)) == {"about", "weights"}


def test_a_drawn_policy_draws_as_its_generator_says():
    policy = train_offline(make_random(), BCSettings(**SMALL), 0).policy
    seen = make_random(seed=1).table.observations
    drawn = DrawnPolicy(policy, np.random.default_rng(5)).act(seen)
    np.testing.assert_array_equal(drawn, policy.act(seen, np.random.default_rng(5)))
    assert (drawn != policy.act(seen)).any()


def test_a_dataset_of_recorded_games_is_a_source():
    table = make_random().table
    parts = Transitions(
        observations=np.concatenate([table.observations, table.next_observations[-1:]]),
        row=np.arange(200),
        choice=(table.actions // N_ADJUSTMENTS).astype(np.int8),
        adjustment=(table.actions % N_ADJUSTMENTS).astype(np.int8),
        rewards=table.rewards,
        terminated=np.arange(200) == 199,
        truncated=np.zeros(200, dtype=bool),
        is_exact=np.ones(200, dtype=bool),
        stake_open=np.zeros(200, dtype=bool),
        game=np.zeros(200, dtype=np.int64),
    )
    dataset = TransitionDataset.from_parts([parts], pd.DataFrame({"game_id": ["a"]}))
    same = Source(
        observations=table.observations,
        actions=table.actions,
        rewards=table.rewards,
        next_observations=parts.observations[1:],
        terminated=parts.terminated,
    )
    settings = CQLSettings(**SMALL)
    assert train_offline(dataset, settings, 0).curve == train_offline(same, settings, 0).curve


# ----- refusals -----


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "x.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no policy"):
        OfflinePolicy.load(path)
    torch.save({"about": json.dumps({"version": 99}), "weights": {}}, path)
    with pytest.raises(ValueError, match="version 99, expected 1"):
        OfflinePolicy.load(path)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (BCSettings, "n_updates", 0),
        (BCSettings, "n_evaluations", 31),
        (IQLSettings, "expectile", 1.0),
        (IQLSettings, "gamma", 1.1),
        (CQLSettings, "penalty", -1.0),
        (CQLSettings, "tau", 0.0),
    ],
)
def test_settings_out_of_range_are_refused_by_name(kind, field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        kind(**(SMALL | {field: value}))


def test_settings_are_found_by_the_name_of_the_algorithm():
    assert {name: kind.algo for name, kind in SETTINGS.items()} == {
        k: k for k in ("bc", "iql", "cql")
    }


def test_divergence_names_the_update(tmp_path):
    source = make_random()
    source.table.rewards[:] = np.inf
    with pytest.raises(FloatingPointError, match="not finite at update 10"):
        train_offline(source, CQLSettings(**SMALL), 0, scratch=tmp_path)
    assert not list(tmp_path.iterdir())


def test_wrong_shapes_and_empty_sources_are_refused():
    policy = train_offline(make_random(), BCSettings(**SMALL), 0).policy
    with pytest.raises(ValueError, match=r"expected \(n, 36\)"):
        policy.act(np.zeros((2, 35), dtype=np.float32))
    with pytest.raises(ValueError, match="temperature=-1"):
        policy.probabilities(observe([0]), -1)
    with pytest.raises(ValueError, match="no transitions"):
        train_offline(
            Source(**{k: v[:0] for k, v in make_random().table._asdict().items()}),
            BCSettings(**SMALL),
            0,
        )

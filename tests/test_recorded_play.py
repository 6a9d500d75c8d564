"""Off-policy estimates of recorded play: refusals, the choice of games, known values."""

import copy

import numpy as np
import pytest

from hftlib.agents.offline import fit_inputs
from hftlib.agents.offline_learner import BCSettings, make_learner
from hftlib.agents.offline_policy import OfflinePolicy
from hftlib.evaluation.recorded_play import (
    RANDOM,
    find_chances,
    fit_recorded,
    refuse_invalid,
    take_random_players,
    take_whole_games,
    weigh_recorded,
)
from hftlib.sessions.dataset import TransitionDataset
from hftlib.sessions.players import propensities
from hftlib.sessions.recording import record_sessions
from hftlib.sessions.transitions import TrainingDataGenerator
from hftlib.sessions.vocabulary import BUY, N_ACTIONS, N_ADJUSTMENTS, SIDEBET, WAIT

BALANCE, BET, PHASE, ACTIVE = 9, 31, 2, 2
SETTINGS = {"gamma": 0.9, "n_bootstrap": 20, "confidence": 0.9, "seed": 0}


class Imitator(OfflinePolicy):
    """Acts as one of the random players where no side bet is open."""

    def __init__(self, name):
        self.name = name

    def probabilities(self, observations, temperature=1.0):
        return propensities(self.name, observations, np.zeros(len(observations)))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Three sessions of two games: habits, and two players of known chances."""
    folder = tmp_path_factory.mktemp("recorded")
    report = record_sessions(
        folder, n_sessions=3, games_per_session=2, players=["early", *RANDOM[1:]], seed=3
    )
    dataset = TrainingDataGenerator().from_parquet(folder, folder)
    return dataset, report.players


def rebuild(dataset: TransitionDataset, **columns) -> TransitionDataset:
    """The dataset with other columns."""
    return TransitionDataset(dataset._columns | columns, dataset._games)


def make_policy(dataset: TransitionDataset) -> OfflinePolicy:
    """An untrained one."""
    actor = make_learner(BCSettings(n_updates=10, hidden=(4,)), 0).actor
    return OfflinePolicy(copy.deepcopy(actor), fit_inputs(dataset), {})


def test_refusing_keeps_the_sums_and_leaves_nothing_on_what_is_refused():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(N_ACTIONS), size=50)
    allowed = rng.random((50, N_ACTIONS)) < 0.5
    allowed[:, :N_ADJUSTMENTS] = True  # waiting
    found = refuse_invalid(chances, allowed)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert not found[~allowed].any()
    acts = allowed & (np.arange(N_ACTIONS) >= N_ADJUSTMENTS)
    np.testing.assert_array_equal(found[acts], chances[acts])


def test_a_refused_choice_waits_with_its_own_adjustment():
    chances = np.zeros((1, N_ACTIONS))
    chances[0, BUY * N_ADJUSTMENTS + 4] = 1.0
    found = refuse_invalid(chances, np.zeros((1, N_ACTIONS), dtype=bool))
    assert found[0, WAIT * N_ADJUSTMENTS + 4] == 1.0


def test_the_game_refuses_a_second_side_bet_and_one_without_a_bet(recorded):
    policy = make_policy(recorded[0])
    seen = np.zeros((3, 36), dtype=np.float32)
    seen[:, PHASE], seen[:, BALANCE] = ACTIVE, 1.0
    seen[:2, BET] = 0.1
    found = find_chances(policy, seen, np.array([False, True, False]))
    sidebets = found[:, SIDEBET * N_ADJUSTMENTS : (SIDEBET + 1) * N_ADJUSTMENTS]
    assert (sidebets[0, [0, 2]] > 0).all()
    assert not sidebets[1].any()
    assert sidebets[2, 0] == 0  # no bet, none added
    assert sidebets[2, 2] > 0  # .001 added


def test_only_games_of_players_with_known_chances_are_taken(recorded):
    dataset, players = recorded
    taken = take_random_players(dataset, players)
    assert set(taken.games["session_id"].map(players)) == set(RANDOM[1:])
    assert len(taken.games) == 4


@pytest.mark.parametrize(("column", "bad"), [("is_exact", False), ("truncated", True)])
def test_a_game_with_one_unusable_step_is_left_out_whole(recorded, column, bad):
    dataset, _ = recorded
    game = take_whole_games(dataset).column("game")[0]
    values = dataset.column(column).copy()
    values[np.flatnonzero(dataset.column("game") == game)[-1]] = bad
    taken = take_whole_games(rebuild(dataset, **{column: values}))
    assert game not in taken.column("game")
    assert len(taken.games) == len(take_whole_games(dataset).games) - 1


def test_the_recorded_policy_is_worth_its_mean_return(recorded):
    dataset, players = recorded
    closed = rebuild(dataset, stake_open=np.zeros(len(dataset), dtype=bool))
    for name in RANDOM[1:]:
        is_own = closed.games["session_id"].map(players) == name
        part = closed.take_games(closed.games.index[is_own])
        found = weigh_recorded(Imitator(name), part, players, **SETTINGS)
        rewards = part.batch(np.arange(len(part))).rewards
        step = np.arange(len(part)) - np.searchsorted(part.column("game"), part.column("game"))
        mean = (rewards * SETTINGS["gamma"] ** step).sum() / 2
        assert found.value.value == pytest.approx(mean)
        assert found.effective_episodes == pytest.approx(2)


def test_estimates_are_the_same_each_time_and_finite(recorded):
    dataset, players = recorded
    policy = make_policy(dataset)
    taken = take_random_players(dataset, players)
    first, second = (weigh_recorded(policy, taken, players, **SETTINGS) for _ in range(2))
    assert first == second
    assert np.isfinite([*vars(first.value).values()]).all()
    first, second = (fit_recorded(policy, dataset, **SETTINGS) for _ in range(2))
    assert first.value == second.value
    assert first.n_games == 6
    assert np.isfinite([*vars(first.value).values()]).all()


def test_games_that_paid_nothing_are_worth_nothing_by_both_estimates(recorded):
    dataset, players = recorded
    taken = take_random_players(rebuild(dataset, rewards=np.zeros(len(dataset))), players)
    policy = make_policy(dataset)
    assert weigh_recorded(policy, taken, players, **SETTINGS).value.value == 0
    assert fit_recorded(policy, taken, **SETTINGS).value.value == pytest.approx(0)


@pytest.mark.parametrize("name", RANDOM)
def test_a_sure_return_is_worth_the_exposure_that_it_is_paid_on(tmp_path, name):
    """Each tick pays 1 % of the position's value: nothing to gain but exposure."""
    record_sessions(tmp_path, n_sessions=10, games_per_session=8, players=[name], seed=5)
    dataset = TrainingDataGenerator().from_parquet(tmp_path, tmp_path)
    seen = dataset.batch(np.arange(len(dataset))).observations.astype(float)
    paid = rebuild(dataset, rewards=0.01 * seen[:, 10] * seen[:, 1])
    found = fit_recorded(Imitator(name), paid, **SETTINGS).value
    rewards, step = paid.batch(np.arange(len(paid))).rewards, np.arange(len(paid))
    step -= np.searchsorted(paid.column("game"), paid.column("game"))
    mean = (rewards * SETTINGS["gamma"] ** step).sum() / len(paid.games)
    assert found.low < mean < found.high


def test_unknown_players_habits_alone_and_cut_games_are_refused(recorded):
    dataset, players = recorded
    with pytest.raises(ValueError, match="is of player nan; expected one of early"):
        take_random_players(dataset, {})
    with pytest.raises(ValueError, match="no game of a random player among 6"):
        take_random_players(dataset, dict.fromkeys(players, "early"))
    cut = rebuild(dataset, truncated=np.ones(len(dataset), dtype=bool))
    with pytest.raises(ValueError, match="none of 6 games was recorded exactly and to the rug"):
        take_whole_games(cut)
    with pytest.raises(ValueError, match="choose with take_whole_games"):
        weigh_recorded(make_policy(dataset), cut, players, **SETTINGS)
    with pytest.raises(ValueError, match="choose with take_whole_games"):
        fit_recorded(make_policy(dataset), cut, **SETTINGS)

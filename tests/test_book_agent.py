"""The served executor: it sees and does what the environment's saw and did."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hftlib.agents.actor_export import MeanOfSeeds, export_actors, read_team
from hftlib.agents.teams import as_team, save_team
from hftlib.envs.desk import MID, N_SEEN, want
from hftlib.envs.execution_view import OwnOrder, observe_execution
from hftlib.envs.roles import MarketError, Taker
from hftlib.envs.rules import terms_of
from hftlib.live import models
from hftlib.live.artefact import ArtefactError, load_artefact
from hftlib.live.artefact_store import ArtefactStore
from hftlib.live.book_artefact import load_book_artefact, load_either
from hftlib.live.book_export import read_teams
from hftlib.live.book_parity import compare_actions, compare_observations
from hftlib.live.book_predictor import BOOK, OWN, STATE, BookPredictor
from hftlib.live.symbol_state import ObservationError
from tests.book_agent_cases import NAME, ROLE, SCENE, SYMBOL, export, make_case, make_teams


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("book"))


@pytest.fixture(scope="module")
def predictor(case):
    return ArtefactStore(case.root).load(NAME)


# What it sees


def test_snapshots_give_the_environment_s_observation_to_the_last_bit(case, predictor):
    found = compare_observations(predictor, case.executions)
    assert found["equal"] == found["observations"] == 3 * 24 and found["largest"] == 0
    assert found["resting"] > 10  # with orders of its own in the book
    seen = np.concatenate([one.observations for one in case.executions])
    assert {-1.0, 1.0} == {*seen[:, predictor.role.observation_names.index("side")].tolist()}
    assert (np.ptp(seen, axis=0) > 0).all()  # every feature has varied


@pytest.mark.parametrize(
    "column", ["best_bid", "ask_px_3", "bid_qty_2", "traded_qty", "remaining_lots", "resting_lots"]
)
def test_every_part_of_a_snapshot_is_seen(case, predictor, column):
    rows, _ = case.executions[0]
    k = int(np.argmax((rows["resting_lots"] > 1) & (rows.index > 2)))
    changed = rows.iloc[: k + 1].copy()
    changed.loc[k, column] += -1 if column in {"best_bid", "resting_lots"} else 1
    if column == "best_bid":  # and the levels behind it stay worse
        changed.loc[k, ["bid_px_2", "bid_px_3"]] -= 1
    if column == "remaining_lots":
        changed.loc[k, column] -= 2
    found = [predictor.observe(frame, 0, 0) for frame in (rows.iloc[: k + 1], changed)]
    assert found[0].tobytes() != found[1].tobytes()


def test_the_future_is_not_seen(case, predictor):
    rows, observations = case.executions[1]
    later = rows.copy()
    later.loc[10:, [*BOOK]] += 5
    np.testing.assert_array_equal(predictor.observe(later.iloc[:10], 0, 0), observations[9])


def test_a_window_that_begins_late_is_another_task(case, predictor):
    rows, observations = case.executions[0]
    late = predictor.observe(rows.iloc[5:12].reset_index(drop=True), 0, 0)
    assert late[ROLE.observation_names.index("time_left")] == np.float32(1 - 6 / 24)
    assert late.tobytes() != observations[11].tobytes()


# What it does


def test_the_graph_gives_the_mean_action_of_the_seeds(case, predictor):
    rng = np.random.default_rng(0)
    drawn = rng.normal(0, 0.5, (1000, len(ROLE.observation_names))).astype(np.float32)
    policy = MeanOfSeeds(case.seeds, "executor", ROLE)
    found = compare_actions(predictor, policy, drawn)
    assert found["largest"] <= 1e-5 and found["range"] > 0.01  # of float32 sums
    env = SCENE.build(1)
    each = np.stack([as_team(own, env)["executor"].act(drawn) for own in case.seeds])
    np.testing.assert_allclose(predictor.run_graph(drawn)[1], each.std(axis=0), atol=1e-5)


def test_the_order_is_the_one_that_the_environment_would_send(case, predictor):
    policy = MeanOfSeeds(case.seeds, "executor", ROLE)
    terms = terms_of(SCENE.market, SCENE.risk, SCENE.reward, True, False)
    n_limits = 0
    for rows, observations in case.executions:
        answer = predictor.predict(observations)
        actions = predictor.run_graph(observations)[0]
        np.testing.assert_allclose(actions, policy.act(observations), atol=1e-5)
        for k, row in enumerate(rows.itertuples()):
            view = np.zeros(N_SEEN)
            view[MID] = mid = (row.best_bid + row.best_ask) / 2
            _, side, price, lots = want(
                ROLE.code,
                row.side,
                np.r_[actions[k], 0, 0, 0],
                view,
                -row.side * row.remaining_lots,
                ROLE.reach_ticks,
                0.0,
                ROLE.max_slice,
                terms,
                k == 23,
            )
            assert answer.action[k] == side * lots
            is_market = k == 23 or lots == 0
            assert np.isnan(answer.limit_ticks[k]) == is_market
            if not is_market:
                wanted = mid + answer.limit_ticks[k]
                rounded = np.floor(wanted + 1e-3) if side > 0 else np.ceil(wanted - 1e-3)
                assert rounded == price
                n_limits += 1
    assert n_limits > 20


def test_one_observation_is_answered_as_among_others(case, predictor):
    observations = case.executions[0].observations
    alone = [predictor.predict(one[None]).action[0] for one in observations]
    np.testing.assert_array_equal(alone, predictor.predict(observations).action)


def test_an_artefact_of_one_seed_has_no_spread(tmp_path):
    make_teams(tmp_path / "teams", n_seeds=1)
    export(tmp_path / "root", tmp_path / "teams")
    predictor = ArtefactStore(tmp_path / "root").load(NAME)
    assert predictor.predict(np.zeros((2, 26), np.float32)).spread is None


# What is refused


def broken(rows, **changes):
    rows = rows.iloc[:6].copy()
    for column, value in changes.items():
        rows.loc[rows.index[-1], column] = value
    return rows


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"side": 0}, "side is 0; expected 1 to buy or -1"),
        ({"remaining_lots": 201}, "expected 0 to 200, the parent order of the training"),
        ({"remaining_lots": -1}, "remaining_lots is -1"),
        ({"resting_price": 9, "resting_lots": 0}, "expected both above 0, or both 0"),
        ({"resting_price": 9, "resting_lots": 61}, "expected 0 to 60, the largest slice"),
        ({"traded_qty": -1}, "traded_qty is -1"),
        ({"traded_qty": np.nan}, "the newest snapshot has no traded_qty"),
        ({"remaining_lots": np.nan}, "has no remaining_lots"),
        ({"bid_px_3": np.nan}, "snapshots lack bid_px_3; send 3 levels"),
        ({"best_bid": 10**9}, "snapshot 5 is no book"),
        ({"ask_qty_2": 0}, "snapshot 5 is no book"),
        ({"bid_qty_1": -5}, "snapshot 5 is no book"),
        ({"bid_px_2": 0, "bid_qty_2": 0}, "snapshot 5 is no book"),
        ({"ask_px_3": 1}, "snapshot 5 is no book"),
        ({"ts": 3 * 10**9}, "snapshot 5 is 3000 ms after the first; expected one every 500 ms"),
        ({"symbol": "OTHER"}, "expected one of SIM"),
    ],
)
def test_snapshots_that_are_not_sound_are_refused(case, predictor, changes, said):
    full = {"remaining_lots": 150, "resting_price": 0, "resting_lots": 0} | changes
    with pytest.raises(ObservationError, match=said):
        predictor.observe(broken(case.executions[0].snapshots, **full), 0, 0)


def test_missing_columns_longer_tasks_and_positions_are_refused(case, predictor):
    rows = case.executions[0].snapshots
    with pytest.raises(ObservationError, match="has no side, remaining_lots"):
        predictor.observe(rows.drop(columns=list(STATE)), 0, 0)
    with pytest.raises(ObservationError, match="snapshots lack ask_px_3, ask_qty_3"):
        predictor.observe(rows.drop(columns=["ask_px_3", "ask_qty_3"]), 0, 0)
    with pytest.raises(ObservationError, match="position is 1"):
        predictor.observe(rows, 1, 0.5)
    longer = rows.iloc[[*range(24), 23]].reset_index(drop=True)
    longer.loc[24, "ts"] = 24 * 500_000_000
    with pytest.raises(ObservationError, match="25 books; expected 1 to 24"):
        predictor.observe(longer, 0, 0)
    with pytest.raises(ObservationError, match="no stream"):
        predictor.open_state(SYMBOL)
    with pytest.raises(ObservationError, match=r"expected \(n, 26\)"):
        predictor.predict(np.zeros((2, 25), np.float32))
    with pytest.raises(ObservationError, match="not finite"):
        predictor.predict(np.full((2, 26), np.nan, np.float32))
    with pytest.raises(MarketError, match=r"books have shape \(1, 2, 3\)"):
        observe_execution(ROLE, SCENE.market, np.zeros((1, 2, 3), int), 0, OwnOrder(1, 5, 0, 0))


def test_actors_that_do_not_fit_are_not_exported(case, tmp_path):
    path = tmp_path / "policy.onnx"
    with pytest.raises(ValueError, match="no actor 'other'"):
        export_actors(path, case.seeds, "other", ROLE)
    with pytest.raises(ValueError, match="no seeds"):
        export_actors(path, [], "executor", ROLE)
    with pytest.raises(ValueError, match="26 inputs and 2 outputs, its role asks for 23 and 1"):
        export_actors(path, case.seeds, "executor", Taker())
    seeds = make_teams(tmp_path / "teams", n_seeds=1, is_recurrent=True)
    with pytest.raises(ValueError, match="remembers"):
        export_actors(path, seeds, "executor", ROLE)
    np.savez(tmp_path / "bare.npz", a=np.zeros(1))
    with pytest.raises(ValueError, match="does not say what it was trained in"):
        read_team(tmp_path / "bare.npz")
    assert not path.exists()


# The artefact


def test_the_store_loads_either_kind_and_the_card_says_what_it_takes(case, predictor):
    assert isinstance(predictor, BookPredictor)
    card = predictor.card
    assert (card.takes, card.kind, card.min_rows) == ("book", "book_agent", 1)
    assert (card.low, card.high) == (-200, 200) and card.state == STATE == OWN[:2]
    assert card.features == ROLE.observation_names
    artefact = load_either(case.root, NAME)
    assert artefact == load_book_artefact(case.root, NAME)
    assert artefact.describe()["members"] == "2 x mappo"
    assert artefact.manifest.build_role() == ROLE
    assert artefact.manifest.build_market() == SCENE.market
    with pytest.raises(ArtefactError, match="kind 'book_agent', expected single_agent or ensemble"):
        load_artefact(case.root, NAME)


def test_equal_teams_give_equal_bytes(case, tmp_path):
    again = export(tmp_path, case.teams)
    assert again.policy == load_book_artefact(case.root, NAME).policy


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: about["role"].update(reach=1), "role or market cannot be built"),
        (lambda about: about["role"].update(reach_ticks=-1), "reach_ticks is -1"),
        (lambda about: about["market"].pop("decision_ms"), "role or market lack decision_ms"),
        (lambda about: about["observation"].reverse(), "differs in none, but their order"),
        (lambda about: about.update(agent="maker"), "agent"),
        (lambda about: about.update(format=2), "format 2"),
        (lambda about: about.update(name="another"), "calls itself another"),
        (lambda about: about["files"]["policy.onnx"].update(bytes=1), "is not the file"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(case, tmp_path, change, said):
    export(tmp_path, case.teams)
    path = tmp_path / NAME / "manifest.json"
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))
    with pytest.raises(ArtefactError, match=said):
        ArtefactStore(tmp_path).load(NAME)


def test_surplus_files_and_links_are_refused(case, tmp_path):
    export(tmp_path, case.teams)
    (tmp_path / NAME / "seed_0.npz").write_bytes(b"")
    with pytest.raises(ArtefactError, match="may run code"):
        ArtefactStore(tmp_path).load(NAME)
    (tmp_path / "link").symlink_to(tmp_path / NAME)
    with pytest.raises(ArtefactError, match="is a link"):
        ArtefactStore(tmp_path).load("link")


def test_it_is_registered_and_becomes_champion_as_other_models(case, tmp_path):
    name = models.register(case.root, NAME, tmp_path / "served")
    assert name == models.register(case.root, NAME, tmp_path / "served")
    models.set_champion(tmp_path / "served", name, models.explain("test"))
    assert models.choose_model(case.root, tmp_path / "served") == name
    found, origin = (load_either(*at) for at in ((tmp_path / "served", name), (case.root, NAME)))
    assert replace(found, manifest=origin.manifest) == origin


def test_teams_of_two_markets_are_not_put_together(case, tmp_path):
    make_teams(tmp_path / "teams")
    seeds, _ = read_teams(tmp_path / "teams")
    other = replace(SCENE, market=replace(SCENE.market, decision_ms=250))
    save_team(tmp_path / "teams" / "seed_1.npz", seeds[1], other)
    with pytest.raises(ArtefactError, match=r"seed 1 .* in another market"):
        export(tmp_path / "root", tmp_path / "teams")

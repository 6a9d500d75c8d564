"""Every strategy of the order book in the same worlds, on markets of a few steps."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hftlib.agents.execution import estimate_volume_curve
from hftlib.agents.orders import NoOrders
from hftlib.agents.teams import classical_team
from hftlib.envs import Executor, Maker, MarketError, MarketSettings, RewardWeights, RiskLimits
from hftlib.envs.scene import MarketScene
from hftlib.evaluation import book_backtest, market_report
from hftlib.evaluation.book_backtest import LESS_RIVAL, RISK
from hftlib.evaluation.crossplay import play_crossplay, summarise_crossplay

VALUES = {
    "maker": {},
    "executor": {"parent_lots": 200},
    "taker": {},
    "market": {"decision_ms": 1000, "episode_steps": 12, "mean_reversion_speed": 0.0},
    "risk": {"max_inventory": 200, "max_position_value": 1e6},
    "reward": {
        "lambda_inventory": 0.04,
        "lambda_impact": 0.0,
        "lambda_spread": 0.0,
        "lambda_risk": 0.0,
    },
}
SCENE = MarketScene.from_values(**VALUES)
SURE = {"n_bootstrap": 30, "confidence": 0.95, "seed": 0}
N_WORLDS = 6


def gather(teams=None):
    return book_backtest.gather_strategies(
        SCENE,
        risk_aversion=0.01,
        decay=0.4,
        volume_curve=np.ones(12),
        teams={} if teams is None else teams,
        seed=5,
    )


def play(strategies, seed=90):
    partners = classical_team(SCENE, gather()["maker"]["avellaneda_stoikov"][0])
    return book_backtest.play_strategies(SCENE, partners, strategies, seed=seed, n_worlds=N_WORLDS)


@pytest.fixture(scope="module")
def played():
    """All strategies; the team of the classical rivals poses as learnt, with two seeds."""
    own = gather()
    rivals = {agent: own[agent][name][0] for agent, name in book_backtest.RIVALS.items()}
    return play(gather({"mappo": [rivals, rivals]}))


@pytest.fixture(scope="module")
def summaries(played):
    return book_backtest.summarise_roles(played, **SURE)


def row(summary, strategy, measure):
    chosen = summary[(summary["strategy"] == strategy) & (summary["measure"] == measure)]
    (only,) = chosen.to_dict("records")
    return only


def test_a_scene_from_values_is_that_of_its_classes():
    roles = dict(SCENE.roles)
    assert (roles["maker"], roles["executor"]) == (Maker(), Executor(parent_lots=200))
    assert SCENE.market == MarketSettings(**VALUES["market"])
    assert SCENE.risk == RiskLimits(**VALUES["risk"])
    assert SCENE.reward == RewardWeights(0.04, 0.0, 0.0, 0.0)
    with pytest.raises(MarketError, match="decision_ms is -1"):
        MarketScene.from_values(**{**VALUES, "market": {"decision_ms": -1}})
    with pytest.raises(TypeError, match="latency"):
        MarketScene.from_values(**{**VALUES, "maker": {"latency": 1}})


def test_every_agent_has_learnt_classical_and_random_strategies(played):
    assert {"mappo", "avellaneda_stoikov", "glft", "do_nothing", "random"} <= set(played["maker"])
    assert {"mappo", "twap", "vwap", "almgren_chriss", "immediate"} <= set(played["executor"])
    assert {"mappo", "momentum", "do_nothing", "random"} <= set(played["taker"])
    assert len(played["maker"]["mappo"]) == 2
    assert len(played["maker"]["glft"]) == 1


def test_all_play_in_the_same_worlds(played):
    for tables in played.values():
        for parts in tables.values():
            for part in parts:
                assert part["world"].tolist() == list(range(90, 90 + N_WORLDS))


def test_a_strategy_by_another_name_and_in_other_company_plays_the_same_game(played):
    maker = played["maker"]["avellaneda_stoikov"][0]
    again = play({"maker": {"self": gather()["maker"]["avellaneda_stoikov"]}})["maker"]["self"][0]
    pd.testing.assert_frame_equal(maker, again)


def test_who_does_nothing_trades_no_lot_and_earns_nothing(played):
    for agent in ("maker", "taker"):
        (table,) = played[agent]["do_nothing"]
        for column in ("profit", "risk_adjusted_profit", "lots", "max_loss", "rms_inventory"):
            assert (table[column] == 0).all(), column


NOTHING = [0.0, 0.0, 0.0]  # but for rounding


def test_a_strategy_against_itself_differs_by_nothing(summaries):
    for agent, rival in book_backtest.RIVALS.items():
        for name in (rival, "mappo"):  # the rival under another name, and with seeds
            measure = f"risk_adjusted_profit{LESS_RIVAL}"
            gap = row(summaries[agent], name, measure)
            assert [gap[k] for k in ("value", "low", "high")] == pytest.approx(NOTHING), name
    gap = row(summaries["executor"], "mappo", f"shortfall_ticks{LESS_RIVAL}")
    assert [gap[k] for k in ("value", "low", "high")] == pytest.approx(NOTHING)


def test_a_difference_is_that_of_the_means_and_paired_by_world(played, summaries):
    profit = {name: played["maker"][name][0]["risk_adjusted_profit"] for name in played["maker"]}
    gap = row(summaries["maker"], "glft", f"risk_adjusted_profit{LESS_RIVAL}")
    by_world = profit["glft"] - profit["avellaneda_stoikov"]
    assert gap["value"] == pytest.approx(by_world.mean())
    assert by_world.min() <= gap["low"] <= gap["high"] <= by_world.max()


def test_tables_of_other_worlds_are_refused(played):
    elsewhere = play({"taker": {"momentum": gather()["taker"]["momentum"]}}, seed=500)
    mixed = {**played["taker"], **elsewhere["taker"]}
    with pytest.raises(ValueError, match="play both in the same"):
        book_backtest.summarise_role("taker", mixed, **SURE)
    with pytest.raises(ValueError, match="'do_nothing' is not among momentum"):
        book_backtest.summarise_role("taker", elsewhere["taker"], **SURE)


def test_the_same_seed_plays_the_same_game_and_another_one_does_not():
    chosen = {"maker": {"random": gather()["maker"]["random"]}}
    one, two, other = (play(chosen, seed)["maker"]["random"][0] for seed in (90, 90, 91))
    pd.testing.assert_frame_equal(one, two)
    assert (one["profit"] != other["profit"]).any()


def test_risk_is_that_of_the_profits_of_episodes():
    profits = np.array([3.0, -1.0, 2.0, -4.0])
    risk = dict(zip(RISK, book_backtest.measure_risk(profits), strict=True))
    assert risk["sharpe"] == pytest.approx(0.0)
    assert risk["calmar"] == pytest.approx(0.0)
    assert risk["value_at_risk"] == 4.0  # the worst of four is more than 5 % of them
    assert risk["expected_shortfall"] == 4.0
    scaled = dict(zip(RISK, book_backtest.measure_risk(10 * profits + 1), strict=True))
    assert scaled["value_at_risk"] == 39.0
    assert scaled["sharpe"] == pytest.approx(1 / np.std(10 * profits, ddof=1))
    assert scaled["sortino"] == pytest.approx(1 / np.sqrt((9**2 + 39**2) / 4))
    assert scaled["calmar"] == pytest.approx(1 / 39)  # 31, 22, 43, 4: falls 39 from its peak
    high, low = np.quantile(10 * profits + 1, (0.95, 0.05))
    assert scaled["tail_ratio"] == pytest.approx(high / -low)


def test_the_summary_s_risk_is_the_mean_of_the_seeds(played, summaries):
    parts = played["taker"]["mappo"]
    assert (parts[0]["profit"] == 0).all()
    assert np.isnan(row(summaries["taker"], "mappo", "sharpe")["value"]), "nothing varies"
    profits = played["taker"]["momentum"][0]["profit"].to_numpy()
    expected = book_backtest.measure_risk(profits)
    for measure, value in zip(RISK, expected, strict=True):
        np.testing.assert_allclose(row(summaries["taker"], "momentum", measure)["value"], value)


def test_the_expected_volume_is_that_of_the_background_alone():
    alone = replace(SCENE, roles={"m": Maker()}).build(4)
    curve = book_backtest.expect_volume(SCENE, 7, 4)
    assert curve.shape == (12,)
    assert curve.sum() > 0
    np.testing.assert_array_equal(curve, estimate_volume_curve(alone, [Maker()], 7))


def test_metrics_have_each_strategy_s_measures_and_no_nan(summaries):
    metrics = market_report.to_metrics(summaries["maker"])
    own = row(summaries["maker"], "glft", "profit")
    assert metrics["glft"]["profit"] == {key: own[key] for key in ("value", "low", "high")}
    assert metrics["do_nothing"]["adverse_selection"] == dict.fromkeys(("value", "low", "high"))
    assert set(RISK) <= set(metrics["mappo"])


def test_crossplay_is_found_by_makers_others_and_role():
    team = classical_team(SCENE, gather()["maker"]["glft"][0])
    idle = {**team, "maker": NoOrders(SCENE.roles["maker"])}
    episodes = play_crossplay(lambda: SCENE.build(3), {"glft": team, "idle": idle}, 4)
    matrix = summarise_crossplay(episodes)
    metrics = market_report.crossplay_to_metrics(matrix)
    assert metrics["idle"]["glft"]["maker"]["value"] == 0
    chosen = (matrix["makers"] == "glft") & (matrix["others"] == "idle")
    (only,) = matrix[chosen & (matrix["role"] == "executor")].to_dict("records")
    assert metrics["glft"]["idle"]["executor"]["value"] == only["value"]


def judgement(**differences):
    """Metrics as report 42 writes them; differences are (value, low, high) an agent."""
    rows = []
    for agent, (value, low, high) in differences.items():
        for measure in ("risk_adjusted_profit", "shortfall_ticks"):
            if measure == "shortfall_ticks" and agent != "executor":
                continue
            for what in ("learnt", "rival", "difference"):
                rows.append(
                    {
                        "agent": agent,
                        "measure": measure,
                        "what": what,
                        **{"value": value, "low": low, "high": high, "seeds": [value, -1.0]},
                    }
                )
    control = {"maker": {"before": -9.0, "value": -0.5, "low": -1.0, "high": 0.0, "lots": 3.0}}
    return {"judgement": rows, "control": control, "rival": {"decay": 0.4}}


WON = (2.0, 1.0, 3.0)
LOST = (-2.0, -3.0, -1.0)
OPEN = (0.5, -1.0, 2.0)


def test_who_beats_the_rival_follows_from_the_interval():
    merged = market_report.merge_judgement(judgement(maker=WON, executor=LOST, taker=OPEN))
    assert merged["beats"]["maker"] == {"risk_adjusted_profit": True}
    assert merged["beats"]["executor"] == {"risk_adjusted_profit": False, "shortfall_ticks": True}
    assert merged["beats"]["taker"] == {"risk_adjusted_profit": False}
    assert merged["maker"]["risk_adjusted_profit"]["seeds"] == [2.0, -1.0]
    assert merged["control"]["maker"]["lots"] == 3.0
    assert merged["rival"] == {"decay": 0.4}
    assert not market_report.is_better("profit", {"low": None, "high": None})


def test_sentences_say_what_the_intervals_say():
    results = {
        "mappo": market_report.merge_judgement(judgement(maker=WON, executor=LOST, taker=OPEN))
    }
    said = market_report.describe_verdicts(results, ["mappo"])
    assert "makers beat Avellaneda and Stoikov's rule (+2.0 [1.0, 3.0] currency an episode)" in said
    assert "executors beat the TWAP (-2.0 [-3.0, -1.0] ticks a lot)" in said, "costs fell"
    assert "takers are not told apart from doing nothing" in said
    results["mappo"]["maker"]["risk_adjusted_profit"]["difference"] |= {"low": -3.0, "high": -1.0}
    assert "makers lose to Ave" in market_report.describe_verdicts(results, ["mappo"])


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-1.0, 0.0, "end within noise of it"), (-1.0, -0.1, "go on losing"), (0.1, 1.0, "a fault")],
)
def test_learners_that_go_on_losing_do_not_pass_the_control(low, high, said):
    results = judgement(maker=WON)
    results["control"]["maker"] |= {"low": low, "high": high}
    text = market_report.describe_control({"mappo": results}, ["mappo"])
    assert f"MAPPO makers -0.5 [{low:.1f}, {high:.1f}], untrained -9.0 {said}" in text.replace(
        "earn, which is ", ""
    )
    others = {"end within", "go on losing", "a fault"} - {said[:10], said}
    assert not any(other in text for other in others)


def test_the_table_counts_seeds_and_the_figure_has_the_differences():
    results = {
        "mappo": market_report.merge_judgement(judgement(maker=WON, executor=LOST, taker=OPEN))
    }
    table = market_report.verdict_frame(results, ["mappo"])
    assert (
        table.loc["mappo maker, risk adjusted profit", "learnt less rival"] == "2.00 [1.00, 3.00]"
    )
    assert table.loc["mappo maker, risk adjusted profit", "better seeds"] == "1 of 2"
    assert table.loc["mappo executor, shortfall ticks", "better seeds"] == "2 of 2", "costs fell"
    rows = market_report.verdict_rows(results, ["mappo"]).set_index("measure")
    assert rows.loc["executor", ["value", "low", "high"]].tolist() == [2.0, 1.0, 3.0], "saved"
    assert rows.loc["control maker", "value"] == -0.5


def test_intervals_have_the_digits_of_their_largest_value():
    frame = pd.DataFrame(
        {"value": [24.56, np.nan], "low": [20.0, np.nan], "high": [31.04, np.nan]}, ["a", "b"]
    )
    assert market_report.format_intervals(frame).tolist() == ["24.6 [20.0, 31.0]", "-"]
    assert market_report.format_intervals(frame / 1000).iloc[0] == "0.02 [0.02, 0.03]"
    assert market_report.format_intervals(frame * 1000).iloc[0] == "24560 [20000, 31040]"


def test_a_bound_that_would_round_to_zero_keeps_its_side():
    estimate = {"value": 1.93, "low": 0.048, "high": 3.69}
    assert market_report.describe(estimate) == "+1.93 [0.05, 3.69]"
    assert market_report.describe(estimate | {"low": 0.06}) == "+1.9 [0.1, 3.7]"
    assert market_report.describe(estimate | {"low": 0.0}, "") == "1.9 [0.0, 3.7]"

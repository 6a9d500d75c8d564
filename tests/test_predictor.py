import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hftlib.agents.online_policy import LearntPolicy
from hftlib.agents.policy_export import export_policies
from hftlib.envs import TradingEnv
from hftlib.features.advice import KNOWN
from hftlib.features.indicators import find_features
from hftlib.features.scaling import RobustScaler
from hftlib.live.artefact import Artefact, ArtefactError, write_artefact
from hftlib.live.artefact_store import ArtefactStore
from hftlib.live.predictor import Predictor
from hftlib.live.protocols import Bar, ModelError
from hftlib.live.symbol_state import ObservationError
from tests.conftest import ROOT
from tests.served_cases import (
    DESIGN,
    FORECAST_WINDOW,
    RULES,
    SYMBOLS,
    WINDOW,
    draw_observations,
    draw_weights,
    make_case,
)

PRICES = ["open", "high", "low", "close", "volume"]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return make_case(tmp_path_factory.mktemp("predictor") / "served")


@pytest.fixture(scope="module")
def predictor(case):
    return ArtefactStore(case.root).load("two-seeds")


def of(case, symbol="AAA", n=None) -> pd.DataFrame:
    bars = case.bars[case.bars["symbol"] == symbol].reset_index(drop=True)
    return bars if n is None else bars[:n]


def to_bar(row) -> Bar:
    return Bar(row["ts"].value, *(row[name] for name in PRICES))


def spoil(bars: pd.DataFrame, row: int, column: str, value) -> pd.DataFrame:
    bars = bars.copy()
    bars.loc[row, column] = value
    return bars


# Training and serving


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_observations_are_those_of_the_environment_to_the_last_bit(case, predictor, symbol):
    """The panel comes from the functions of the stages; the served path sees raw bars alone."""
    env, rng = TradingEnv(case.panel, RULES), np.random.default_rng(0)
    bars = of(case, symbol)
    clock = bars["ts"].astype("int64").to_numpy()
    observation, info = env.reset(options={"segment": SYMBOLS.index(symbol)})
    positions, is_over = set(), False
    while not is_over:  # every fourth one, to save time
        n = int(np.searchsorted(clock, case.panel.ts[info["row"]])) + 1
        served = predictor.observe(bars[:n], info["position"], info["exposure"])
        assert served.dtype == observation.dtype
        np.testing.assert_array_equal(served, observation)
        positions.add(info["position"])
        for _ in range(4):
            if not is_over:
                step = env.step(rng.uniform(-1, 1, 1).astype(np.float32))
                observation, _, terminated, truncated, info = step
                is_over = terminated or truncated
    assert positions == {-1, 0, 1}


def test_an_exposure_is_clipped_as_the_environment_clips_it(case, predictor):
    bars = of(case)
    assert predictor.observe(bars, 1, 37.0)[-1] == 10.0
    assert predictor.observe(bars, -1, -37.0)[-1] == -10.0
    np.testing.assert_array_equal(predictor.observe(bars, 250.0, 0.5)[-2:], np.float32([1.0, 0.5]))


def test_a_state_equals_the_batch_at_every_bar(case, predictor):
    bars, state = of(case), predictor.open_state("AAA")
    panel = predictor.panel(bars)
    for k, row in bars.iterrows():
        state.push(to_bar(row))
        observation = state.observe(1.0, 0.25)
        if k + 1 < predictor.min_rows:
            assert observation is None
        elif k % 7 == 0:
            np.testing.assert_array_equal(observation, predictor.observe(bars[: k + 1], 1.0, 0.25))
        if observation is not None:
            at = int(np.searchsorted(panel.ts, row["ts"].value))
            window = panel.features[at + 1 - WINDOW : at + 1].reshape(-1)
            np.testing.assert_array_equal(observation[:-2], window)


def test_bars_may_come_in_any_portions(case, predictor):
    bars, state = of(case), predictor.open_state("AAA")
    state.history.extend(bars[:120])
    at = 120
    for n in (0, 1, 2, 3, 4, 5, 9, 30):
        for k in range(at, at + n):
            state.push(to_bar(bars.loc[k]))
        at += n
        expected = predictor.observe(bars[:at], 0, 0)
        np.testing.assert_array_equal(state.observe(0, 0), expected)


def test_later_bars_change_no_earlier_observation(case, predictor):
    bars = of(case)
    other = bars.copy()
    other.loc[200:, PRICES] *= 1.7
    mine, theirs = predictor.panel(bars), predictor.panel(other)
    is_early = mine.ts < bars["ts"][200].value
    np.testing.assert_array_equal(mine.features[is_early], theirs.features[is_early])
    assert (mine.features[~is_early] != theirs.features[~is_early]).any()


def test_the_last_rows_of_a_panel_are_those_of_the_whole(case, predictor):
    whole, last = predictor.panel(of(case)), predictor.panel(of(case), n_last=7)
    assert len(last.ts) == 7
    np.testing.assert_array_equal(last.features, whole.features[-7:])
    np.testing.assert_array_equal(last.forecast, whole.forecast[-7:])


def test_the_first_observation_comes_with_the_bar_that_is_announced(case, predictor):
    bars, n = of(case), predictor.min_rows
    observation = predictor.observe(bars[:n], 0, 0)
    known = predictor.manifest.policy.feature_names.index(KNOWN)
    rows = observation[:-2].reshape(WINDOW, -1)
    np.testing.assert_array_equal(rows[:, known], 1.0)  # every bar shown has its forecast
    with pytest.raises(ObservationError, match=rf"AAA has {n - 1} bars, and two-seeds needs {n}"):
        predictor.observe(bars[: n - 1], 0, 0)


# Answers


def test_answers_are_those_of_the_trained_policies(case, predictor):
    observations = draw_observations(case.seeds[0][1])
    answer = predictor.predict(observations)
    each = np.stack([LearntPolicy(*trained).act(observations) for trained in case.seeds])
    assert each.std() > 0.1
    np.testing.assert_allclose(answer.action, each.mean(axis=0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(answer.spread, each.std(axis=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("extractor", ["mlp", "lstm", "attention"])
def test_an_answer_does_not_depend_on_the_batch(case, extractor, tmp_path):
    design = replace(case.seeds[0][1], extractor=extractor)
    seeds = [(draw_weights(design, seed), design) for seed in (0, 1)]
    export_policies(tmp_path / "policy.onnx", {"ppo": seeds})
    policy = (tmp_path / "policy.onnx").read_bytes()
    own = Predictor(replace(case.artefact, policy=policy))
    observations = draw_observations(design, 67)
    whole = own.predict(observations)
    for k, row in enumerate(observations):
        alone = own.predict(row[None])
        np.testing.assert_array_equal(alone.action[0], whole.action[k])
        np.testing.assert_array_equal(alone.spread[0], whole.spread[k])


def test_forecasts_are_those_that_the_policy_saw(case, predictor):
    bars = of(case)
    panel, answer = predictor.panel(bars), predictor.predict(predictor.observe(bars, 0, 0)[None])
    scaler = case.artefact.manifest.forecaster.scaler
    step = 1e-6 * np.array(scaler.iqr[2:4])  # float32 of some interquartile ranges
    assert abs(answer.forecast_mean[0] - panel.forecast[-1]) < 10 * step[0]
    assert abs(answer.forecast_sd[0] - panel.uncertainty[-1]) < 10 * step[1]


def test_without_a_forecast_there_is_no_number(predictor):
    blank = np.zeros((2, predictor.manifest.n_inputs), dtype=np.float32)
    answer = predictor.predict(blank)
    assert np.isnan(answer.forecast_mean).all() and np.isnan(answer.forecast_sd).all()


def test_a_gap_in_the_forecasters_window_is_told_to_the_policy(case, predictor):
    """A bar of one price has no log variance: no forecast while a window holds it."""
    bars = of(case)
    flat = bars.copy()
    for name in ("open", "high", "low"):
        flat.loc[250, name] = flat.loc[250, "close"]
    panel = predictor.panel(flat)
    at = int(np.searchsorted(panel.ts, bars["ts"][250].value))
    known = panel.features[:, panel.feature_names.index(KNOWN)]
    assert known[at - 1] == 1.0
    # the mean over 22 bars is without it again after 22, a window without such a row 8 later
    np.testing.assert_array_equal(known[at : at + 22 + FORECAST_WINDOW - 1], 0.0)
    assert known[at + 22 + FORECAST_WINDOW - 1] == 1.0


def test_a_model_of_one_policy_on_features_alone(tmp_path, case):
    names = ("rsi_14", "return_5", "psar_trend")
    design = replace(DESIGN, feature_names=names)
    trained = draw_weights(design, 3), design
    graph = export_policies(tmp_path / "policy.onnx", {"ppo": [trained]})
    scaler = RobustScaler(names, (0.0, 0.1, -0.1), (1.0, 2.0, 3.0))
    about = {"version": "1", "git_revision": "", "rules": RULES, "symbols": SYMBOLS}
    artefact = write_artefact(
        tmp_path, "plain", policy=tmp_path / "policy.onnx", graph=graph, scaler=scaler, **about
    )
    predictor = Predictor(artefact)
    assert predictor.min_rows == 15 + WINDOW - 1
    observation = predictor.observe(of(case, n=predictor.min_rows), 1, 0.5)
    answer = predictor.predict(observation[None])
    assert (answer.spread, answer.forecast_mean, answer.probabilities) == (None, None, None)
    expected = LearntPolicy(*trained).act(observation[None])
    np.testing.assert_allclose(answer.action, expected, rtol=0, atol=1e-5)


def test_the_card_says_what_the_model_is(predictor):
    card = predictor.card
    assert (card.name, card.version, card.symbols) == ("two-seeds", "1.0", SYMBOLS)
    assert (card.low, card.high, card.min_rows) == (-1.0, 1.0, predictor.min_rows)
    assert "target weight" in card.unit
    assert card.features == predictor.manifest.policy.feature_names


def test_serving_needs_no_torch():
    code = "import sys, hftlib.live.predictor as p; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


# Faults of a feed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: spoil(b, 280, "close", np.nan), "close of AAA is nan at 2010-10-08.*remove"),
        (lambda b: spoil(b, 280, "high", np.inf), "high of AAA is inf at 2010-10-08"),
        (lambda b: spoil(b, 280, "low", -1.0), r"low of AAA is -1\.0.*expected a positive"),
        (lambda b: spoil(b, 280, "volume", np.inf), "volume of AAA is inf at 2010-10-08"),
        (lambda b: spoil(b, 280, "volume", -5.0), r"volume of AAA is -5\.0.*0 or more, or nan"),
        (
            lambda b: spoil(b, 299, "volume", np.nan),
            "bar of AAA at 2010-10-27 .* not every feature",
        ),
        (lambda b: b.assign(volume=np.nan), "needs .* with price and volume before its first"),
        (lambda b: b.assign(close="many"), "bars of AAA are no numbers"),
        (lambda b: b[::-1], "ts of AAA does not increase at .*; sort the bars"),
        (lambda b: pd.concat([b, b[-1:]]), "ts of AAA does not increase at 2010-10-27"),
        (lambda b: b[:20], r"AAA has 20 bars, and two-seeds needs \d+ .*send a longer history"),
        (lambda b: b[:0], r"bars are of 0 symbols \[\]"),
        (lambda b: spoil(b, 3, "symbol", "BBB"), r"bars are of 2 symbols \['AAA', 'BBB'\]; send"),
        (lambda b: b.assign(symbol="CCC"), "'CCC' is not among the symbols of two-seeds: AAA, BBB"),
        (
            lambda b: b.drop(columns=["open", "volume"]),
            "bars have no open, volume; expected symbol",
        ),
        (lambda b: b.assign(ts=b["ts"].dt.tz_localize(None)), "expected times with a zone"),
        (lambda b: b.assign(ts=b["ts"].astype(str)), "ts of AAA is str; expected times"),
    ],
)
def test_bars_that_are_not_sound_are_named(case, predictor, change, message):
    with pytest.raises(ObservationError, match=message):
        predictor.observe(change(of(case)), 0, 0)


def test_a_refused_bar_leaves_the_state_as_it_was(case, predictor):
    bars, state = of(case), predictor.open_state("AAA")
    state.history.extend(bars[:200])
    good = to_bar(bars.loc[200])
    for bad in (
        good._replace(close=np.nan),
        good._replace(open=0.0),
        good._replace(volume=-1.0),
        good._replace(ts_ns=to_bar(bars.loc[199]).ts_ns),
    ):
        with pytest.raises(ObservationError):
            state.push(bad)
        np.testing.assert_array_equal(state.observe(0, 0), predictor.observe(bars[:200], 0, 0))
    state.push(good)
    np.testing.assert_array_equal(state.observe(0, 0), predictor.observe(bars[:201], 0, 0))


def test_a_bar_without_volume_is_passed_over_as_in_training(case, predictor):
    """A row with an unknown feature is no row of the panel, and no observation ends there."""
    bars = spoil(of(case), 240, "volume", np.nan)
    state = predictor.open_state("AAA")
    state.history.extend(bars[:240])
    assert state.observe(0, 0) is not None
    state.push(to_bar(bars.loc[240]))
    with pytest.raises(ObservationError, match=r"bar of AAA at 2010-08-29 .* not every"):
        state.observe(0, 0)
    warmup = find_features(["volume_histogram"])[0].warmup
    for k in range(241, 239 + warmup):
        state.push(to_bar(bars.loc[k]))
    for k in range(239 + warmup, 240 + warmup + 3):
        state.push(to_bar(bars.loc[k]))
        if k <= 240 + warmup:  # the unknown volume is in its window still
            with pytest.raises(ObservationError, match="not every feature"):
                state.observe(0, 0)
        else:
            expected = predictor.observe(bars[: k + 1], 0, 0)
            np.testing.assert_array_equal(state.observe(0, 0), expected)


@pytest.mark.parametrize(
    ("position", "exposure"), [(np.nan, 0.0), (0.0, np.inf), (1, -0.5), (0, 0.5), (-1, 0.0)]
)
def test_positions_that_contradict_their_exposure_are_refused(case, predictor, position, exposure):
    with pytest.raises(ObservationError, match="expected finite numbers of one sign"):
        predictor.observe(of(case), position, exposure)


def test_observations_of_another_shape_or_not_finite_are_refused(predictor):
    n = predictor.manifest.n_inputs
    for shape in ((n,), (0, n), (2, n + 1), (1, 2, n)):
        with pytest.raises(ObservationError, match=rf"expected \(n, {n}\): 4 bars of \d+ features"):
            predictor.predict(np.zeros(shape, dtype=np.float32))
    for value in (np.nan, np.inf):
        bad = np.zeros((3, n), dtype=np.float32)
        bad[2, 5] = value
        with pytest.raises(ObservationError, match=rf"observations\[2, 5\] is {value}"):
            predictor.predict(bad)


def test_an_unknown_symbol_has_no_state(predictor):
    with pytest.raises(ModelError, match="'XYZ' is not among the symbols"):
        predictor.open_state("XYZ")


# Artefacts of another code


def with_manifest(artefact: Artefact, change) -> Artefact:
    about = artefact.manifest.model_dump()
    change(about)
    return replace(artefact, manifest=type(artefact.manifest).model_validate(about))


def test_features_that_this_code_does_not_compute_are_named(case):
    def rename(about):
        scaler, policy = about["scaler"], about["policy"]
        for part, key in ((scaler, "names"), (policy, "feature_names")):
            part[key] = tuple(n.replace("macd_signal", "macd_sgnal") for n in part[key])

    with pytest.raises(ArtefactError, match="macd_sgnal is not a feature; did you mean macd_sign"):
        Predictor(with_manifest(case.artefact, rename))


def test_channels_that_this_code_does_not_compute_are_named(case):
    def rename(about):
        channels = about["forecaster"]["channels"]
        about["forecaster"]["channels"] = (*channels[:-1], "volatility_6")

    with pytest.raises(ArtefactError, match="volatility_6 is not a feature; did you mean"):
        Predictor(with_manifest(case.artefact, rename))


def test_a_graph_of_other_inputs_is_refused(case):
    def widen(about):
        about["policy"]["window_bars"] += 1

    with pytest.raises(ArtefactError, match=r"a graph takes .*, the manifest says .*one training"):
        Predictor(with_manifest(case.artefact, widen))


def test_a_forecaster_in_the_place_of_the_policy_is_refused(case):
    with pytest.raises(ArtefactError, match="a graph takes"):
        Predictor(replace(case.artefact, policy=case.artefact.forecaster))

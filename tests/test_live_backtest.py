"""A backtest of a served model equals the environment's own accounts."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from hftlib.agents.policy import play
from hftlib.data.panel import PanelError
from hftlib.envs import TradingRules
from hftlib.envs.rewards import RewardSettings
from hftlib.envs.trading_rules import Financing, Limits
from hftlib.evaluation.backtest import average
from hftlib.live.backtest_job import read_rules, run_backtest
from hftlib.live.protocols import ModelError, Prediction
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.measures import periods_per_year
from hftlib.portfolio.risk import RiskLimits
from tests.conftest import ROOT, make_bars, make_panel

PANEL = make_panel(n_bars=120, n_symbols=1)
RULES = replace(TradingRules(Costs(1, 2, 1)), window_bars=5, action_kind="continuous")


class Half:
    """Half of the equity, always; `PANEL` whatever the bars."""

    def panel(self, bars):
        return PANEL

    def predict(self, observations):
        return Prediction(np.full((len(observations), 1), 0.5))


class HalfPolicy:
    def act(self, observations):
        return np.full((len(observations), 1), 0.5, np.float32)


def test_the_model_s_account_is_that_of_the_same_policy_in_the_environment():
    found = run_backtest(Half(), make_bars(), ["AAA"], RULES, int(PANEL.ts[0]), 2**62)["AAA"]
    rollout = play(HalfPolicy(), PANEL, RULES)
    assert found["model"] == average([rollout], periods_per_year(PANEL.ts))
    assert found["model"] != found["buy_and_hold"]
    assert found["n_bars"] == 120


def test_only_bars_of_the_span_are_traded():
    first, last = int(PANEL.ts[30]), int(PANEL.ts[80])
    bars = make_bars()
    bars["ts"] = pd.to_datetime(np.arange(len(bars)) * 86_400 * 10**9, utc=True)
    found = run_backtest(Half(), bars, ["AAA"], RULES, first, last)["AAA"]
    assert found["n_bars"] == 51
    assert found["first"].startswith("1970-01-31")


def test_unknown_symbols_and_short_spans_are_named():
    with pytest.raises(PanelError, match="no bars of ZZZ"):
        run_backtest(Half(), make_bars(), ["ZZZ"], RULES, 0, 2**62)
    with pytest.raises(PanelError, match="AAA has 4 bars in the span"):
        run_backtest(Half(), make_bars(), ["AAA"], RULES, int(PANEL.ts[-4]), 2**62)


@pytest.mark.parametrize(
    "rules",
    [
        RULES,
        replace(
            RULES,
            limits=Limits(max_leverage=2.0, maintenance_fraction=0.3),
            financing=Financing(borrow_bps=50.0),
            reward=RewardSettings(kind="sharpe"),
            risk=RiskLimits(max_position=0.5),
            sectors={"AAA": "energy"},
        ),
    ],
)
def test_rules_come_back_from_a_manifest_as_they_were(rules):
    assert read_rules(json.loads(json.dumps(asdict(rules)))) == rules


@pytest.mark.parametrize(
    "change", [{"ruin": 0.1}, {"max_weight": 9.0}, {"costs": [1.0]}, {"limits": None}]
)
def test_rules_of_another_code_are_refused(change):
    with pytest.raises(ModelError, match="export the model again"):
        read_rules({**asdict(RULES), **change})


def test_the_process_says_what_is_missing():
    done = subprocess.run(
        [sys.executable, "-m", "hftlib.live.backtest_job"],
        input=json.dumps({"model": "nothing", "split": "val", "symbols": None}),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr

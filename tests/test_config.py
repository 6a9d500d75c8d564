from pathlib import Path

import pytest
import yaml

from hftlib.config import Params, ParamsError, load
from hftlib.envs import Financing, Limits, RewardSettings, TradingRules
from hftlib.portfolio.costs import Costs
from hftlib.portfolio.risk import RiskLimits
from tests.conftest import ROOT

GOOD = yaml.safe_load((ROOT / "params.yaml").read_text())


def write(folder: Path, **changes) -> Path:
    """A params file with `section__key=value` changed."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, value in changes.items():
        section, key = name.split("__")
        values[section][key] = value
    file = folder / "params.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


def test_the_committed_file_loads():
    assert load(ROOT / "params.yaml").base.seed == GOOD["base"]["seed"]


def test_exponents_that_yaml_reads_as_text_are_numbers(tmp_path):
    file = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    assert "learning_rate: 3e-4" in text, "the committed file should exercise this"
    file.write_text(text)
    assert load(file).ppo.learning_rate == 3e-4


def test_trading_rules_take_every_field_of_their_sections():
    params = load(ROOT / "params.yaml")
    rules = TradingRules.from_values(**params.trading_rules)
    assert (rules.window_bars, rules.costs.fee_bps) == (10, 1.0)
    for section, kind in (
        (params.costs, Costs),
        (params.trading_limits, Limits),
        (params.trading_financing, Financing),
        (params.trading_reward, RewardSettings),
    ):
        assert set(section.model_dump()) == set(kind.__annotations__)


def test_risk_limits_take_every_field_of_their_section():
    section = load(ROOT / "params.yaml").risk_limits.model_dump()
    assert set(section) == set(RiskLimits.__dataclass_fields__)
    assert RiskLimits(**section).max_position == section["max_position"]


def test_one_switch_puts_the_risk_limits_into_the_trading_rules(tmp_path):
    off, on = (
        load(write(tmp_path, trading__uses_risk_limits=value, risk_limits__max_position=0.07))
        for value in (False, True)
    )
    assert TradingRules.from_values(**off.trading_rules).risk is None
    limits = TradingRules.from_values(**on.trading_rules).risk
    assert limits == RiskLimits(**on.risk_limits.model_dump())
    assert limits.max_position == 0.07
    with pytest.raises(ParamsError, match="uses_risk_limits = 1"):
        load(write(tmp_path, trading__uses_risk_limits=1))


def test_an_unknown_key_is_named_with_the_closest_known_one(tmp_path):
    file = write(tmp_path, trading__windw_bars=3)
    with pytest.raises(ParamsError) as error:
        load(file)
    assert str(error.value) == (
        "params.yaml: trading.windw_bars is not a parameter; did you mean trading.window_bars?"
    )


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"single_agent__n_seeds": "five"}, ["single_agent.n_seeds = 'five'", "integer"]),
        ({"single_agent__n_seeds": True}, ["single_agent.n_seeds = True", "integer"]),
        ({"single_agent__n_seeds": 2.5}, ["single_agent.n_seeds = 2.5", "integer"]),
        ({"ppo__gamma": "high"}, ["ppo.gamma = 'high'", "number"]),
        ({"ppo__gamma": True}, ["ppo.gamma = True", "number"]),
        ({"ppo__gamma": float("nan")}, ["ppo.gamma", "finite"]),
        ({"costs__fee_bps": -1}, ["costs.fee_bps = -1", "greater than or equal to 0"]),
        ({"trading__max_weight": 1.5}, ["trading.max_weight 1.5 must not exceed trading_limits"]),
        ({"trading__max_weight": 0}, ["trading.max_weight = 0", "greater than 0"]),
        ({"datasets__symbols": []}, ["datasets.symbols = []", "at least 1"]),
        ({"datasets__train_end": "2015-13-01"}, ["datasets.train_end = '2015-13-01'"]),
        ({"datasets__train_end": "2016-01-01"}, ["datasets", "before validation_end"]),
        ({"ppo__batch_size": 1000}, ["ppo", "must divide"]),
        ({"sac__steps_per_update": 48}, ["sac", "must be a divisor or a multiple of n_envs 64"]),
        ({"td3__buffer_size": 63}, ["td3", "buffer_size 63 must be at least n_envs 64"]),
        ({"portfolio_risk__last_day": "2003-01-01"}, ["first_day 2003-01-02 must lie before"]),
        ({"risk_limits__var_level": 0.5}, ["risk_limits.var_level = 0.5", "greater than 0.5"]),
        ({"ppo__extractor": "gru"}, ["ppo.extractor = 'gru'", "'lstm' or 'attention'"]),
        ({"compute__backend": "dask"}, ["compute.backend = 'dask'", "'loky' or 'ray'"]),
        ({"compute__address": "head"}, ["compute.address = 'head'", "host:port; empty"]),
    ],
)
def test_a_wrong_value_is_one_line_with_file_key_value_and_meaning(tmp_path, change, parts):
    with pytest.raises(ParamsError) as error:
        load(write(tmp_path, **change))
    text = str(error.value)
    assert "\n" not in text
    for part in ["params.yaml", *parts]:
        assert part in text


def test_a_bare_date_is_refused_because_dvc_cannot_track_it(tmp_path):
    file = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    file.write_text(text.replace('train_end: "2010-12-31"', "train_end: 2010-12-31"))
    with pytest.raises(ParamsError, match='a date in quotes, "2010-12-31"'):
        load(file)


def test_a_missing_key_says_what_it_means(tmp_path):
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    del values["costs"]["fee_bps"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ParamsError, match=r"costs\.fee_bps is missing; add it \(fee, bp of"):
        load(tmp_path / "params.yaml")


def test_every_fault_gets_a_line_of_its_own(tmp_path):
    with pytest.raises(ParamsError) as error:
        load(write(tmp_path, costs__fee_bps=-1, trading__typo=1, base__seed="x"))
    assert len(str(error.value).splitlines()) == 3


def test_a_key_that_stands_twice_is_refused(tmp_path):
    file = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text()
    file.write_text(text.replace("  fee_bps: 1.0\n", "  fee_bps: 1.0\n  fee_bps: 2.0\n"))
    with pytest.raises(ParamsError, match="'fee_bps' appears twice"):
        load(file)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "base: [1\n"])
def test_a_file_without_sections_is_refused(tmp_path, text):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml"):
        load(file)


def test_params_cannot_be_changed_after_loading():
    params = load(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.base.seed = 1


def test_every_parameter_has_a_meaning():
    for section in Params.model_fields.values():
        for name, field in section.annotation.model_fields.items():
            assert field.description, name

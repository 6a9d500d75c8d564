"""Selection: the strongest first, no near copies, training rows only."""

import numpy as np
import pandas as pd
import pytest

from hftlib.features.information import forward_return, information_table
from hftlib.features.selection import cluster_features, select_features

SETTINGS = {"horizon_bars": 1, "n_features": 2, "max_correlation": 0.9}


def make_rows(symbol: str = "AAA", seed: int = 0, n_bars: int = 800) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    close = pd.Series(100 * np.exp(np.cumsum(rng.normal(0, 0.01, n_bars))))
    label = forward_return(close, 1)
    noise = rng.normal(size=(3, n_bars)) * label.std()
    return pd.DataFrame(
        {
            "symbol": symbol,
            "close": close,
            "strong": label + noise[0],
            "copy": (label + noise[0]) ** 3,
            "mirror": -label - noise[0],
            "weak": label + 3 * noise[1],
            "noise": noise[2],
        }
    )


NAMES = ["noise", "weak", "strong", "copy", "mirror"]


@pytest.fixture(scope="module")
def rows():
    return make_rows()


def chosen(table: pd.DataFrame) -> list[str]:
    return table.loc[table["is_chosen"], "feature"].tolist()


def test_strongest_is_taken_first_and_its_copies_never(rows):
    table = select_features(rows, NAMES, **SETTINGS)
    assert chosen(table) == ["strong", "weak"]
    assert table["ic"].abs().is_monotonic_decreasing
    copies = table.set_index("feature").loc[["copy", "mirror"]]
    assert copies["nearest"].eq("strong").all()
    np.testing.assert_allclose(copies["correlation"], 1, atol=1e-12)


def test_bound_above_one_lets_copies_in(rows):
    table = select_features(rows, NAMES, **{**SETTINGS, "max_correlation": 1.1, "n_features": 3})
    assert set(chosen(table)) == {"strong", "copy", "mirror"}


def test_fewer_are_chosen_where_the_bound_leaves_no_more(rows):
    names = ["strong", "copy", "mirror"]
    assert chosen(select_features(rows, names, **SETTINGS)) == ["strong"]


def test_of_equal_features_the_first_is_taken(rows):
    for names in (["copy", "strong"], ["strong", "copy"]):
        assert chosen(select_features(rows, names, **SETTINGS)) == names[:1]


def test_coefficients_are_means_over_symbols(rows):
    both = pd.concat([rows, make_rows("BBB", seed=1)])
    table = select_features(both, NAMES, **SETTINGS).set_index("feature")
    each = []
    for _, part in both.groupby("symbol"):
        settings = {"horizons_bars": [1], "n_bootstrap": 20, "seed": 0}
        each.append(information_table(part, part["close"], names=NAMES, **settings)["ic"])
    np.testing.assert_allclose(table["ic"][NAMES], np.mean(each, axis=0), atol=1e-15)


def test_rows_that_come_later_change_nothing(rows):
    spoilt = rows.copy()
    spoilt.loc[500:, ["close", "strong"]] *= -3.0
    short = [select_features(table[:500], NAMES, **SETTINGS) for table in (rows, spoilt)]
    pd.testing.assert_frame_equal(*short, check_exact=True)


def test_feature_that_does_not_vary_is_left_out(rows):
    table = select_features(rows.assign(flat=1.0), [*NAMES, "flat"], **SETTINGS)
    assert "flat" not in set(table["feature"])


def test_feature_without_values_for_one_symbol_is_left_out_and_spoils_no_other(rows):
    both = pd.concat([rows, make_rows("BBB", seed=1)])
    bare = both.assign(weak=both["weak"].where(both["symbol"] == "AAA"))
    others = [name for name in NAMES if name != "weak"]
    table = select_features(bare, NAMES, **SETTINGS)
    pd.testing.assert_frame_equal(table, select_features(both, others, **SETTINGS))


def test_feature_that_starts_late_leaves_the_others_their_rows(rows):
    late = rows.assign(weak=rows["weak"].where(rows.index >= 600))
    found = select_features(late, NAMES, **SETTINGS).set_index("feature")["ic"]
    whole = select_features(rows, NAMES, **SETTINGS).set_index("feature")["ic"]
    pd.testing.assert_series_equal(found.drop("weak"), whole.drop("weak")[found.index.drop("weak")])
    short = rows[600:]
    table = select_features(short, ["weak"], **SETTINGS)
    assert found["weak"] == pytest.approx(table["ic"][0], abs=1e-15)
    clusters = cluster_features(late, NAMES, 0.9)
    assert clusters[["strong", "copy", "mirror"]].nunique() == 1


def test_symbol_without_any_feature_is_named(rows):
    empty = make_rows("BBB").assign(**dict.fromkeys(NAMES, np.nan))
    with pytest.raises(ValueError, match=r"none of 5 features .* symbols without any: BBB; leave"):
        select_features(pd.concat([rows, empty]), NAMES, **SETTINGS)


def test_copies_and_mirrors_are_one_cluster_and_lie_together(rows):
    clusters = cluster_features(rows, NAMES, 0.9)
    assert clusters[["strong", "copy", "mirror"]].nunique() == 1
    assert clusters.nunique() == 3
    assert clusters.is_monotonic_increasing
    assert sorted(clusters.index) == sorted(NAMES)


def test_clusters_do_not_depend_on_the_order_of_the_names(rows):
    groups = []
    for names in (NAMES, NAMES[::-1]):
        clusters = cluster_features(rows, names, 0.9)
        groups.append({frozenset(g.index) for _, g in clusters.groupby(clusters)})
    assert groups[0] == groups[1]

"""A manifest says what a dataset is made of, and which file is not the one that was written."""

import hashlib
import json

import pandas as pd
import pytest

from hftlib.data.manifest import (
    ManifestError,
    hash_bars,
    hash_input,
    verify_manifest,
    write_manifest,
)
from tests.conftest import make_bars, make_panel

SETTINGS = {"train_end": "2010-06-30", "purge_bars": 1}


@pytest.fixture
def bars():
    made = make_bars(100, ("AAA", "BBB", "CCC"))
    return made.assign(is_synthetic=made["symbol"] == "BBB")


def make_dataset(folder, bars) -> None:
    folder.mkdir()
    (folder.parent / "in").mkdir(exist_ok=True)
    bars.to_parquet(folder.parent / "in/bars.parquet", index=False)
    make_panel(20).save(folder / "train.npz")
    (folder / "scaler.json").write_text("{}")
    used = bars[bars["symbol"] != "CCC"]
    write_manifest(
        folder,
        splits={"train": used[used["ts"] < "2010-03-01"], "test": bars[:100].iloc[90:]},
        bars=bars,
        inputs={"bars": folder.parent / "in/bars.parquet", "all": folder.parent / "in"},
        settings=SETTINGS,
    )


def test_a_manifest_names_files_splits_sources_inputs_and_settings(tmp_path, bars):
    make_dataset(tmp_path / "set", bars)
    manifest = verify_manifest(tmp_path / "set")
    content = (tmp_path / "set/train.npz").read_bytes()
    assert manifest["files"]["train.npz"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    assert sorted(manifest["files"]) == ["scaler.json", "train.npz"]
    assert manifest["splits"]["train"] == {
        "rows": 118,
        "synthetic_rows": 59,
        "symbols": ["AAA", "BBB"],
        "first": "2010-01-01T00:00:00+00:00",
        "last": "2010-02-28T00:00:00+00:00",
    }
    assert manifest["splits"]["test"]["rows"] == 10
    assert sorted(manifest["sources"]) == ["AAA", "BBB"], "CCC is in no split"
    assert manifest["sources"]["BBB"] == {
        "source": "test",
        "is_synthetic": True,
        "rows": 100,
        "sha256": hash_bars(bars[bars["symbol"] == "BBB"]),
    }
    source = (tmp_path / "in/bars.parquet").read_bytes()
    assert manifest["inputs"]["bars"] == hashlib.sha256(source).hexdigest()
    assert manifest["settings"] == SETTINGS


def test_equal_inputs_give_equal_bytes(tmp_path, bars):
    for name in ("one", "two"):
        make_dataset(tmp_path / name, bars)
    first, second = ((tmp_path / name / "manifest.json").read_bytes() for name in ("one", "two"))
    assert first == second


def test_another_price_or_setting_changes_the_manifest(tmp_path, bars):
    make_dataset(tmp_path / "one", bars)
    bars.loc[5, "close"] += 1e-12
    make_dataset(tmp_path / "two", bars)
    first, second = (
        json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("one", "two")
    )
    assert first["sources"]["AAA"]["sha256"] != second["sources"]["AAA"]["sha256"]
    assert first["sources"]["BBB"] == second["sources"]["BBB"]
    assert first["inputs"] != second["inputs"]


def damage_train(folder):
    content = bytearray((folder / "train.npz").read_bytes())
    content[-1] ^= 1
    (folder / "train.npz").write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_train, r"train\.npz differs \(\d+ bytes, sha256 [0-9a-f]{12}; the manifest says"),
        (lambda folder: (folder / "train.npz").unlink(), r"train\.npz is missing"),
        (lambda folder: (folder / "new.npz").touch(), r"new\.npz is not in the manifest"),
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{"), r"cannot be read \(.+\); make"),
    ],
    ids=["changed", "missing", "surplus", "no manifest", "damaged manifest"],
)
def test_a_folder_that_differs_from_its_manifest_is_told_by_file(tmp_path, bars, damage, message):
    make_dataset(tmp_path / "set", bars)
    damage(tmp_path / "set")
    with pytest.raises(ManifestError, match=message) as error:
        verify_manifest(tmp_path / "set")
    assert "scaler.json" not in str(error.value)


def test_all_faults_are_told_at_once(tmp_path, bars):
    make_dataset(tmp_path / "set", bars)
    damage_train(tmp_path / "set")
    (tmp_path / "set/scaler.json").unlink()
    with pytest.raises(ManifestError, match=r"scaler\.json is missing; train\.npz differs"):
        verify_manifest(tmp_path / "set")


def test_bars_hash_by_value_and_not_by_layout(bars):
    again = pd.concat([bars[:150], bars[150:]]).set_index(bars.index + 7)
    assert hash_bars(again) == hash_bars(bars)
    for column, value in (("symbol", "AAX"), ("volume", -1.0), ("is_synthetic", True)):
        changed = bars.copy()
        changed.loc[3, column] = value
        assert hash_bars(changed) != hash_bars(bars), column


def test_a_folder_s_hash_knows_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/one").write_text("1")
    first = hash_input(tmp_path / "a")
    (tmp_path / "a/one").rename(tmp_path / "a/two")
    assert hash_input(tmp_path / "a") != first
    (tmp_path / "a/two").rename(tmp_path / "a/one")
    assert hash_input(tmp_path / "a") == first
    with pytest.raises(FileNotFoundError, match="run the stage that writes it first"):
        hash_input(tmp_path / "none")

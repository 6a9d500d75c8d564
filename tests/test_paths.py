"""Files are written whole or not at all."""

import pytest

from hftlib.paths import project_root, read_json, replace_file, replace_folder, write_json

INTERRUPTIONS = [RuntimeError, KeyboardInterrupt]


def names(folder) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_replaced_file_holds_the_new_bytes_and_leaves_nothing_beside(tmp_path):
    file = tmp_path / "a/b/table.csv"
    for text in ("old", "new"):
        with replace_file(file) as temporary:
            assert temporary.suffix == ".csv"
            temporary.write_text(text)
    assert file.read_text() == "new"
    assert names(file.parent) == ["table.csv"]
    assert file.stat().st_mode & 0o777 == 0o644


def test_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("old")
    with replace_file(file) as temporary:
        temporary.write_text("half")
        assert file.read_text() == "old"


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_interrupted_file_keeps_the_old_one_and_leaves_nothing_beside(tmp_path, interruption):
    file = tmp_path / "table.csv"
    file.write_text("old")
    with pytest.raises(interruption), replace_file(file) as temporary:
        temporary.write_text("half")
        raise interruption
    assert file.read_text() == "old"
    assert names(tmp_path) == ["table.csv"]


def test_replaced_folder_keeps_no_file_of_the_old_one(tmp_path):
    folder = tmp_path / "model"
    for name in ("old.txt", "new.txt"):
        with replace_folder(folder) as temporary:
            (temporary / name).write_text(name)
    assert names(folder) == ["new.txt"]
    assert names(tmp_path) == ["model"]
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_interrupted_folder_keeps_the_old_one_and_leaves_nothing_beside(tmp_path, interruption):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(interruption), replace_folder(folder) as temporary:
        (temporary / "new.txt").write_text("half")
        raise interruption
    assert names(folder) == ["old.txt"]
    assert names(tmp_path) == ["model"]


def test_json_comes_back_as_it_was_written_with_sorted_keys(tmp_path):
    file = tmp_path / "metrics.json"
    value = {"b": [1, 0.1, None], "a": {"x": "ü", "flag": True}}
    write_json(file, value)
    assert read_json(file) == value
    assert file.read_text().index('"a"') < file.read_text().index('"b"')


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_json_refuses_what_is_no_number_and_keeps_the_old_file(tmp_path, value):
    file = tmp_path / "metrics.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": value})
    assert read_json(file) == {"a": 1}
    assert names(tmp_path) == ["metrics.json"]


def test_root_is_the_nearest_folder_upwards_with_the_pipeline(tmp_path, monkeypatch):
    inner = tmp_path / "copy/notebooks"
    inner.mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    assert project_root(inner) == tmp_path.resolve()
    (tmp_path / "copy/dvc.yaml").touch()
    assert project_root(inner) == (tmp_path / "copy").resolve()
    monkeypatch.chdir(inner)
    assert project_root() == (tmp_path / "copy").resolve()


def test_outside_the_project_the_error_says_where_it_looked(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"no dvc\.yaml in {tmp_path.resolve()} or above"):
        project_root(tmp_path)

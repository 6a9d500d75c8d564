"""Address and token: what the service may be reached by, and where its token comes from."""

import re
import subprocess
import sys

import pytest

from hftlib.live.service import make_server
from hftlib.live.settings import MAX_TOKEN_BYTES, ServiceSettings, SettingsError
from tests.conftest import ROOT
from tests.live_cases import TOKEN, served


def test_the_service_binds_to_loopback_unless_told_else():
    assert ServiceSettings.from_environment({}).host == "127.0.0.1"
    assert make_server(lambda: None, 0).config.host == "127.0.0.1"
    everywhere = {"HFTLIB_HOST": "0.0.0.0", "HFTLIB_TOKEN": TOKEN}
    settings = ServiceSettings.from_environment(everywhere)
    assert make_server(lambda: None, 0, settings.host).config.host == "0.0.0.0"


@pytest.mark.parametrize("host", ["", "localhost", "::", "192.168.0.1", "0.0.0.0 "])
def test_other_addresses_are_refused(host):
    with pytest.raises(SettingsError, match=re.escape(f"host is {host!r}; expected 127.0.0.1 or")):
        ServiceSettings(host=host, token=TOKEN)


@pytest.mark.parametrize("n_characters", [0, 15])
def test_who_listens_everywhere_needs_a_long_token(n_characters):
    said = f"host is 0.0.0.0 and the token has {n_characters} characters; expected at least 16"
    with pytest.raises(SettingsError, match=said):
        ServiceSettings(host="0.0.0.0", token="x" * n_characters)
    assert ServiceSettings(host="0.0.0.0", token="x" * 16).host == "0.0.0.0"
    assert ServiceSettings(token="x" * n_characters).host == "127.0.0.1"


def test_a_token_comes_from_a_file(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"  {TOKEN}\n")
    named = {"HFTLIB_TOKEN_FILE": str(file)}
    assert ServiceSettings.from_environment(named).token == TOKEN
    assert ServiceSettings.from_environment(named | {"HFTLIB_TOKEN": ""}).token == TOKEN


def test_a_token_given_twice_is_refused_without_showing_it(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    twice = {"HFTLIB_TOKEN": "another", "HFTLIB_TOKEN_FILE": str(tmp_path / "token")}
    said = "HFTLIB_TOKEN and HFTLIB_TOKEN_FILE are both set; expected one"
    with pytest.raises(SettingsError, match=said) as fault:
        ServiceSettings.from_environment(twice)
    assert TOKEN not in str(fault.value)
    assert "another" not in str(fault.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xff\xfe\xfd", "cannot be read"),
        (b"x" * (MAX_TOKEN_BYTES + 1), f"has over {MAX_TOKEN_BYTES} bytes"),
    ],
)
def test_a_file_without_a_token_is_an_error_that_names_it(tmp_path, content, said):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"HFTLIB_TOKEN_FILE is .*token.*{said}"):
        ServiceSettings.from_environment({"HFTLIB_TOKEN_FILE": str(file)})
    with pytest.raises(SettingsError, match=r"HFTLIB_TOKEN_FILE is .*cannot be read"):
        ServiceSettings.from_environment({"HFTLIB_TOKEN_FILE": str(tmp_path)})


def test_a_wrong_setting_ends_the_service_before_it_listens():
    done = subprocess.run(
        [sys.executable, "-m", "hftlib.live.service"],
        env={"HFTLIB_HOST": "0.0.0.0", "PORT": "0", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: host is 0.0.0.0 and the token has 0 characters")


def test_a_server_of_every_address_says_so():
    with served(HFTLIB_HOST="0.0.0.0") as (address, _):
        assert address.startswith("http://0.0.0.0:")

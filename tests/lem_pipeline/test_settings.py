"""Profiles, the environment over them, and what a user is told about a wrong value."""

import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from lem_models.orders import Limits
from lem_pipeline.contestants import charged
from lem_pipeline.defs.resources import bar_sources
from lem_pipeline.errors import ConfigurationError
from lem_pipeline.main_job import months
from lem_pipeline.settings import PROFILES, Settings, settings, settings_of
from lem_pipeline.settings.sources import ArchiveSource

PACKAGED = (
    "archive, archive-15m, archive-240m, archive-5m, archive-90m, archive-perpetual, archive-typical, archive-vwap, "
    "demo, live"
)
OWN = """
profile = "mine"
home = "elsewhere"

[models]
everything = ["crypto", "dow"]

[crypto]
instruments = ["BTC/USDT"]
start = "2024-01-01"
bars = { source = "archive", path = "bars.parquet" }

[dow]
instruments = ["AAPL"]
start = "2020-01-01"
end = "2024-01-01"
bars = { source = "yfinance" }
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """No setting of this machine, and none remembered from an earlier test."""
    for name in [name for name in os.environ if name.startswith("LEM_") and name != "LEM_SHARED_DATA"]:
        monkeypatch.delenv(name)
    settings.cache_clear()
    yield
    settings.cache_clear()


def chosen(monkeypatch, **environment: str) -> Settings:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return settings()


def complaint(monkeypatch, **environment: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        chosen(monkeypatch, **environment)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.toml")))
def test_each_packaged_profile_loads(monkeypatch, name):
    profile = chosen(monkeypatch, LEM_PROFILE=name)
    assert profile.profile == name
    assert profile.home == Path("var") / name
    assert profile.warehouse == Path("var") / name / "warehouse.duckdb"
    assert {asset_class for classes in profile.models.values() for asset_class in classes} == set(profile.markets)
    assert profile.markets.get("dow") is profile.dow and profile.markets.get("crypto") is profile.crypto
    Limits(horizon=profile.model.horizon, floor=profile.model.floor, cap=profile.model.cap)


def test_the_demo_on_simulated_bars_is_the_default():
    assert settings().profile == "demo"
    assert settings().crypto.bars.source == settings().dow.bars.source == "simulated"


def test_venues_come_in_order_of_preference(monkeypatch):
    assert chosen(monkeypatch, LEM_PROFILE="live").crypto.bars.venues == ["binance", "binanceus"]


def test_a_list_without_a_venue_is_refused(monkeypatch):
    sentence = complaint(monkeypatch, LEM_PROFILE="live", LEM_CRYPTO__BARS__VENUES="[]")
    assert "crypto.bars.ccxt.venues" in sentence and "at least 1 item" in sentence


def test_settings_are_read_once():
    assert settings() is settings()


@pytest.mark.parametrize("name", ["nonsense", "", "."])
def test_an_unknown_profile_is_told_which_there_are(monkeypatch, name):
    assert complaint(monkeypatch, LEM_PROFILE=name) == (
        f"LEM_PROFILE is {name!r}; it must be one of {PACKAGED}, or the path of a TOML file"
    )


@pytest.mark.parametrize(
    ("variable", "value", "parts"),
    [
        ("LEM_TRAINING__MAX_EPOCHS", "many", ["training.max_epochs", "valid integer"]),
        ("LEM_SPLITS__TRAIN", "1.5", ["splits.train", "less than 1"]),
        ("LEM_CRYPTO__START", "yesterday", ["crypto.start", "date"]),
        ("LEM_CRYPTO__BARS__SOURCE", "bloomberg", ["crypto.bars", "bloomberg", "'simulated'", "'archive'"]),
        ("LEM_DOW__INSTRUMENTS", '"AAPL"', ["dow.instruments", "valid list"]),
        ("LEM_DOW__INSTRUMENTS", "[]", ["dow.instruments", "at least 1 item"]),
        ("LEM_DOW__UNSEEN", '["XYZ"]', ["dow", "unseen names XYZ, which is not among the instruments"]),
        (
            "LEM_CRYPTO__UNSEEN",
            '["BTC/USDT", "ETH/USDT", "BNB/USDT", "XRP/USDT"]',
            ["crypto", "every instrument is unseen"],
        ),
        ("LEM_WALK_FORWARD__FOLDS", "-1", ["walk_forward.folds", "greater than or equal to 0"]),
        (
            "LEM_RIVALS",
            '{"a": {"rival_of": "lem-gold", "recurrence": "gru"}}',
            ["rival a is one of lem-gold; the models are lem-crypto, lem-dow"],
        ),
        (
            "LEM_RIVALS",
            '{"lem-dow": {"rival_of": "lem-dow", "recurrence": "gru"}}',
            ["lem-dow is a model and a rival; give one of them another name"],
        ),
        ("LEM_DOW__START", "1999-12-31", ["dow: ", "bars are kept from 2000-01-01 on"]),
        ("LEM_MODELS", '{"lem": ["forex"]}', ["models.lem", "'crypto' or 'dow'"]),
        ("LEM_MODEL__HORIZON", "soon", ["model.horizon", "valid integer"]),
        ("LEM_MODEL__RECURRENCE", "rnn", ["model.recurrence", "'tkan', 'lstm', 'gru' or 'none'"]),
        ("LEM_MODEL__INFORMATION_SET", "same_bar", ["model.information_set", "sees the bar it trades in"]),
        ("LEM_TRAINING__RISK", "regret", ["training.risk", "'variance' or 'cvar'"]),
        ("LEM_TRAINING__CVAR_LEVEL", "95", ["training", "cvar_level is 95.0; it is a part of the orders"]),
    ],
)
def test_a_wrong_value_is_named_in_one_sentence(monkeypatch, variable, value, parts):
    sentence = complaint(monkeypatch, **{variable: value})
    assert sentence.startswith(f"profile {PROFILES / 'demo.toml'} has wrong settings: ")
    assert all(part in sentence for part in parts), sentence


@pytest.mark.parametrize(
    ("profile", "source", "market", "parts"),
    [
        (
            "archive",
            "15",
            "100",
            ["bars of 100 minutes cannot be put together from bars of 15", "set bar_minutes to a"],
        ),
        ("archive", "60", "15", ["bars of 15 minutes cannot be put together from bars of 60"]),
        (
            "demo",
            "15",
            "60",
            ["the simulated market has bars of 60 minutes and none of 15", "leave source_bar_minutes"],
        ),
        ("live", "90", "90", ["no venue has bars of 90 minutes", "one of 1, 3, 5, 15, 30, 60, 120"]),
        ("archive", "60", "2880", ["crypto.bar_minutes", "less than or equal to 1440"]),
        ("archive", "0", "60", ["crypto.source_bar_minutes", "greater than or equal to 1"]),
    ],
)
def test_lengths_of_bars_that_cannot_be_had_are_refused_with_the_remedy(monkeypatch, profile, source, market, parts):
    lengths = {"LEM_CRYPTO__SOURCE_BAR_MINUTES": source, "LEM_CRYPTO__BAR_MINUTES": market}
    sentence = complaint(monkeypatch, LEM_PROFILE=profile, **lengths)
    assert all(part in sentence for part in ["crypto", *parts]), sentence


@pytest.mark.parametrize(
    ("profile", "source", "market"),
    [("demo", "60", "240"), ("live", "15", "90"), ("archive", "5", "250"), ("live", "240", "240")],
)
def test_bars_may_be_as_long_as_any_multiple_of_those_of_their_source(monkeypatch, profile, source, market):
    lengths = {"LEM_CRYPTO__SOURCE_BAR_MINUTES": source, "LEM_CRYPTO__BAR_MINUTES": market}
    asked = chosen(monkeypatch, LEM_PROFILE=profile, **lengths)
    assert asked.source_bar("crypto") == timedelta(minutes=int(source))
    assert asked.bar("crypto") == timedelta(minutes=int(market))
    assert asked.bar("dow") == timedelta(days=1)


def test_the_dow_is_daily_whatever_is_asked(monkeypatch):
    assert "dow.bar_minutes: Extra inputs are not permitted" in complaint(monkeypatch, LEM_DOW__BAR_MINUTES="60")


def test_a_venue_is_asked_for_bars_of_the_length_of_the_settings(monkeypatch):
    lengths = {"LEM_CRYPTO__SOURCE_BAR_MINUTES": "15", "LEM_CRYPTO__BAR_MINUTES": "90"}
    sources = bar_sources(chosen(monkeypatch, LEM_PROFILE="live", **lengths))
    assert sources["crypto"].provenance.endswith("spot bars, 15m")


def test_costs_count_the_bars_of_a_day_as_long_as_they_are(monkeypatch):
    chosen(monkeypatch, LEM_CRYPTO__BAR_MINUTES="240")
    assert charged("crypto", 0.01, None).costs.bars_per_day == 6
    assert charged("dow", 0.01, None).costs.bars_per_day == 1


def test_an_asset_class_that_no_model_uses_may_be_left_out(monkeypatch):
    study = chosen(monkeypatch, LEM_PROFILE="archive-90m")
    assert study.dow is None and list(study.markets) == list(bar_sources(study)) == ["crypto"]
    assert months(study) == ("2020-10-01", "2022-06-01")


def test_a_model_without_its_asset_class_is_explained(monkeypatch):
    sentence = complaint(monkeypatch, LEM_PROFILE="archive-90m", LEM_MODELS='{"lem-dow": ["dow"]}')
    assert "lem-dow trains on dow, whose bars the settings do not name; add a section [dow]" in sentence


def test_archives_are_found_below_the_folder_that_the_environment_names(monkeypatch):
    study = chosen(monkeypatch, LEM_PROFILE="archive", LEM_ARCHIVE="/data", LEM_DOW__BARS__PATH="/elsewhere/dow.csv")
    paths = {name: source.path for name, source in bar_sources(study).items()}
    assert paths == {"crypto": "/data/crypto-binance-spot-1h/bars.parquet", "dow": "/elsewhere/dow.csv"}


def test_every_study_that_the_archive_shows_is_a_packaged_profile_with_a_home_of_its_own(monkeypatch):
    names = chosen(monkeypatch, LEM_PROFILE="archive", LEM_HOME="/tmp/elsewhere").studies
    assert sorted(names) == sorted(path.stem for path in PROFILES.glob("archive-*.toml"))
    studies = [settings_of(name) for name in names]
    assert [study.home for study in studies] == [Path("var") / name for name in names]
    assert [study.profile for study in studies] == names
    assert all(len(study.models) == 1 for study in studies)


def test_the_proxy_study_differs_from_its_twin_in_the_price_alone():
    true, typical = settings_of("archive-vwap"), settings_of("archive-typical")
    assert (true.dow.price, typical.dow.price) == ("vwap", "typical")
    alike = {"home": Path(), "profile": ""}
    assert true.model_copy(update=alike) == typical.model_copy(update=alike | {"dow": true.dow})
    assert typical.dow.model_copy(update={"price": "vwap"}) == true.dow


def test_a_period_that_starts_in_the_future_is_refused(monkeypatch):
    sentence = complaint(monkeypatch, LEM_PROFILE="live", LEM_CRYPTO__START="2999-01-01")
    assert "crypto: Value error, the period starts on 2999-01-01, in the future" in sentence


def test_an_order_that_its_cap_cannot_fill_is_explained(monkeypatch):
    sentence = complaint(monkeypatch, LEM_MODEL__CAP="0.05")
    assert "model: " in sentence
    assert "12 bars at a cap of 0.05 fill only 0.6 of the order" in sentence
    assert "raise the cap to 0.0834 or allow 20 bars" in sentence


def test_a_cap_that_just_fills_the_order_is_fine(monkeypatch):
    assert chosen(monkeypatch, LEM_MODEL__CAP="0.05", LEM_MODEL__HORIZON="20").model.cap == 0.05


def test_the_environment_wins_over_the_profile(monkeypatch):
    environment = {
        "LEM_TRAINING__MAX_EPOCHS": "3",
        "LEM_HOME": "/tmp/elsewhere",
        "LEM_CRYPTO__END": "2024-06-01",
        "LEM_CRYPTO__INSTRUMENTS": '["BTC/USDT"]',
    }
    profile = chosen(monkeypatch, **environment)
    assert profile.training.max_epochs == 3
    assert profile.home == Path("/tmp/elsewhere")
    assert (profile.crypto.start, profile.crypto.end) == (date(2024, 1, 1), date(2024, 6, 1))
    assert profile.crypto.instruments == ["BTC/USDT"]
    assert profile.model.lookback == 24, "what the environment does not name stays as in the profile"


def test_the_path_of_an_archive_may_come_from_the_environment(monkeypatch):
    profile = chosen(monkeypatch, LEM_PROFILE="archive", LEM_DOW__BARS__PATH="/data/dow.csv")
    assert isinstance(profile.dow.bars, ArchiveSource)
    assert (profile.dow.bars.path, profile.dow.bars.price_basis) == ("/data/dow.csv", "split_adjusted")


def test_a_toml_file_of_ones_own_is_a_profile(monkeypatch, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(OWN)
    profile = chosen(monkeypatch, LEM_PROFILE=str(own), LEM_TRAINING__SEED="5")
    assert profile.models == {"everything": ["crypto", "dow"]}
    assert profile.reports == Path("elsewhere/reports")
    assert profile.crypto.bars == ArchiveSource(source="archive", path="bars.parquet")
    assert profile.crypto.end is None
    assert profile.training.seed == 5
    assert profile.model.lookback == 48, "what the file leaves out has its default"


def test_what_a_toml_file_lacks_or_has_too_much_is_named(monkeypatch, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(OWN.replace("[models]", "colour = 'blue'\n[models]").replace('start = "2020-01-01"\n', ""))
    sentence = complaint(monkeypatch, LEM_PROFILE=str(own))
    assert sentence.startswith(f"profile {own} has wrong settings: ")
    assert "dow.start: Field required" in sentence
    assert "colour: Extra inputs are not permitted" in sentence


def test_the_profile_is_called_what_chose_it(monkeypatch, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text(OWN)
    assert chosen(monkeypatch, LEM_PROFILE=str(own)).profile == str(own)


@pytest.mark.parametrize("variable", ["LEM_MODEL__LOKBACK", "LEM_TRAINING__EPOCHS", "LEM_CRYPTO__STOP"])
def test_a_misspelt_setting_of_a_section_is_named(monkeypatch, variable):
    section, name = variable.removeprefix("LEM_").lower().split("__")
    assert f"{section}.{name}" in complaint(monkeypatch, **{variable: "5"})


def test_a_profile_that_is_no_toml_is_explained(monkeypatch, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text("[models\n")
    assert str(own) in complaint(monkeypatch, LEM_PROFILE=str(own))


def test_a_list_that_is_not_written_as_json_is_explained(monkeypatch):
    assert "crypto" in complaint(monkeypatch, LEM_CRYPTO__INSTRUMENTS="BTC/USDT")


@pytest.mark.parametrize(("variable", "value"), [("LEM_SPLITS__TRAIN", "0.9"), ("LEM_CRYPTO__START", "2030-01-01")])
def test_settings_that_contradict_each_other_are_explained(monkeypatch, variable, value):
    assert complaint(monkeypatch, **{variable: value})

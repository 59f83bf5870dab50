"""Retriever versions come out of the registry whole, are kept, and survive a registry that is away."""

import shutil

import pytest
from tiny_versions import write_bare_version

from winnow.errors import ConfigError, DataError
from winnow.retrieval.manifest import read_manifest
from winnow.tracking import fetching
from winnow.tracking.fetching import RetrieverFetcher


@pytest.fixture
def registry(client, settings, tmp_path):
    """Adds versions to the registry that are whole, and hold nothing but a word; ``damaged`` is not."""
    client.create_registered_model("winnow")

    def add(content: str, *, alias: str = "champion") -> str:
        folder = write_bare_version(tmp_path / content, content)
        if content == "damaged":
            (folder / "passages.arrow").write_text("something else")
        run = client.create_run(client.create_experiment(content, artifact_location=(tmp_path / "store").as_uri()))
        client.log_artifacts(run.info.run_id, str(folder), "retriever")
        source = f"{run.info.artifact_uri}/retriever"
        number = client.create_model_version("winnow", source, run.info.run_id).version
        client.set_registered_model_alias("winnow", alias, str(number))
        return str(number)

    return add


@pytest.fixture
def fetcher(client, tmp_path):
    return RetrieverFetcher(client.tracking_uri, tmp_path / "cache")


def content(fetched):
    return (fetched.directory / "passages.arrow").read_text()


def test_an_alias_is_the_version_that_it_names_now(registry, fetcher):
    registry("first")
    before = fetcher.fetch("winnow@champion")
    registry("second")

    after = fetcher.fetch("winnow@champion")

    assert (content(before), content(after)) == ("first", "second")
    assert (before.number, after.number) == ("1", "2")
    assert content(fetcher.fetch("winnow/1")) == "first"


def test_a_version_is_downloaded_once(registry, fetcher, tmp_path):
    registry("first")
    fetcher.fetch("winnow@champion")
    shutil.rmtree(tmp_path / "store")

    assert content(fetcher.fetch("winnow@champion")) == "first"


def test_versions_are_kept_by_their_content(registry, fetcher, tmp_path):
    registry("first")

    found = fetcher.fetch("winnow@champion").directory

    assert found == tmp_path / "cache" / "versions" / read_manifest(tmp_path / "first").version


def test_a_kept_version_that_was_damaged_is_downloaded_again(registry, fetcher):
    registry("first")
    directory = fetcher.fetch("winnow@champion").directory
    (directory / "passages.arrow").write_text("damaged")

    assert content(fetcher.fetch("winnow@champion")) == "first"


def test_a_kept_version_that_was_deleted_is_downloaded_again(registry, fetcher):
    registry("first")
    shutil.rmtree(fetcher.fetch("winnow@champion").directory)

    assert content(fetcher.fetch("winnow@champion")) == "first"


def test_a_damaged_version_is_refused_and_leaves_nothing_in_the_cache(registry, fetcher, tmp_path):
    registry("damaged")

    with pytest.raises(DataError, match="is damaged"):
        fetcher.fetch("winnow@champion")

    left = [path.name for path in (tmp_path / "cache").rglob("*") if not path.name.endswith(".lock")]
    assert left == ["versions"]


def test_while_the_registry_is_away_the_last_good_version_is_served_and_said_to_be(registry, fetcher, monkeypatch):
    registry("first")
    fetcher.remember("winnow@champion", fetcher.fetch("winnow@champion"))
    registry("never served")
    fetcher.fetch("winnow@champion")
    monkeypatch.setattr(fetching, "connect", _refuse_connection)

    fetched = fetcher.fetch("winnow@champion")

    assert content(fetched) == "first"
    assert "the registry cannot be reached" in fetched.notice
    assert fetcher.number("winnow@champion") is None


def test_while_the_registry_is_away_a_version_that_was_deleted_is_an_error_that_says_so(registry, fetcher, monkeypatch):
    registry("first")
    located = fetcher.fetch("winnow@champion")
    fetcher.remember("winnow@champion", located)
    shutil.rmtree(located.directory)
    monkeypatch.setattr(fetching, "connect", _refuse_connection)

    with pytest.raises(DataError, match=r"cannot be reached .* no version that was served .* is kept in"):
        fetcher.fetch("winnow@champion")


def test_a_registry_that_was_never_reached_is_an_error_that_names_it(fetcher, monkeypatch):
    monkeypatch.setattr(fetching, "connect", _refuse_connection)

    with pytest.raises(
        DataError, match=r"cannot be reached .* no version that was served for 'winnow@champion' is kept in"
    ):
        fetcher.fetch("winnow@champion")


def test_an_entry_that_does_not_exist_is_a_configuration_error(registry, fetcher):
    registry("first")

    for reference in ("winnow@challenger", "winnow/7", "other@champion"):
        with pytest.raises(ConfigError, match="the registry has no"):
            fetcher.fetch(reference)


def test_a_directory_needs_no_registry(fetcher, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching, "connect", _refuse_connection)

    assert fetcher.fetch(str(tmp_path)).directory == tmp_path


def _refuse_connection(uri):
    raise ConnectionRefusedError(111, "Connection refused")

from __future__ import annotations

from xml.etree import ElementTree as ET

from corpus.catalog import MirrorRecord
from corpus.findable import Credit, attribution, credits_of, dataset, known_licenses, sitemap
from corpus.models import CorpusInfo


def mirror(**licenses: int) -> MirrorRecord:
    return MirrorRecord(
        layout_version=1,
        corpus=CorpusInfo("a corpus", "2026", "Someone 2026"),
        software="0",
        subjects=sum(licenses.values()),
        licenses={name.replace("_", "-").replace("4-0", "4.0"): count for name, count in licenses.items()},
        tables={},
    )


def row(institution: str | None, license_: str) -> dict[str, str | None]:
    return {"source_institution": institution, "license": license_}


def test_a_source_with_two_licences_is_named_with_each() -> None:
    rows = [row("B", "CC-BY-4.0"), row("A", "unknown"), row("B", "CC-BY-NC-4.0"), row("B", "CC-BY-4.0")]
    assert credits_of(rows) == (Credit("A", "unknown", 1), Credit("B", "CC-BY-4.0", 2), Credit("B", "CC-BY-NC-4.0", 1))


def test_an_unknown_licence_is_no_licence() -> None:
    record = mirror(CC_BY_4_0=2, unknown=1)
    assert known_licenses(record) == ["CC-BY-4.0"]
    credits_ = credits_of([row(None, "unknown"), row("A", "CC-BY-4.0")])
    assert dataset(record, credits_)["license"] == ["https://creativecommons.org/licenses/by/4.0/"]
    assert "an unnamed source: 1 subject, Unknown: ask the source before any use" in attribution(record, credits_)


def test_a_data_set_has_what_google_requires() -> None:
    # https://developers.google.com/search/docs/appearance/structured-data/dataset: name and description are required,
    # the latter of 50 to 5000 characters; contentUrl is required of each distribution.
    told = dataset(mirror(CC_BY_4_0=1), [], "https://example.org/")
    assert (told["@type"], told["name"], told["url"]) == ("Dataset", "a corpus", "https://example.org/")
    assert 50 <= len(told["description"]) <= 5000
    assert all(each["contentUrl"].startswith("https://example.org/") for each in told["distribution"])


def test_a_sitemap_is_xml_of_at_most_fifty_thousand_addresses() -> None:
    urls = ET.fromstring(sitemap(f"https://x.org/?a=1&b={number}" for number in range(50_001)))
    assert len(urls) == 50_000
    assert urls[1][0].text == "https://x.org/?a=1&b=1"

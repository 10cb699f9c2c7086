"""Zip archives, made by zipfile: what they list, and what reading a member fetches."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from corpus.archives import ArchiveMember, archive_members, open_member
from corpus.errors import SourceError

NOISE = np.random.default_rng(0).bytes(3000)


def archive_of(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> str:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return str(path)


def taken(url: str, member: ArchiveMember) -> bytes:
    with open_member(url, member, read_ahead_bytes=100) as file:
        return file.read()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_listed_and_opened_byte_for_byte(tmp_path: Path, method: int) -> None:
    members = {"Organs/0001.nii.gz": NOISE, "readme.txt": b"hello", "empty": b"", "ä ö/0002.nii": bytes(5000)}
    url = archive_of(tmp_path / "a b.zip", {"Organs/": b"", **members}, method)
    found = archive_members(url)
    assert {member.name: taken(url, member) for member in found} == members
    assert [member.size for member in found] == [3000, 5, 0, 5000]
    assert not any(member.is_encrypted for member in found)


def test_members_follow_each_other_up_to_the_directory(tmp_path: Path) -> None:
    url = archive_of(tmp_path / "a.zip", {"b": NOISE, "a": b"1", "c": NOISE[:100]})
    found = archive_members(url)
    assert [member.start for member in found] == [0, found[0].stop, found[1].stop]
    assert found[2].stop == Path(url).read_bytes().index(b"PK\1\2")


def test_data_before_the_archive_move_its_members(tmp_path: Path) -> None:
    url = archive_of(tmp_path / "a.zip", {"a": NOISE, "b": b"1"})
    Path(url).write_bytes(b"a program that unpacks itself" + Path(url).read_bytes())
    assert [taken(url, member) for member in archive_members(url)] == [NOISE, b"1"]


def test_an_archive_of_zip64_records_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive, archive.open("a", "w", force_zip64=True) as file:
        file.write(NOISE)
    assert [taken(str(path), member) for member in archive_members(str(path))] == [NOISE]


def test_members_that_have_to_be_refused_are_listed_as_they_stand(tmp_path: Path) -> None:
    """A listing that is tidied up hides what climbs out of the archive, occurs twice or is encrypted."""
    path = tmp_path / "organs.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../up", b"1")
        archive.writestr("/absolute", b"22")
        archive.writestr("twice", b"333")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("twice", b"4444")
        archive.infolist()[0].flag_bits |= 1
    members = [(member.name, member.size, member.is_encrypted) for member in archive_members(str(path))]
    assert members == [("../up", 1, True), ("/absolute", 2, False), ("twice", 3, False), ("twice", 4, False)]
    with pytest.raises(zipfile.BadZipFile, match="encrypted"):
        taken(str(path), archive_members(str(path))[0])


@pytest.mark.parametrize("kept", [0, 0.3, 0.97])
def test_one_that_was_cut_is_refused(tmp_path: Path, kept: float) -> None:
    url = archive_of(tmp_path / "organs.zip", {"a": NOISE})
    data = Path(url).read_bytes()
    Path(url).write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SourceError) as caught:
        archive_members(url)
    assert (caught.value.code, caught.value.place) == ("source.archive-unreadable", url)


def test_a_damaged_directory_gives_no_other_error_than_ours(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(3):
            archive.writestr(f"{number:04d}.nii.gz", NOISE[:50])
    data = buffer.getvalue()
    path = tmp_path / "a.zip"
    refused = 0
    for at in range(data.index(b"PK\1\2"), len(data)):
        for flip in (0x01, 0x80, 0xFF):
            bad = bytearray(data)
            bad[at] ^= flip
            path.write_bytes(bad)
            try:
                archive_members(str(path))
            except SourceError as error:
                assert error.code == "source.archive-unreadable"  # noqa: PT017  # most flips do no harm to a listing
                refused += 1
    assert refused > 50


def test_a_member_of_an_archive_that_was_replaced_is_refused(tmp_path: Path) -> None:
    url = archive_of(tmp_path / "a.zip", {"a": NOISE, "b": NOISE[::-1]})
    first, second = archive_members(url)
    archive_of(tmp_path / "a.zip", {"longer name": NOISE[:2000], "b": NOISE})
    for member in (first, second):
        with pytest.raises((zipfile.BadZipFile, EOFError)):
            taken(url, member)

from __future__ import annotations

import os
from pathlib import Path

import pytest

from otbr_fast.errors import OutputExistsError
from otbr_fast.io import check_absent, write_file
from otbr_fast.io.files import check_can_be_files


def test_the_file_appears_only_when_done(tmp_path: Path) -> None:
    wanted = tmp_path / "new" / "out.txt"
    with write_file(wanted) as draft:
        draft.write_text("whole")
        assert not wanted.exists()
        assert draft.parent == wanted.parent
        assert draft.suffix == ".txt"
    assert wanted.read_text() == "whole"
    assert list(wanted.parent.iterdir()) == [wanted]


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    def fail() -> None:
        with write_file(tmp_path / "out.txt") as draft:
            draft.write_text("half")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_stays(tmp_path: Path) -> None:
    wanted = tmp_path / "out.txt"
    wanted.write_text("old")
    with pytest.raises(OutputExistsError, match=r"out\.txt"), write_file(wanted):
        pytest.fail("the body must not run")
    assert wanted.read_text() == "old"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:
        _forbid_links(monkeypatch)
    wanted = tmp_path / "out.txt"

    def write_late() -> None:
        with write_file(wanted) as draft:
            draft.write_text("new")
            wanted.write_text("other")

    with pytest.raises(OutputExistsError, match=r"out\.txt"):
        write_late()
    assert wanted.read_text() == "other"
    assert list(tmp_path.iterdir()) == [wanted]


def test_overwriting_on_request(tmp_path: Path) -> None:
    wanted = tmp_path / "out.txt"
    wanted.write_text("old")
    with write_file(wanted, overwrite=True) as draft:
        draft.write_text("new")
        assert wanted.read_text() == "old"
    assert wanted.read_text() == "new"


def test_file_systems_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _forbid_links(monkeypatch)
    with write_file(tmp_path / "out.txt") as draft:
        draft.write_text("new")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["new"]


def test_check_absent_names_what_is_there(tmp_path: Path) -> None:
    there, broken_link, absent = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    there.touch()
    broken_link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError) as caught:
        check_absent([there, broken_link, absent], overwrite=False)
    assert str(there) in str(caught.value)
    assert str(broken_link) in str(caught.value)
    assert str(absent) not in str(caught.value)
    check_absent([there, broken_link], overwrite=True)
    check_absent([absent], overwrite=False)


def _forbid_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError("links are not supported here")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.parametrize("stem", ["a" * 250, "é" * 120, "."])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, stem: str) -> None:
    with write_file(tmp_path / f"{stem}.txt") as draft:
        draft.write_text("whole")
    assert (tmp_path / f"{stem}.txt").read_text() == "whole"


@pytest.mark.parametrize("long", ["a" * 300, f"new/{'a' * 300}", f"{'a' * 300}/out.txt"])
def test_a_name_that_is_too_long_is_told(tmp_path: Path, long: str) -> None:
    with pytest.raises(OutputExistsError, match="cannot be written: File name too long"):
        check_can_be_files([tmp_path / "good.txt", tmp_path / long])


def test_what_can_be_written_is_let_pass(tmp_path: Path) -> None:
    (tmp_path / "there.txt").touch()
    check_can_be_files([tmp_path / "there.txt", tmp_path / "new.txt", tmp_path / "new" / "a.txt"])
    for wrong in (tmp_path, tmp_path / "there.txt" / "out.txt"):
        with pytest.raises(OutputExistsError, match=r"is a folder|is no folder"):
            check_can_be_files([wrong])

from __future__ import annotations

import hashlib
import socket
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from b2inst.data import DataError
from b2inst.data.download import download

BODY = np.random.default_rng(0).bytes(100_000)
MD5 = hashlib.md5(BODY).hexdigest()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "f.zip"


@pytest.fixture
def url(web: Any) -> str:
    web.files["/f.zip"] = BODY
    return f"{web.address}/f.zip"


def only_the_file_is_there(target: Path) -> bool:
    return target.read_bytes() == BODY and [*target.parent.iterdir()] == [target]


def test_a_file_comes_whole(url: str, target: Path, pauses: list[float]) -> None:
    assert download(url, target, size=len(BODY), md5=MD5) == target
    assert only_the_file_is_there(target)
    assert pauses == []


@given(body=st.binary(max_size=300), cuts=st.lists(st.integers(0, 100), max_size=5))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_wherever_it_breaks_off_it_is_continued(web: Any, body: bytes, cuts: list[int]) -> None:
    web.reset()
    web.files["/f"] = body
    web.acts.extend({"cut": cut} for cut in cuts)
    with tempfile.TemporaryDirectory() as folder:
        target = download(f"{web.address}/f", Path(folder) / "f", size=len(body))
        assert target.read_bytes() == body
    ranges, have = [], 0
    for cut in [*cuts, len(body)]:  # what each connection asks for, where nothing is asked twice
        ranges.append(f"bytes={have}-" if have else None)
        have += cut
        if have >= len(body):
            break
    assert [asked for _, asked in web.requests] == ranges


def test_a_later_call_goes_on(url: str, web: Any, target: Path, pauses: list[float]) -> None:
    web.always = {"cut": 0}
    web.acts.extend([{}, {"cut": 40_000}])
    with pytest.raises(DataError, match=r"40,000 bytes are in .*f\.zip\.partial: rerun"):
        download(url, target)
    assert pauses == [1, 1, 2, 4, 8, 16]  # progress starts the count anew
    assert not target.exists()
    web.always = {}
    web.reset()
    download(url, target, md5=MD5)
    assert only_the_file_is_there(target)
    assert web.requests == [("/f.zip", "bytes=40000-")]


def test_ctrl_c_leaves_what_has_come(url: str, web: Any, target: Path) -> None:
    partial = target.with_name("f.zip.partial")
    web.acts.append({"interrupt": partial.exists})
    with pytest.raises(KeyboardInterrupt):
        download(url, target)
    web.reset()
    have = partial.stat().st_size
    assert have <= len(BODY) // 2
    download(url, target, md5=MD5)
    assert only_the_file_is_there(target)
    assert web.requests == [("/f.zip", f"bytes={have}-" if have else None)]


def partly(target: Path, content: bytes = BODY[:40_000]) -> None:
    """What an interrupted call leaves."""
    target.with_name("f.zip.partial").write_bytes(content)


def test_parts_of_two_versions_are_told_by_the_checksum(url: str, web: Any, target: Path) -> None:
    partly(target, b"of yesterday")
    download(url, target, md5=MD5)
    assert web.requests == [("/f.zip", "bytes=12-"), ("/f.zip", None)]
    assert only_the_file_is_there(target)


def test_a_server_that_ignores_ranges_starts_anew(url: str, web: Any, target: Path) -> None:
    web.always = {"deaf": True}
    web.acts.append({"cut": 70_000})
    download(url, target, size=len(BODY), md5=MD5)
    assert web.requests == [("/f.zip", None), ("/f.zip", "bytes=70000-")]
    assert only_the_file_is_there(target)


def test_what_is_complete_is_only_checked(url: str, web: Any, target: Path) -> None:
    partly(target, BODY)
    download(url, target, size=len(BODY), md5=MD5)
    assert only_the_file_is_there(target)
    assert web.requests == []


def test_a_server_that_promises_more_than_it_has(url: str, web: Any, target: Path) -> None:
    web.always = {"lie": 5, "deaf": True}
    with pytest.raises(DataError) as error:
        download(url, target)
    for part in (url, "broke off at 100,000 of 100,005", "100,000 bytes are in", "--mirror"):
        assert part in str(error.value)
    assert not target.exists()


@pytest.mark.parametrize("lie", [5, -5])
def test_another_size_than_known_is_refused_at_once(
    lie: int, url: str, web: Any, target: Path
) -> None:
    web.always = {"lie": lie}
    with pytest.raises(DataError, match=f"has {len(BODY) + lie:,} bytes there, not the 100,000"):
        download(url, target, size=len(BODY))
    assert len(web.requests) == 1
    assert [*target.parent.iterdir()] == []


def test_all_had_come_but_nobody_knew(url: str, web: Any, target: Path) -> None:
    web.acts.append({"lie": 5})
    download(url, target)
    assert web.requests == [("/f.zip", None), ("/f.zip", "bytes=100000-")]
    assert only_the_file_is_there(target)


def test_a_server_that_promises_less_than_it_has(url: str, web: Any, target: Path) -> None:
    web.always = {"lie": -5}
    with pytest.raises(DataError, match=r"damaged .* twice"):
        download(url, target, md5=MD5)
    assert not target.exists()


def test_damage_is_fetched_anew(url: str, web: Any, target: Path) -> None:
    web.acts.append({"flip": 70_000})
    download(url, target, size=len(BODY), md5=MD5)
    assert only_the_file_is_there(target)
    assert web.requests == [("/f.zip", None)] * 2


def test_lasting_damage_is_refused(url: str, web: Any, target: Path) -> None:
    web.always = {"flip": 70_000}
    with pytest.raises(DataError, match=rf"f\.zip: it is damaged \(MD5 \w+, not {MD5}\), twice"):
        download(url, target, size=len(BODY), md5=MD5)
    assert len(web.requests) == 2
    assert [*target.parent.iterdir()] == []


@pytest.mark.parametrize("status", [403, 404])
def test_what_will_not_come_is_asked_for_once(
    status: int, url: str, web: Any, target: Path
) -> None:
    web.always = {"status": status}
    with pytest.raises(DataError, match=rf"f\.zip: HTTP Error {status}.*--mirror"):
        download(url, target)
    assert len(web.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_come_is_asked_for_again(
    status: int, url: str, web: Any, target: Path, pauses: list[float]
) -> None:
    web.acts.extend([{"status": status}] * 3)
    download(url, target)
    assert only_the_file_is_there(target)
    assert pauses == [1, 2, 4]
    target.unlink()
    web.always = {"status": status}
    with pytest.raises(DataError, match=f"HTTP Error {status}"):
        download(url, target)
    assert len(web.requests) == 4 + 6


def test_redirects_are_followed_with_the_range(url: str, web: Any, target: Path) -> None:
    web.redirects["/old"] = url
    web.acts.extend([{}, {"cut": 10_000}])
    download(f"{web.address}/old", target, md5=MD5)
    assert only_the_file_is_there(target)
    assert web.requests[-2:] == [("/old", "bytes=10000-"), ("/f.zip", "bytes=10000-")]


def test_nobody_answers(target: Path, pauses: list[float]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/f"
        with pytest.raises(DataError, match=r"refused.*; 0 bytes"):
            download(address, target)
    assert len(pauses) == 5


def test_a_file_that_is_there_is_checked(url: str, web: Any, target: Path) -> None:
    target.write_bytes(BODY)
    download(url, target, size=len(BODY), md5=MD5)
    target.write_bytes(BODY[:-1] + b"?")
    with pytest.raises(DataError, match=r"f\.zip: .*damaged.*; delete it"):
        download(url, target, size=len(BODY), md5=MD5)
    with pytest.raises(DataError, match="has 100,000 bytes, not the 7"):
        download(url, target, size=7)
    assert web.requests == []

"""Text out of files, beyond what a corpus reads (tests/test_data.py)."""
import pytest

from gpt2.files.errors import DataError
from gpt2.files.text import Document, find_files, read_files, read_lines


def test_names_are_below_the_common_folder(tmp_path):
    for name in ("a/x.txt", "a/b/y.txt", "z.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)

    def names(pattern, **options):
        return [d.name for d in read_files(find_files(
            str(tmp_path / pattern)), **options)]
    assert names("") == ["a/b/y.txt", "a/x.txt", "z.txt"]
    assert names("a") == ["b/y.txt", "x.txt"]
    assert names("a/x.txt") == ["x.txt"]
    assert names("a", base=tmp_path) == ["a/b/y.txt", "a/x.txt"]


def test_nothing_is_found():
    assert find_files("") == find_files("no/such/*.txt") == []


def test_lines(tmp_path):
    path = tmp_path / "a.txt"
    for data, lines in ((b"", []), (b"a", ["a"]), (b"a\n", ["a"]),
                        (b"a\r\n\r\nb\r\n", ["a", "", "b"]),
                        (b"\xef\xbb\xbfa\rb\n\n", ["a\rb", ""])):
        path.write_bytes(data)
        assert read_lines(path) == lines
    for data, byte in ((b"ab\xff", 2), (b"\xef\xbb\xbfab\xff", 5)):
        path.write_bytes(data)
        with pytest.raises(DataError, match=f"not UTF-8 at byte {byte}"):
            read_lines(path)


def test_a_document_is_its_text():
    one, other = Document("a", "é"), Document("b", "é", True)
    assert one.digest == other.digest != Document("a", "e").digest

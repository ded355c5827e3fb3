"""runs/record.sh: a rehearsal of every part, and the records that are there.

The models of a rehearsal are tiny, the path is the real one.
"""
import json
import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "runs").is_dir(),
                                reason="only a checkout has runs/")
SIZES = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
PARTS = ["env", "ladder", "sizes", "decode", "train", "samples"]
FILES = {"env.json", "commands.txt", "ladder.jsonl", "sizes.jsonl",
         "decode.jsonl", "metrics.jsonl", "run.json", "evaluation.json",
         "samples.jsonl"}


@pytest.fixture(scope="module")
def record():
    import gpt2                      # before record makes the checkout's own
    with pytest.MonkeyPatch.context() as patch:     # importable
        patch.syspath_prepend(ROOT / "benchmarks")
        import record
        yield record


@pytest.fixture(scope="module")
def folder(record, tmp_path_factory):
    """A rehearsal of all parts; what a compiler builds is tested elsewhere."""
    folder = tmp_path_factory.mktemp("record")
    corpus = folder / "corpus"
    corpus.mkdir()
    for n in range(40):
        (corpus / f"{n}.py").write_text(
            f"def add_{n}(first):\n    return first + {n}\n" * 9, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ladder.can_compile", lambda device: False)
        for part in PARTS:
            more = ["--data", str(corpus), "--wait"] if part == "train" else []
            try:
                call(record, part, folder, *more)
            except SystemExit as end:        # train --wait: its exit code
                assert (part, end.code) == ("train", 0)
    return folder


def call(record, part, folder, *more):
    record.main([part, "--tiny", "--device", "cpu", "--out",
                 str(folder / "out"), *more])


def test_a_machine_without_git(record, monkeypatch, tmp_path):
    """The commit is then what was told, or unknown."""
    assert ("unknown" in record.commit()) != (ROOT / ".git").exists()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert record.commit() == "unknown"
    monkeypatch.setenv("GPT2_BOOK_COMMIT", "0123456789ab")
    assert record.commit() == "0123456789ab"


def rows(folder, name):
    text = (folder / "out" / f"{name}.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_every_part_leaves_its_files(folder):
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == FILES | {"run"}
    commands = (folder / "out" / "commands.txt").read_text().splitlines()
    assert [line.split("record.sh ")[1].split()[0] for line in commands
            ] == PARTS


def test_the_best_that_was_seen_stays(folder, record, tmp_path):
    env = json.loads((folder / "out" / "env.json").read_text())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "env.json").write_text(json.dumps(
        {**env, "peak": 1e18, "bandwidth": 1.0}))
    call(record, "env", tmp_path)
    again = json.loads((tmp_path / "out" / "env.json").read_text())
    assert again["peak"] == 1e18 and again["bandwidth"] > 1e6


def test_ladder(folder):
    found = rows(folder, "ladder")
    assert [row["name"] for row in found][:2] == ["plain", "+ fused AdamW"]
    for row in found:
        assert row["tokens_per_second"] > 0
        assert row["losses"] == pytest.approx(found[0]["losses"], rel=1e-3)


def test_the_ladder_of_a_gpu(record):
    from gpt2.scaling import can_compile
    rungs = record.ladder("cuda")
    names = [rung.name for rung in rungs]
    assert names[:5] == ["plain", "+ fused AdamW", "+ fused attention",
                         "+ TF32", "+ bfloat16"]
    assert ("+ compile" in names) == can_compile("cuda")
    assert all(rung.tf32 and rung.precision == "bfloat16"
               and rung.speed.tf32 for rung in rungs[5:])


def test_a_ladder_without_a_compiler(record, monkeypatch):
    monkeypatch.setattr("ladder.can_compile", lambda device: True)
    names = [rung.name for rung in record.ladder()]
    assert names[-2:] == ["+ compile", "+ checkpointing"]
    monkeypatch.setattr("ladder.can_compile", lambda device: False)
    assert [rung.name for rung in record.ladder()] == (
        names[:-2] + names[-1:])


def test_sizes(folder):
    found = rows(folder, "sizes")
    assert [row["name"] for row in found] == SIZES
    for row in found:
        assert len(row["seconds"]) == len(row["losses"]) == 3
        fastest = row["batch"] * row["length"] / min(row["seconds"][1:])
        assert row["tokens_per_second"] == pytest.approx(fastest, rel=1e-2)
        assert row["losses"][-1] < row["losses"][0]


def test_decode(folder):
    found = rows(folder, "decode")
    assert {(row["size"], row["batch"]) for row in found} == {
        (size, batch) for size in SIZES for batch in (1, 2)}
    assert {row["method"] for row in found} == {
        "ours", "transformers, dynamic", "transformers, static"}
    assert all(row["same_tokens"] == 1 for row in found)


def test_bytes_of_a_step(folder, record):
    """Of weights without positions, and of what the cache holds midway."""
    row = next(row for row in rows(folder, "decode") if row["batch"] == 2)
    model, _ = record.pair("gpt2", "cpu", True)
    weights = sum(p.numel() for name, p in model.named_parameters()
                  if name != "wpe.weight")
    cache = 2 * 2 * 32 * 2 * (row["prompt"] + row["new"] / 2)    # L C K,V B
    assert row["bytes_per_step"] == pytest.approx(4 * (weights + cache),
                                                  rel=1e-3)


def test_both_have_the_same_weights(record):
    ours, theirs = record.pair("gpt2-xl", "cpu", True)
    ids = torch.arange(8)[None]
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, theirs(ids).logits)
    assert ours.wte.weight.data_ptr() == (
        theirs.transformer.wte.weight.data_ptr()) == (
        theirs.lm_head.weight.data_ptr())


def test_training_and_samples(folder):
    log = (folder / "out" / "run" / "record.log").read_text()
    assert "the model is in" in log
    assert rows(folder, "metrics")[0]["step"] == 0
    found = json.loads((folder / "out" / "run.json").read_text())
    assert found["training"]["steps"] == 4 and found["tokens"]["train"] > 0
    assert len(rows(folder, "samples")) == 15
    evaluation = json.loads((folder / "out/evaluation.json").read_text())
    assert evaluation["bits_per_byte"]["model"] > 0


def test_frequencies_alone(record, tmp_path):
    """Three held-out tokens, counted by hand."""
    class Words(list):
        def window(self, start, length):
            return torch.tensor(self[start:start + length])

    assert [p.tolist() for p in record.pieces(Words(range(5)), 2)] == [
        [0, 1], [2, 3], [4]]
    sides = {"train": Words([0, 1, 1, 2]), "validation": Words([1, 4, 1])}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record, "Tokens", lambda folder, side, _: sides[side])
        found = record.frequencies_alone(tmp_path, "abcde")
    # counts with one added: 2 3 2 1 1 of 9
    expected = -(2 * math.log(3 / 9) + math.log(1 / 9)) / 3
    assert found == pytest.approx(expected)


def test_nothing_is_measured_twice(folder, record, capsys):
    before = (folder / "out" / "sizes.jsonl").read_bytes()
    call(record, "sizes", folder)
    assert (folder / "out" / "sizes.jsonl").read_bytes() == before
    assert "all 4 are there" in capsys.readouterr().out


def test_the_rest_is_measured(folder, record, tmp_path):
    """As after a break, or after rows of another day were joined."""
    copy = tmp_path / "out"
    copy.mkdir()
    lines = (folder / "out" / "sizes.jsonl").read_text().splitlines(True)
    (copy / "sizes.jsonl").write_text(lines[2] + lines[0])
    call(record, "sizes", tmp_path, "--sizes", "gpt2,gpt2-large,gpt2-xl")
    assert [row["name"] for row in rows(tmp_path, "sizes")] == [
        "gpt2-large", "gpt2", "gpt2-xl"]


def test_time_is_kept(record, tmp_path, capsys):
    """What might not end in time is not begun."""
    path = tmp_path / "x.jsonl"

    def slow():
        time.sleep(0.2)
        return {"value": 1.23456}

    todo = dict.fromkeys("abcdef", slow)
    record.fill(path, todo, time.monotonic() + 0.6)
    assert 1 <= len(path.read_text().splitlines()) <= 3
    assert "are left: run the same command again" in capsys.readouterr().out
    record.fill(path, todo, time.monotonic() + 60)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["name"] for row in found] == list("abcdef")
    assert {row["value"] for row in found} == {1.235}


def test_what_does_not_fit_is_a_row(record, tmp_path):
    def too_much():
        raise torch.OutOfMemoryError("CUDA out of memory")

    def too_little():
        raise ValueError("one sequence needs 30 GB")

    def broken():
        raise RuntimeError("a fault of the program")

    path = tmp_path / "x.jsonl"
    with pytest.raises(RuntimeError):
        record.fill(path, {"a": too_much, "b": too_little, "c": broken},
                    time.monotonic() + 60)
    errors = [json.loads(line)["error"]
              for line in path.read_text().splitlines()]
    assert errors == ["out of memory", "one sequence needs 30 GB"]


def test_a_rehearsal_is_no_record(folder, record):
    with pytest.raises(SystemExit, match="is a rehearsal"):
        record.main(["sizes", "--device", "cpu", "--out",
                     str(folder / "out")])


def test_a_record_is_no_rehearsal(folder, record, tmp_path):
    real = tmp_path / "out"
    real.mkdir()
    env = json.loads((folder / "out" / "env.json").read_text())
    (real / "env.json").write_text(json.dumps({**env, "rehearsal": False}))
    with pytest.raises(SystemExit, match="a real record"):
        call(record, "sizes", tmp_path)
    assert not (real / "sizes.jsonl").exists()


@pytest.mark.parametrize("words, what", [
    (["all"], "invalid choice: 'all'"),
    (["sizes", "--sizes", "gpt2,gpt3"], "no size 'gpt3'"),
    (["decode", "--device", "gpu"], "device 'gpu' cannot be used"),
    ([], "required: part")])
def test_refused(record, capsys, words, what):
    with pytest.raises(SystemExit) as end:
        record.main(words)
    assert end.value.code == 2 and what in capsys.readouterr().err


def test_no_samples_without_a_model(record, tmp_path):
    with pytest.raises(SystemExit, match="holds no finished model"):
        call(record, "samples", tmp_path)


@pytest.mark.skipif(not shutil.which("sh"), reason="no shell")
def test_the_script(tmp_path):
    """From any folder, with the interpreter that it is told to take."""
    done = subprocess.run(["sh", str(ROOT / "runs" / "record.sh"), "--help"],
                          cwd=tmp_path, capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin",
                               "PYTHON": sys.executable})
    assert done.returncode == 0, done.stderr
    assert all(f"runs/record.sh {part}" in done.stdout for part in PARTS)


# --- what is committed --------------------------------------------------------

RECORDS = sorted(path.parent for path in ROOT.glob("runs/*/env.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.name)
def test_a_record_is_whole(path):
    names = {found.name for found in path.iterdir()}
    assert FILES <= names and names <= FILES | {"run"}
    env = json.loads((path / "env.json").read_text("utf-8"))
    assert env["rehearsal"] is False and env["peak"] > 1e9
    assert path.name.startswith("cpu-") == (env["kind"] == "cpu")
    assert env["kind"] == "cuda" or env["threads"] == 1
    for name in FILES:
        text = (path / name).read_text("utf-8")
        assert "/tmp/" not in text and str(ROOT) not in text, name
        assert len(text) < 2_000_000, name
    commands = (path / "commands.txt").read_text("utf-8")
    assert all(f"record.sh {part}" in commands for part in PARTS)


def test_there_is_a_record():
    assert RECORDS

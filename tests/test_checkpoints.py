"""gpt2.resume: what the page does not try. Kills are in test_resume.py."""
import io
import json
import pickle
import signal
import warnings
from contextlib import suppress
from dataclasses import replace

import pytest
import torch
from small_runs import (CONFIG, Text, losses, new_batches, new_model,
                        prepared, stop_at, train)

from gpt2 import resume
from gpt2.command_line.runs import Run
from gpt2.data import Batches, DataError
from gpt2.files.whole import SUMS, file_sums, read_json, write_json
from gpt2.pretrained import CheckpointError
from gpt2.resume import (checkpoints, load, load_checkpoint, read_model, save,
                         shard_reader)
from gpt2.tokenizer import Tokenizer
from gpt2.training import accumulate, rng_state


@pytest.fixture(scope="module")
def tokenizer(root):
    return Tokenizer.load(root / "checkpoints" / "nano")


def test_resume_with_other_micro_batches(tokenizer, tmp_path):
    stop_at(4, tmp_path, tokenizer)
    other = replace(CONFIG, micro_batch=4, keep=1, eval_every=5)
    rows = train(new_model(seed=9), new_batches(), other,
                 run=Run(tmp_path, tokenizer))
    assert [r["step"] for r in rows if "loss" in r] == [1, 2, 3, 4, 5, 6]
    assert len(checkpoints(tmp_path)) == 1


@pytest.mark.parametrize("change", [
    dict(learning_rate=1e-3), dict(steps=7), dict(dropout=0.2),
    dict(clip=0.5), dict(weight_decay=0.0), dict(seed=1), dict(beta1=0.8),
    dict(precision="bfloat16"), dict(warmup=3), dict(final_fraction=0.2)])
def test_other_mathematics_refused(change, tokenizer, tmp_path):
    stop_at(4, tmp_path, tokenizer)
    (name, value), = change.items()
    with pytest.raises(DataError, match=f"{name} .*not {value!r}. Resume"):
        train(new_model(), new_batches(), replace(CONFIG, **change),
              run=Run(tmp_path, tokenizer))


STABLE = replace(CONFIG, decay=2)              # at its top until update 4


@pytest.mark.parametrize("change", [
    dict(steps=9), dict(steps=9, decay=4), dict(steps=5), dict(decay=3),
    dict(steps=4, decay=1), dict(steps=8, decay=5, final_fraction=0.5)])
def test_the_schedule_ahead_is_free(change, tokenizer, tmp_path):
    """A run that branches off is, bit for bit, one that knew its end."""
    wanted = replace(STABLE, **change)
    stop_at(3, tmp_path / "a", tokenizer, config=STABLE)
    models = new_model(seed=9), new_model()
    rows = train(models[0], new_batches(), wanted,
                 run=Run(tmp_path / "a", tokenizer))
    straight = train(models[1], new_batches(), wanted,
                     run=Run(tmp_path / "b", tokenizer))
    for key in ("loss", "learning_rate", "gradient_norm"):
        assert [r[key] for r in rows if key in r] == [
            r[key] for r in straight if key in r]
    assert rows[-1]["step"] == wanted.steps
    assert all(torch.equal(p, q) for p, q in zip(
        models[0].parameters(), models[1].parameters()))


@pytest.mark.parametrize("change", [
    dict(steps=3), dict(decay=4), dict(decay=0), dict(steps=5, decay=3),
    dict(learning_rate=1e-3), dict(warmup=1)])
def test_the_schedule_behind_is_not(change, tokenizer, tmp_path):
    """4 updates are done, of which none was in the fall."""
    stop_at(4, tmp_path, tokenizer, config=STABLE)
    with pytest.raises(DataError, match=f"with {[*change][0]} .*Resume"):
        train(new_model(), new_batches(), replace(STABLE, **change),
              run=Run(tmp_path, tokenizer))


def test_the_number_that_is_in_the_way_is_named(tokenizer, tmp_path):
    stop_at(3, tmp_path, tokenizer, config=STABLE)
    with pytest.raises(DataError, match="made with clip 1.0, not 2.0"):
        train(new_model(), new_batches(), replace(STABLE, steps=9, clip=2.0),
              run=Run(tmp_path, tokenizer))


def test_a_run_from_before_there_was_a_decay(tokenizer, tmp_path):
    stop_at(4, tmp_path, tokenizer)
    path = checkpoints(tmp_path)[-1]
    position = json.loads((path / "position.json").read_text())
    del position["config"]["decay"]
    (path / "position.json").write_text(json.dumps(position))
    (path / "checksums.json").write_text(json.dumps(
        file_sums(path)))
    rows = train(new_model(), new_batches(), CONFIG,
                 run=Run(tmp_path, tokenizer))
    assert rows[-1]["step"] == 6


def test_other_data_refused(tokenizer, tmp_path):
    stop_at(2, tmp_path, tokenizer)
    for batches in (new_batches(seed=1), new_batches(8),
                    Batches(Text(2001), 4, 32)):
        with pytest.raises(DataError):
            train(new_model(), batches, CONFIG, run=Run(tmp_path, tokenizer))


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "position.json",
                                  "config.json", "checksums.json"])
@pytest.mark.parametrize("how", ["changed", "cut", "gone"])
def test_damaged(name, how, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(resume, "shard_reader", None)   # never reached
    stop_at(2, tmp_path, tokenizer)
    file = checkpoints(tmp_path)[-1] / name
    content = file.read_bytes()
    if how == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-3] if how == "cut" else
                         b"{" + bytes([content[1] ^ 1]) + content[2:])
    with pytest.raises(DataError, match="is damaged. Remove it"):
        train(new_model(), new_batches(), CONFIG, run=Run(tmp_path, tokenizer))


def test_a_strange_file_in_a_checkpoint(tokenizer, tmp_path):
    stop_at(2, tmp_path, tokenizer)
    (checkpoints(tmp_path)[-1] / "more.txt").write_text("?")
    with pytest.raises(DataError, match="is damaged"):
        train(new_model(), new_batches(), CONFIG, run=Run(tmp_path, tokenizer))


def test_saving_fails(tokenizer, tmp_path, monkeypatch):
    for name in ("save_config", "save_tokenizer", "write_json"):
        run = tmp_path / name
        stop_at(2, run, tokenizer)
        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")
        with monkeypatch.context() as patch:
            patch.setattr(resume, name, full)
            with pytest.raises(CheckpointError, match="after update 4 could"
                               ".*No space.*last good one.*step-00000002"):
                train(new_model(), new_batches(), CONFIG,
                      run=Run(run, tokenizer))
        names = sorted(p.name for p in (run / "checkpoints").iterdir())
        assert names == ["step-00000000", "step-00000002"]
        rows = train(new_model(), new_batches(), CONFIG,
                     run=Run(run, tokenizer))
        assert rows[-1]["step"] == 6


def test_a_full_disk_that_pytorch_does_not_name(tokenizer, tmp_path,
                                                monkeypatch):
    """It says "enforce fail ... unexpected pos", even for the first one."""
    import torch.distributed.checkpoint as shards

    def full(*args, **kwargs):
        raise shards.CheckpointException("save", {0: (RuntimeError(
            "[enforce fail at inline_container.cc] unexpected pos"), None)})
    monkeypatch.setattr(shards, "save", full)
    with pytest.raises(CheckpointError, match="is there room.*enforce fail"):
        resume.save_checkpoint(tmp_path, 0, prepared(), new_batches(),
                               tokenizer)


def test_a_process_that_is_lost_while_saving(tokenizer, tmp_path,
                                             monkeypatch):
    """That is no full disk: whoever has joined the processes says it."""
    from gpt2.distributed import is_lost

    def lost(thing):
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed")
    monkeypatch.setattr(resume, "everyone", lost)
    with pytest.raises(RuntimeError, match="gloo") as caught:
        resume.save_checkpoint(tmp_path, 0, prepared(), new_batches(),
                               tokenizer)
    assert is_lost(caught.value) and not checkpoints(tmp_path)


def test_leftovers(tokenizer, tmp_path):
    """A start removes what killed processes have left, in both folders."""
    stop_at(2, tmp_path, tokenizer)
    gone = [tmp_path / "checkpoints" / ".step-00000004.999999999.tmp",
            tmp_path / "checkpoints" / ".step-00000002.999999999.gone"]
    for path in gone:
        path.mkdir()
    (tmp_path / ".metrics.jsonl.999999999.tmp").write_text("x")
    train(new_model(), new_batches(), CONFIG, run=Run(tmp_path, tokenizer))
    assert not [p for p in tmp_path.rglob(".*") if p.suffix in (
        ".tmp", ".gone")]


# -------------------------------------------------------------- save and load
def equal(a, b):
    """Weights and moments, bit for bit."""
    pairs = [*zip(a.model.parameters(), b.model.parameters())]
    return all(torch.equal(p, q) for p, q in pairs) and all(
        torch.equal(value, b.optimizer.state[q][key]) for p, q in pairs
        for key, value in a.optimizer.state[p].items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("done", [0, 3])
def test_all_of_an_engine(tokenizer, tmp_path, dtype, done):
    """Before the first update, too, when Adam has no moments yet."""
    engine, other = (prepared(model=new_model(seed=n).to(dtype))
                     for n in (0, 1))
    ids = new_batches().take()
    for _ in range(done):
        accumulate(engine, ids)
        engine.update(1e-3)
    save(engine, tmp_path / "one", {}, tokenizer)
    state = rng_state(engine.device)
    assert not equal(engine, other) if done else True
    torch.manual_seed(7)
    load(tmp_path / "one", other)
    assert equal(engine, other)
    assert torch.equal(rng_state(other.device)["cpu"], state["cpu"])
    for each in engine, other:
        torch.manual_seed(0)
        accumulate(each, ids)
        each.update(1e-3)
    assert equal(engine, other)
    assert {float(state["step"]) for state in
            other.optimizer.state.values()} == {done + 1}


def test_the_model_of_a_checkpoint(tokenizer, tmp_path):
    engine = prepared()
    save(engine, tmp_path / "one", {}, tokenizer)
    model = read_model(str(tmp_path / "one"))
    ours, theirs = engine.model.state_dict(), model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert model.config == engine.model.config


@pytest.mark.parametrize("shape", [dict(n_layer=3), dict(n_embd=64)])
def test_of_another_shape(tokenizer, tmp_path, shape):
    save(prepared(), tmp_path / "one", {}, tokenizer)
    other = prepared(model=new_model(replace(new_model().config, **shape)))
    with pytest.raises(DataError, match="one cannot be read; remove it"):
        load(tmp_path / "one", other)


def test_of_other_processes(tokenizer, tmp_path, monkeypatch):
    """Each its own random numbers; with another number of them, new ones."""
    engine = prepared()
    rows = torch.stack([torch.Generator().manual_seed(n).get_state()
                        for n in range(2)])
    monkeypatch.setattr(resume, "random_of", lambda engine: {"cpu": rows})
    save(engine, tmp_path / "two", {}, tokenizer)
    drawn = []
    for rank, world in (0, 2), (1, 2), (0, 1), (1, 3):
        engine.rank, engine.world = rank, world
        load(tmp_path / "two", engine)
        drawn.append(torch.rand(3))
    for n in range(2):
        assert torch.equal(drawn[n], torch.rand(
            3, generator=torch.Generator().manual_seed(n)))
    assert len({tuple(each.tolist()) for each in drawn}) == 4


def test_an_older_version(tokenizer, tmp_path):
    """One line that says how to go on."""
    engine = prepared()
    path = tmp_path / "a run" / "checkpoints" / "step-00000002"
    save(engine, path, {}, tokenizer)
    (path / "training_state.pt").write_bytes(b"what it was")
    with pytest.raises(DataError, match="saved by an older version.*begin a"
                       f" new run with --init-from '{path}'"):
        load_checkpoint(path, engine, new_batches())


class Bomb:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def test_an_entry_that_is_no_tensor(tokenizer, tmp_path):
    """PyTorch would unpickle it; its class is not on the list."""
    from torch.distributed.checkpoint import (CheckpointException,
                                              FileSystemReader)
    from torch.distributed.checkpoint import load as read
    from torch.distributed.checkpoint.metadata import (BytesStorageMetadata,
                                                       MetadataIndex)
    engine, marker, path = prepared(), tmp_path / "marker", tmp_path / "one"
    save(engine, path, {}, tokenizer)
    metadata = pickle.loads((path / ".metadata").read_bytes())
    name, file = "model.ln_f.weight", io.BytesIO()
    torch.save(Bomb(marker), file)
    (path / "evil.distcp").write_bytes(file.getvalue())
    old, = [index for index in metadata.storage_data if index.fqn == name]
    kind = type(metadata.storage_data.pop(old))
    metadata.state_dict_metadata[name] = BytesStorageMetadata()
    metadata.storage_data[MetadataIndex(name)] = kind(
        "evil.distcp", 0, len(file.getvalue()))
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    write_json(path / SUMS, file_sums(path))             # as anybody can
    with pytest.raises(DataError, match="BytesStorageMetadata, and nothing"):
        load(path, engine)
    with pytest.raises(DataError, match="nothing in it was run"):
        read_model(path)
    assert not marker.exists()
    with suppress(Exception, CheckpointException):       # a careless reader
        with warnings.catch_warnings(action="ignore"):
            read({name: torch.empty(32)},
                 storage_reader=FileSystemReader(path))
    assert marker.exists()                   # the bomb is one


@pytest.mark.parametrize("spoil, words", [
    (lambda b: b.replace(b"__0_0.distcp", b"../../../bad"), "points to"),
    (lambda b: b[:len(b) // 2], "cannot be read"),
    (lambda b: b"", "cannot be read"),
    (lambda b: pickle.dumps({"a": 1}), "cannot be read")])
def test_spoiled_names(tokenizer, tmp_path, spoil, words):
    path = tmp_path / "one"
    save(prepared(), path, {}, tokenizer)
    (path / ".metadata").write_bytes(spoil((path / ".metadata").read_bytes()))
    with pytest.raises(DataError, match=words):
        shard_reader(path)


def metadata_of(path, change):
    """Change the names and shapes of a checkpoint, as anybody can."""
    metadata = pickle.loads((path / ".metadata").read_bytes())
    change(metadata)
    content = pickle.dumps(metadata, protocol=2)
    (path / ".metadata").write_bytes(content)
    return content


def test_a_class_that_is_named_stays_as_it_is(tokenizer, tmp_path):
    """A pickle can set attributes of the classes that it may name. With
    such a `name` every path would be the name of a file."""
    path, away = tmp_path / "one", "../bad.distcp"
    save(prepared(), path, {}, tokenizer)

    def point_away(metadata):
        for place in metadata.storage_data.values():
            place.relative_path = away

    content = metadata_of(path, point_away)
    patch = pickle.dumps({"name": away}, protocol=2)[2:-1]
    for name in "PosixPath", "WindowsPath":
        (path / ".metadata").write_bytes(
            content[:2] + f"cpathlib\n{name}\nN".encode() + patch
            + b"\x86b0" + content[2:])
        with pytest.raises(DataError, match=f"points to '{away}'"):
            shard_reader(path)
        assert (tmp_path / "x").name == "x"


@pytest.mark.parametrize("other", [
    b"cpathlib\nWindowsPath\n", b"cpathlib._local\nPosixPath\n",
    b"cpathlib._local\nWindowsPath\n"])
def test_saved_by_another_system_or_python(tokenizer, tmp_path, other):
    engine, path = prepared(), tmp_path / "one"
    save(engine, path, {}, tokenizer)
    content = metadata_of(path, lambda metadata: None)
    own = f"cpathlib\n{type(path).__name__}\n".encode()
    if type(path).__module__ != "pathlib":                   # Python 3.13
        own = own.replace(b"pathlib", type(path).__module__.encode())
    assert own in content
    (path / ".metadata").write_bytes(content.replace(own, other))
    load(path, engine)


@pytest.mark.parametrize("parts", [
    lambda whole: [], lambda whole: whole.chunks * 2,
    lambda whole: [replace(whole.chunks[0], sizes=torch.Size([3, 3]))]])
def test_a_part_of_a_tensor_is_missing(tokenizer, tmp_path, parts):
    """PyTorch would leave the numbers as they were, random ones."""
    path = tmp_path / "one"
    save(prepared(), path, {}, tokenizer)

    def take_away(metadata):
        whole = metadata.state_dict_metadata["model.wte.weight"]
        whole.chunks = parts(whole)

    metadata_of(path, take_away)
    with pytest.raises(DataError, match="model.wte.weight has 131,072 num"):
        shard_reader(path)


@pytest.mark.parametrize("size", [None, (), (5056,)])
def test_no_random_states(tokenizer, tmp_path, size):
    engine, path = prepared(), tmp_path / "one"
    save(engine, path, {}, tokenizer)

    def spoil(metadata):
        whole = metadata.state_dict_metadata.pop("random.cpu")
        if size is not None:
            whole.size = torch.Size(size)
            whole.chunks = [replace(whole.chunks[0], sizes=whole.size)]
            metadata.state_dict_metadata["random.cpu"] = whole

    metadata_of(path, spoil)
    with pytest.raises(DataError, match="it has no random states"):
        load(path, engine)


GONE = object()


@pytest.mark.parametrize("change", [
    {"step": 1}, {"step": 99}, {"step": -1}, {"step": "4"}, {"step": 4.0},
    {"step": None}, {"step": GONE}, {"batches": GONE}, {"batches": []},
    {"config": GONE}, {"config": [1]}, {"config": {"size": 1}},
    {"config": {"steps": "many"}}, {"config": {"steps": -1}}])
def test_a_position_that_is_none(tokenizer, tmp_path, change):
    stop_at(4, tmp_path, tokenizer)
    newest = checkpoints(tmp_path)[-1]
    position = {**read_json(newest / resume.POSITION), **change}
    write_json(newest / resume.POSITION, {
        key: value for key, value in position.items() if value is not GONE})
    write_json(newest / SUMS, file_sums(newest))
    with pytest.raises(DataError, match=str(newest)):
        load_checkpoint(newest, prepared(), new_batches())


def test_other_folders_beside_the_checkpoints(tokenizer, tmp_path):
    """A copy that somebody has put there is no checkpoint, and stays."""
    stop_at(4, tmp_path, tokenizer)
    copies = [tmp_path / "checkpoints" / name
              for name in ("step-00000004.bak", "step-copy")]
    for copy in copies:
        copy.mkdir()
    rows = train(new_model(seed=9), new_batches(), CONFIG,
                 run=Run(tmp_path, tokenizer))
    assert rows[-1]["step"] == CONFIG.steps
    assert all(copy.is_dir() for copy in copies)


# -------------------------------------------------------------------- signals
def test_a_second_ctrl_c_acts_at_once():
    with pytest.raises(KeyboardInterrupt):
        with resume.catching_signals() as caught:
            signal.raise_signal(signal.SIGINT)
            assert caught == [signal.SIGINT]
            signal.raise_signal(signal.SIGINT)


def test_handlers_come_back():
    old = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), resume.catching_signals():
        1 / 0
    assert old == (signal.getsignal(signal.SIGINT),
                   signal.getsignal(signal.SIGTERM))

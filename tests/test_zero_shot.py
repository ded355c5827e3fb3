"""Chapter 20: scores against a plain loop, real data, faults, lm-eval."""
import copy
import hashlib
import json
import math
import re
from pathlib import Path

import pytest
import torch
from commands import build, is_one_line, runner

from gpt2 import GPT2, GPT2Config, Tokenizer, zero_shot
from gpt2.checks import record, reference_model, reference_state
from gpt2.command_line.reports import paper_value, report
from gpt2.command_line.tasks import TASKS, evaluate_task
from gpt2.files.download import fetch
from gpt2.files.errors import DataError
from gpt2.files.task_files import (SOURCES, Question, join_treebank,
                                   read_cbt, read_lambada, read_winograd)
from gpt2.files.text import read_lines
from gpt2.files.whole import file_sum
from gpt2.files.wikitext import detokenize, detokenize_text, retokenize
from gpt2.pretrained import (load_pretrained, load_tokenizer,
                             save_pretrained, save_tokenizer)
from gpt2.zero_shot import (STOP_WORDS, TABLE_3, TABLE_3_COLUMNS, Request,
                            TextLoss, batches_by_length, choose, complete,
                            evaluate_lambada, few_shot_prompt,
                            first_sentences, make_request, measure_text,
                            score, sliding_windows, stop_word_mask,
                            text_numbers, wilson, word_count)

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data" / "zero-shot"
SMALL = dict(vocab_size=4096, n_positions=48, n_embd=32, n_layer=2, n_head=4,
             bos_token_id=4095, eos_token_id=4095)


def shared(name):
    if not (SHARED / name).is_file():
        pytest.skip(f"the real data is not there: {SHARED / name}")
    return SHARED / name


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.load(ROOT / "checkpoints" / "nano")


def pair(dtype=torch.float64, **changes):
    """Our model and Hugging Face's, the same random weights."""
    config = GPT2Config(**{**SMALL, **changes})
    theirs = reference_model(config, dtype=dtype, sharpen=3.0)
    ours = GPT2(config).to(dtype).eval()
    ours.load_state_dict(reference_state(theirs), strict=True)
    return ours, theirs


@pytest.fixture(scope="module")
def models():
    return pair()


def random_requests(count=23, most=49, seed=0, vocab_size=4096):
    draw = torch.Generator().manual_seed(seed)

    def between(low, high):
        return int(torch.randint(low, high, (), generator=draw))
    found = []
    for _ in range(count):
        n = between(2, most + 1)
        ids = torch.randint(vocab_size, (n,), generator=draw).tolist()
        found.append(Request(ids, between(1, n)))
    return [*found, Request(ids[:1] * most, most - 1), Request(ids[:2], 1)]


def by_loop(theirs, request):
    """log p and rank of each scored token, one full pass, no batch."""
    with torch.no_grad():
        logits = theirs(torch.tensor([request.ids[:-1]])).logits[0]
    rows = logits.log_softmax(-1)
    places = range(request.first - 1, len(request.ids) - 1)
    return ([rows[i, request.ids[i + 1]].item() for i in places],
            [int(rows[i].argmax()) == request.ids[i + 1] for i in places])


# --- the scorer -------------------------------------------------------------

@pytest.mark.parametrize("batch_tokens", [1, 100, 10_000])
def test_score_equals_a_loop_of_transformers(models, batch_tokens):
    ours, theirs = models
    requests = random_requests()
    for request, found in zip(requests, score(
            ours, requests, batch_tokens=batch_tokens)):
        logprobs, likeliest = by_loop(theirs, request)
        assert found.logprobs.tolist() == pytest.approx(logprobs, abs=1e-9)
        assert found.likeliest.tolist() == likeliest
        assert found.allowed.tolist() == likeliest
        assert found.total == pytest.approx(sum(logprobs), abs=1e-9)


def test_score_finds_the_likeliest(models):
    """Random targets never are: take the model's own answers."""
    ours, theirs = models
    ids = [5, 6, 7]
    for _ in range(6):
        with torch.no_grad():
            ids.append(int(theirs(torch.tensor([ids])).logits[0, -1].argmax()))
    (found,) = score(ours, [Request(ids, 3)])
    assert found.likeliest.all() and len(found.likeliest) == 6
    banned = torch.zeros(4096, dtype=torch.bool)
    banned[ids[3]] = True
    (found,) = score(ours, [Request(ids, 3)], banned=banned)
    assert found.likeliest.all()
    assert found.allowed.tolist() == [False] + [True] * 5    # the first alone


def test_banned_lets_the_second_best_win(models):
    ours, theirs = models
    with torch.no_grad():
        best = theirs(torch.tensor([[9, 8]])).logits[0, -1].topk(2).indices
    banned = torch.zeros(4096, dtype=torch.bool)
    banned[best[0]] = True
    (found,) = score(ours, [Request([9, 8, int(best[1])], 2)], banned=banned)
    assert not found.likeliest and found.allowed


def test_score_untied_bfloat16_and_many_logits(monkeypatch):
    ours, theirs = pair(tie_word_embeddings=False)
    request = Request(list(range(40)), 1)
    expected = by_loop(theirs, request)[0]
    # 2^26 logits at once: three places of a vocabulary of 2^24 and more
    monkeypatch.setattr(zero_shot, "max", lambda *_: 3, raising=False)
    assert score(ours, [request])[0].logprobs.tolist() == pytest.approx(
        expected, abs=1e-9)
    monkeypatch.undo()
    half = score(ours.to(torch.bfloat16), [request])[0].logprobs
    assert half.dtype == torch.float32
    assert half.tolist() == pytest.approx(expected, abs=0.5)


def test_score_leaves_the_mode_and_uses_no_dropout():
    ours, _ = pair(resid_pdrop=0.5)
    requests = random_requests(4)
    expected = [each.total for each in score(ours, requests)]
    ours.train()
    assert [each.total for each in score(ours, requests)] == expected
    assert ours.training and ours.h[0].training
    assert score(ours, []) == []


@pytest.mark.parametrize("request_, words", [
    (Request([1], 1), "at least one"), (Request([1, 2], 0), "only be read"),
    (Request([1, 2], 2), "place 2"), (Request([1] * 50, 1), "reads 48"),
    (Request([1, 4096], 1), "1 to 4096; expected 0 to 4,095"),
    (Request([-1, 2], 1), "-1 to 2")])
def test_score_refuses(models, request_, words):
    with pytest.raises(ValueError, match=words):
        score(models[0], [Request([1, 2], 1), request_])


def test_batches_by_length():
    requests = [Request([0] * n, 1) for n in (5, 20, 3, 20, 9, 2)]
    batches = list(batches_by_length(requests, 40))
    assert batches == [[1, 3], [4, 0, 2, 5]]
    assert list(batches_by_length(requests, 1)) == [[1], [3], [4], [0], [2],
                                                    [5]]


# --- from texts to requests -------------------------------------------------

def test_make_request(tokenizer):
    encode, end = tokenizer.encode, tokenizer.eos_token_id
    whole = encode("return value")
    assert make_request(tokenizer, "return", " value", 48) == Request(
        whole, len(encode("return")))
    # a space changes sides; nothing else does
    assert make_request(tokenizer, "return ", "value", 48) == Request(
        whole, len(encode("return")))
    assert make_request(tokenizer, "", "value", 48) == Request(
        [end, *encode("value")], 1)
    assert make_request(tokenizer, " \n", "value", 48) == Request(
        [end, *encode(" \nvalue")], 1)
    long = make_request(tokenizer, "return value " * 30, "value", 48)
    assert len(long.ids) == 49
    assert tokenizer.decode(long.ids[long.first:]) == " value"
    with pytest.raises(ValueError, match="0 tokens"):
        make_request(tokenizer, "return", "", 48)
    with pytest.raises(ValueError, match="expected 1 to 48"):
        make_request(tokenizer, "", "value " * 60, 48)


@pytest.mark.parametrize("count", [2, 9, 10, 11, 30, 31])
@pytest.mark.parametrize("length, stride", [(9, 9), (9, 4), (9, 1), (40, 7)])
def test_windows_score_each_token_once(count, length, stride):
    ids = list(range(count))
    windows = list(sliding_windows(ids, length, stride))
    scored = [id for window in windows for id in window.ids[window.first:]]
    assert scored == ids[1:]
    for window in windows:
        assert len(window.ids) <= length + 1
        assert window.ids == list(range(window.ids[0], window.ids[-1] + 1))
    for window in windows[1:]:
        assert window.first >= length - stride + 1


@pytest.mark.parametrize("stride", [0, -1, 10])
def test_windows_refuse(stride):
    with pytest.raises(ValueError, match="expected 1 to 9"):
        list(sliding_windows(list(range(30)), 9, stride))
    assert list(sliding_windows([1], 9, 9)) == []


def test_measure_text_equals_a_loop(models, tokenizer):
    ours, theirs = models
    text = "for key in table:\n    total += table[key]\n" * 4
    ids = [tokenizer.eos_token_id, *tokenizer.encode(text)]
    found = measure_text(ours, tokenizer, text, length=20, stride=5)
    nats, done = 0.0, 1
    while done < len(ids):                       # another way to walk
        end = min(len(ids), 21 if done == 1 else done + 5)
        start = max(0, end - 21)
        nats -= sum(by_loop(theirs, Request(ids[start:end], done - start))[0])
        done = end
    assert found.nats == pytest.approx(nats, abs=1e-8)
    assert found.tokens == len(ids) - 1
    assert found.bytes == found.characters == len(text)
    assert found.words == 4 * 9 and word_count(text) == 4 * 9
    assert found.token_perplexity == pytest.approx(
        math.exp(nats / (len(ids) - 1)))
    assert found.word_perplexity == pytest.approx(math.exp(nats / 36))
    assert found.bits_per_byte == pytest.approx(
        nats / math.log(2) / len(text))
    with pytest.raises(ValueError, match="empty"):
        measure_text(ours, tokenizer, "")


def test_units_of_characters(models, tokenizer):
    found = measure_text(models[0], tokenizer, "naïve 日本\n", original="ab c\n")
    assert (found.words, found.bytes, found.characters) == (3, 5, 5)
    found = measure_text(models[0], tokenizer, "naïve 日本\n")
    assert (found.words, found.bytes, found.characters) == (3, 14, 9)
    assert found.bits_per_byte < found.bits_per_character


# --- WikiText ---------------------------------------------------------------

@pytest.mark.parametrize("tokenized, text", [
    (" A well @-@ known robot 's arm . ", "A well-known robot's arm."),
    (" 12 @,@ 500 kg , 1 @.@ 5 % ; ( see below ) . ",
     "12,500 kg, 1.5%; (see below)."),
    (' He said : " Yes , we do n\'t " . ', None),
    (" The ships ' crew , in 1914 – 18 . ", "The ships' crew, in 1914–18."),
    (' It cost $ 3 million : " too much " . ',
     'It cost $3 million: "too much".'),
    (" = Robots = ", "= Robots ="), (" ", ""),
    (" J. Smith met Mr. Hill . ", "J. Smith met Mr. Hill."),
    (" a @-@ b and c-d . ", None), (" no end . ", "no end."),
    (" T2.5 and no more . ", None), (" ", "")])
def test_detokenize(tokenized, text):
    found = detokenize(tokenized)
    if text is not None:
        assert found == text
    assert retokenize(found) == tokenized


def test_detokenize_refuses():
    with pytest.raises(ValueError, match="begins with a space"):
        detokenize("a @-@ b .")


def test_wikitext_comes_back():
    lines = read_lines(shared("wikitext2.wiki.test.raw"))
    assert len(lines) == 4358
    assert word_count("\n".join([*lines, ""])) == 245_569    # as published
    texts = [detokenize(line) for line in lines]
    assert [retokenize(text) for text in texts] == lines     # all of them
    assert sum(text == line for text, line in zip(texts, lines)) == 10
    joined = "\n".join(texts)
    for artefact, most in ((" @-@ ", 20), (" , ", 200), (" ( ", 50)):
        before = "\n".join(lines).count(artefact)
        assert joined.count(artefact) < most < before / 10, artefact
    assert detokenize_text("\n".join(lines)) == joined + "\n"


# --- LAMBADA ----------------------------------------------------------------

def test_read_lambada():
    found = read_lambada(shared("lambada_test.jsonl"))
    assert len(found) == 5153
    assert found[0][0].endswith("I don't care about")
    assert found[0][1] == " signs"
    assert not any(context.endswith(" ") or " " in word[1:]
                   for context, word in found)
    stop = sum(word[1:].lower() in STOP_WORDS for _, word in found)
    assert stop < 0.03 * len(found)          # the filter may forbid no more


def test_read_lambada_refuses(tmp_path):
    path = tmp_path / "bad.jsonl"
    for text, words in (('{"text": "one"}', "fewer than two"),
                        ('{"words": "a b"}', "line 1"), ("[", "line 1")):
        path.write_text(text, "utf-8")
        with pytest.raises(DataError, match=words):
            read_lambada(path)


def test_evaluate_lambada_by_hand(models, tokenizer):
    ours, theirs = models
    documents = [("def area(width, height)", " return"),
                 ("for item in items", " enumerate"), ("import", " os"),
                 ("x = a or b; the", " robot")]
    found = evaluate_lambada(ours, tokenizer, documents)
    totals, last, right, right_last = [], [], [], []
    for context, word in documents:
        request = make_request(tokenizer, context, word, 48)
        logprobs, likeliest = by_loop(theirs, request)
        totals.append(sum(logprobs))
        last.append(logprobs[-1])
        right.append(all(likeliest))
        right_last.append(likeliest[-1])
    assert found["documents"] == 4
    assert found["perplexity"] == pytest.approx(math.exp(-sum(totals) / 4))
    assert found["perplexity_last_token"] == pytest.approx(
        math.exp(-sum(last) / 4))
    assert found["accuracy"] == sum(right) / 4
    assert found["accuracy_last_token"] == sum(right_last) / 4


def test_stop_word_mask(tokenizer):
    mask = stop_word_mask(tokenizer)
    assert mask.shape == (4096,)

    def banned(text):
        (id,) = tokenizer.encode(text)
        return bool(mask[id])
    assert banned(" the") and banned(" is") and banned(".") and banned("\n")
    assert banned("self") and banned(" (")
    assert not banned(" self") and not banned(" value")
    assert mask[tokenizer.eos_token_id]


def test_stop_words_are_plain():
    assert all(word.isalpha() and word == word.lower() for word in STOP_WORDS)
    assert {"the", "and", "of", "they"} <= STOP_WORDS


# --- choices ----------------------------------------------------------------

def test_choose_by_hand(models, tokenizer):
    ours, theirs = models
    questions = [Question([("a = [", "1]"), ("a = (", "2, 3)"),
                           ("if x:", " return None")], 1),
                 Question([("", "def f()"), ("", "class A")], 0)]

    def best(whole, per):
        found = []
        for question in questions:
            values = []
            for context, text in question.options:
                if whole:
                    context, text = "", context + text
                request = make_request(tokenizer, context, text, 48)
                size = {"text": 1, "token": len(request.ids) - request.first,
                        "byte": len(text)}[per]
                values.append(sum(by_loop(theirs, request)[0]) / size)
            found.append(values.index(max(values)))
        return found
    for whole in (False, True):
        for per in ("text", "token", "byte"):
            assert choose(ours, tokenizer, questions, per=per,
                          whole=whole) == best(whole, per)
    with pytest.raises(ValueError, match="'word'"):
        choose(ours, tokenizer, questions, per="word")


def test_read_winograd():
    found = read_winograd(shared("winograd_wsc273.llm-foundry.jsonl"))
    assert len(found) == 273
    assert found[2].options == [
        ("The trophy doesn't fit into the brown suitcase because the trophy",
         " is too large."),
        ("The trophy doesn't fit into the brown suitcase because the"
         " suitcase", " is too large.")]
    assert found[2].gold == 0 and found[3].gold == 1
    for question in found:
        assert len(question.options) == 2
        assert question.options[0][1] == question.options[1][1]
    assert any(text == "." for q in found for _, text in q.options)


@pytest.mark.parametrize("row", [
    "[]", '{"gold": 0}', '{"context_options": ["a", "b"], "continuation":'
    ' "c", "gold": 2}', '{"context_options": ["a"], "continuation": "",'
    ' "gold": 0}', "{", '{"context_options": [1], "continuation": "c",'
    ' "gold": 0}'])
def test_read_winograd_refuses(tmp_path, row):
    path = tmp_path / "w.jsonl"
    path.write_text("\n" + row + "\n", "utf-8")
    with pytest.raises(DataError, match="line 2"):
        read_winograd(path)


def test_read_winograd_refuses_what_json_can_hide(tmp_path):
    """Nesting that the parser cannot follow, half of a character."""
    path = tmp_path / "w.jsonl"
    for row in ("[" * 200_000, '{"context_options": ["a", "\\ud800"],'
                ' "continuation": "c", "gold": 0}'):
        path.write_text("\n" + row + "\n", "utf-8")
        with pytest.raises(DataError, match="line 2"):
            read_winograd(path)


CBT = "\n".join([*(f"{n} The dog did n't see robot {n} , said Ada ."
                   for n in range(1, 21)),
                 "21 `` XXXXX is here , '' said the dog .\tAda\t\t"
                 + "|".join(["Ada", "Bob", "Tom", "Eve", "Max", "Jim", "Ann",
                             "Ben", "Dan", "Leo"])])


def test_read_cbt(tmp_path):
    """On the documented format; the real files could not be had."""
    path = tmp_path / "cbt.txt"
    path.write_text(CBT + "\n\n" + CBT + "\n", "utf-8")
    first, second = read_cbt(path)
    assert first == second and first.gold == 0 and len(first.options) == 10
    context, text = first.options[1]
    assert context.startswith("The dog didn't see robot 1, said Ada. The dog")
    assert context.endswith(' said Ada. "')
    assert text == 'Bob is here," said the dog.'


@pytest.mark.parametrize("old, new, words", [
    ("2 The", "3 The", "begins with 2"), ("XXXXX", "She", "one XXXXX"),
    ("\tAda\t", "\tZoe\t", "no candidate"), ("\t", " ", "with tabs")])
def test_read_cbt_refuses(tmp_path, old, new, words):
    path = tmp_path / "cbt.txt"
    path.write_text(CBT.replace(old, new), "utf-8")
    with pytest.raises(DataError, match=words):
        read_cbt(path)


def test_join_treebank():
    assert join_treebank("`` I ca n't , '' said Tom 's dog -LRB- a pug -RRB-"
                         " .") == '"I can\'t," said Tom\'s dog (a pug).'


# --- prompts ----------------------------------------------------------------

def test_few_shot_prompt():
    pattern = "Q: {}\nA: {}"
    assert few_shot_prompt(pattern, [], "Who?") == "Q: Who?\nA:"
    assert few_shot_prompt(pattern, [("What?", "A robot.")], "Who?") == (
        "Q: What?\nA: A robot.\nQ: Who?\nA:")
    with pytest.raises(ValueError, match="twice"):
        few_shot_prompt("{}", [], "Who?")


def test_complete(models, tokenizer):
    from gpt2.generation import generate
    ids = torch.tensor([tokenizer.encode("import os")])
    new = generate(models[0].float(), ids, 12)[0, ids.shape[1]:]
    models[0].double()
    text = tokenizer.decode(new.tolist())
    assert complete(models[0], tokenizer, "import os", 12, stop="") == text
    middle = text[len(text) // 2]
    assert complete(models[0], tokenizer, "import os", 12,
                    stop=middle) == text.partition(middle)[0]


def test_first_sentences():
    assert first_sentences(" One. Two! Three? Four. ") == "One. Two! Three?"
    assert first_sentences("One. Two", 1) == "One."
    assert first_sentences("3.5 is a number. So", 1) == "3.5 is a number."


# --- intervals and the paper ------------------------------------------------

def test_wilson():
    """The published example of R's binconf and of statsmodels: 10 of 100."""
    assert wilson(10, 100) == pytest.approx((0.05523, 0.17437), abs=2e-5)
    assert wilson(0, 20)[0] == 0 and 0.1 < wilson(0, 20)[1] < 0.2
    assert wilson(20, 20)[1] == 1
    for bad in ((3, 2), (-1, 2), (0, 0)):
        with pytest.raises(ValueError, match="no share"):
            wilson(*bad)


def test_wilson_covers():
    torch.manual_seed(0)
    for p in (0.05, 0.3, 0.8):
        right = torch.distributions.Binomial(60, p).sample((2000,)).int()
        inside = sum(low <= p <= high for low, high in (
            wilson(n, 60) for n in right.tolist()))
        assert 0.92 < inside / 2000 < 0.98


def test_table_3_is_consistent():
    """Ten columns each; size helps; and what the paper says of the table."""
    assert list(TABLE_3) == ["earlier best", "gpt2", "gpt2-medium",
                             "gpt2-large", "gpt2-xl"]
    assert {len(row) for row in TABLE_3.values()} == {len(TABLE_3_COLUMNS)}
    best, *sizes = TABLE_3.values()
    beaten = {size: 0 for size in TABLE_3}
    for place, column in enumerate(TABLE_3_COLUMNS):
        values = [row[place] for row in sizes]
        sign = 1 if column.endswith("accuracy") else -1
        gains = [sign * (b - a) for a, b in zip(values, values[1:])]
        worse = [gain for gain in gains if gain <= 0]
        # one exception in the paper: CBT-CN falls from 93.45 to 93.30
        assert worse == [] or (column == "CBT-CN accuracy"
                               and worse == pytest.approx([-0.15]))
        for size, row in TABLE_3.items():
            beaten[size] += sign * (row[place] - best[place]) > 0
    # "state of the art on 7 of 8 datasets": all columns but the last
    assert beaten["gpt2-xl"] == 9
    assert sizes[-1][-1] > best[-1]
    assert TABLE_3["gpt2"][:2] == (35.13, 45.99)
    assert sum(map(sum, TABLE_3.values())) == pytest.approx(2073.285)


def test_paper_value():
    assert paper_value("gpt2-xl", "LAMBADA accuracy") == pytest.approx(.6324)
    assert paper_value("gpt2", "WikiText2 perplexity") == 29.41
    assert paper_value("runs/mine", "LAMBADA accuracy") is None
    assert paper_value("gpt2", "") is None
    for task in TASKS.values():
        assert set(task.columns.values()) <= set(TABLE_3_COLUMNS)


# --- data -------------------------------------------------------------------

def test_shared_files_are_the_published_ones():
    for name, file in (("lambada", "lambada_test.jsonl"),
                       ("wikitext2", "wikitext2.wiki.test.raw"),
                       ("winograd", "winograd_wsc273.llm-foundry.jsonl")):
        assert file_sum(shared(file)) == SOURCES[name].sha256


def test_what_is_not_known_is_not_fetched(tmp_path, monkeypatch):
    """Its place in the cache is not looked at either."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    SOURCES["cbt-cn"].path.parent.mkdir()
    SOURCES["cbt-cn"].path.write_text("anything")
    for name in ("cbt-cn", "cbt-ne"):
        with pytest.raises(DataError, match="no checksum .*yourself, unpack"):
            fetch(SOURCES[name])


# --- one rule for every text: line ends and byte order marks ---------------

TASK_FILES = {
    "lambada": '{"text": "the robot said yes"}\n{"text": "so it was so"}\n',
    "wikitext2": " = Robot = \n \n A well @-@ made robot . \n",
    "winograd": '{"context_options": ["a = [", "a = ("], "continuation":'
                ' "1", "gold": 0}\n{"context_options": ["if", "def"],'
                ' "continuation": " f()", "gold": 1}\n',
    "cbt-cn": CBT + "\n\n" + CBT + "\n",
    "cbt-ne": CBT + "\n",
    "text": "import os\n\n\ndef f(x):\n    return x\n"}


@pytest.mark.parametrize("name", TASKS)
def test_line_ends_and_marks_change_no_number(models, tokenizer, tmp_path,
                                              name):
    """Only the file's own SHA-256."""
    data, found = TASK_FILES[name].encode("utf-8"), []
    for place, change in enumerate((data, data.replace(b"\n", b"\r\n"),
                                    b"\xef\xbb\xbf" + data)):
        path = tmp_path / str(place) / "data"
        path.parent.mkdir()
        path.write_bytes(change)
        found.append(evaluate_task(name, models[0], tokenizer, path))
        assert found[-1].pop("sha256") == hashlib.sha256(change).hexdigest()
    assert found[0] == found[1] == found[2]


def test_lines_end_where_a_newline_is(tmp_path):
    """And not at the other places where Python's splitlines would cut."""
    path = tmp_path / "lines"
    path.write_bytes("a\u2028b\x0cc\x85\nd\r\n".encode())
    assert read_lines(path) == ["a\u2028b\x0cc\x85", "d"]
    cbt = TASK_FILES["cbt-ne"].replace("The dog", "The\u2028dog")
    path.write_text(cbt, "utf-8")
    assert len(read_cbt(path)) == 1
    path.write_bytes(b"\xef\xbb\xbfa\xff")
    with pytest.raises(DataError, match="at byte 4;"):
        read_lines(path)


# --- models that are not quite what they should be --------------------------

def test_a_perplexity_too_large_for_a_float():
    """What was measured is shown, whatever follows from it."""
    loss = TextLoss(nats=9000.0, tokens=10, words=1, bytes=1200,
                    characters=400)
    assert loss.token_perplexity == loss.word_perplexity == math.inf
    assert loss.bits_per_byte == pytest.approx(9000 / math.log(2) / 1200)
    numbers = text_numbers(loss)
    assert numbers["nats"] == 9000 and numbers["perplexity"] == math.inf
    assert loss._replace(nats=1.0).word_perplexity == math.e
    assert loss._replace(words=0).word_perplexity == math.inf


@pytest.fixture(scope="module")
def sure():
    """A random model that is far too sure of itself."""
    ours, _ = pair()
    with torch.no_grad():
        ours.ln_f.weight *= 100_000
    return ours


@pytest.mark.parametrize("name", TASKS)
def test_every_task_survives_large_losses(sure, tokenizer, tmp_path, name):
    path = tmp_path / "data"
    path.write_text(TASK_FILES[name], "utf-8")
    numbers = evaluate_task(name, sure, tokenizer, path)
    lines = "\n".join(report(numbers))
    if "perplexity" in numbers:
        assert numbers["perplexity"] == math.inf and " inf" in lines
    if name == "lambada":
        requests = [make_request(tokenizer, *each, 48)
                    for each in read_lambada(path)]
        mean = -sum(each.total for each in score(sure, requests)) / 2
        assert numbers["loss"] == pytest.approx(mean)
        assert 0 < numbers["loss_last_token"] < numbers["loss"]
        assert f"{numbers['loss']:,.3f}" in lines


def test_text_without_spaces(models, tokenizer, tmp_path):
    """One word, or none: there are bits per byte all the same."""
    for text, words in (("\u6c49\u5b57" * 300, 1), ("   ", 0)):
        found = measure_text(models[0], tokenizer, text)
        assert found.words == words and found.word_perplexity == math.inf
        assert 0 < found.bits_per_byte < 40
    with pytest.raises(ValueError, match="empty"):
        measure_text(models[0], tokenizer, "a", original="")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_refuses_a_model_that_is_no_number(models, tokenizer,
                                                      tmp_path, name):
    """NaN compares false: the first option would win each question."""
    broken = copy.deepcopy(models[0])
    with torch.no_grad():
        broken.ln_f.weight[0] = math.nan
    path = tmp_path / "data"
    path.write_text(TASK_FILES[name], "utf-8")
    said = r"question \d, option \d" if name in (
        "winograd", "cbt-cn", "cbt-ne") else r"request \d"
    with pytest.raises(FloatingPointError, match=said + ".* is nan.*float32"):
        evaluate_task(name, broken, tokenizer, path)


def test_one_bad_request_is_named(models):
    """The others are fine: only one reads the broken row."""
    broken = copy.deepcopy(models[0])
    with torch.no_grad():
        broken.wpe.weight[30] = math.inf
    requests = random_requests(3, most=20)
    requests = [each for each in requests if len(each.ids) <= 20]
    assert all(each.logprobs.isfinite().all()
               for each in score(broken, requests))
    with pytest.raises(FloatingPointError, match=f"request {len(requests)},"):
        score(broken, [*requests, Request([5] * 40, 30)])


def padded(ours, rows=64):
    """The same model with rows at the end that stand for no token."""
    config = GPT2Config(**{**SMALL, "vocab_size": SMALL["vocab_size"] + rows})
    wide = GPT2(config).double().eval()
    state = ours.state_dict()
    state["wte.weight"] = torch.cat([state["wte.weight"],
                                     state["wte.weight"][:rows]])
    wide.load_state_dict(state)
    return wide


@pytest.mark.parametrize("name", TASKS)
def test_rows_without_a_token_change_no_number(models, tokenizer, tmp_path,
                                               name):
    path = tmp_path / "data"
    path.write_text(TASK_FILES[name], "utf-8")
    found = [evaluate_task(name, model, tokenizer, path)
             for model in (models[0], padded(models[0]))]
    assert found[0] == {key: value if isinstance(value, (str, list, bool))
                        or value is None else pytest.approx(value, rel=1e-9)
                        for key, value in found[1].items()}


def test_rows_without_a_token_are_not_the_likeliest(models):
    """A row twice as long as the winner's would always win."""
    wide = padded(models[0])
    with torch.no_grad():
        best = int(models[0](torch.tensor([[5, 6]])).logits[0, -1].argmax())
        wide.wte.weight[4100] = 2 * wide.wte.weight[best]
        assert int(wide(torch.tensor([[5, 6]])).logits[0, -1].argmax()) == 4100
    request = Request([5, 6, best], 2)
    (found,) = score(wide, [request], vocab_size=4096)
    assert found.likeliest and found.allowed
    (found,) = score(wide, [request])
    assert not found.likeliest
    with pytest.raises(ValueError, match="expected 0 to 4,095"):
        score(wide, [Request([5, 4100], 1)], vocab_size=4096)


def test_rows_without_a_token_choose_no_option(models, tokenizer):
    """A row that is likely after one context only would turn the answer."""
    ours = models[0]
    question = Question([("a = [", "1"), ("a = (", "1")], 0)
    (chosen,) = choose(ours, tokenizer, [question])
    ends = []
    for context, _ in question.options:
        x = record(ours, torch.tensor([tokenizer.encode(context)]))["ln_f"]
        ends.append(x[0, -1])
    won, lost = ends[chosen], ends[1 - chosen]
    wide = padded(ours)
    with torch.no_grad():
        wide.wte.weight[4096] = 100 * (won - lost * (won @ lost)
                                       / (lost @ lost))
    assert choose(wide, tokenizer, [question]) == [chosen]
    requests = [make_request(tokenizer, *option, 48)
                for option in question.options]
    counted = [each.total for each in score(wide, requests)]
    assert counted[chosen] < counted[1 - chosen]             # with the row


# --- tasks by name ----------------------------------------------------------

def write_tiny_lambada(folder):
    path = folder / "tiny.jsonl"
    path.write_text("".join(json.dumps({"text": f"the robot number {n} said"
                                                f" yes to number {n}"}) + "\n"
                            for n in range(7)), "utf-8")
    return path


def test_evaluate_task(models, tokenizer, tmp_path):
    path = write_tiny_lambada(tmp_path)
    found = evaluate_task("lambada", models[0], tokenizer, path)
    assert found["documents"] == 7 and found["as_published"] is False
    direct = evaluate_lambada(models[0], tokenizer, read_lambada(path))
    assert {key: found[key] for key in direct} == direct
    assert evaluate_task("lambada", models[0], tokenizer, path,
                         limit=3)["documents"] == 3
    json.dumps(found)
    lines = list(report(found, "gpt2"))
    assert "tiny.jsonl, not the published file" in lines[0]
    assert any("45.99%" in line and "95 %" in line for line in lines)
    assert not any("in the paper" in line for line in report(found, "mine"))


def test_evaluate_task_on_text(models, tokenizer, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("import os\n\n\ndef f():\n    return 1\n", "utf-8")
    found = evaluate_task("text", models[0], tokenizer, path, stride=9)
    direct = measure_text(models[0], tokenizer, path.read_text("utf-8"),
                          stride=9)
    assert found["nats"] == direct.nats
    assert found["bits_per_character"] == direct.bits_per_character
    (tmp_path / "w.raw").write_text(" a @-@ b . \n \n = C = \n", "utf-8")
    found = evaluate_task("wikitext2", models[0], tokenizer,
                          tmp_path / "w.raw")
    direct = measure_text(models[0], tokenizer, "a-b.\n\n= C =\n",
                          original=" a @-@ b . \n \n = C = \n")
    assert found["nats"] == direct.nats and found["words"] == 10
    assert found["lines_restored"] == found["documents"] == 3


def test_evaluate_task_refuses(models, tokenizer, tmp_path):
    def task(*arguments, **options):
        return evaluate_task(arguments[0], models[0], tokenizer,
                             *arguments[1:], **options)
    with pytest.raises(ValueError, match="lambada, wikitext2"):
        task("lambda")
    with pytest.raises(ValueError, match="no stride"):
        task("lambada", write_tiny_lambada(tmp_path), stride=4)
    with pytest.raises(DataError, match="is no file"):
        task("lambada", tmp_path)
    with pytest.raises(DataError, match="a file of yours"):
        task("text")
    (tmp_path / "empty").write_bytes(b"")
    for name in TASKS:
        with pytest.raises(DataError, match="is empty"):
            task(name, tmp_path / "empty")
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    for name in ("text", "wikitext2", "cbt-cn", "winograd"):
        with pytest.raises(DataError, match="UTF-8 at byte 3"):
            task(name, tmp_path / "latin")


def test_real_lambada_runs(tokenizer):
    """Every passage can be scored, by a random model of nano's shape."""
    path = shared("lambada_test.jsonl")
    torch.manual_seed(0)
    model = GPT2(GPT2Config(**SMALL)).eval()
    found = evaluate_task("lambada", model, tokenizer, path, limit=400)
    assert found["as_published"] is True and found["documents"] == 400
    assert found["accuracy"] <= 0.01          # random weights know nothing
    # about V for each token of the word
    assert found["perplexity_last_token"] == pytest.approx(4096, rel=0.3)


# --- python -m gpt2 evaluate --task -------------------------------------------

@pytest.fixture
def run(monkeypatch, capsys):
    return runner(monkeypatch, capsys)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return build(tmp_path_factory.mktemp("saved"))


def test_command(run, saved, tmp_path):
    path = write_tiny_lambada(tmp_path)
    code, said, err = run("evaluate", "--task", "lambada", "--model", saved,
                          "--data", path, "--limit", 5, "--json",
                          tmp_path / "out.json")
    assert code == 0 and not err
    found = json.loads((tmp_path / "out.json").read_text("utf-8"))
    direct = evaluate_task("lambada", load_pretrained(saved),
                           load_tokenizer(saved), path, limit=5)
    assert found == {"model": str(saved), **direct}
    assert said == "".join(line + "\n" for line in report(direct))
    assert "accuracy stop words" in said and "95 %" in said


def test_command_stride(run, saved, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("import os\n" * 100, "utf-8")
    words = ["evaluate", "--task", "text", "--model", saved, "--data", path]
    whole, half = (run(*words, *more)[1] for more in (
        ("--stride", 64), ()))
    assert whole != half
    code, again, _ = run(*words, "--stride", 32)           # half of 64
    assert code == 0 and again == half


def test_command_writes_json_that_others_read(run, saved, tmp_path):
    """JSON has no inf: null, and the loss beside it."""
    path = tmp_path / "text.txt"
    path.write_text("\u6c49\u5b57" * 300, "utf-8")
    code, said, err = run("evaluate", "--task", "text", "--model", saved,
                          "--data", path, "--json", tmp_path / "out.json")
    assert code == 0 and not err
    assert re.search(r"perplexity +inf\n", said)

    def no_constant(word):
        raise AssertionError(f"{word} is not JSON")
    found = json.loads((tmp_path / "out.json").read_text("utf-8"),
                       parse_constant=no_constant)
    assert found["perplexity"] is None
    assert found["nats"] > 709 and found["bits_per_byte"] > 1


def test_command_and_a_model_that_is_no_number(run, saved, tmp_path):
    folder = tmp_path / "broken"
    broken = load_pretrained(saved)
    with torch.no_grad():
        broken.ln_f.weight[0] = math.nan
    save_pretrained(broken, folder)
    save_tokenizer(load_tokenizer(saved), folder)
    for name, text in TASK_FILES.items():
        (tmp_path / name).write_text(text, "utf-8")
        code, out, err = run("evaluate", "--task", name, "--model", folder,
                             "--data", tmp_path / name, "--json",
                             tmp_path / "out.json")
        assert code == 1 and not out and is_one_line(err) and "nan" in err
        assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("words, said", [
    (["--task", "lambda"], "there are lambada"),
    (["--task", "text"], "a file of yours"),
    (["--task", "lambada", "--data", "nowhere"], "no file"),
    (["--task", "lambada", "--stride", "3", "--data", "passages.jsonl"],
     "no stride"),
    (["--task", "text", "--stride", "65", "--data", "passages.jsonl"],
     "expected 1 to 64"),
    (["--task", "lambada", "--headers", "3"], "not with --task"),
    (["--limit", "3"], "only with --task"),
    (["--task", "cbt-cn"], "no checksum")])
def test_command_refuses(run, saved, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "passages.jsonl").write_text('{"text": "a b c"}\n', "utf-8")
    code, out, err = run("evaluate", "--model", saved, *words)
    assert code == 2 and not out and is_one_line(err) and said in err


# --- EleutherAI's lm-eval -----------------------------------------------------

def test_equals_lm_eval(saved, tmp_path):
    """Sums of log p of the same pairs, and of rolling windows, to 1e-4."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip"
                        " install 'gpt2-book[lm-eval]'")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    theirs = HFLM(pretrained=str(saved), device="cpu", dtype="float32",
                  batch_size=4)
    model, tokenizer = load_pretrained(saved), load_tokenizer(saved)
    pairs = [("import os\nos.", "path"), ("return ", "None"), ("", "class A"),
             ("x = 1\n\n", "y = 2"), ("for i in range(3):\n" * 20, " print"),
             ("naïve 日本", " 🙂"), ("a" * 300, " " + "b" * 20)]
    # A continuation without a space may share a token with its context
    # ("a" * 300, "b"): theirs then reads the context's last letter twice.
    requests = [Instance("loglikelihood", {}, pair, 0) for pair in pairs]
    scores = score(model, [make_request(
        tokenizer, *pair, model.config.n_positions) for pair in pairs])
    for (total, greedy), ours in zip(theirs.loglikelihood(
            requests, disable_tqdm=True), scores):
        assert ours.total == pytest.approx(total, abs=1e-4)
        assert bool(ours.likeliest.all()) == greedy
    texts = ["import os\n" * 60, "short", "def f(x):\n    return x\n" * 7]
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0)
                for text in texts]
    for text, total in zip(texts, theirs.loglikelihood_rolling(
            requests, disable_tqdm=True)):
        ours = measure_text(model, tokenizer, text,
                            stride=model.config.n_positions)
        assert -ours.nats == pytest.approx(total, rel=1e-6, abs=1e-4)

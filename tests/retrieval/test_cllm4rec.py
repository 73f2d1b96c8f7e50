"""CLLM4Rec on the tiny model: ids, documents, losses by hand, learning, resuming."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from corella.config import Config, LLMConfig, RetrievalConfig
from corella.data.dataset import Dataset
from corella.errors import UserError
from corella.llm.attention import choose_attention
from corella.llm.backbone import Backbone, load_backbone
from corella.retrieval.cllm4rec import training
from corella.retrieval.cllm4rec.documents import Documents, all_that_follow, last_predicts, main_places, write
from corella.retrieval.cllm4rec.model import CLLM
from corella.retrieval.cllm4rec.plan import plan_steps
from corella.retrieval.cllm4rec.recommend import reader_states
from corella.retrieval.cllm4rec.system import CLLM4Rec, training_reviews
from corella.retrieval.cllm4rec.text_start import item_table
from corella.retrieval.cllm4rec.tokens import IdTokens, squared_distance
from corella.retrieval.cllm4rec.training import RetrievalTrainer
from corella.retrieval.histories import Reader, liked_items, likes_of, top_items, training_likes

Configure = Callable[..., Config]
QUICK = {"pretraining_epochs": 1, "fine_tuning_epochs": 2, "users_per_step": 8, "items_per_step": 20}


@pytest.fixture(scope="module")
def backbone(tiny_system_config: Configure) -> Backbone:
    torch.set_num_threads(1)
    loaded = load_backbone(tiny_system_config().llm)
    loaded.model.eval()
    return loaded


@pytest.fixture(scope="module")
def fitted(tiny_system_config: Configure, tiny_dataset: Dataset) -> CLLM4Rec:
    return CLLM4Rec(tiny_system_config(retrieval=QUICK)).fit(tiny_dataset)


def _model(backbone: Backbone, dataset: Dataset, **given: Any) -> CLLM:
    """A model whose head reads the language model's states as they are."""
    torch.manual_seed(5)
    config = RetrievalConfig.model_validate({"std": 0.3, "head_size": 32, "least_shown": 0.0, **given})
    model = CLLM(backbone, dataset.users.height, dataset.items.height, config)
    if model.narrow is not None:
        torch.nn.init.eye_(model.narrow.weight)
    return model


def _documents(backbone: Backbone, dataset: Dataset, model: CLLM) -> Documents:
    return Documents(dataset, backbone, model.collaborative, 16)


def test_ids_stand_behind_the_vocabulary() -> None:
    tokens = IdTokens(vocabulary=100, users=3, items=4, width=2, std=1.0)
    words = torch.nn.Embedding(100, 2).requires_grad_(False)
    ids = torch.tensor([[7, 100, 102, 103, 106]])
    embedded = tokens.embed(ids, words)
    expected = [
        words.weight[7],
        tokens.user.weight[0],
        tokens.user.weight[2],
        tokens.item.weight[0],
        tokens.item.weight[3],
    ]
    torch.testing.assert_close(embedded[0], torch.stack(expected))
    embedded.sum().backward()
    assert tokens.item.weight.grad is not None
    assert tokens.item.weight.grad.abs().sum(1).gt(0).tolist() == [True, False, False, True]
    assert tokens.item_codes(np.array([7, 102, 103, 106])).tolist() == [-96, -1, 0, 3]


def test_distance_counts_each_token_once_and_moves_one_side() -> None:
    one, other = (IdTokens(10, 2, 2, 1, 1.0) for _ in range(2))
    with torch.no_grad():
        one.user.weight.copy_(torch.tensor([[1.0], [9.0]]))
        one.item.weight.copy_(torch.tensor([[2.0], [5.0]]))
        other.user.weight.zero_()
        other.item.weight.zero_()
    users, items = one.named(np.array([3, 10, 13, 13, 10]))  # user 0, item 1, some twice
    assert (users.tolist(), items.tolist()) == ([0], [1])
    assert squared_distance(one, other, torch.tensor([0]), torch.tensor([1])).item() == 26.0
    distance = squared_distance(one, other, torch.tensor([], dtype=torch.int64), torch.tensor([1]))
    assert distance.item() == 25.0
    distance.backward()
    assert other.user.weight.grad is None
    assert one.item.weight.grad is not None
    assert one.item.weight.grad.tolist() == [[0.0], [10.0]]


def test_documents(backbone: Backbone, tiny_dataset: Dataset) -> None:
    model = _model(backbone, tiny_dataset)
    documents = _documents(backbone, tiny_dataset, model)
    n = model.collaborative.vocabulary
    decode = backbone.tokenizer.decode
    document = documents.collaborative(4, np.array([7, 3]))
    users = tiny_dataset.users.height
    assert document.ids[-2:].tolist() == [n + users + 7, n + users + 3]
    assert n + 4 in document.ids[: document.main]
    assert decode([i for i in document.ids[: document.main] if i < n]).endswith(" has interacted with")
    assert "A user has interacted with" in decode(documents.collaborative(-1, np.array([1])).ids[:-1])
    content = documents.content(9)
    assert decode(content.ids[content.main :]) == " " + tiny_dataset.items["text"][9]
    row, place, ids = main_places([document, content])
    assert ids.tolist() == [*document.ids[-2:].tolist(), *content.ids[content.main :].tolist()]
    assert place[:2].tolist() == [document.main - 1, document.main]
    assert row.tolist() == [0, 0, *[1] * (content.tokens - content.main)]
    written = write([document, content], model.collaborative)
    assert written.ids.shape == written.codes.shape == (2, max(document.tokens, content.tokens))
    assert written.codes[0, document.main : document.tokens].tolist() == [7, 3]
    assert written.last.tolist() == [document.tokens - 1, content.tokens - 1]


def test_a_title_is_not_taken_for_a_token(backbone: Backbone, tiny_dataset: Dataset) -> None:
    """In a content document only the prompt's own item stands beyond the vocabulary, whatever the text says."""
    names = replace(tiny_dataset, items=tiny_dataset.items.with_columns(text=pl.lit("user_3 item_12 <item_1>")))
    model = _model(backbone, names)
    document = _documents(backbone, names, model).content(5)
    assert (document.ids[document.main :] < model.collaborative.vocabulary).all()
    assert model.collaborative.item_codes(document.ids).max() == 5


@torch.no_grad()
def test_losses_by_hand(backbone: Backbone, tiny_dataset: Dataset) -> None:
    """Every prefix written as a document of its own gives the same likelihoods."""
    model = _model(backbone, tiny_dataset)
    documents = _documents(backbone, tiny_dataset, model)
    items = np.array([5, 17, 2])
    written = [documents.collaborative(1, items), documents.collaborative(2, items[:2][::-1].copy())]

    def log_p(user: int, kept: np.ndarray) -> torch.Tensor:
        document = documents.collaborative(user, kept)
        state = model.item_states(model.written([document]))[0, document.tokens - 1]
        return model.item_logits(state).log_softmax(-1)

    expected = held = 0.0
    for user, order in ((1, items), (2, items[:2][::-1])):
        for k in range(len(order)):
            p = log_p(user, order[:k].copy())
            expected -= p[int(order[k])].item()
            held -= p[torch.from_numpy(order[k:].copy())].mean().item()
    pages = model.written(written)
    assert model.item_loss(pages).item() == pytest.approx(expected, rel=1e-4)
    followers = all_that_follow(written, model.collaborative, 0.0)
    assert model.followers_loss(pages, followers).item() == pytest.approx(held, rel=1e-4)


def test_heads_score_only_their_kind(backbone: Backbone, tiny_dataset: Dataset) -> None:
    for tied in (False, True):
        model = _model(backbone, tiny_dataset, tied=tied)
        state = torch.zeros(3, model.collaborative.item.weight.shape[1])
        assert model.item_logits(state).shape == (3, tiny_dataset.items.height)
        assert model.word_logits(state).shape == (3, model.collaborative.vocabulary)
        assert (model.output is None) is tied


def test_the_backbone_never_learns(fitted: CLLM4Rec, backbone: Backbone) -> None:
    now, before = fitted.model.backbone.model.state_dict(), backbone.model.state_dict()
    assert all(torch.equal(now[name], before[name]) for name in before)
    assert all(p.grad is None for p in fitted.model.backbone.model.parameters())


def test_steps_alternate_and_read_everything_once(tiny_dataset: Dataset) -> None:
    config = RetrievalConfig.model_validate(QUICK)
    liked = liked_items(tiny_dataset, ("train",))
    steps = plan_steps(liked, tiny_dataset.items.height, config, 1)
    assert {s.epoch for s in steps if s.fine_tuning} == {1, 2}
    first = [s for s in steps if s.epoch == 0]
    kinds = [s.kind for s in first]
    assert kinds not in (sorted(kinds), sorted(kinds, reverse=True))
    for kind, count in (("items", sum(len(x) > 0 for x in liked)), ("words", tiny_dataset.items.height)):
        members = np.concatenate([s.members for s in first if s.kind == kind])
        assert len(members) == len(set(members.tolist())) == count


def test_liked_items_are_training_likes_in_order(tiny_dataset: Dataset) -> None:
    liked = liked_items(tiny_dataset, ("train",))
    log = tiny_dataset.log.filter(split="train", label=1)
    for code, name in enumerate(tiny_dataset.users["user_id"]):
        mine = log.filter(user_id=name)["item_id"].to_list()
        assert [tiny_dataset.items["item_id"][int(i)] for i in liked[code]] == mine


def test_it_learns_who_likes_what(tiny_system_config: Configure, tiny_dataset: Dataset) -> None:
    """Users like the items of their own parity (but for noise): after training a user's top items are mostly so."""
    more = {"fine_tuning_epochs": 12, "learning_rate": 0.02, "fine_tuning_rate": 0.02}
    model = CLLM4Rec(tiny_system_config(retrieval={**QUICK, **more})).fit(tiny_dataset)
    trained = [u for u in range(tiny_dataset.users.height) if model._trained[u]]
    best = top_items(
        model.scores([Reader(u, likes_of(model.dataset, u)) for u in trained]), [np.zeros(0, int)] * len(trained), 10
    )
    parity = np.concatenate([b % 2 == u % 2 for u, b in zip(trained, best, strict=True)])
    assert parity.mean() > 0.8


def test_killed_and_resumed(backbone: Backbone, tiny_dataset: Dataset, tmp_path: Path) -> None:
    config = RetrievalConfig.model_validate({**QUICK, "checkpoint_seconds": 1e-6})
    liked = liked_items(tiny_dataset, ("train",))

    class KilledError(Exception):
        pass

    def trainer() -> RetrievalTrainer:
        model = _model(backbone, tiny_dataset)
        return RetrievalTrainer(model, _documents(backbone, tiny_dataset, model), liked, config, 1)

    whole = trainer()
    whole.run()

    def stop(progress: Any) -> None:
        if progress.step == 7:
            raise KilledError

    path = tmp_path / "checkpoint.safetensors"
    with pytest.raises(KilledError):
        trainer().run(path, stop)
    resumed = trainer()
    resumed.run(path)
    for name, value in whole.model.state_dict().items():
        torch.testing.assert_close(resumed.model.state_dict()[name], value, rtol=0, atol=0)


def test_batches_do_not_matter(fitted: CLLM4Rec) -> None:
    readers = [Reader(u, likes_of(fitted.dataset, u)) for u in range(10)] + [Reader(-1, np.array([3]))]
    sizes = (RetrievalConfig(batch_tokens=size, longest_history=50) for size in (32, 5000))
    one, many = (reader_states(fitted.model, fitted.documents, readers, config) for config in sizes)
    torch.testing.assert_close(one, many, atol=1e-4, rtol=1e-4)


def test_new_items_by_their_text(fitted: CLLM4Rec, tiny_dataset: Dataset) -> None:
    """The text of a known item gives about its own scores, where the penalty is small."""
    close = fitted.config.retrieval.model_copy(update={"new_item_penalty": 1e-6})
    fitted = copy.copy(fitted)
    fitted.config = fitted.config.model_copy(update={"retrieval": close})
    texts = tiny_dataset.items["text"].to_list()
    readers = [Reader(u, likes_of(fitted.dataset, u)) for u in range(5)]
    new, known = fitted.new_item_scores(readers, texts), fitted.scores(readers)
    assert new.shape == known.shape
    assert np.corrcoef(new.ravel(), known.ravel())[0, 1] > 0.7


def test_saved_and_loaded(fitted: CLLM4Rec, tiny_dataset: Dataset, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    again = CLLM4Rec.load(tmp_path / "model", tiny_dataset)
    readers = [Reader(u, likes_of(fitted.dataset, u)) for u in range(6)]
    np.testing.assert_array_equal(again.scores(readers), fitted.scores(readers))


def test_top_items_by_hand() -> None:
    scores = np.array([[3.0, 1.0, 2.0, 5.0], [1.0, 2.0, 3.0, 4.0]], np.float32)
    none = np.zeros(0, int)
    assert [r.tolist() for r in top_items(scores, [np.array([3]), none], 2)] == [[0, 2], [3, 2]]
    assert [r.tolist() for r in top_items(scores, [none, np.arange(4)], 9, np.array([1, 2]))] == [[2, 1], []]


def test_likes_of_users_who_come_later_are_not_training(tiny_dataset: Dataset) -> None:
    """The last user comes after the training rows: even marked as history, those rows belong to the future."""
    late = tiny_dataset.log["user_id"] == "u29"
    early = (tiny_dataset.log["user_id"] == "u01") & (pl.int_range(tiny_dataset.log.height, eager=True) < 200)
    split = pl.when(late | early).then(pl.lit("history")).otherwise("split").alias("split")
    dataset = replace(tiny_dataset, log=tiny_dataset.log.with_columns(split))
    likes = training_likes(dataset)
    assert len(likes[29]) == 0
    np.testing.assert_array_equal(likes[1], training_likes(tiny_dataset)[1])


def test_validation_rows_are_learned_where_nothing_is_chosen_by_them(tiny_dataset: Dataset) -> None:
    both = training_likes(tiny_dataset, ("train", "valid"))
    wanted = liked_items(tiny_dataset, ("train", "valid"))
    assert sum(map(len, both)) > sum(map(len, training_likes(tiny_dataset)))
    for mine, items in zip(both, wanted, strict=True):
        np.testing.assert_array_equal(mine, items)


def test_the_regulariser_does_not_depend_on_the_batches(backbone: Backbone, tiny_dataset: Dataset) -> None:
    liked = training_likes(tiny_dataset)
    states = []
    for batch in (32, 5000):
        config = RetrievalConfig.model_validate({**QUICK, "batch_tokens": batch, "lambda_l": 1.0})
        model = _model(backbone, tiny_dataset)
        trainer = RetrievalTrainer(model, _documents(backbone, tiny_dataset, model), liked, config, 1)
        trainer.steps = trainer.steps[:3]
        trainer.run()
        states.append(model.collaborative.item.weight.detach())
    torch.testing.assert_close(*states, atol=1e-4, rtol=1e-3)


def with_reviews(dataset: Dataset) -> Dataset:
    """Some rows say something, one of them nothing but white space."""
    texts = [f"review {n}" if n % 3 else " " for n in range(dataset.log.height)]
    return replace(dataset, log=dataset.log.with_columns(review=pl.Series(texts)))


def test_reviews_are_those_of_liked_training_pairs(tiny_dataset: Dataset) -> None:
    assert training_reviews(tiny_dataset) == []
    dataset = with_reviews(tiny_dataset)
    log = dataset.log.with_row_index("n").filter(pl.col("split") == "train", pl.col("label") == 1, pl.col("n") % 3 != 0)
    assert training_reviews(dataset) == log.select("user", "item", "review").rows()
    assert log.height > 100


def test_a_review_names_its_user_and_item(backbone: Backbone, tiny_dataset: Dataset) -> None:
    model = _model(backbone, tiny_dataset)
    document = _documents(backbone, tiny_dataset, model).review(3, 8, "user_1 likes item_2")
    n = model.collaborative.vocabulary
    assert [i - n for i in document.ids if i >= n] == [3, tiny_dataset.users.height + 8]
    assert backbone.tokenizer.decode(document.ids[document.main :]) == " user_1 likes item_2"
    prompt = backbone.tokenizer.decode([i for i in document.ids[: document.main] if i < n])
    assert prompt.endswith(" wrote the following review for:")


def test_reviews_move_the_users_content(tiny_system_config: Configure, tiny_dataset: Dataset) -> None:
    """With reviews a user's content embedding learns, and draws the collaborative one; without, it stays."""
    config = tiny_system_config(retrieval={**QUICK, "reviews_per_epoch": 40, "lambda_c": 5.0})
    plain, told = (CLLM4Rec(config).fit(d) for d in (tiny_dataset, with_reviews(tiny_dataset)))
    start = CLLM4Rec(config)
    start._attach(tiny_dataset, load_backbone(config.llm))
    start.model.start_items(item_table(tiny_dataset, start.model.backbone, "words"))
    assert torch.equal(plain.model.content.user.weight, start.model.content.user.weight)
    moved = (told.model.content.user.weight != start.model.content.user.weight).any(1)
    assert moved.sum() > 10
    apart = [m.model.collaborative.user.weight - told.model.content.user.weight for m in (plain, told)]
    written = [user for user, _, _ in training_reviews(with_reviews(tiny_dataset))]
    assert apart[1][written].norm() < apart[0][written].norm()


def test_a_question_ends_with_the_user(backbone: Backbone, tiny_dataset: Dataset) -> None:
    model = _model(backbone, tiny_dataset)
    documents = _documents(backbone, tiny_dataset, model)
    question = documents.question(4, np.array([7, 3]))
    n, users = model.collaborative.vocabulary, tiny_dataset.users.height
    assert [i - n for i in question.ids if i >= n] == [4, users + 7, users + 3, 4]
    assert backbone.tokenizer.decode([i for i in question.ids if i < n]).endswith(", will interact with")
    assert question.main == question.tokens
    assert "A user will interact with" in backbone.tokenizer.decode(
        [i for i in documents.question(-1, np.array([7])).ids if i < n]
    )


@torch.no_grad()
def test_masked_loss_by_hand(backbone: Backbone, tiny_dataset: Dataset) -> None:
    model = _model(backbone, tiny_dataset)
    documents = _documents(backbone, tiny_dataset, model)
    questions = [documents.question(1, np.array([5, 17])), documents.question(2, np.array([4]))]
    held_out = [np.array([2]), np.array([9, 30])]
    expected = 0.0
    for question, items in zip(questions, held_out, strict=True):
        log_p = model.item_logits(model.item_states(model.written([question]))[0, -1]).log_softmax(-1)
        expected -= log_p[torch.from_numpy(items)].sum().item()
    assert model.masked_loss(model.written(questions), last_predicts(held_out)).item() == pytest.approx(
        expected, rel=1e-4
    )


def test_masked_items_are_targets_and_not_shown(backbone: Backbone, tiny_dataset: Dataset) -> None:
    """A fifth of the items, one at least, none of them in the prompt; no other than the user's own."""
    liked = training_likes(tiny_dataset)
    config = RetrievalConfig.model_validate({**QUICK, "masked_share": 0.2})
    model = _model(backbone, tiny_dataset)
    trainer = RetrievalTrainer(model, _documents(backbone, tiny_dataset, model), liked, config, 1)
    step = next(s for s in trainer.steps if s.fine_tuning and s.kind == "items")
    for user in step.members.tolist():
        example = trainer._example(step, user)
        codes = model.collaborative.item_codes(example.document.ids)
        shown = codes[codes >= 0]
        assert len(example.held_out) == max(1, len(liked[user]) // 5)
        assert sorted([*shown, *example.held_out]) == sorted(liked[user])
    trainer.run()
    asked = trainer.documents.question(1, liked[1])
    with torch.no_grad():
        expected = model.item_states(model.written([asked]))[:, -1]
    state = reader_states(model, trainer.documents, [Reader(1, liked[1])], config)
    torch.testing.assert_close(state, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_item_states_by_hand(backbone: Backbone, tiny_dataset: Dataset) -> None:
    """Standardised over the given documents, and behind k items the sum of their pooled embeddings over the root of
    k."""
    model = _model(backbone, tiny_dataset)
    documents = _documents(backbone, tiny_dataset, model)
    document = documents.collaborative(1, np.array([4, 7, 4]))
    several = [documents.collaborative(u, np.array([u, 5, 9 + u])) for u in range(6)]
    assert model.pooled is not None
    for part in (model.pooled.own, model.pooled.map):
        part.zero_()
    plain = model.item_states(model.written([document]))[0]
    torch.testing.assert_close(plain, model.states(model.written([document]), model.collaborative)[0].float())
    model.start_from_states(several)
    row, place, _ = main_places(several)
    seen = model.item_states(model.written(several))[row, place]
    torch.testing.assert_close(seen.mean(0), torch.zeros(seen.shape[1]), atol=1e-4, rtol=0)
    assert seen.square().mean().item() == pytest.approx(1, rel=0.1)
    before = model.item_states(model.written([document]))[0]
    model.pooled.own.normal_()
    added = model.item_states(model.written([document]))[0] - before
    table, main = model.pooled.own, document.main
    torch.testing.assert_close(added[:main], torch.zeros_like(added[:main]))
    torch.testing.assert_close(added[main], table[4], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(added[main + 2], (2 * table[4] + table[7]) / 3**0.5, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_every_prefix_from_a_share_on(backbone: Backbone, tiny_dataset: Dataset) -> None:
    """Of four prefixes (of 0 to 3 items) the last two, counted double."""
    whole = _model(backbone, tiny_dataset)
    documents = _documents(backbone, tiny_dataset, whole)
    items = np.array([5, 17, 2, 9])
    document = documents.collaborative(1, items)
    log_p = whole.item_logits(whole.item_states(whole.written([document]))[0, document.main - 1 :]).log_softmax(-1)
    each = [-log_p[k, torch.from_numpy(items[k:])].mean().item() for k in range(4)]
    for share, expected in ((0.0, sum(each)), (0.5, 2 * sum(each[2:]))):
        followers = all_that_follow([document], whole.collaborative, share)
        found = whole.followers_loss(whole.written([document]), followers).item()
        assert found == pytest.approx(expected, rel=1e-4)


def test_the_head_alone_learns_and_the_language_model_is_weighed(
    tiny_system_config: Configure, tiny_dataset: Dataset
) -> None:
    """Users like items of their own parity: the head finds it from histories. Where the weight is 0 nothing of the
    language model is read, and nothing of it changes a score."""
    more = {**QUICK, "head_epochs": 30, "head_rate": 0.02, "head_decay": 0.1, "head_size": 8}
    fitted = {
        w: CLLM4Rec(tiny_system_config(retrieval={**more, "llm_weight": w})).fit(tiny_dataset) for w in (0.0, 1.0)
    }
    for weight, model in fitted.items():
        assert float(model.model.weight) == weight
        users = (2, 3, 4)
        likes = [likes_of(tiny_dataset, u) for u in users]
        found = top_items(model.scores([Reader(u, mine) for u, mine in zip(users, likes, strict=True)]), likes, 5)
        same = [item % 2 == u % 2 for u, items in zip(users, found, strict=True) for item in items]
        assert np.mean(same) > 0.8
    readers = [Reader(-1, np.array([1, 3, 5]))]
    alone = fitted[0.0].scores(readers)
    with torch.no_grad():
        for model in fitted.values():
            for parameter in model.model.collaborative.parameters():
                parameter.normal_()
    np.testing.assert_array_equal(fitted[0.0].scores(readers), alone)
    chosen = CLLM4Rec(tiny_system_config(retrieval=more)).fit(tiny_dataset)
    assert float(chosen.model.weight) in (0.0, 0.25, 0.5, 0.75, 1.0)


@pytest.mark.parametrize("kind", ["tuned", "scratch"])
def test_a_whole_backbone_is_trained_and_saved(
    kind: str, tiny_system_config: Configure, tiny_dataset: Dataset, backbone: Backbone, tmp_path: Path
) -> None:
    model = CLLM4Rec(tiny_system_config(retrieval={**QUICK, "backbone": kind})).fit(tiny_dataset)
    idle = {**QUICK, "backbone": kind, "pretraining_epochs": 0, "fine_tuning_epochs": 0}
    untouched = CLLM4Rec(tiny_system_config(retrieval=idle)).fit(tiny_dataset)
    before, now = (m.model.backbone.model.state_dict() for m in (untouched, model))
    pretrained = backbone.model.state_dict()
    assert (kind == "tuned") == all(torch.equal(before[name], pretrained[name]) for name in before)
    moved = [name for name in before if not torch.equal(before[name], now[name])]
    assert len(moved) > len(before) / 2
    model.save(tmp_path / "model")
    readers = [Reader(u, likes_of(model.dataset, u)) for u in range(4)]
    np.testing.assert_array_equal(
        CLLM4Rec.load(tmp_path / "model", tiny_dataset).scores(readers), model.scores(readers)
    )


def test_a_whole_backbone_needs_float32(tiny_system_config: Configure, tiny_dataset: Dataset) -> None:
    config = tiny_system_config(retrieval={**QUICK, "backbone": "tuned"}, llm={"dtype": "bfloat16"})
    with pytest.raises(UserError, match=r"set llm\.dtype=float32"):
        CLLM4Rec(config).fit(tiny_dataset)


def test_without_a_head_of_its_own_nothing_learns_once_more(
    tiny_system_config: Configure, tiny_dataset: Dataset
) -> None:
    """Where the weight is 0 the head learns anew, from validation rows too; tied to the tokens it has learned already,
    and what was weighed is what is kept."""
    weighed, unweighed = (
        CLLM4Rec(tiny_system_config(retrieval={**QUICK, "tied": True, "llm_weight": w})).fit(tiny_dataset)
        for w in (1.0, 0.0)
    )
    assert torch.equal(weighed.model.bias, unweighed.model.bias)


@pytest.mark.parametrize(("kind", "fine_tuning"), [("words", False), ("items", False), ("items", True)])
def test_a_step_waits_once(
    tiny_backbone_folder: Path, tiny_dataset: Dataset, monkeypatch: pytest.MonkeyPatch, kind: str, fine_tuning: bool
) -> None:
    """On `meta`, a device that holds no values, every wait but the one for the losses is an error."""
    loaded = load_backbone(LLMConfig(backbone=str(tiny_backbone_folder), dtype="float32"))
    choose_attention(loaded.model.to("meta"))
    config = RetrievalConfig.model_validate({**QUICK, "batch_tokens": 64})
    model = _model(loaded, tiny_dataset)
    liked = training_likes(tiny_dataset)
    trainer = RetrievalTrainer(model, _documents(loaded, tiny_dataset, model), liked, config, 1)
    waits = []

    def wait(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
        waits.append({t.device.type for t in tensors})
        return [np.zeros(t.numel(), np.float32) for t in tensors]

    monkeypatch.setattr(training, "fetched", wait)
    number = next(n for n, s in enumerate(trainer.steps) if (s.kind, s.fine_tuning) == (kind, fine_tuning))
    inputs = trainer.inputs(number)
    assert len(inputs.parts) > 1
    trainer._train_step(trainer.steps[number], inputs)
    assert waits == [{"meta"}]

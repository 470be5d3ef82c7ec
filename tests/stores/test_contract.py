"""What holds for every store: the same answers as exact search, and nothing lost, doubled or mixed up."""

from dataclasses import replace

import numpy as np
import pytest

from examples.catalogue.products import Attributes
from examples.catalogue.products import Product as Drawn
from examples.catalogue.wording import title
from examples.stores.__main__ import CHANGE, LIKED, TEXT
from examples.stores.base import BATCH, KINDS, Product
from jinaclip import InputError, JinaClip, fuse, truncate
from tests.stores.exact import ExactStore, assert_same, ids, recall

ARABIC = title(Drawn("", Attributes("skirt", "red", "plain", "", "midi"), 3), "ar")


SMALL = {"half": 0.9, "sq8": 0.9, "bytes": 0.9, "bits": 0.6}
"""Vectors of fewer bits are not exact: what must be found at least."""


def searches(store, limit, **how):
    yield store.by_text(TEXT, limit=limit, **how)
    yield store.by_text(ARABIC, limit=limit, **how)
    yield store.by_picture(LIKED, limit=limit, **how)
    yield store.by_both(CHANGE, LIKED, weight=0.7, limit=limit, **how)


@pytest.mark.slow
@pytest.mark.parametrize("category", [None, "dress"])
def test_every_store_finds_the_same_ten_as_exact_search(opened, request, model, catalogue, embedded, category):
    """By text, picture and both, in the vectors of titles, pictures and both, among all and in one category."""
    exact = ExactStore(model)
    with opened(model) as store:
        for one in (store, exact):
            one.add(catalogue, {kind: rows[: len(catalogue)] for kind, rows in embedded.items()})
        for using in KINDS:
            found = list(searches(store, 10, using=using, category=category))
            right = list(searches(exact, len(catalogue), using=using, category=category))
            least = SMALL.get(request.node.callspec.params["opened"].rpartition("_")[2])
            if least is not None:
                assert recall([ids(hits) for hits in found], [ids(hits)[:10] for hits in right]) >= least
                continue
            for some, everything in zip(found, right, strict=True):
                assert_same(some, everything)


@pytest.mark.slow
def test_a_category_is_its_whole_name(opened, model, catalogue):
    """Not one of its words, not in other letters; and a quotation mark in it is no syntax."""
    categories = ("shirt", "t-shirt", "red shirt", "men's shirt", "Shirt", "")
    some = [Product(one.id, one.title, one.picture, its) for one, its in zip(catalogue, categories, strict=False)]
    with opened(model) as store:
        store.index(some)
        for product in some:
            assert ids(store.by_picture(LIKED, category=product.category)) == [product.id]
        assert store.by_picture(LIKED, category="trousers") == []


@pytest.mark.slow
def test_a_product_indexed_again_is_replaced(opened, model, catalogue):
    some = catalogue[:12]
    new = replace(some[3], title=ARABIC, picture=LIKED)
    with opened(model) as store:
        store.index(some)
        store.index([some[3], new])
        hits = store.by_both(ARABIC, LIKED, limit=len(some))
    assert hits[0].id == new.id
    assert hits[0].title == ARABIC
    assert sorted(ids(hits)) == sorted(product.id for product in some)


@pytest.mark.slow
def test_a_row_of_a_failed_item_is_refused_and_nothing_of_its_batch_is_stored(opened, model, catalogue, embedded):
    """`Results.vectors` has NaN where an item failed; a store must never hold one."""
    some = catalogue[:3]
    for using in KINDS:
        vectors = {kind: rows[:3].copy() for kind, rows in embedded.items()}
        vectors[using][1] = np.nan
        with opened(model) as store:
            with pytest.raises(InputError, match=f"{some[1].id}.*no {using} vector") as caught:
                store.add(some, vectors)
            assert caught.value.index == 1
            assert store.by_text(TEXT) == []


def test_what_comes_between_embedding_and_storing_refuses_it_too(model, embedded):
    results = model.embed(["a dress", " ", "a coat"])
    assert set(results.errors) == {1}
    texts = embedded["text"][:3]
    for work in (lambda rows: truncate(rows, 8), lambda rows: fuse(rows, texts), lambda rows: fuse(texts, rows)):
        with pytest.raises(InputError, match="row 1 ") as caught:
            work(results.vectors)
        assert caught.value.index == 1
        places, vectors = results.successes()
        assert len(truncate(vectors, 8)) == len(places) == 2


@pytest.mark.slow
def test_a_limit_beyond_the_stock_gives_the_whole_stock(opened, model, catalogue):
    with opened(model) as store:
        store.index(iter(catalogue[:12]))
        hits = store.by_text(TEXT, limit=50)
    assert sorted(ids(hits)) == sorted(product.id for product in catalogue[:12])
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.mark.slow
def test_an_empty_store_finds_nothing(opened, model):
    with opened(model) as store:
        store.index([])
        assert store.by_text(TEXT) == []


@pytest.mark.slow
def test_hits_are_plain_values(opened, model, catalogue):
    """No numpy numbers and no types of a client: they go into JSON as they are."""
    with opened(model) as store:
        store.index(catalogue[:3])
        (hit,) = store.by_text(TEXT, limit=1)
    assert [type(value) for value in (hit.id, hit.title, hit.score)] == [str, str, float]


@pytest.mark.slow
def test_what_was_indexed_is_there_when_opened_again(opened, model, catalogue):
    with opened(model) as store:
        store.index(catalogue[:12])
        before = store.by_text(TEXT)
    with opened(model) as store:
        after = store.by_text(TEXT)
    assert [(hit.id, hit.title) for hit in after] == [(hit.id, hit.title) for hit in before]
    # Qdrant's local mode brings vectors to length 1 again when it reads them: the last bits differ.
    assert [hit.score for hit in after] == pytest.approx([hit.score for hit in before], abs=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*will cost quality:UserWarning")
def test_vectors_of_other_settings_lie_elsewhere(opened, model, catalogue, catalogue_checkpoint):
    """A store opened at another width meets an empty collection of that width, not an error and not a mixture."""
    with opened(model) as store:
        store.index(catalogue[:3])
    narrow = JinaClip(catalogue_checkpoint, backend="local", device="cpu", dimensions=32)
    with narrow, opened(narrow) as store:
        assert store.by_text(TEXT) == []
        store.index(catalogue[3:6])
        assert sorted(ids(store.by_text(TEXT))) == sorted(product.id for product in catalogue[3:6])


def test_products_are_embedded_and_sent_in_batches(model, many):
    """A generator of any length is never held whole."""

    sizes = []

    class Sizes(ExactStore):
        def write(self, products, vectors):
            sizes.append((len(products), *(rows.shape for rows in vectors.values())))

    Sizes(model).index(product for product in many[: BATCH + 1])
    assert sizes == [(size, *[(size, model.dimensions)] * 3) for size in (BATCH, 1)]

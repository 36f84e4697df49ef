"""What is drawn once is not drawn again; data that are missing are named."""

from time import sleep

import numpy as np
import pytest
from tools.evaluate.cache import Cache
from tools.evaluate.collection import RELAYED, Collection
from tools.evaluate.drawing import Drawing
from tools.evaluate.references import Reference, choose, reference_pictures
from tools.evaluate.settings import Settings
from training_pictures import CONCEPTS, write_packages

from ppidm.protocol.errors import InputError


def test_a_stopped_evaluation_goes_on(tmp_path, monkeypatch):
    collection = Collection(
        Cache(tmp_path),
        Settings(pictures=3, transcripts=2, relayed=2, relayed_transcripts=1),
        [Reference(f"{i}", np.zeros((2, 2, 3))) for i in range(3)],
    )
    asked, relayed = [], []

    def draw_privately(_folder, missing, _total, _progress):
        asked.append(sorted(missing))
        for name in list(missing)[:2]:  # and then it stops
            collection.cache.store(name, {"picture": np.zeros(1)})

    def draw_relayed(_folder, missing, _total, _progress):
        relayed.append(sorted(missing))
        name = next(iter(missing))
        collection.cache.store(f"{RELAYED}/{name}", {"picture": np.zeros(1)})

    monkeypatch.setattr(Collection, "_draw_relayed", lambda _self, *arguments: draw_relayed(*arguments))
    monkeypatch.setattr(Collection, "_draw_privately", lambda _self, *arguments: draw_privately(*arguments))
    monkeypatch.setattr(Collection, "_draw_plainly", lambda _self, _name, seed, _p: {"pictures": np.array([seed])})
    for _ in range(4):
        collection.draw(tmp_path, lambda *_: None)
    assert [len(names) for names in asked] == [5, 3, 1]
    assert relayed[0] == ["pictures/0000", "pictures/0001", "transcripts/0000"]
    assert [len(names) for names in relayed] == [3, 2, 1]
    assert collection.plain() != collection.plain(again=True)


def test_a_file_is_there_when_it_is_complete(tmp_path):
    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError):
        cache.get("a/b", lambda: (_ for _ in ()).throw(RuntimeError))
    assert not cache.has("a/b")
    cache.store("a/b", {"x": np.arange(3), "y": np.zeros(2)})
    assert cache.get("a/b", dict)["x"].tolist() == [0, 1, 2]
    assert set(cache.load("a/b", "y")) == {"y"}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.npz"]


def test_seconds_of_a_stopped_sitting_count(tmp_path):
    cache = Cache(tmp_path)

    def stopped():
        with cache.sitting():
            sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with cache.sitting() as seconds:
        assert 0.05 <= seconds() < 5


def test_latents_belong_to_the_seed():
    assert (Drawing("a", 1).latents == Drawing("b", 1).latents).all()
    assert (Drawing("a", 1).latents != Drawing("a", 2).latents).any()


def test_references_are_captioned_pictures_on_white(tmp_path, monkeypatch):
    write_packages(tmp_path, monkeypatch)
    found = reference_pictures(tmp_path)
    assert {reference.prompt for reference in found} == {f"{name}, 3d style" for name, _ in CONCEPTS.values()}
    assert all(reference.picture.shape == (64, 64, 3) for reference in found)
    assert all(reference.picture[0, 0] == pytest.approx([1, 1, 1]) for reference in found)
    assert all(reference.picture[32, 32].min() < 0.99 for reference in found)


def test_missing_data_are_named(tmp_path):
    with pytest.raises(InputError, match=r"tools\.train fetch"):
        reference_pictures(tmp_path)


def test_common_prompts_come_first_and_no_prompt_twice():
    blank = np.zeros((2, 2, 3), np.float32)
    found = [Reference(f"{name}, 3d style", blank) for name in ("zebra", "zebra", "pizza", "ant", "red apple")]
    chosen = [reference.prompt for reference in choose(found, 4)]
    assert chosen[:2] == ["red apple, 3d style", "pizza, 3d style"]
    assert len(set(chosen)) == 4
    with pytest.raises(InputError, match="4 prompts"):
        choose(found, 5)

import pytest
import torch
from tools.train.checkpoint import Checkpoint, Ema, Schedule

from ppidm.protocol.errors import InputError


def test_a_checkpoint_is_read_back_and_absent_at_first(tmp_path):
    checkpoint = Checkpoint(tmp_path / "new" / "unet.pt")
    assert checkpoint.load() is None
    checkpoint.save({"update": 3, "values": torch.arange(4)})
    content = checkpoint.load()
    assert content["update"] == 3
    assert content["values"].tolist() == [0, 1, 2, 3]
    assert [path.name for path in checkpoint.path.parent.iterdir()] == ["unet.pt"]


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    checkpoint = Checkpoint(tmp_path / "unet.pt")
    checkpoint.save({"update": 3})
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"unet\.pt cannot be read as a checkpoint.*delete it to begin again"):
        checkpoint.load()


def test_the_rate_rises_stays_and_falls_to_nothing():
    schedule = Schedule(1000, 1e-3, cooldown=0.2, warmup=10)
    assert schedule.rate(0) == pytest.approx(1e-4)
    assert schedule.rate(500) == 1e-3
    assert schedule.rate(900) == pytest.approx(5e-4)
    assert schedule.rate(999) == pytest.approx(5e-6)


def test_a_run_saves_at_its_end_and_where_it_is_interrupted():
    saved = []
    for update in Schedule(10, 1.0).run(3, saved.append, lambda *_: None):
        assert update < 10
    assert saved == [10]
    run = Schedule(10, 1.0).run(4, saved.append, lambda *_: None)
    next(run), next(run)
    run.close()
    assert saved == [10, 5]


def test_a_run_ends_after_its_time_and_saves_on_the_way(monkeypatch):
    clock = iter(range(0, 10_000, 50))
    monkeypatch.setattr("tools.train.checkpoint.time.monotonic", lambda: next(clock))
    saved = []
    made = list(Schedule(1000, 1.0, seconds=600, save_every=120).run(0, saved.append, lambda *_: None))
    assert 2 < len(made) < 12
    assert saved[-1] == len(made)
    assert len(saved) > 2


def test_the_average_moves_slowly():
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = Ema(module, 0.9)
    torch.nn.init.ones_(module.weight)
    average.update(module)
    assert average.values["weight"].item() == pytest.approx(0.1)

import json
import math

from heartseg.training.history import EpochRecord, HistoryFiles, best_of, write_history


def record(epoch, val_loss, val_dice=0.5):
    logs = {"loss": 0.25, "val_loss": val_loss, "dice": 0.5, "val_dice": val_dice}
    return EpochRecord(epoch, logs, learning_rate=7e-5, seconds=1.5)


def test_tables_have_the_published_form_and_an_empty_cell_for_nan(tmp_path):
    names = ("history.json", "losses.csv", "metrics.csv", "losses.png", "metrics.png")
    files = HistoryFiles(*(tmp_path / name for name in names))

    write_history(files, [record(1, 0.5, math.nan), record(2, 0.125, 0.75)])

    losses = (tmp_path / "losses.csv").read_text()
    assert losses == "epoch,loss,val_loss\n1,0.25,0.5\n2,0.25,0.125\n"
    metrics = (tmp_path / "metrics.csv").read_text()
    assert metrics == "epoch,dice,val_dice\n1,0.5,\n2,0.5,0.75\n"
    for name in ("losses.png", "metrics.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    epochs = json.loads((tmp_path / "history.json").read_text())["epochs"]
    assert epochs[0]["val_dice"] is None
    assert epochs[1]["learning_rate"] == 7e-5


def test_a_record_is_rebuilt_from_plain_values():
    before = record(3, 0.5, math.nan)
    after = EpochRecord.from_dict(json.loads(json.dumps(before.to_dict())))
    assert math.isnan(after.logs["val_dice"])
    assert (after.epoch, after.learning_rate, after.seconds) == (3, 7e-5, 1.5)
    assert after.logs["loss"] == 0.25


def test_the_best_epoch_is_the_first_with_the_lowest_validation_loss():
    assert best_of([record(1, 0.5), record(2, 0.25), record(3, 0.25)]).epoch == 2

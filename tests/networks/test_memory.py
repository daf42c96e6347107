import psutil
import pytest

from heartseg.networks import memory
from heartseg.networks.memory import available_bytes, count_features, estimate_training_bytes
from heartseg.networks.plan import plan_levels

MIB = 1 << 20


def test_the_features_of_two_levels_match_the_hand_count():
    levels = plan_levels(base_filters=1, num_layers=2, dropout_rate=0)
    # At 4 x 2: input 1, encoder 2 x 2, upsampling 1, joint 2, decoder 2 x 2, output 3.
    # At 2 x 1: pooled 1, bridge 2 x 2 of 2 filters.
    expected = 8 * (1 + 4 + 1 + 2 + 4 + 3) + 2 * (1 + 8)
    found = count_features(
        levels, image_size=(4, 2), image_channels=1, num_classes=3, normalized=False
    )
    assert found == expected


@pytest.mark.parametrize(
    ("size", "filters", "num_layers", "batch_size", "precision", "peak_mib"),
    [
        (128, 8, 4, 2, "float32", 790),
        (256, 8, 4, 4, "float32", 940),
        (256, 16, 5, 8, "float32", 1463),
        (256, 16, 5, 8, "bfloat16", 1243),
        (128, 16, 7, 1, "float32", 1472),
        (512, 16, 8, 2, "float32", 3959),
        (512, 16, 8, 2, "bfloat16", 3781),
    ],
)
def test_the_estimate_is_near_what_was_measured(
    size, filters, num_layers, batch_size, precision, peak_mib
):
    estimate = estimate_training_bytes(
        plan_levels(base_filters=filters, num_layers=num_layers),
        image_size=(size, size),
        batch_size=batch_size,
        precision=precision,
    )
    assert peak_mib <= estimate / MIB <= 1.25 * peak_mib


def test_a_larger_batch_needs_more_and_half_precision_less():
    def estimate(batch_size, precision):
        return estimate_training_bytes(
            plan_levels(), image_size=(512, 512), batch_size=batch_size, precision=precision
        )

    assert estimate(2, "bfloat16") < estimate(2, "float32") < estimate(4, "float32")


def write_limits(folder, limit, usage, reclaimable):
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {reclaimable}\n")
    return ((folder / "memory.max", folder / "memory.current"),)


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP_LIMITS", write_limits(tmp_path, 9 * MIB, 4 * MIB, MIB))
    assert available_bytes() == 6 * MIB


@pytest.mark.parametrize("limit", ["max", str(2**63)])
def test_a_container_without_limit_leaves_what_the_machine_has(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP_LIMITS", write_limits(tmp_path, limit, 0, 0))
    assert available_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.3)


def test_a_machine_without_cgroups_says_what_it_has(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "CGROUP_LIMITS", ((tmp_path / "no", tmp_path / "no"),))
    assert 0 < available_bytes() <= psutil.virtual_memory().total

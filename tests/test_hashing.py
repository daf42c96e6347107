import numpy as np

from heartseg.hashing import hash_labels

LABELS = np.random.default_rng(0).integers(0, 9, (3, 4, 5), dtype=np.uint8)


def test_type_and_memory_order_do_not_matter():
    assert hash_labels(LABELS) == hash_labels(np.asfortranarray(LABELS, np.int16))


def test_every_voxel_matters():
    changed = LABELS.copy()
    changed[2, 3, 4] ^= 1
    assert hash_labels(changed) != hash_labels(LABELS)


def test_shape_and_axes_matter():
    assert hash_labels(LABELS.reshape(4, 3, 5)) != hash_labels(LABELS)
    assert hash_labels(LABELS.transpose(2, 1, 0)) != hash_labels(LABELS)


def test_spacing_matters_but_not_its_rounding():
    plain = hash_labels(LABELS, (0.8, 1.5, 1.1))
    assert hash_labels(LABELS, np.array([0.8, 1.5, 1.1], np.float32)) == plain
    assert hash_labels(LABELS, (0.8, 1.5, 1.2)) != plain
    assert hash_labels(LABELS) != plain


def test_the_hash_is_64_hexadecimal_digits():
    assert len(bytes.fromhex(hash_labels(np.zeros((0, 2), np.uint8)))) == 32

import numpy as np
import pytest
import tensorflow as tf

from heartseg.errors import DataError
from heartseg.slices.batches import Share, data_errors, inside_tf_data, order_of_epoch, untuned


def test_every_epoch_has_every_sample_once_in_an_order_of_its_own():
    orders = [order_of_epoch(50, 50, seed=1, epoch=epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert (orders[0] != orders[1]).any()
    assert (order_of_epoch(50, 50, seed=2, epoch=0) != orders[0]).any()
    np.testing.assert_array_equal(order_of_epoch(50, 50, seed=1, epoch=2), orders[2])


@pytest.mark.parametrize(("count", "most"), [(3, 1), (12, 3)])
def test_an_epoch_may_be_shorter_or_longer_than_a_pass(count, most):
    order = order_of_epoch(5, count, seed=0, epoch=0)
    assert len(order) == count
    assert np.bincount(order, minlength=5).max() == most


def test_each_process_reads_its_share_of_every_batch():
    assert Share(0, 2).positions(6, 4).tolist() == [0, 1, 4]
    assert Share(1, 2).positions(6, 4).tolist() == [2, 3, 5]
    assert Share().positions(5, 4).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("num_samples", "batch_size"), [(5, 4), (6, 3)])
def test_a_batch_that_cannot_be_divided_evenly_is_refused(num_samples, batch_size):
    with pytest.raises(ValueError, match="cannot be divided evenly among 2 processes"):
        Share(0, 2).positions(num_samples, batch_size)


def test_no_thread_searches_for_better_settings():
    assert untuned(tf.data.Dataset.range(3)).options().autotune.enabled is False


def test_a_data_error_inside_tf_data_is_raised_with_its_text():
    def fail(number):
        with inside_tf_data():
            raise DataError(f"a.png: broken\n  - at {number}")

    dataset = tf.data.Dataset.range(1).map(lambda n: tf.numpy_function(fail, [n], tf.int64))
    with pytest.raises(DataError, match=r"^a\.png: broken\n  - at 0$"), data_errors():
        list(dataset)


def test_other_errors_of_tensorflow_are_not_changed():
    with pytest.raises(tf.errors.InvalidArgumentError), data_errors():
        tf.debugging.assert_equal(1, 2)

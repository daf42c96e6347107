import pytest

from heartseg.networks.plan import check_image_size, count_parameters, plan_levels


def test_the_published_defaults_have_124_6_million_parameters():
    levels = plan_levels()
    assert count_parameters(levels, image_channels=3, num_classes=9) == 124_557_177


def test_kernels_shrink_to_3_filters_double_and_dropout_grows_level_by_level():
    levels = plan_levels(base_filters=4, base_kernels=(7, 5), num_layers=4, dilation=(3, 1))
    assert [level.kernel for level in levels] == [(7, 5), (5, 3), (3, 3), (3, 3)]
    assert [level.filters for level in levels] == [4, 8, 16, 32]
    assert [level.dilation for level in levels] == [(3, 1), (2, 1), (1, 1), (1, 1)]
    assert [level.dropout for level in levels] == pytest.approx([0, 0.04, 0.08, 0.12])


def test_two_levels_of_one_filter_match_the_hand_count():
    levels = plan_levels(base_filters=1, base_kernels=(3, 3), num_layers=2)
    encoder = (9 + 1) + (9 + 1)
    bridge = (9 * 2 + 2) + (9 * 4 + 2)
    upsampling = 4 * 2 + 1
    decoder = (9 * 2 + 1) + (9 + 1)
    output = (1 + 1) * 2
    expected = encoder + bridge + upsampling + decoder + output
    assert count_parameters(levels, image_channels=1, num_classes=2) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 1}, "num_layers: expected at least 2"),
        ({"base_filters": 0}, "base_filters: expected at least 1"),
        ({"base_kernels": (3, 0)}, "base_kernels: expected two positive"),
        ({"dilation": (1,)}, "dilation: expected two positive"),
        ({"dropout_rate": 0.2}, "dropout_rate: expected 0 <= rate < 1/7"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        plan_levels(**options)


def test_an_image_that_cannot_be_halved_often_enough_is_refused():
    check_image_size((256, 128), 8)
    check_image_size((None, None), 8)
    with pytest.raises(ValueError, match=r"image_width: expected a multiple of 128 .* got 500"):
        check_image_size((512, 500), 8)

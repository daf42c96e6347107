import re

import pytest
from builders import make_config

from heartseg.errors import ModelError
from heartseg.label_tables import ACDC, MMWHS, MNMS
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.networks.unet import build_unet
from heartseg.runs.lineage import check_initial_labels
from heartseg.slices.recipe import SliceRecipe


@pytest.mark.parametrize(
    ("table", "differences"),
    [
        (ACDC, "(only in section labels: MYO; only in the weights: LA, RA, AO, PA, SVC, IVC)"),
        (MMWHS, "(only in section labels: MYO; only in the weights: SVC, IVC)"),
    ],
)
def test_packaged_weights_of_other_structures_are_refused_with_the_difference(table, differences):
    with pytest.raises(ModelError, match=re.escape(differences)) as caught:
        check_initial_labels("packaged", table)
    assert "found weights for LV, RV, LA, RA" in str(caught.value)
    assert "in the packaged model" in str(caught.value)
    assert "Leave out train.init to train new weights" in str(caught.value)


def test_weights_of_the_same_structures_are_taken():
    check_initial_labels("packaged", HVSMR)
    check_initial_labels(None, ACDC)


def test_weights_with_the_structures_in_another_order_are_refused(tmp_path):
    file = make_config(tmp_path).run_dir / "best.keras"
    file.parent.mkdir(parents=True)
    model = build_unet(image_size=(8, 8), num_classes=4, base_filters=2, num_layers=2, seed=1)
    metadata = {"labels": ACDC.description, "recipe": SliceRecipe().to_dict()}
    save_model(model, file, metadata)
    with pytest.raises(ModelError, match=r"best\.keras \(the same in another order\)"):
        check_initial_labels(str(file), MNMS)
    check_initial_labels(str(file), ACDC)

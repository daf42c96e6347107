"""The data set that a configuration names."""

from heartseg.cohort.data_set import DataSet, Naming, find_data_set
from heartseg.config.schema import Config
from heartseg.parallel import place_for_workers


def find_source(config: Config) -> DataSet:
    """Find the files of the data set that section ``data`` describes, without reading a volume.

    Raises:
        DataError: If it is not there, or not laid out as ``data.layout`` says.
    """
    data = config.data
    naming = Naming(
        data.image_suffix,
        data.label_suffix,
        data.endpoints_suffix,
        data.image_folder,
        data.label_folder,
    )
    folder = place_for_workers(data.source_dir, config.parallel.backend)
    return find_data_set(folder, data.layout, naming, config.label_table)

from heartseg.cohort.leakage import PartContents, audit_split, find_duplicates, find_leaks


def split_of(**changes):
    split = {
        "by": "patient",
        "cases": {"train": ["pat1", "pat2"], "valid": ["pat3"], "test": ["pat4"]},
        "hashes": {
            "cases": {"pat1": "a", "pat2": "b", "pat3": "c", "pat4": "d"},
            "slices": {
                "train": {"pat1_001.png": "s1"},
                "valid": {"pat3_001.png": "s3"},
                "test": {"pat4_001.png": "s4"},
            },
        },
    }
    return {**split, **changes}


def test_a_clean_split_has_no_warning():
    assert audit_split(split_of()) == []


def test_a_split_by_slice_is_named_as_leakage():
    (warning,) = audit_split(split_of(by="slice"))

    assert "split by slice, not by patient" in warning


def test_a_test_case_in_the_training_part_is_found_by_name():
    cases = {"train": ["pat1", "pat4"], "valid": [], "test": ["pat4"]}

    (warning,) = audit_split(split_of(cases=cases))

    assert warning == "LEAKAGE: 1 of 1 test cases are in the training part too: pat4."


def test_a_test_case_in_the_validation_part_is_found_by_content():
    split = split_of()
    split["hashes"]["cases"]["pat4"] = "c"

    (warning,) = audit_split(split)

    assert "label map of a case of the validation part under another name: pat4 = pat3" in warning


def test_a_test_slice_in_the_training_part_is_found_by_content():
    split = split_of()
    split["hashes"]["slices"]["test"] = {"pat4_001.png": "s1", "pat4_002.png": "s9"}

    (warning,) = audit_split(split)

    assert "1 test slices are the same picture" in warning
    assert "pat4_001.png = pat1_001.png" in warning


def test_what_is_scored_now_counts_more_than_what_was_split():
    # The files were exchanged after the split.
    (warning,) = audit_split(split_of(), test_hashes={"pat4": "b"})

    assert "pat4 = pat2" in warning


def test_a_split_without_hashes_is_checked_by_name_only():
    assert audit_split({"cases": {"train": ["pat1"], "test": ["pat2"]}}) == []


def test_a_warning_names_only_a_few_cases():
    names = [f"pat{number}" for number in range(20)]

    (warning,) = find_leaks(PartContents(names), PartContents(names))

    assert warning.endswith("pat0, pat1, pat2, pat3, pat4 and 15 more.")


def test_one_label_map_under_two_names_is_a_duplicate():
    (warning,) = find_duplicates({"pat10": "x", "pat2": "x", "pat3": "y"})

    assert warning.startswith("The cases pat2, pat10 have the same label map")
    assert find_duplicates({"pat1": "x", "pat2": "y"}) == []

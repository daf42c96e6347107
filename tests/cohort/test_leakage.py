from heartseg.cohort.leakage import PartContents, find_duplicates, find_leaks


def test_a_warning_lists_only_a_few_cases():
    names = [f"pat{number}" for number in range(20)]

    (warning,) = find_leaks(PartContents(names), PartContents(names))

    assert warning.endswith(": 20 of 20 (pat0, pat1, pat2, pat3, pat4 and 15 more).")


def test_one_label_map_under_two_names_is_a_duplicate():
    (warning,) = find_duplicates({"pat10": "x", "pat2": "x", "pat3": "y"})

    assert warning.startswith("The cases pat2, pat10 have the same label map")
    assert find_duplicates({"pat1": "x", "pat2": "y"}) == []

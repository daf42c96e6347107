import doctest
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "scores.md"


def run_examples(text: str) -> doctest.TestResults:
    # A closing fence is not part of the expected output.
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False)
    examples = parser.get_doctest(text.replace("```", ""), {}, PAGE.name, str(PAGE), 0)
    return runner.run(examples)


def test_the_worked_example_gives_the_numbers_on_the_page():
    results = run_examples(PAGE.read_text(encoding="utf-8"))

    assert results.failed == 0
    assert results.attempted > 15


@pytest.mark.parametrize("number", ["0.7500", "25.000", "0.5167"])
def test_a_wrong_number_on_the_page_would_be_noticed(number, capsys):
    text = PAGE.read_text(encoding="utf-8")
    start = text.index('>>> show("LV")')
    changed = text[:start] + text[start:].replace(number, "9.")

    assert run_examples(changed).failed > 0

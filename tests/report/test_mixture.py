"""The account of a mixture adds up, whatever the width of the terminal."""

from lorameta.report.mixture import aligned, compared, mixture_lines, weights_table
from lorameta.report.table import terminal_width

REPORT = {
    "distance": "js",
    "operator": "attentional",
    "temperature": 0.5,
    "top_k": 2,
    "effective_number": 1.6,
    "rank": 4,
    "combiner": "delta",
    "distances": {"a": 0.1, "b": 0.2, "c": 0.3},
    "weights": {"a": 0.75, "b": 0.25},
    "truncation_error": {"m": 0.1, "n": 0.3},
}


def test_the_longest_bar_is_that_of_the_largest_weight():
    lines = weights_table(REPORT, {"a": "words"}).splitlines()[2:]
    bars = {line.split()[0]: line.count("█") + line.count("#") for line in lines}
    assert bars["a"] == 20
    assert bars["c"] == 0
    assert 6 <= bars["b"] <= 7


def test_what_is_not_shown_is_summed_up():
    assert weights_table(REPORT, {}, show=1).splitlines()[-1] == "and 2 more with a weight of 0.250 in all"
    assert "more with" not in weights_table(REPORT, {}, show=3)


def test_lines_name_the_options_and_the_errors():
    lines = dict(mixture_lines(REPORT))
    assert lines["Weights by"] == "operator attentional, temperature 0.5, top 2"
    assert lines["Adapters in the mixture"] == "2 of 3"
    assert lines["Truncation error"].startswith("0.200 on average, 0.300 at most")
    explained = {key: value for key, value in REPORT.items() if key != "truncation_error"}
    assert "Truncation error" not in dict(mixture_lines(explained))


SIGNED = REPORT | {"operator": "search", "temperature": None, "weights": {"a": 1.5, "b": -0.75, "c": 0.25}}


def test_signed_weights_have_bars_of_their_size_and_a_line_on_their_sum():
    lines = weights_table(SIGNED, {}).splitlines()[2:]
    bars = {line.split()[0]: line.count("█") + line.count("#") for line in lines}
    assert (bars["a"], bars["b"]) == (20, 10)
    assert "-0.750" in lines[1]
    facts = dict(mixture_lines(SIGNED | {"operator_details": {"penalty": 0.05, "loss_at_start": 2.5}}))
    assert facts["Weights by"] == "operator search, top 2, penalty 0.05, loss at start 2.5"
    assert facts["Sum of weights"] == "1.000, -0.750 below 0"
    assert "absolute" in facts["Effective number"]
    assert "Sum of weights" not in dict(mixture_lines(REPORT))


def test_long_values_go_on_below_themselves():
    text = aligned([("Name", "short"), ("Licences", ", ".join(["CC BY 4.0"] * 40))])
    first, second, third, *_ = text.splitlines()
    assert first == "Name      short"
    assert third[:10].isspace()
    assert second.index("CC") == 10
    assert max(map(len, text.splitlines())) <= terminal_width()


def test_an_unknown_distance_is_called_by_its_name():
    assert "the distance mine." in compared(REPORT | {"distance": "mine"}, "bank")
    assert "(js)" in compared(REPORT, "bank")

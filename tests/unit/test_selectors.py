"""Label selectors decided here as the API server decides them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stack.cluster.resources import PODS
from tests.stack.cluster.selectors import matcher as simulated
from toggle_plugin.api_objects import selector
from toggle_plugin.selectors import matcher

LABELS = {"app": "web", "tier": "a", "release": ""}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("app=web", True),
        ("app==web", True),
        ("app=db", False),
        ("app=web,tier=b", False),
        ("app=web,tier in (a,b)", True),
        ("tier in (b, c)", False),
        ("tier notin (b,c)", True),
        ("absent notin (b)", True),
        ("absent in (b)", False),
        ("app!=web", False),
        ("absent!=web", True),
        ("app", True),
        ("absent", False),
        ("!absent", True),
        ("!app", False),
        ("release=", True),
        ("release in ()", True),
        ("", False),
        (" , ", False),
    ],
)
def test_labels_are_selected_by_all_of_its_terms(text: str, selected: bool) -> None:
    assert matcher(text)(LABELS) is selected


KEY = st.sampled_from(["app", "tier", "example.org/part-of", "a", "b"])
VALUE = st.sampled_from(["app", "web", "a", "b.c", "d_e", "1"])
EXPRESSIONS = st.one_of(
    st.fixed_dictionaries({"key": KEY, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
    st.fixed_dictionaries(
        {"key": KEY, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(VALUE, min_size=1)}
    ),
)


@given(
    st.fixed_dictionaries(
        {"matchLabels": st.dictionaries(KEY, VALUE, max_size=2), "matchExpressions": st.lists(EXPRESSIONS, max_size=2)}
    ),
    st.dictionaries(KEY, VALUE),
)
def test_what_a_workload_selects_is_what_the_simulated_api_server_selects(
    label_selector: dict[str, object], labels: dict[str, str]
) -> None:
    text = selector(label_selector)
    expected = simulated(PODS, {"labelSelector": text})({"metadata": {"labels": labels}})
    assert matcher(text)(labels) is (expected and bool(text))

"""The table of clinical variables, and the values of an EHR in every likely coding."""

from __future__ import annotations

import json
import math
import random
from dataclasses import astuple, fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.clinical import (
    EHR_VARIABLES,
    NETWORK_VARIABLES,
    VARIABLES,
    ClinicalFeature,
    ClinicalRecord,
    Variable,
    check_key,
    ehr_of,
    encode,
    parse_ehr,
)
from shared.errors import InputError

SAMPLE = {
    "Age": 71,
    "Gender": 1,
    "Tobacco Consumption": 0,
    "Alcohol Consumption": 1,
    "Performance Status": 0,
    "Treatment": 1,
    "M-stage": "M0",
    "CenterID": 5,
}
"""The example of the challenge's documentation, with the centre as in Task 2."""


def record_of(ehr: object) -> ClinicalRecord:
    return parse_ehr(ehr)[0]


def remark_of(ehr: object) -> str:
    _, remarks = parse_ehr(ehr)
    assert len(remarks) == 1
    return remarks[0]


def test_the_sample_by_hand() -> None:
    record, remarks = parse_ehr(SAMPLE)
    assert record == ClinicalRecord(
        age=71,
        gender=1,
        tobacco=0,
        alcohol=1,
        performance_status=0,
        treatment=1,
        m_stage=0,
        centre_id=5,
        hpv=None,
    )
    assert remarks == ()


def test_an_empty_record_is_all_missing_without_a_remark() -> None:
    record, remarks = parse_ehr({})
    assert record == ClinicalRecord()
    assert set(astuple(record)) == {None}
    assert remarks == ()


def test_record_as_an_ehr_is_read_as_the_same_record() -> None:
    for ehr in ({}, SAMPLE, {"Age": 60.5, "Gender": "F", "M-stage": "Mx"}):
        record = record_of(ehr)
        assert record_of(ehr_of(record)) == record
    assert ehr_of(record_of(SAMPLE)) == {**SAMPLE, "M-stage": 0}
    assert ehr_of(ClinicalRecord(hpv=0.5)) == {}


def test_table_and_record_have_the_same_variables_in_the_same_order() -> None:
    assert [v.key for v in VARIABLES] == [f.name for f in fields(ClinicalRecord)]
    assert all(f.default is None for f in fields(ClinicalRecord))


def test_ehr_holds_every_variable_but_hpv() -> None:
    assert set(EHR_VARIABLES) == set(SAMPLE)
    assert {v.key for v in VARIABLES} - {v.key for v in EHR_VARIABLES.values()} == {"hpv"}


def test_networks_take_every_variable_but_the_centre_and_scale_only_age() -> None:
    assert {v.key for v in VARIABLES} - set(NETWORK_VARIABLES) == {"centre_id"}
    scales = {key: variable.scale for key, variable in NETWORK_VARIABLES.items()}
    assert scales.pop("age") == "z-normalised"
    assert set(scales.values()) == {"as it is"}


def test_binary_variables_are_0_or_1() -> None:
    binary = {v.key: (v.lowest, v.highest) for v in VARIABLES if v.kind == "binary"}
    assert binary == dict.fromkeys(("gender", "tobacco", "alcohol", "treatment", "m_stage"), (0, 1))


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda v: v.key)
def test_codes_stand_for_possible_values_in_lower_case(variable: Variable) -> None:
    assert all(variable.lowest <= value <= variable.highest for value in variable.codes.values())
    texts = [*variable.codes, *variable.missing_texts]
    assert texts == [text.strip().lower() for text in texts]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Age", (1, 1.5, 120)),
        ("Gender", (0, 1)),
        ("Performance Status", (0, 1, 2, 3, 4)),
        ("M-stage", (0, 1)),
        ("CenterID", (0, 10**6)),
    ],
)
def test_limits_are_possible_values(name: str, values: tuple[float, ...]) -> None:
    for value in values:
        record, remarks = parse_ehr({name: value})
        assert getattr(record, EHR_VARIABLES[name].key) == value
        assert remarks == ()


def test_key_that_no_network_takes_is_refused_with_the_list_of_keys() -> None:
    assert check_key("age") == "age"
    for key in ("weight", "centre_id", "Age"):
        with pytest.raises(ValueError, match=rf"one of age, gender, .*, hpv, found '{key}'"):
            check_key(key)


@pytest.mark.parametrize("name", SAMPLE)
@pytest.mark.parametrize("missing", [None, math.nan, "", "  ", "NaN", "nan", "n/a", "None", "-"])
def test_missing_is_none_without_a_remark(name: str, missing: object) -> None:
    record, remarks = parse_ehr({**SAMPLE, name: missing})
    assert record == replace(record_of(SAMPLE), **{EHR_VARIABLES[name].key: None})
    assert remarks == ()


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("Age", 60.5, 60.5),
        ("Age", "71", 71),
        ("Age", " 71.0 ", 71),
        ("Gender", "M", 1),
        ("Gender", "F", 0),
        ("Gender", "female", 0),
        ("Gender", "0", 0),
        ("Gender", 1.0, 1),
        ("Gender", True, 1),
        ("M-stage", "M0", 0),
        ("M-stage", "m1", 1),
        ("M-stage", "Mx", None),
        ("M-stage", 1, 1),
        ("M-stage", "0", 0),
        ("Tobacco Consumption", True, 1),
        ("Tobacco Consumption", False, 0),
        ("Tobacco Consumption", "Yes", 1),
        ("Alcohol Consumption", "no", 0),
        ("Performance Status", 4, 4),
        ("Performance Status", "2.0", 2),
        ("Treatment", "1", 1),
        ("CenterID", 42, 42),
    ],
)
def test_codings(name: str, raw: object, expected: float | None) -> None:
    record, remarks = parse_ehr({name: raw})
    assert getattr(record, EHR_VARIABLES[name].key) == expected
    assert remarks == ()


@pytest.mark.parametrize("name", ["age", "AGE", " Age "])
def test_names_are_read_without_case_and_spaces(name: str) -> None:
    assert record_of({name: 60}).age == 60


@pytest.mark.parametrize("name", ["M stage", "m_stage", "MStage"])
def test_names_are_read_without_punctuation(name: str) -> None:
    assert record_of({name: "M1"}).m_stage == 1


@pytest.mark.parametrize(
    ("name", "raw", "says"),
    [
        ("Age", 900, "900 is outside 1 to 120"),
        ("Age", -3, "-3 is outside"),
        ("Age", 0, "0 is outside"),  # the default of the organisers' template
        ("Age", 0.99, "0.99 is outside"),
        ("Age", 120.5, "120.5 is outside"),
        ("Age", "sixty", "the text 'sixty'"),
        ("Age", True, "a boolean"),
        ("Age", math.inf, "inf is outside"),
        ("Age", -math.inf, "-inf is outside"),
        ("Age", 10**400, "the number is too large"),
        ("Age", [60], "a list"),
        ("Age", {"value": 60}, "an object"),
        ("Gender", 7, "7 is outside 0 to 1"),
        ("Gender", 0.5, "0.5 is not one of its codes"),
        ("Gender", "x", "the text 'x'"),
        ("Performance Status", 5, "5 is outside 0 to 4"),
        ("Performance Status", True, "a boolean"),
        ("Treatment", 2, "2 is outside 0 to 1"),
        ("Treatment", "Mx", "the text 'Mx'"),
        ("M-stage", "M7", "the text 'M7'"),
        ("CenterID", -1, "-1 is outside 0 to inf"),
        ("CenterID", math.inf, "inf is outside"),
    ],
)
def test_impossible_value_is_missing_with_a_remark(name: str, raw: object, says: str) -> None:
    assert record_of({name: raw}) == ClinicalRecord()
    remark = remark_of({name: raw})
    assert remark.startswith(f"EHR: {name}: ")
    assert says in remark
    assert remark.endswith("treated as missing")


def test_impossible_value_does_not_affect_the_others() -> None:
    assert record_of({**SAMPLE, "Age": 900}) == replace(record_of(SAMPLE), age=None)


def test_an_unknown_key_is_ignored_with_a_remark() -> None:
    record, remarks = parse_ehr({**SAMPLE, "Weight": 80})
    assert record == record_of(SAMPLE)
    assert remarks == ("EHR: 'Weight' is not a known field and is ignored",)


def test_hpv_is_not_read_from_the_ehr() -> None:
    assert record_of({"HPV Status": 1, "hpv": 1}) == ClinicalRecord()


def test_value_given_twice_counts_if_both_agree() -> None:
    assert parse_ehr({"Age": 60, "age": "60", "AGE": None}) == (ClinicalRecord(age=60), ())


def test_value_given_twice_with_different_values_is_missing_with_a_remark() -> None:
    assert record_of({"Age": 60, "age": 61}) == ClinicalRecord()
    assert "given twice with different values" in remark_of({"Age": 60, "age": 61})


@pytest.mark.parametrize("ehr", [[], [SAMPLE], "Age: 60", 60, 6.5, True, None])
def test_ehr_that_is_not_an_object_is_refused(ehr: object) -> None:
    with pytest.raises(InputError, match="expected the EHR to be a JSON object") as error:
        parse_ehr(ehr)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("ehr", "named"), [([], "a list"), (None, "null"), ("x", "a text"), (1, "a number")]
)
def test_refusal_names_the_type(ehr: object, named: str) -> None:
    with pytest.raises(InputError, match=f"found {named};"):
        parse_ehr(ehr)


def test_remarks_are_short_printable_lines() -> None:
    nasty = "line\nfeed\ud800" + "x" * 500
    _, remarks = parse_ehr({nasty: 1, "Age": nasty, "gender": nasty})
    assert len(remarks) == 3
    for remark in remarks:
        assert "\n" not in remark
        assert len(remark) < 140
        remark.encode("utf-8")


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["M0", "M1", "Mx", "M", "F", "NaN", "yes", "1e999", "1_0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)
JSON_OBJECTS = st.dictionaries(st.sampled_from(list(SAMPLE)) | st.text(max_size=8), JSON_VALUES)


@given(JSON_OBJECTS)
def test_every_object_gives_a_record_of_possible_values(ehr: dict[str, object]) -> None:
    record, remarks = parse_ehr(json.loads(json.dumps(ehr)))
    for variable in EHR_VARIABLES.values():
        value = getattr(record, variable.key)
        assert value is None or variable.lowest <= value <= variable.highest
        assert value is None or math.isfinite(value)
    assert all("\n" not in remark for remark in remarks)


@given(JSON_OBJECTS, st.integers(0, 1000))
def test_the_order_of_keys_changes_nothing(ehr: dict[str, object], seed: int) -> None:
    items = list(ehr.items())
    random.Random(seed).shuffle(items)
    (record, remarks), (again, same_remarks) = parse_ehr(ehr), parse_ehr(dict(items))
    assert record == again
    assert sorted(remarks) == sorted(same_remarks)


def test_conflicting_keys_in_any_order_are_missing() -> None:
    ehr = {"Age": 60, "age": 61, "AGE": 60}
    for first in ehr:
        assert record_of({first: ehr[first], **ehr}).age is None


FEATURES = (
    ClinicalFeature(key="age", mean=60, std=8),
    ClinicalFeature(key="gender"),
    ClinicalFeature(key="hpv", missing=0.5),
    ClinicalFeature(key="tobacco"),
)


def test_feature_is_unscaled_and_missing_is_minus_one_by_default() -> None:
    feature = ClinicalFeature(key="gender")
    assert (feature.mean, feature.std, feature.missing) == (0.0, 1.0, -1.0)


def test_encoding_by_hand() -> None:
    record = ClinicalRecord(age=72, gender=0, hpv=0.25)
    encoded = encode(record, FEATURES)
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [1.5, 0, 0.25, -1]


def test_encoding_follows_the_order_of_the_card() -> None:
    record = ClinicalRecord(age=72, gender=0, hpv=0.25)
    assert encode(record, FEATURES[::-1]).tolist() == [-1, 0.25, 0, 1.5]


def test_missing_becomes_the_code_of_each_feature() -> None:
    assert encode(ClinicalRecord(), FEATURES).tolist() == [-1, -1, 0.5, -1]


def test_without_features_the_vector_is_empty() -> None:
    assert encode(ClinicalRecord(age=72), ()).shape == (0,)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": "weight"},
        {"key": "centre_id"},
        {"key": "Age"},
        {"key": "age", "std": 0},
        {"key": "age", "std": -1},
    ],
)
def test_impossible_feature_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ClinicalFeature.model_validate(wrong)

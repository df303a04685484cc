"""Judgements are printed, kept beside the output, and stop a run whose output is useless."""

import json
from dataclasses import asdict

import pytest

from pipeline.content.trust import TRUST, Judgement, read_judgements, settle, worst_level
from pipeline.errors import UserError

FINE = Judgement("generator", "fine", "it covers 90 % of the real images.", "", {"coverage": 0.9})
DOUBTFUL = Judgement("labeller of Male", "doubtful", "it is right for 60 %.", "Get more.", {"n": None})
USELESS = Judgement("labeller of Age", "useless", "it is right for 2 %.", "Look at it.", {})


def test_judgements_are_kept_and_said(tmp_path, capsys):
    settle([FINE, DOUBTFUL], tmp_path, "stop")
    assert read_judgements(tmp_path) == [FINE, DOUBTFUL]
    assert capsys.readouterr().out.splitlines() == [
        "fine: generator: it covers 90 % of the real images.",
        "doubtful: labeller of Male: it is right for 60 %. Get more.",
    ]


def test_the_file_has_each_judgement_as_it_was_made(tmp_path):
    whole = Judgement("step", "fine", "it is.", "", {"n": 3, "share": 0.1, "whole": 1.0, "none": None})
    settle([whole, DOUBTFUL], tmp_path, "stop")
    content = {"judgements": [asdict(whole), asdict(DOUBTFUL)]}
    assert (tmp_path / TRUST).read_text() == json.dumps(content, indent=2, sort_keys=True) + "\n"


def test_a_judgement_of_no_known_level_is_refused(tmp_path):
    content = {"judgements": [asdict(FINE) | {"level": "good"}]}
    (tmp_path / TRUST).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"judgements\.0\.level: Input should be 'fine', 'doubtful' or"):
        read_judgements(tmp_path)


def test_what_is_useless_stops_and_says_what_to_do(tmp_path):
    with pytest.raises(
        UserError, match=r"^labeller of Age is useless: it is right for 2 %\. Look at it\. To go on"
    ):
        settle([FINE, USELESS], tmp_path, "stop")
    assert (tmp_path / TRUST).is_file()  # for whoever looks into the work folder
    settle([FINE, USELESS], tmp_path, "go_on")
    assert read_judgements(tmp_path)[1].level == "useless"


def test_a_folder_without_judgements_has_none(tmp_path):
    assert read_judgements(tmp_path) == []


def test_the_worst_level():
    assert worst_level([]) == "fine"
    assert worst_level([DOUBTFUL, FINE]) == "doubtful"
    assert worst_level([FINE, USELESS, DOUBTFUL]) == "useless"

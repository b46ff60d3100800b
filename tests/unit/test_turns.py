"""Whose turn it is."""

from __future__ import annotations

from services.common.turns import Turns


def taken(turns: Turns[str]) -> list[str]:
    order = []
    while turns:
        assert turns.first() == turns.first()
        order.append(turns.first())
        assert turns.take() == order[-1]
    return order


def lined_up(*items: str) -> Turns[str]:
    """Items such as "a1": the caller's name and a number."""
    turns: Turns[str] = Turns()
    for item in items:
        turns.add(item[0], item)
    return turns


def test_callers_take_turns_however_much_each_of_them_brings():
    turns = lined_up("a1", "a2", "a3", "a4", "b1", "c1", "c2")
    assert taken(turns) == ["a1", "b1", "c1", "a2", "c2", "a3", "a4"]


def test_who_comes_again_waits_behind_those_who_are_there():
    turns = lined_up("a1", "a2", "b1")
    assert turns.take() == "a1"
    turns.add("c", "c1")
    turns.add("a", "a3")
    assert taken(turns) == ["b1", "a2", "c1", "a3"]


def test_what_is_discarded_takes_no_turn():
    turns = lined_up("a1", "a2", "b1", "c1")
    assert turns.discard("a", "a1")
    assert turns.discard("b", "b1")
    assert not turns.discard("b", "b1")
    assert not turns.discard("d", "d1")
    assert len(turns) == 2
    assert taken(turns) == ["a2", "c1"]
    assert not turns


def test_before_a_new_callers_last_item_each_other_has_as_many_turns():
    turns = lined_up("a1", "a2", "a3", "b1")
    assert [turns.count_before(items) for items in (1, 2, 3, 4)] == [2, 3, 4, 4]

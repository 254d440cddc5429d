from __future__ import annotations

from collections import Counter

from oversight.engines.vllm import rendezvous

ROUTES = [f"debate-{number}" for number in range(4000)]


def test_a_route_always_goes_to_the_same_replica():
    assert [rendezvous(route, 5) for route in ROUTES] == [rendezvous(r, 5) for r in ROUTES]
    assert rendezvous("anything", 1) == 0


def test_the_choice_is_the_same_in_every_process():
    assert [rendezvous(f"r{n}", 3) for n in range(12)] == [0, 1, 1, 1, 2, 2, 0, 0, 1, 2, 2, 0]


def test_routes_spread_evenly():
    for num_replicas in (2, 3, 8):
        load = Counter(rendezvous(route, num_replicas) for route in ROUTES)
        assert len(load) == num_replicas
        mean = len(ROUTES) / num_replicas
        assert all(0.85 * mean < num < 1.15 * mean for num in load.values())


def test_a_further_replica_takes_its_share_and_moves_nothing_else():
    before = [rendezvous(route, 4) for route in ROUTES]
    after = [rendezvous(route, 5) for route in ROUTES]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {4}
    assert 0.15 < len(moved) / len(ROUTES) < 0.25

"""`RegionGraph`: what it accepts, what it refuses and in which words, and networkx both ways."""

import dataclasses

import networkx as nx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as draw

from pcircuits import CircuitError, ScopeError
from pcircuits import structures as st

ABC = {"abc": ["a", "b", "c"], "ab": ["a", "b"], "bc": ["b", "c"], "a": "a", "b": "b", "c": "c"}
SPLIT = {"abc": [("ab", "c"), ("a", "bc")], "ab": [("a", "b")], "bc": [("b", "c")]}


def test_what_a_graph_says_of_itself():
    graph = st.RegionGraph(ABC, SPLIT)
    assert graph.root == "abc"
    assert graph.leaves == ("a", "b", "c")
    assert graph.variables == ("a", "b", "c")
    assert graph.scopes["bc"] == {"b", "c"}
    assert graph.partitions["abc"] == (("ab", "c"), ("a", "bc"))
    assert graph.partitions["a"] == ()
    assert repr(graph) == "RegionGraph(3 variables, 6 regions, 4 partitions)"


def test_it_never_changes():
    scopes, partitions = {k: list(v) for k, v in ABC.items()}, {k: list(v) for k, v in SPLIT.items()}
    graph = st.RegionGraph(scopes, partitions)
    scopes["abc"].append("d")
    partitions["ab"].clear()
    assert graph == st.RegionGraph(ABC, SPLIT)
    assert hash(graph) == hash(st.RegionGraph(ABC, SPLIT))
    with pytest.raises(TypeError):
        graph.scopes["a"] = frozenset("b")
    with pytest.raises(TypeError):
        graph.partitions["a"] = ()
    with pytest.raises(dataclasses.FrozenInstanceError):
        graph.root = "a"


def test_graphs_differ():
    graph = st.RegionGraph(ABC, SPLIT)
    assert graph != st.RegionGraph(ABC, {**SPLIT, "abc": [("a", "bc"), ("ab", "c")]})
    assert graph != st.RegionGraph(ABC, SPLIT, variables=["c", "b", "a"])
    assert graph != "abc"


def test_order_of_the_variables():
    assert st.RegionGraph({0: [7, 3, 5]}, {}).variables == (3, 5, 7)
    assert st.RegionGraph({0: ["y", "x"]}, {}).variables == ("y", "x")
    assert st.RegionGraph({0: {"y", "x", "z"}}, {}).variables == ("x", "y", "z")
    assert st.RegionGraph({0: "whole"}, {}).variables == ("whole",)
    assert st.RegionGraph({0: [3, 5]}, {}, variables=[5, 3]).variables == (5, 3)


def test_regions_of_one_scope_are_two_regions():
    scopes = {"root": [0, 1], (0, "left"): 0, (0, "right"): 1, (1, "left"): 0, (1, "right"): 1}
    graph = st.RegionGraph(scopes, {"root": [[(n, "left"), (n, "right")] for n in (0, 1)]})
    assert len(graph.scopes) == 5


REFUSED = {
    "no region": ({}, {}, "at least one region"),
    "an empty scope": ({"a": []}, {}, "the scope of region 'a': no variables were given"),
    "no label": ({"a": [1.5]}, {}, "the scope of region 'a': a variable is an int or a str, not 1.5"),
    "a label twice": ({"a": ["x", "y", "x"]}, {}, "the scope of region 'a' names {'x'} more than once"),
    "partitions of nothing": ({"a": "a"}, {"b": []}, "partitions of 'b', which is no region"),
    "an unknown part": (ABC, {**SPLIT, "ab": [("a", "z")]}, "partition 0 of region 'ab' names 'z', which is no region"),
    "one part": (ABC, {**SPLIT, "ab": [("ab",)]}, "partition 0 of region 'ab' has 1 parts: it needs two or more"),
    "a cycle": (
        {"r": [0, 1], "s": [0, 1], "a": 0},
        {"r": [("s", "a")], "s": [("r", "a")]},
        r"regions are parts of themselves: ('r' -> 's' -> 'r'|'s' -> 'r' -> 's'); ",
    ),
    "its own part": ({"r": [0, 1], "a": 0}, {"r": [("r", "a")]}, "regions are parts of themselves: 'r' -> 'r'"),
    "an overlap": (
        ABC,
        {**SPLIT, "abc": [("a", "bc"), ("ab", "bc")]},
        "the parts 'ab' and 'bc' of partition 1 of region 'abc' overlap: both hold {'b'}",
    ),
    "a part twice": (ABC, {**SPLIT, "ab": [("a", "b", "a")]}, "the parts 'a' and 'a' of partition 0 of region 'ab'"),
    "what is not covered": (
        ABC,
        {**SPLIT, "abc": [("a", "c")]},
        "partition 0 of region 'abc' does not cover it: no part holds {'b'} of its scope {'a', 'b', 'c'}",
    ),
    "what is outside": (
        ABC,
        {**SPLIT, "ab": [("a", "bc")]},
        "partition 0 of region 'ab' reaches out of it: its parts hold {'c'}, its scope is {'a', 'b'}",
    ),
    "several roots": (
        ABC,
        {"ab": [("a", "b")]},
        r"one root, and 4 regions are part of no other: 'abc' over {'a', 'b', 'c'}, 'ab' over {'a', 'b'}, 'bc' over",
    ),
}


@pytest.mark.errors
@pytest.mark.parametrize(("scopes", "partitions", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(scopes, partitions, message):
    with pytest.raises(CircuitError, match=message):
        st.RegionGraph(scopes, partitions)


@pytest.mark.errors
@pytest.mark.parametrize("variables", [["a", "b"], ["a", "b", "z"], ["a", "b", "c", "a"]])
def test_an_order_that_does_not_fit(variables):
    with pytest.raises(ScopeError, match=r"`variables` holds .* the root's scope is \['a', 'b', 'c'\]"):
        st.RegionGraph(ABC, SPLIT, variables)


@pytest.mark.errors
def test_long_scopes_are_cut_short():
    with pytest.raises(ScopeError, match=r"no part holds {2, 3, 4, 5, 6, 7, \.\.\. 98 in all} of its scope"):
        st.RegionGraph({"r": range(100), 0: 0, 1: 1}, {"r": [(0, 1)]})


GRAPHS = {
    "own": lambda: st.RegionGraph(ABC, SPLIT, variables=["b", "c", "a"]),
    "one region": lambda: st.RegionGraph({"r": ["y", "x"]}, {}),
    "quad graph": lambda: st.quad_graph(5, 3),
    "quad tree": lambda: st.quad_tree(3, 4),
    "random trees": lambda: st.random_binary_tree([*"stuvw"], 2, 3, torch.Generator().manual_seed(0)),
    "chain": lambda: st.chain(["z", "x", "y"]),
}


@pytest.mark.parametrize("make", GRAPHS.values(), ids=GRAPHS)
def test_networkx_and_back(make):
    graph = make()
    drawn = graph.to_networkx()
    assert nx.is_directed_acyclic_graph(drawn)
    kinds = nx.get_node_attributes(drawn, "kind")
    assert sum(kind == "region" for kind in kinds.values()) == len(graph.scopes)
    assert sum(kind == "partition" for kind in kinds.values()) == sum(map(len, graph.partitions.values()))
    assert all(kinds[a] != kinds[b] for a, b in drawn.edges)
    assert [n for n in drawn if drawn.in_degree(n) == 0] == [graph.root]
    assert st.RegionGraph.from_networkx(drawn) == graph


@given(draw.randoms())
def test_positions_keep_the_order_whatever_that_of_the_nodes(random):
    graph = st.quad_graph(3, 3)
    drawn = graph.to_networkx()
    nodes, edges = list(drawn.nodes(data=True)), list(drawn.edges(data=True))
    random.shuffle(nodes)
    random.shuffle(edges)
    shuffled = nx.DiGraph()
    shuffled.add_nodes_from(nodes)
    shuffled.add_edges_from(edges)
    assert st.RegionGraph.from_networkx(shuffled) == graph


def drawn(**changes):
    """The graph of {a, b}, with other attributes for some nodes."""
    graph = nx.DiGraph()
    graph.add_edges_from([("ab", "p"), ("p", "a"), ("p", "b")])
    attributes = {
        "ab": {"kind": "region", "scope": ["a", "b"]},
        "p": {"kind": "partition"},
        "a": {"kind": "region", "scope": "a"},
        "b": {"kind": "region", "scope": "b"},
    }
    nx.set_node_attributes(graph, {**attributes, **changes})
    return graph


def test_without_positions_the_order_is_that_of_the_edges():
    assert st.RegionGraph.from_networkx(drawn()).partitions["ab"] == (("a", "b"),)


@pytest.mark.errors
def test_networkx_graphs_that_are_no_region_graphs():
    with pytest.raises(ScopeError, match=r"from a networkx\.DiGraph, not from a Graph"):
        st.RegionGraph.from_networkx(nx.Graph(drawn()))
    with pytest.raises(ScopeError, match="node 'p' has kind 'product'"):
        st.RegionGraph.from_networkx(drawn(p={"kind": "product"}))
    with pytest.raises(ScopeError, match="region 'b' has no attribute `scope`"):
        st.RegionGraph.from_networkx(drawn(b={"kind": "region"}))
    direct = drawn()
    direct.add_edge("ab", "a")
    with pytest.raises(ScopeError, match="an edge leads from region 'ab' to region 'a'"):
        st.RegionGraph.from_networkx(direct)
    orphan = drawn()
    orphan.remove_edge("ab", "p")
    with pytest.raises(ScopeError, match=r"partition 'p' belongs to the regions \[\]: it needs exactly one"):
        st.RegionGraph.from_networkx(orphan)
    with pytest.raises(CircuitError, match="at least one region"):
        st.RegionGraph.from_networkx(nx.DiGraph())
    with pytest.raises(ScopeError, match="partition 0 of region 'ab' reaches out of it"):
        st.RegionGraph.from_networkx(drawn(b={"kind": "region", "scope": ["b", "c"]}))


@pytest.mark.errors
def test_a_region_with_the_name_of_a_partition():
    name = ("partition", "r", 0)
    graph = st.RegionGraph({"r": [0, 1], name: 0, 1: 1}, {"r": [(name, 1)]})
    with pytest.raises(ScopeError, match=r"a region is named \('partition', 'r', 0\).*rename it"):
        graph.to_networkx()

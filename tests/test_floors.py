"""Imports point only down: a test reads the source of every module and holds it to its floor."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOORS = {
    "pcircuits": [
        [
            "scope",
            "values",
            "rounding",
            "arguments",
            "evidence",
            "parameters",
            "computed",
            "errors",
            "files",
            "devices",
            "memory",
            "_version",
        ],
        ["families"],
        ["circuit"],
        ["program"],
        ["queries"],
        ["structures", "learning", "io", "networkx", "testing", "sklearn"],
    ],
    "vq_sources": [
        ["protocols", "codes", "errors", "plain_numbers"],
        ["models", "priors", "quantizers", "data"],
        ["selection"],
        ["distil", "compose", "calibrate", "finetune", "fitting", "metrics"],
        ["cli", "report", "testing"],
    ],
}
EXCEPTIONS = {("pcircuits.circuit.circuit", "pcircuits.queries.compiled")}
"""`Circuit.compile()` reaches up to the compiler."""


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for package in FLOORS for path in sorted((ROOT / package).rglob("*.py"))}


def floor(module: str) -> int:
    """The floor of a module; a package as a whole stands where the highest thing that it exports does."""
    package, *rest = module.split(".")
    if not rest:
        return max(floor(target) for target in imports(module) if target.startswith(f"{package}."))
    for number, names in enumerate(FLOORS[package]):
        if rest[0] in names:
            return number
    raise AssertionError(f"{module} is on no floor: say which in {__file__}")


def imports(module: str) -> set[str]:
    """What a module imports of these packages, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            source = node.module or ""
            for alias in node.names:
                deeper = f"{source}.{alias.name}"
                found.add(deeper if deeper in MODULES else source)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.split(".")[0] in FLOORS}


def test_imports_point_only_down():
    up = []
    for module in sorted(MODULES):
        package = module.split(".")[0]
        for target in imports(module):
            other = target.split(".")[0]
            if package == "pcircuits":
                assert other == "pcircuits", (
                    f"{module} imports {target}: pcircuits knows nothing of what is built on it"
                )
            if other == package and (module, target) not in EXCEPTIONS and floor(target) > floor(module):
                up.append(f"{module} (floor {floor(module)}) imports {target} (floor {floor(target)})")
    assert not up, "\n".join(up)


def test_the_exception_is_still_needed():
    assert all(target in imports(module) for module, target in EXCEPTIONS)


def test_the_program_knows_no_query_and_queries_no_vector_quantisation():
    """Nothing in `pcircuits` speaks of images or of what vq_sources is about."""
    for module, path in MODULES.items():
        if module.startswith("pcircuits"):
            names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
            assert not {"VQVAE", "codebook", "CodeSet"} & names, module


def test_every_module_says_what_it_is_and_what_it_exports():
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{module} opens without a sentence"
        names = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
        empty = len(tree.body) == 1
        assert "__all__" in names or empty or path.name in ("__main__.py", "_version.py"), f"{module} has no __all__"

"""Mutants: small wrong changes to the decisions of the engine, each of which some test must notice.

    python -m tests.mutants --take 20 --seed 7

Changes a comparison, a sign, a constant, a condition or a list of names in a copy of one module, or of
one of its functions (``module.py::Class.function``), and runs the tests of that place against the copy.
Prints the mutants that no test noticed; exit code 1 if they are more
than some: a few change nothing that can be observed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {
    "retry.py": ["tests/test_retry.py"],
    "breaker.py": ["tests/test_breaker.py"],
    "classify.py": ["tests/test_classify.py", "tests/transports/test_answers.py"],
    "gate.py": ["tests/test_gate.py"],
    "pacer.py": ["tests/test_pacer.py"],
    "cost.py": ["tests/test_cost.py"],
    "limit": ["tests/test_limit.py"],
    "emulator/lifecycle.py": ["tests/emulator/test_states.py"],
    "emulator/record_faults.py": ["tests/emulator/test_record_faults.py"],
    "emulator/model.py": ["tests/emulator/test_model.py"],
    # Places where two features meet.
    "dispatcher/budget.py::Budget.watch": ["tests/dispatcher/test_changing_limits.py"],
    "dispatcher/budget.py::Budget._apply": [
        "tests/dispatcher/test_changing_limits.py",
        "tests/dispatcher/test_budget.py",
    ],
    "quotas/discover.py::watch": ["tests/test_quotas.py"],
    "commands/redrive.py::_send_again": ["tests/cli/test_redrive.py"],
    "commands/redrive.py::_Allowed": ["tests/cli/test_redrive.py"],
    "commands/redrive.py::_has_sent": ["tests/cli/test_redrive.py"],
    "commands/resume.py::_check_take": ["tests/cli/test_resume.py", "tests/cli/test_restart.py"],
    "dispatcher/outcomes.py::OutcomeMaker._failure_of": ["tests/dispatcher/test_retrying.py"],
    "commands/local.py": ["tests/commands/test_local.py"],
    "emulator/environments.py::Environment.run": ["tests/emulator/test_handlers.py"],
    "emulator/environments.py::Environment._deliver": ["tests/emulator/test_handlers.py"],
    "emulator/environments.py::Environment._on_exit": ["tests/emulator/test_handlers.py"],
    "first_process.py": ["tests/cli/test_processes.py"],
}
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
}
_LIMIT_S = 300


def changes(node: ast.AST) -> Iterator[Callable[[ast.AST], None]]:
    """Every change to this node, as a function that makes it in a copy."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
        other = _COMPARISONS[type(node.ops[0])]
        yield lambda found: found.ops.__setitem__(0, other())  # type: ignore[attr-defined]
    elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in _OPERATORS:
        operator = _OPERATORS[type(node.op)]
        yield lambda found: setattr(found, "op", operator())
    elif isinstance(node, ast.BoolOp):
        joint = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield lambda found: setattr(found, "op", joint())
    elif isinstance(node, ast.Constant) and type(node.value) in {int, float, bool}:
        value = (not node.value) if isinstance(node.value, bool) else node.value + 1  # type: ignore[operator]
        yield lambda found: setattr(found, "value", value)
    elif isinstance(node, (ast.Tuple, ast.Set, ast.List)) and _are_names(node.elts):
        for place in range(len(node.elts)):
            yield lambda found, place=place: found.elts.__delitem__(place)  # type: ignore[misc]
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield lambda found: setattr(found, "test", ast.UnaryOp(ast.Not(), found.test))  # type: ignore[attr-defined]


def _are_names(nodes: list[ast.expr]) -> bool:
    return len(nodes) > 1 and all(
        isinstance(each, ast.Constant) and isinstance(each.value, str) for each in nodes
    )


def within(tree: ast.AST, place: str) -> set[ast.AST]:
    """The nodes of a function or class, named as ``Class.function``; of the whole module for no name."""
    found = tree
    for name in filter(None, place.split(".")):
        found = next(each for each in ast.iter_child_nodes(found) if getattr(each, "name", None) == name)
    return set(ast.walk(found))


def mutants(source: str, place: str = "") -> list[tuple[int, str]]:
    """Every mutant of a module, or of one place in it: the line that changes, and the whole text."""
    tree = ast.parse(source)
    wanted = within(tree, place)
    made = []
    for index, node in enumerate(ast.walk(tree)):
        for change in changes(node) if node in wanted else ():
            mutated = copy.deepcopy(tree)
            change(list(ast.walk(mutated))[index])
            text = ast.unparse(ast.fix_missing_locations(mutated))
            made.append((getattr(node, "lineno", 0), text))
    return made


def survives(module: Path, text: str, tests: list[str], package: Path) -> bool:
    """Whether the module's tests pass with this text in its place."""
    place = package / module.relative_to(ROOT / "src" / "fanout")
    whole = place.read_text("utf-8")
    place.write_text(text, "utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *tests],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(package.parent)},
            capture_output=True,
            check=False,
            timeout=_LIMIT_S,
        )
    except subprocess.TimeoutExpired:
        return False
    finally:
        place.write_text(whole, "utf-8")
    return done.returncode == 0


def main() -> int:
    """Try some mutants of the modules that are named, or of all; 1 if too many survive."""
    parser = argparse.ArgumentParser(description="Mutants that no test notices.")
    parser.add_argument("modules", nargs="*", default=list(TARGETS), help=f"of: {', '.join(TARGETS)}")
    parser.add_argument("--take", type=int, default=5, help="mutants of each module; default 5")
    parser.add_argument("--seed", type=int, default=0, help="which ones; default 0")
    parser.add_argument("--least", type=float, default=0.7, help="share to be noticed; default 0.7")
    asked = parser.parse_args()
    dice = random.Random(asked.seed)
    survivors = tried = 0
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder, "fanout")
        shutil.copytree(ROOT / "src" / "fanout", package, ignore=shutil.ignore_patterns("__pycache__"))
        for name in asked.modules:
            module, _, place = name.partition("::")
            path = ROOT / "src" / "fanout" / module
            files = sorted(path.glob("*.py")) if path.is_dir() else [path]
            if not survives(files[0], files[0].read_text("utf-8"), TARGETS[name], package):
                print(f"the tests of {name} fail without any change: {', '.join(TARGETS[name])}")
                return 2
            found = [(file, *mutant) for file in files for mutant in mutants(file.read_text("utf-8"), place)]
            for file, line, text in dice.sample(found, min(asked.take, len(found))):
                tried += 1
                if survives(file, text, TARGETS[name], package):
                    survivors += 1
                    before = file.read_text("utf-8").splitlines()[line - 1].strip()
                    print(f"survived: {file.relative_to(ROOT)}:{line}: {before}", flush=True)
    print(f"{tried - survivors} of {tried} mutants were noticed")
    return int(tried - survivors < asked.least * tried)


if __name__ == "__main__":
    sys.exit(main())

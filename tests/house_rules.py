"""The rules of the code, read from the syntax trees: layers, circles, sizes, forbidden calls.

Every rule takes a `Tree` and returns its violations. A rule with a figure returns a count for each
key, so that `exceptions.json` can hold what stands today and let it only shrink.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

FILE_LINES = 400
FUNCTION_LINES = 60
FOLDER_FILES = 20

# A layer may import itself and what stands below it. Wings never import each other.
GROUND = {"errors", "config", "durable", "processes", "wire", "formatting", "secrets", "documents"}
LAYERS: dict[str, set[str]] = {
    **dict.fromkeys(GROUND, GROUND),
    "lm": GROUND | {"lm"},
    "hub": GROUND | {"hub"},
    "tiers": GROUND | {"tiers"},
    "learning": GROUND | {"lm", "hub", "tiers", "learning"},
    "panels": GROUND | {"lm", "hub", "tiers", "learning", "panels"},
    "cli": GROUND | {"lm", "hub", "tiers", "learning", "panels", "cli"},
    # templates of Spaces: programs of their own that call a panel
    "spaces": {"panels", "config", "errors"},
}
LM_ORDER = {
    "model": 0,
    "data": 1,
    "export": 2,
    "generate": 3,
    "evaluate": 4,
    "train": 5,
    "serve": 5,
    "runs": 6,
}
ONLY_IN = {
    "torch": ("triptych/lm/",),
    "gradio": ("triptych/panels/",),
    "huggingface_hub": ("triptych/hub/client.py", "triptych/hub/translation.py"),
    "transformers": ("triptych/lm/",),
}
ENVIRONMENT = {"environ", "getenv", "putenv"}
# a Space is a program of its own: its hub speaks to it through the environment
READS_ENVIRONMENT = {"config", "spaces"}
BOUNDARY = "# boundary:"
FORBIDDEN_NAMES = re.compile(
    r"(^|_)(utils?|helpers?|common|managers?|improved|optimi[sz]ed|v2|misc)(_|$)"
)
UNFINISHED = re.compile(r"TODO|FIXME|XXX|NotImplementedError|in a real implementation", re.I)
TIER_NAMES_FILE = "triptych/wire/tiers.py"
TIER_NAMES = {"base", "company", "abstraction"}
PICKLES = {"pickle", "cloudpickle", "dill", "joblib", "shelve"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Tree:
    """The package `triptych` below a root, parsed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = root / "triptych"

    @cached_property
    def files(self) -> dict[Path, str]:
        return {path: path.read_text("utf-8") for path in sorted(self.package.rglob("*.py"))}

    @cached_property
    def parsed(self) -> dict[Path, ast.Module]:
        return {path: ast.parse(text, str(path)) for path, text in self.files.items()}

    def place(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def parts(self, path: Path) -> tuple[str, ...]:
        return path.relative_to(self.package).with_suffix("").parts

    def imports(self) -> Iterator[tuple[Path, int, str]]:
        """Yield file, line and full name of everything that is imported, at any depth."""
        for path, module in self.parsed.items():
            for node in ast.walk(module):
                if isinstance(node, ast.Import):
                    for alias in node.names:
                        yield path, node.lineno, alias.name
                elif isinstance(node, ast.ImportFrom):
                    if node.level:
                        yield path, node.lineno, "a relative import"
                    for alias in node.names:
                        yield path, node.lineno, f"{node.module}.{alias.name}"

    def functions(self) -> Iterator[tuple[Path, str, Function]]:
        """Yield every function with its name as `Class.method`, nested functions included."""
        for path, module in self.parsed.items():
            yield from ((path, name, node) for name, node in _functions(module, ""))


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, Function]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield f"{prefix}{child.name}", child
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        else:
            yield from _functions(child, prefix)


def upward_imports(tree: Tree) -> list[str]:
    """Return the imports that go up or across the layers, and packages that have no layer."""
    wrong = []
    for path in tree.files:
        layer = tree.parts(path)[0]
        if layer not in LAYERS and not layer.startswith("__"):
            wrong.append(f"{tree.place(path)} belongs to no layer: add it to LAYERS")
    for path, line, name in tree.imports():
        layer, target = tree.parts(path)[0], name.split(".")
        if name == "a relative import":
            wrong.append(f"{tree.place(path)}:{line} has {name}")
        if layer not in LAYERS or target[0] != "triptych" or len(target) < 2:
            continue
        if target[1] in LAYERS and target[1] not in LAYERS[layer]:
            wrong.append(f"{tree.place(path)}:{line} {layer} imports {name}")
    return wrong


def upward_imports_of_lm(tree: Tree) -> list[str]:
    wrong = []
    for path, line, name in tree.imports():
        parts, target = tree.parts(path), name.split(".")
        if parts[0] != "lm" or len(parts) < 3 or target[:2] != ["triptych", "lm"]:
            continue
        if len(target) < 3 or target[2] not in LM_ORDER or target[2] == parts[1]:
            continue
        if LM_ORDER[target[2]] >= LM_ORDER[parts[1]]:
            wrong.append(f"{tree.place(path)}:{line} lm.{parts[1]} imports {name}")
    return wrong


def circles(tree: Tree) -> list[list[str]]:
    """Return the circles of imports, each as its sorted modules.

    Imports inside functions and under `TYPE_CHECKING` count: they are arrows on the picture too.
    """
    modules = {}
    for path in tree.files:
        parts = ("triptych", *tree.parts(path))
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    names = {path: name for name, path in modules.items()}
    arrows: dict[str, set[str]] = {name: set() for name in modules}
    for path, _, name in tree.imports():
        target = name if name in modules else name.rpartition(".")[0]
        if target in modules and target != names[path]:
            arrows[names[path]].add(target)
    return _strongly_connected(arrows)


def _strongly_connected(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Return the components of more than one node. Source: Kosaraju's two passes."""
    order: list[str] = []
    seen: set[str] = set()
    for start in arrows:
        stack = [(start, iter(arrows[start]))] if start not in seen else []
        seen.add(start)
        while stack:
            node, targets = stack[-1]
            following = next((target for target in targets if target not in seen), None)
            if following is None:
                order.append(node)
                stack.pop()
            else:
                seen.add(following)
                stack.append((following, iter(arrows[following])))
    back: dict[str, set[str]] = {name: set() for name in arrows}
    for name, targets in arrows.items():
        for target in targets:
            back[target].add(name)
    found, taken = [], set[str]()
    for start in reversed(order):
        component, waiting = [], [start] if start not in taken else []
        taken.add(start)
        while waiting:
            component.append(waiting.pop())
            fresh = back[component[-1]] - taken
            taken |= fresh
            waiting += fresh
        if len(component) > 1:
            found.append(sorted(component))
    return found


def modules_in_circles(tree: Tree) -> Counter[str]:
    """Count the modules that stand in a circle, per package of the first level."""
    return Counter(".".join(name.split(".")[:2]) for circle in circles(tree) for name in circle)


def foreign_imports(tree: Tree, library: str) -> list[str]:
    return [
        f"{tree.place(path)}:{line} imports {name}"
        for path, line, name in tree.imports()
        if name.split(".")[0] == library and not tree.place(path).startswith(ONLY_IN[library])
    ]


def environment_reads(tree: Tree) -> list[str]:
    return [
        f"{tree.place(path)}:{node.lineno} os.{node.attr}"
        for path, module in tree.parsed.items()
        if tree.parts(path)[0] not in READS_ENVIRONMENT
        for node in ast.walk(module)
        if isinstance(node, ast.Attribute) and node.attr in ENVIRONMENT
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    ]


def long_files(tree: Tree) -> dict[str, int]:
    """Return the lines of every file with more than `FILE_LINES`, by the file's name."""
    lengths = {path: len(text.splitlines()) for path, text in tree.files.items()}
    return {path.name: length for path, length in lengths.items() if length > FILE_LINES}


def long_functions(tree: Tree) -> dict[str, int]:
    """Return the lines of every function with more than `FUNCTION_LINES`."""
    return {
        f"{path.name}:{name}": length
        for path, name, node in tree.functions()
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES
    }


def full_folders(tree: Tree) -> dict[str, int]:
    """Return the number of source files of every folder with more than `FOLDER_FILES`."""
    counts = Counter(tree.place(path.parent) for path in tree.files)
    return {folder: count for folder, count in counts.items() if count > FOLDER_FILES}


def missing_shapes(tree: Tree) -> dict[str, int]:
    """Return the public functions that take or return a Tensor and name no `Shape:`."""
    wrong = {}
    for path, name, node in tree.functions():
        if any(part.startswith("_") and part != "__init__" for part in name.split(".")):
            continue
        arguments = node.args
        listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        notes = [argument.annotation for argument in listed] + [node.returns]
        if not any(note and re.search(r"\bTensor\b", ast.unparse(note)) for note in notes):
            continue
        if "Shape:" not in (ast.get_docstring(node) or ""):
            wrong[f"{path.name}:{name}"] = 1
    return wrong


def tier_name_lists(tree: Tree) -> dict[str, int]:
    """Count, per file, the literals that write down the three names of the tiers once more."""
    found: Counter[str] = Counter()
    for path, module in tree.parsed.items():
        for node in ast.walk(module):
            if isinstance(node, ast.Dict):
                items: list[ast.expr | None] = list(node.keys)
            elif isinstance(node, ast.Tuple | ast.List | ast.Set):
                items = list(node.elts)
            else:
                continue
            named = {item.value for item in items if isinstance(item, ast.Constant)}
            if tree.place(path) != TIER_NAMES_FILE:
                found[tree.place(path)] += named >= TIER_NAMES
    return {place: count for place, count in found.items() if count}


def vague_names(tree: Tree) -> list[str]:
    return [tree.place(path) for path in tree.files if FORBIDDEN_NAMES.search(path.stem)]


def unfinished_lines(tree: Tree) -> list[str]:
    return [
        f"{tree.place(path)}:{number} {line.strip()}"
        for path, text in tree.files.items()
        for number, line in enumerate(text.splitlines(), 1)
        if UNFINISHED.search(line)
    ]


def broad_excepts(tree: Tree) -> list[str]:
    wrong = []
    for path, module in tree.parsed.items():
        lines = tree.files[path].splitlines()
        for node in ast.walk(module):
            if not isinstance(node, ast.ExceptHandler):
                continue
            names = ast.unparse(node.type) if node.type else "everything"
            if names == "everything" or re.search(r"\b(Base)?Exception\b", names):
                reraises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
                if not reraises and BOUNDARY not in lines[node.lineno - 1]:
                    wrong.append(f"{tree.place(path)}:{node.lineno} catches {names}")
    return wrong


def modules_without_docstring(tree: Tree) -> list[str]:
    return [tree.place(path) for path, node in tree.parsed.items() if not ast.get_docstring(node)]


def pickles_and_remote_code(tree: Tree) -> list[str]:
    wrong = [
        f"{tree.place(path)}:{line} imports {name}"
        for path, line, name in tree.imports()
        if name.split(".")[0] in PICKLES
    ]
    for path, text in tree.files.items():
        if re.search(r"trust_remote_code\s*=\s*True|\btorch\.(load|save)\(", text):
            wrong.append(f"{tree.place(path)} loads pickles or remote code")
    return wrong

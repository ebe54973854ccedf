"""What contributors meet: `CONTRIBUTING.md` with its map, workflows and other files of the host, and the metadata."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from inferencepool import __version__
from inferencepool.adapters.bodies import PARSERS
from inferencepool.adapters.exposition import ENGINES
from inferencepool.cli._main import _parser
from inferencepool.plugins import CATALOG
from tests.patience import PATIENCE
from tests.versions import PARTS, lower_bounds, main

GITHUB = ".github/"
WORKFLOWS = ("ci.yml", "docs.yml", "release.yml")
SCHEMAS = {
    **{f".github/workflows/{name}": "github-workflows" for name in WORKFLOWS},
    ".github/dependabot.yml": "dependabot",
    ".github/ISSUE_TEMPLATE/bug.yml": "github-issue-forms",
    ".github/ISSUE_TEMPLATE/config.yml": "github-issue-config",
    ".github/ISSUE_TEMPLATE/idea.yml": "github-issue-forms",
    ".readthedocs.yaml": "readthedocs",
}
POLICIES = ("CONTRIBUTING.md", "SECURITY.md", ".github/CODE_OF_CONDUCT.md", ".github/pull_request_template.md")


def _project(root: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    return project


def _run(root: Path, *command: str) -> None:
    """Run a command that is to succeed; where it fails, what it says is the failure."""
    completed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert not completed.returncode, completed.stdout + completed.stderr


def _load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


class TestFilesOfTheHost:
    """Workflows, forms and settings that only GitHub and Read the Docs ever run."""

    @pytest.mark.parametrize(("name", "schema"), SCHEMAS.items())
    def test_has_the_form_that_is_expected(self, name: str, schema: str, root: Path) -> None:
        """The file has nothing that its schema does not know."""
        _run(root, sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", name)

    def test_every_file_is_checked(self, root: Path) -> None:
        """No file is added that no schema is named for."""
        found = {path.relative_to(root).as_posix() for path in (root / GITHUB).rglob("*.yml")}
        assert found == {name for name in SCHEMAS if name.startswith(GITHUB)}

    def test_every_job_has_an_end(self, root: Path) -> None:
        """A job that hangs is ended after the time that it names."""
        names = [f".github/workflows/{name}" for name in WORKFLOWS]
        schema = ("--builtin-schema", "custom.github-workflows-require-timeout")
        _run(root, sys.executable, "-m", "check_jsonschema", *schema, *names)

    def test_workflows_are_safe(self, root: Path) -> None:
        """Nothing in them can be made to run what others say: the auditor finds nothing, of any severity."""
        auditor = Path(sys.executable).with_name("zizmor")
        _run(
            root, str(auditor), "--offline", "--no-progress", "--persona", "pedantic", GITHUB, ".pre-commit-config.yaml"
        )

    @pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed; the workflow does")
    @pytest.mark.parametrize("name", WORKFLOWS)
    def test_workflow_lints(self, name: str, root: Path) -> None:
        """Expressions, shell lines, contexts and needs of a workflow make sense."""
        _run(root, "actionlint", f".github/workflows/{name}")

    @pytest.mark.parametrize("name", WORKFLOWS)
    def test_actions_are_pinned(self, name: str, root: Path) -> None:
        """Every action is named by its commit, with the version as a comment for readers and dependabot."""
        lines = (root / ".github/workflows" / name).read_text(encoding="utf-8").splitlines()
        uses = [line.strip(" -") for line in lines if "uses:" in line]
        assert uses
        assert [line for line in uses if not re.fullmatch(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []

    def test_the_workflow_runs_what_developers_run(self, root: Path) -> None:
        """A pull request is held to `.ci/run` on every Python that is supported, and to both ends of dependencies."""
        jobs = _load(root / ".github/workflows/ci.yml")["jobs"]
        classifiers = [text.rpartition(" ")[2] for text in _project(root)["project"]["classifiers"]]
        supported = [text for text in classifiers if re.fullmatch(r"3\.\d+", text)]
        assert supported == jobs["everything"]["strategy"]["matrix"]["python"]
        assert [*supported, "3.14t"] == jobs["core"]["strategy"]["matrix"]["python"]
        assert ".ci/run" in [step.get("run") for step in jobs["everything"]["steps"]]
        assert "python -m tests.versions newest core" in [step.get("run") for step in jobs["core"]["steps"]]
        ends = [item["which"] for item in jobs["versions"]["strategy"]["matrix"]["include"]]
        assert ends == ["oldest", "newest"]

    def test_hooks_run_what_make_check_runs(self, root: Path) -> None:
        """The hooks are local ones: what they start is in `.venv` or is a target of the Makefile."""
        (repo,) = _load(root / ".pre-commit-config.yaml")["repos"]
        assert repo["repo"] == "local"
        entries = [hook["entry"].split()[0] for hook in repo["hooks"]]
        assert entries == [".venv/bin/ruff", ".venv/bin/ruff", "make"]
        assert all(f"$(BIN)/{name}" in (root / "Makefile").read_text(encoding="utf-8") for name in ("ruff", "mypy"))


def _sections(text: str) -> dict[str, str]:
    """Give what stands below each heading of the second level."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


class TestContributing:
    """`CONTRIBUTING.md`, which is all that somebody from outside has."""

    @pytest.fixture(name="text")
    def _text(self, root: Path) -> str:
        return (root / "CONTRIBUTING.md").read_text(encoding="utf-8")

    @pytest.mark.parametrize("name", POLICIES)
    def test_links_lead_somewhere(self, name: str, root: Path) -> None:
        """A link inside the repository names a file that exists, and a heading that is in it."""
        page = root / name
        dead = []
        for target in re.findall(r"]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists() or (anchor and anchor not in _anchors(file)):
                dead.append(target)
        assert dead == []

    def test_files_to_touch_exist(self, text: str, root: Path) -> None:
        """Every path that is named is there."""
        named = re.findall(r"`((?:inferencepool|tests|docs|benchmarks|\.ci|\.github)/[\w./-]*)`", text)
        assert len(named) > 30
        assert [path for path in named if not (root / path).exists()] == []

    def test_tests_of_the_commands_exist(self, text: str, root: Path) -> None:
        """What is given to pytest is there, and targets of make are targets."""
        given = [word for line in re.findall(r"-m pytest (.+)$", text, flags=re.MULTILINE) for word in line.split()]
        paths = [word for word in given if word.startswith("tests/")]
        assert paths
        assert [path for path in paths if not (root / path).exists()] == []
        targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
        wanted = {word for line in re.findall(r"\bmake ([a-z -]+)", text) for word in line.split()}
        assert {"check", "test", "docs", "dist", "bench"} <= wanted & targets

    def test_the_map_is_the_house(self, text: str, root: Path) -> None:
        """The figure names the packages that exist, in the order in which the import contract has them."""
        project = _project(root)
        (layers,) = [item for item in project["tool"]["importlinter"]["contracts"] if item["id"] == "layers"]
        names = [name.strip("()") for line in layers["layers"] for name in line.split(" | ")]
        package = root / "inferencepool"
        exist = [name for name in names if (package / name).is_dir() or (package / f"{name}.py").is_file()]
        (figure,) = re.findall(r"```text\n(.+?)```", _sections(text)["The map of the house"], flags=re.DOTALL)
        assert [name for name in exist if not name.startswith("_")] == list(_rows(figure, 0))
        for name in ("runtime", "adapters", "testing"):
            inside = {path.parent.name for path in (package / name).glob("*/__init__.py")}
            below = figure.partition(f"\n{name} ")[2].partition("\n")[2]
            block = "\n".join(_indented(below))
            assert {item for item in inside if not item.startswith("_")} == set(_rows(block, 2)), name

    def test_a_scorer_by_the_book(self, text: str, root: Path, tmp_path: Path) -> None:
        """Who does as the page says has a scorer that can be built by name, with a test that passes."""
        _, *blocks = re.split(r"^ *```(\w*)\n", _sections(text)["Add a strategy"], flags=re.MULTILINE)
        code, test = [
            _dedented(block) for kind, block in zip(blocks[::2], blocks[1::2], strict=True) if kind == "python"
        ]
        for folder in ("inferencepool", "tests"):
            shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "pyproject.toml", tmp_path)
        (entry,) = re.findall(r'`("short-queue-scorer": .+?)`', text)
        plugins = tmp_path / "inferencepool" / "plugins"
        _append(plugins / "_scorers.py", code[code.index("@attrs") :])
        _put(plugins / "__init__.py", "    RunningRequestsSizeScorer,\n", "    ShortQueueScorer,\n")
        _put(plugins / "__init__.py", '    "SessionHome",\n', '    "ShortQueueScorer",\n')
        _put(plugins / "_catalog.py", "    RunningRequestsSizeScorer,\n", "    ShortQueueScorer,\n")
        _put(
            plugins / "_catalog.py",
            '"session-affinity-scorer": StrategyType(session_affinity_scorer, _SESSION),\n',
            f"        {entry},\n",
        )
        _append(tmp_path / "tests" / "plugins" / "test_scorers.py", test)
        command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "short", "tests/plugins")
        completed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
        assert not completed.returncode, completed.stdout
        # The catalogue's three tests, the contract, and its own.
        assert "5 passed" in completed.stdout


def _rows(figure: str, indent: int) -> Iterator[str]:
    """Give the names in the first column of lines that are indented so."""
    for line in figure.splitlines():
        if re.match(rf" {{{indent}}}\w", line):
            yield from re.split(r"\s{2,}", line.strip())[0].split(" | ")


def _indented(text: str) -> Iterator[str]:
    """Give the lines up to the first that is not indented."""
    for line in text.splitlines():
        if not line.startswith(" "):
            return
        yield line


def _dedented(block: str) -> str:
    return "\n".join(line.removeprefix("   ") for line in block.partition("```")[0].splitlines()).strip() + "\n"


def _append(path: Path, code: str) -> None:
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{code}", encoding="utf-8")


def _put(path: Path, after: str, line: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(after) == 1, after
    path.write_text(text.replace(after, after + line), encoding="utf-8")


class TestWhatIsAddedIsDocumented:
    """Where `CONTRIBUTING.md` asks for a row, one is missed."""

    @pytest.mark.parametrize(
        ("page", "names"),
        [
            ("docs/reference/plugins.md", list(CATALOG)),
            ("docs/how-to/scrape-model-servers.md", list(ENGINES)),
            ("docs/reference/command-line.md", list(PARSERS)),
        ],
    )
    def test_names_are_on_the_page(self, page: str, names: list[str], root: Path) -> None:
        """Strategies, engines and parsers are named where users look for them."""
        text = (root / page).read_text(encoding="utf-8")
        assert [name for name in names if f"`{name}`" not in text] == []

    def test_flags_are_on_the_page(self, root: Path) -> None:
        """Every flag of `serve` has a row in the reference, or in the guide that the reference leaves some to."""
        pages = (
            ("reference/command-line.md", "`inferencepool serve`"),
            ("how-to/scrape-model-servers.md", "Flags of `serve`"),
        )
        text = "".join(_sections((root / "docs" / page).read_text(encoding="utf-8"))[title] for page, title in pages)
        (commands,) = [action.choices for action in _parser(["serve"])._actions if isinstance(action.choices, dict)]
        flags = [flag for action in commands["serve"]._actions for flag in action.option_strings if flag[:2] == "--"]
        assert len(flags) > 60
        shown = {"--help", *_flags_of(text)}
        assert [flag for flag in flags if flag not in shown] == []


def _flags_of(text: str) -> Iterator[str]:
    """Give the flags that a table names; of those after a flag the page may show their end alone, as in `-path`."""
    for line in text.splitlines():
        whole = ""
        for dashes, name in re.findall(r"`(--?)([a-z0-9-]+)", line):
            whole = name if dashes == "--" else whole
            stems = [whole[: match.start()] for match in re.finditer("-", whole)]
            yield from [f"--{whole}"] if dashes == "--" else [f"--{stem}-{name}" for stem in stems]


class TestMetadata:
    """`pyproject.toml`, as a package index shows it."""

    def test_the_version_stands_in_one_place(self, root: Path) -> None:
        """What builds the package reads it where the package does, and what names an image names the same."""
        project = _project(root)
        assert project["project"]["dynamic"] == ["version"]
        source = (root / project["tool"]["hatch"]["version"]["path"]).read_text(encoding="utf-8")
        assert f'__version__ = "{__version__}"' in source
        images = [text for path in (root / "docs" / "deploy").glob("*.yaml") for text in _images(path)]
        assert {f"inferencepool-epp:{__version__}"} == set(images)

    def test_links(self, root: Path) -> None:
        """An index page leads to the repository, the documentation, the changelog and the issues."""
        project = _project(root)["project"]
        assert {"Homepage", "Documentation", "Repository", "Changelog", "Issues"} == set(project["urls"])
        assert all(url.startswith("https://") for url in project["urls"].values())
        assert project["authors"] == [{"name": "The inferencepool authors"}]

    def test_the_changelog_links_to_what_is_not_released(self, root: Path) -> None:
        """There is a place for the next line."""
        assert "\n## [Unreleased]\n" in (root / "CHANGELOG.md").read_text(encoding="utf-8")


def _images(path: Path) -> list[str]:
    return re.findall(r"image: (inferencepool-epp:\S+)", path.read_text(encoding="utf-8"))


class TestVersions:
    """The command that runs tests with the oldest and the newest dependencies."""

    def test_every_dependency_has_a_lower_bound(self, root: Path) -> None:
        """Each of them can be installed in the oldest version that is allowed."""
        bounds = lower_bounds(_project(root)["project"])
        assert bounds["attrs"].startswith("attrs==")
        assert {"h2", "hpack", "lightkube", "httptools", "prometheus-client"} <= set(bounds)

    @pytest.mark.parametrize("name", ["h2", "hpack", "httpx2", "hyperframe", "lightkube", "prometheus-client"])
    def test_private_parts_are_bounded_from_above(self, name: str, root: Path) -> None:
        """A library of which more is used than it documents is not allowed in a major version that was never tried."""
        extras = _project(root)["project"]["optional-dependencies"]
        (text,) = {text for key in ("epp", "kubernetes") for text in extras[key] if re.match(rf"{name}\b(?!-)", text)}
        assert "<" in text

    @pytest.mark.parametrize(
        ("requirement", "message"),
        [
            ("attrs", "'attrs' has 0 lower bounds, allowed is one"),
            ("attrs>=1,>=2", "'attrs>=1,>=2' has 2 lower bounds, allowed is one"),
            ("attrs>=2", "'attrs>=2' has another lower bound than 'attrs==1'"),
            ("https://example.com/a.whl", "'https://example.com/a.whl' is no requirement that is understood"),
        ],
    )
    def test_refuses_bounds_that_it_cannot_try(self, requirement: str, message: str) -> None:
        """The error shows the requirement."""
        project = {"name": "p", "dependencies": ["attrs>=1"], "optional-dependencies": {"a": [requirement]}}
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            lower_bounds(project)

    def test_parts_are_of_this_project(self, root: Path) -> None:
        """Extras, tools and paths that are named exist."""
        extras = _project(root)["project"]["optional-dependencies"]
        tools = {re.match(r"[\w.-]+", text)[0] for text in extras["dev"]}  # type: ignore[index]  # all match
        for part in PARTS.values():
            assert set(part.extras) <= set(extras)
            assert set(part.tools) <= tools | {"pyyaml"}
            assert [path for path in part.paths if not (root / path).exists()] == []

    def test_unknown_part(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A part that does not exist is an error with those that do."""
        with pytest.raises(SystemExit):
            main(["oldest", "cores"])
        assert "unknown part 'cores'; allowed: core, extras" in capsys.readouterr().err

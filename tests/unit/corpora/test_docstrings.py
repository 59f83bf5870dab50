"""Docstrings into passages, on small sources in a folder that stands in for the standard library."""

from collections import Counter
from pathlib import Path
from textwrap import dedent

import pytest

from winnow.corpora.docstrings import DocstringCorpus, read_docstrings
from winnow.errors import DataError

EIGHT = "Words one two three four five six {}."


@pytest.fixture
def read(tmp_path):
    """Writes the sources, lists them in the order given, reads them."""

    def write_and_read(sources: dict[str, str], *, listed: str | None = None, **options: int) -> DocstringCorpus:
        for path, source in sources.items():
            file = tmp_path / "stdlib" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(source), encoding="utf-8")
        modules = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in sources]
        modules_file = tmp_path / "modules.txt"
        modules_file.write_text(listed or "\n".join(modules), encoding="utf-8")
        return read_docstrings(modules_file, stdlib=tmp_path / "stdlib", **options)

    return write_and_read


def function(name: str, docstring: str) -> str:
    return f"def {name}():\n    {docstring!r}\n"


def ids(corpus: DocstringCorpus) -> list[str]:
    return [passage.passage_id for passage in corpus.passages]


def test_a_module_that_acts_when_imported_is_read_without_acting(read, tmp_path):
    trace = tmp_path / "imported"
    act = f"open({str(trace)!r}, 'w').close()\n"

    corpus = read({"loud/__init__.py": act, "loud/inner.py": f'"""{EIGHT.format("x")}"""\n{act}raise SystemExit'})

    assert ids(corpus) == ["loud.inner-0"]
    assert not trace.exists()


def test_missing_and_unreadable_modules_are_named_and_the_rest_is_read(read):
    sources = {"broken.py": "def (", "null.py": "\0", "good.py": function("f", EIGHT.format("x"))}

    corpus = read(sources, listed="gone\nbroken\nnull\ngood")

    assert corpus.missing_modules == ("gone",)
    assert corpus.unreadable_modules == ("broken", "null")
    assert ids(corpus) == ["good.f-0"]


def test_titles_show_what_is_documented_and_its_arguments(read):
    source = '''
        """Module one two three four five six seven."""
        class Tool:
            """Class one two three four five six seven."""
            def use(self, a, /, b=1, *rest, c, **more):
                """Method one two three four five six seven."""
            @classmethod
            async def make(cls, path):
                """Factory one two three four five six seven."""
            @functools.cached_property
            def size(self):
                """Property one two three four five six seven."""
            class Inner:
                """Nested one two three four five six seven."""
    '''

    corpus = read({"kit/tool.py": source})

    assert [(passage.document_id, passage.title) for passage in corpus.passages] == [
        ("kit.tool", "module kit.tool"),
        ("kit.tool.Tool", "class kit.tool.Tool"),
        ("kit.tool.Tool.use", "kit.tool.Tool.use(a, b, *rest, c, **more)"),
        ("kit.tool.Tool.make", "kit.tool.Tool.make(path)"),
        ("kit.tool.Tool.size", "kit.tool.Tool.size"),
        ("kit.tool.Tool.Inner", "class kit.tool.Tool.Inner"),
    ]


def test_private_names_own_tests_and_inner_functions_are_left_out(read):
    source = '''
        class _Hidden:
            def shown(self):
                """Inside private two three four five six seven."""
        def __getattr__(name):
            """Dunder one two three four five six seven."""
        def test_it():
            """Test one two three four five six seven."""
        def testmod():
            """Public one two three four five six seven."""
            def inner():
                """Inner one two three four five six seven."""
    '''

    assert ids(read({"m.py": source})) == ["m.testmod-0"]


def test_of_a_name_defined_in_two_branches_the_first_is_kept(read):
    source = '''
        try:
            def f():
                """First one two three four five six seven."""
        except ImportError:
            def f():
                """Second one two three four five six seven."""
            def g():
                """Other one two three four five six seven."""
    '''

    corpus = read({"m.py": source})

    assert [passage.text.split()[0] for passage in corpus.passages] == ["First", "Other"]
    assert corpus.dropped == Counter(repeated_name=1)


def test_equal_texts_are_kept_once_even_across_modules(read):
    same = function("f", EIGHT.format("x"))

    corpus = read({"a.py": same, "b.py": same})

    assert ids(corpus) == ["a.f-0"]
    assert corpus.dropped == Counter(duplicate_text=1)


def test_order_is_that_of_the_list_then_of_the_source(read):
    sources = {
        "a.py": function("late", EIGHT.format("x")) + function("early", EIGHT.format("y")),
        "b.py": function("f", EIGHT.format("z")),
    }

    assert ids(read(sources, listed="# useful first\nb  # why\n\na\n")) == ["b.f-0", "a.late-0", "a.early-0"]


def test_long_docstring_is_cut_at_the_paragraph_that_still_fits(read):
    paragraphs = ["a " * 49 + "a.", "b " * 59 + "b.", "c " * 29 + "c."]

    corpus = read({"m.py": function("f", "\n\n\n".join(paragraphs))})

    assert ids(corpus) == ["m.f-0", "m.f-1"]
    assert [passage.text for passage in corpus.passages] == [f"{paragraphs[0]}\n\n{paragraphs[1]}", paragraphs[2]]
    assert {passage.document_id for passage in corpus.passages} == {"m.f"}


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("One two three. Four five.\nSix seven eight.", ["One two three. Four five.", "Six seven eight."]),
        ("one two three\nfour five\nsix seven", ["one two three\nfour five", "six seven"]),
        ("one two three four five six seven", ["one two three four five", "six seven"]),
    ],
    ids=["sentence", "line", "word"],
)
def test_a_paragraph_over_the_limit_is_cut_at_the_best_place_inside(read, docstring, expected):
    corpus = read({"m.py": function("f", docstring)}, max_words=5, min_words=1)

    assert [passage.text for passage in corpus.passages] == expected


def test_every_docstring_is_either_a_passage_or_counted(read):
    source = "".join(
        [
            function("short", "Too short to be useful."),
            function("long", EIGHT.format("x") + "\n\n" + "A tail."),
            function("same", EIGHT.format("x")),
            function("long", EIGHT.format("y")),
            function("second", EIGHT.format("z")),
            function("beyond", EIGHT.format("w")),
        ]
    )

    corpus = read({"m.py": source}, max_words=8, limit=2)

    assert ids(corpus) == ["m.long-0", "m.second-0"]
    assert corpus.dropped == Counter(short_docstring=1, short_piece=1, duplicate_text=1, repeated_name=1, over_limit=1)


def test_a_line_that_is_no_module_name_is_refused_with_its_number(read):
    with pytest.raises(DataError, match=r"modules\.txt:2: .*'\.\./etc/passwd'"):
        read({}, listed="os\n../etc/passwd")


def test_a_list_that_is_not_there_is_refused():
    with pytest.raises(DataError, match=r"no file at 'nowhere\.txt'"):
        read_docstrings(Path("nowhere.txt"))

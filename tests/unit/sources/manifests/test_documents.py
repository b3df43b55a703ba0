"""From bytes to documents: every line is known, and nothing broken gets through or brings the reader down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oarlock.sources.manifests.claims import judge
from oarlock.sources.manifests.documents import LIMIT, Content, parse
from oarlock.sources.manifests.problems import Problem
from oarlock.sources.manifests.reader import is_manifest, read_file
from tests.unit.sources.manifests.desk import NODE, manifest

HEAD = manifest("web")  # 8 lines; `spec:` is the fifth
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def problems(text: str | bytes, name: str = "web.yaml") -> list[Problem]:
    """All that is wrong with a file of this content."""
    reading = judge(parse(text.encode() if isinstance(text, str) else text, name), name, NODE)
    return [*reading.problems, *(problem for claim in reading.claims for problem in claim.problems)]


BROKEN_FILES = {
    "not YAML": ("a: [1\nb: 2\n", 2, ""),
    "a quote that never ends": ("kind: 'ContainerSpec\n\nspec: {}\n", 4, ""),
    "indented by a tab": ("metadata:\n\tname: web\n", 2, ""),
    "a colon too many": ("kind: ContainerSpec\nmetadata: name: web\n", 2, ""),
    "an alias of nothing": ("kind: ContainerSpec\nspec: *nothing\n", 2, ""),
    "a control character": ("kind: ContainerSpec\n\x01\n", 2, ""),
    "a NUL byte": (b"kind: ContainerSpec\n\0\n", 2, ""),
    "not UTF-8": (b"kind: ContainerSpec\nmetadata: {name: \xff}\n", 2, ""),
    "a binary": (Path("/bin/true").read_bytes()[:4096], 1, ""),
    "nested without end": ("[" * 5000, 1, ""),
}
BROKEN_DOCUMENTS = {
    "a list": ("# a comment\n- kind: ContainerSpec\n", 2, ""),
    "a text": ("\n\nhello\n", 3, ""),
    "a number": ("42", 1, ""),
    "no kind": (HEAD.replace("kind: ContainerSpec\n", ""), 1, "kind"),
    "another kind": (HEAD.replace("ContainerSpec", "Pod"), 2, "kind"),
    "a kind that is no text": (HEAD.replace("kind: ContainerSpec", "kind: [ContainerSpec]"), 2, "kind"),
    "another API version": (HEAD.replace("v1alpha1", "v1"), 1, "apiVersion"),
    "no name": (HEAD.replace("{name: web}", "{}"), 3, "metadata.name"),
    "a name in capitals": (HEAD.replace("name: web", "name: WEB"), 4, "metadata.name"),
    "a name that is a number": (HEAD.replace("name: web", "name: 7"), 4, "metadata.name"),
    "a namespace that is none": (HEAD.replace("name: web", "name: web, namespace: a.b"), 4, "metadata.namespace"),
    "labels that are no texts": (HEAD.replace("name: web", "name: web, labels: {a: 1}"), 4, "metadata.labels"),
    "no spec": (HEAD[: HEAD.index("spec:")], 1, "spec"),
    "a spec that is a list": (HEAD[: HEAD.index("spec:")] + "spec: []\n", 5, "spec"),
    "no rootfs": (HEAD.replace("  rootfs:\n    path: /srv/rootfs\n", ""), 5, "spec.rootfs"),
    "a relative path": (HEAD.replace("/srv/rootfs", "srv/rootfs"), 7, "spec.rootfs.path"),
    "a field misspelt": (HEAD + "  comand: []\n", 9, "spec.comand"),
    "a field unknown, deep down": (HEAD + "  resources:\n    limits:\n      ram: 1\n", 11, "spec.resources.limits.ram"),
    "a bad item": (HEAD + "  env:\n  - {name: A}\n  - name: 7\n", 11, "spec.env[1].name"),
    "a number for a text": (HEAD.replace("[echo]", "[sleep, 10]"), 8, "spec.command[1]"),
    "a text for a number": (HEAD + "  terminationGracePeriodSeconds: 5s\n", 9, "spec.terminationGracePeriodSeconds"),
    "a word that is no choice": (HEAD + "  restartPolicy: Sometimes\n", 9, "spec.restartPolicy"),
    "a bad quantity": (HEAD + "  resources: {limits: {memory: 1X}}\n", 9, "spec.resources.limits.memory"),
    "another node": (HEAD + "  nodeName: node-2\n", 9, "spec.nodeName"),
    "a key given twice": (HEAD + "  tty: true\n  tty: false\n", 10, "spec.tty"),
    "a key given twice in flow style": (HEAD + "  env: [{name: A, value: x, value: y}]\n", 9, "spec.env[0].value"),
    "a key that is a number": (HEAD + "  1: x\n", 9, "spec"),
    "a key that YAML reads as true": (HEAD + "  on: x\n", 9, "spec"),
    "a key that is a list": (HEAD + "  ? [a]\n  : x\n", 9, "spec"),
    "a tag": (HEAD + "  tty: !!python/object:os.system {}\n", 9, "spec.tty"),
    "binary data": (HEAD + "  hostname: !!binary aGk=\n", 9, "spec.hostname"),
    "infinity": (HEAD + "  terminationGracePeriodSeconds: .inf\n", 9, "spec.terminationGracePeriodSeconds"),
    "a number of many digits": (HEAD + f"  terminationGracePeriodSeconds: {'9' * 5000}\n", 9, None),
    "a bomb of aliases": (BOMB, 5, "e"),
    "an alias that contains itself": ("a: &a\n  b: *a\n", 1, "a"),
    "a List without items": ("kind: List\n", 1, "items"),
    "a List whose items are none": ("apiVersion: v1\nkind: List\nitems: {}\n", 3, "items"),
    "a List in a List": ("kind: List\nitems:\n- kind: List\n  items: []\n", 3, "items[0].kind"),
    "a label that is no word": (HEAD.replace("name: web", "name: web, labels: {a: b!}"), 4, "metadata.labels"),
    "an annotation's key that is no name": (
        HEAD.replace("name: web", "name: web, annotations: {a..b/c: d}"),
        4,
        "metadata.annotations",
    ),
    "a field of the metadata misspelt": (HEAD.replace("name: web", "name: web, lables: {}"), 4, "metadata.lables"),
    "a bad item of a List": ("kind: List\nitems:\n- kind: Pod\n", 3, "kind"),
}


@pytest.mark.parametrize("kind", BROKEN_FILES | BROKEN_DOCUMENTS)
def test_what_is_broken_is_told_with_file_line_and_field(kind: str) -> None:
    text, line, field = (BROKEN_FILES | BROKEN_DOCUMENTS)[kind]
    found = problems(text)
    assert [problem.place for problem in found] == [("web.yaml", line)], found
    if field is not None:
        assert found[0].field == field, found
    assert found[0].problem.isprintable()
    assert len(str(found[0])) < 400


@pytest.mark.parametrize("kind", BROKEN_FILES)
def test_a_file_that_does_not_parse_gives_no_documents_at_all(kind: str) -> None:
    text = BROKEN_FILES[kind][0]
    data = text.encode() if isinstance(text, str) else text
    content = parse(HEAD.encode() + b"---\n" + data, "web.yaml")
    assert content.documents == ()
    assert judge(content, "web.yaml", NODE).opaque


def test_several_problems_are_all_told_in_one_go() -> None:
    text = HEAD + "  comand: []\n  restartPolicy: Sometimes\n"
    assert {problem.field for problem in problems(text)} == {"spec.comand", "spec.restartPolicy"}


def test_the_lines_of_later_documents_count_from_the_files_beginning() -> None:
    text = f"# first\n{HEAD}---\n# second\n{HEAD.replace('web', 'b')}  tty: 7\n"
    assert [problem.place[1] for problem in problems(text)] == [20]


def test_items_of_a_list_are_documents_with_their_own_lines() -> None:
    item = "".join(f"  {line}\n" for line in HEAD.splitlines())
    text = "apiVersion: v1\nkind: List\nitems:\n- " + item.lstrip() + "- " + item.replace("web", "b").lstrip()
    content = parse(text.encode(), "all.yaml")
    assert [(document.line, document.name) for document in content.documents] == [
        (4, ("default", "web")),
        (12, ("default", "b")),
    ]
    assert content.documents[1].line_of("spec.rootfs.path") == 18
    assert [problem.place[1] for problem in problems(text + "    tty: 7\n")] == [20]


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# nothing\n", "---\n---\n", "--- ~\n...\n", "\ufeff", "null\n", "%YAML 1.1\n---\n"]
)
def test_nothing_is_no_problem(text: str) -> None:
    assert parse(text.encode(), "web.yaml") == Content()


def test_a_file_above_the_limit_is_refused_and_one_just_below_is_read() -> None:
    filler = "#" * (LIMIT - len(HEAD) - 1) + "\n"
    assert problems(HEAD + filler) == []
    assert "larger than 1 MiB" in str(problems(HEAD + filler + "#")[0])


def test_values_are_read_as_kubernetes_reads_them() -> None:
    text = "date: 2026-01-01\ntime: 1:30\nsexagesimal: 1:30.5\nyes: 1\n".replace("yes", '"yes"')
    text += "base: &base {a: 1, b: 2}\nmerged: {<<: *base, b: 3}\nmany: {<<: [*base, {a: 9, c: 4}]}\n"
    assert parse(text.encode(), "x.yaml").documents[0].mapping == {
        "date": "2026-01-01",
        "time": "1:30",
        "sexagesimal": "1:30.5",
        "yes": 1,
        "base": {"a": 1, "b": 2},
        "merged": {"a": 1, "b": 3},
        "many": {"a": 1, "b": 2, "c": 4},
    }


def test_lines_of_fields_that_are_not_there_are_those_of_their_parents() -> None:
    document = parse((HEAD + "  env:\n  - {name: A}\n").encode(), "web.yaml").documents[0]
    assert document.line_of("spec.env[0].value") == 10
    assert document.line_of("spec.env[7].name") == 9
    assert document.line_of("spec.resources.limits.memory") == 5
    assert document.line_of("status") == 1
    assert document.line_of("") == 1


def test_a_label_with_dots_and_slashes_has_a_line() -> None:
    text = "metadata:\n  labels:\n    a: x\n    app.kubernetes.io/name: x\n"
    document = parse(text.encode(), "web.yaml").documents[0]
    assert document.line_of("metadata.labels[app.kubernetes.io/name]") == 4
    assert document.line_of("metadata.labels.app.kubernetes.io/name") == 4


# JSON.

OBJECT = {
    "apiVersion": "oarlock.dev/v1alpha1",
    "kind": "ContainerSpec",
    "metadata": {"name": "web"},
    "spec": {"rootfs": {"path": "/srv/rootfs"}, "command": ["echo", "\U0001f6a3"]},
}


@pytest.mark.parametrize("indent", [None, 1, "\t"])
def test_json_is_read_whatever_its_indentation(indent: int | str | None) -> None:
    content = parse(json.dumps(OBJECT, indent=indent).encode(), "web.json")
    assert content.documents[0].mapping == OBJECT
    assert problems(json.dumps(OBJECT, indent=indent), "web.json") == []


BROKEN_JSON = {
    "cut off": ('{\n"kind": "ContainerSpec",\n', 3, ""),
    "YAML": ("kind: ContainerSpec\n", 1, ""),
    "a comma too many": ('{\n"kind": "ContainerSpec",\n}', 3, ""),
    "two values": ("{}\n{}", 2, ""),
    "a list": ("\n[]", 2, ""),
    "NaN": ('{"a": NaN}', 0, ""),
    "half a surrogate pair": ('{"metadata": {"name": "\\ud83d"}}', 0, ""),
    "nested without end": ("[" * 100_000, None, ""),
}


@pytest.mark.parametrize("kind", BROKEN_JSON)
def test_broken_json_is_told_with_its_line(kind: str) -> None:
    text, line, field = BROKEN_JSON[kind]
    (found,) = problems(text, "web.json")
    assert line is None or found.place == (("web.json", line) if line else ("web.json", 0))
    assert found.field == field


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("kind: List\nitems:\n- {kind: x}\n- {kind: y}\nitems: []\n", "web.yaml"),
        ("kind: List\n<<: {items: [{kind: x}, {kind: y}]}\nitems: []\n", "web.yaml"),
        ('{"kind": "List", "items": [], "items[3]": 1}', "web.json"),
        ('{"kind": "List", "items": [], "items[' + "9" * 5000 + ']": 1}', "web.json"),
    ],
)
def test_items_that_others_took_the_place_of_bring_nothing_down(text: str, name: str) -> None:
    assert not any("a defect" in problem.problem for problem in problems(text, name))


def test_what_kubernetes_takes_for_metadata_is_taken() -> None:
    """The prefix of an annotation's key may have capitals."""
    given = (
        "name: web, labels: {a.b/C_d: x.y-Z, e: ''}, annotations: {Example.com/Foo: 'a b'}, ownerReferences: [], uid: x"
    )
    assert problems(HEAD.replace("name: web", given)) == []


def test_a_defect_costs_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise KeyError(1)

    monkeypatch.setattr("oarlock.sources.manifests.documents._yaml", breaks)
    (found,) = parse(HEAD.encode(), "web.yaml").problems
    assert str(found) == "web.yaml: a defect in oarlock (KeyError); please report it, with this file"


def test_fields_of_json_have_lines_too() -> None:
    text = json.dumps(OBJECT | {"spec": OBJECT["spec"] | {"tty": 7}}, indent=1, ensure_ascii=False)  # type: ignore[operator]
    (found,) = problems(text, "web.json")
    assert (found.field, text.splitlines()[found.place[1] - 1].strip()) == ("spec.tty", '"tty": 7')


def test_a_key_given_twice_is_refused_in_json_too() -> None:
    text = json.dumps(OBJECT)[:-1] + ',\n"kind": "ContainerSpec"}'
    assert [(problem.place[1], problem.field) for problem in problems(text, "web.json")] == [(1, "kind")]
    flat = json.dumps(OBJECT, ensure_ascii=False)[:-1] + ',\n"kind": "ContainerSpec"}'
    assert [(problem.place[1], problem.field) for problem in problems(flat, "web.json")] == [(2, "kind")]


# Names and files.


@pytest.mark.parametrize("name", ["web.yaml", "web.yml", "web.json", "a b.yaml", "-.yaml"])
def test_names_that_are_read(name: str) -> None:
    assert is_manifest(name)


def test_read_file_names_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("a: [")
    assert read_file(tmp_path / "web.yaml").problems[0].where.startswith("web.yaml:")
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nothing.yaml")


# Whatever the bytes are.

JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300), name=st.sampled_from(["a.yaml", "a.json"]))
def test_any_bytes_give_documents_or_problems(data: bytes, name: str) -> None:
    judge(parse(data, name), name, NODE)


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet="{}[],:-?&*!|>'\"%@`# \t\n~<=ax1.e0", max_size=60))
def test_any_yaml_punctuation_gives_documents_or_problems(text: str) -> None:
    judge(parse(text.encode(), "a.yaml"), "a.yaml", NODE)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(HEAD)), length=st.integers(0, 20), put=st.text(max_size=5))
def test_a_manifest_with_a_random_change_is_good_or_has_problems(at: int, length: int, put: str) -> None:
    text = HEAD[:at] + put + HEAD[at + length :]
    judge(parse(text.encode(), "a.yaml"), "a.yaml", NODE)


@settings(max_examples=300, deadline=None)
@given(metadata=JSONISH, spec=JSONISH, kind=st.just("ContainerSpec") | JSONISH)
def test_any_json_in_the_place_of_metadata_and_spec_is_told(metadata: object, spec: object, kind: object) -> None:
    document = {"apiVersion": "oarlock.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}
    text = json.dumps(document)
    if "NaN" not in text and "Infinity" not in text:
        for name in ("a.json", "a.yaml"):
            assert problems(text, name) != []

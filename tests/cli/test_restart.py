"""``run --resume``: the same command, again and again, as whatever restarts commands gives it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fanout
from tests.cli.inside import Inside
from tests.scripted import Scripted


def test_it_begins_goes_on_and_ends(inside: Inside) -> None:
    """Nothing there: it begins. Cut off: it goes on. Finished: it sends nothing, and has the run's code."""
    inside.write("in.jsonl", 40)
    words = ("run", "--resume", "steady", "in.jsonl", "--out", "run", "--no-report")
    assert inside.run(*words, "-j", "1", "--deadline", "500ms").code == 5
    before = len(inside.outcomes())
    assert 0 < before < 40
    assert inside.run(*words, "--deadline", "1m").code == 0
    assert sorted(outcome["seq"] for outcome in inside.outcomes()) == list(range(40))
    assert inside.run(*words).code == 0
    assert len(inside.outcomes()) == 40


@pytest.mark.parametrize(
    "input_words", [("[ab].jsonl",), ("a.jsonl", "b.jsonl"), ("--payload", "1", "--repeat", "6")]
)
def test_it_goes_on_whatever_the_input_is(inside: Inside, input_words: tuple[str, ...]) -> None:
    """A pattern, several files, a payload repeated: the same words are the same run."""
    inside.write("a.jsonl", 3)
    inside.write("b.jsonl", 3)
    words = ("run", "--resume", "fast", *input_words, "--out", "run", "--no-report")
    assert inside.run(*words, "--take", "2").code == 0
    assert inside.run(*words, "--take", "6").code == 0
    assert sorted(outcome["seq"] for outcome in inside.outcomes()) == list(range(6))
    inside.run("run", "--resume", "fast", "a.jsonl", "--out", "run").assert_one_line(2, "holds another run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fast", "other.jsonl"), "its input is"),
        (("errors", "in.jsonl"), "its function is fast, not errors"),
        (("fast", "in.jsonl", "--select", "n"), "its select is None, not n"),
        (("fast", "in.jsonl", "--qualifier", "3"), "its qualifier is"),
    ],
)
def test_another_run_is_refused(inside: Inside, words: tuple[str, ...], said: str) -> None:
    """Another function, input or payload: exit 2, one line, and nothing is sent."""
    inside.write("in.jsonl", 3)
    inside.write("other.jsonl", 3)
    assert inside.run("run", "fast", "in.jsonl", "--out", "run", "--no-report").code == 0
    inside.run("run", "--resume", *words, "--out", "run").assert_one_line(2, "run holds another run", said)
    assert len(inside.outcomes()) == 3


def test_a_changed_input_is_refused(inside: Inside) -> None:
    """The same path with other bytes is another input."""
    inside.write("in.jsonl", 40)
    words = ("run", "--resume", "steady", "in.jsonl", "--out", "run", "--no-report")
    assert inside.run(*words, "-j", "2", "--deadline", "100ms").code == 5
    inside.write("in.jsonl", 41)
    inside.run(*words).assert_one_line(2, "is not the input the run began with")


def test_standard_input_comes_again(inside: Inside) -> None:
    """What is spooled is compared and skipped, the rest is read; other bytes are refused."""
    records = b"".join(b'{"n":%d}\n' % n for n in range(40))
    words = ("run", "--resume", "steady", "-", "--out", "run", "--no-report")
    assert inside.run(*words, "-j", "1", "--deadline", "500ms", stdin=records).code == 5
    inside.run(*words, stdin=records[::-1]).assert_one_line(2, "standard input is not the input")
    inside.run(*words, stdin=records[:-9]).assert_one_line(2, "standard input is not the input")
    inside.run(*words, stdin=records + b"1\n").assert_one_line(2, "standard input is not the input")
    assert inside.run(*words, "--deadline", "1m", stdin=records).code == 0
    assert sorted(outcome["seq"] for outcome in inside.outcomes()) == list(range(40))


def test_a_spool_that_was_cut_off_is_completed(inside: Inside) -> None:
    """Killed while standard input was read: the same input again gives the rest."""
    records = b"".join(b'{"n":%d}\n' % n for n in range(40))
    words = ("run", "--resume", "steady", "-", "--out", "run", "--no-report")
    assert inside.run(*words, "-j", "1", "--deadline", "500ms", stdin=records).code == 5
    spool = inside.directory / "run" / "spool"
    spool.write_bytes(records[:321])
    (inside.directory / "run" / "spool.end").unlink()
    assert inside.run(*words, "--deadline", "1m", stdin=records).code == 0
    assert spool.read_bytes() == records
    assert sorted(outcome["seq"] for outcome in inside.outcomes()) == list(range(40))


@pytest.mark.parametrize("kept_bytes", [0, 321])
def test_a_spool_that_has_been_shortened_is_not_taken_for_the_input(inside: Inside, kept_bytes: int) -> None:
    """The run had read all of it: what is missing would be lost without a word. The same input mends it."""
    records = b"".join(b'{"n":%d}\n' % n for n in range(40))
    words = ("run", "--resume", "steady", "-", "--out", "run", "--no-report")
    assert inside.run(*words, "-j", "1", "--deadline", "500ms", stdin=records).code == 5
    spool = inside.directory / "run" / "spool"
    assert spool.read_bytes() == records
    spool.write_bytes(records[:kept_bytes])
    inside.run("resume", "run").assert_one_line(2, "its length is another", "put it back")
    inside.run(*words, stdin=records[:-9]).assert_one_line(2, "it ends at byte 341")
    inside.run(*words, stdin=records + b"1\n").assert_one_line(2, "it goes on after byte 350")
    assert inside.run(*words, "--deadline", "1m", stdin=records).code == 0
    assert spool.read_bytes() == records
    assert sorted(outcome["seq"] for outcome in inside.outcomes()) == list(range(40))


def test_a_spool_that_has_grown_or_gone_is_mended_by_the_same_input(inside: Inside) -> None:
    """What stands behind the input's end is no part of it."""
    records = b"".join(b'{"n":%d}\n' % n for n in range(40))
    words = ("run", "--resume", "steady", "-", "--out", "run", "--no-report")
    assert inside.run(*words, "-j", "1", "--deadline", "500ms", stdin=records).code == 5
    spool = inside.directory / "run" / "spool"
    spool.write_bytes(records + b"1\n")
    inside.run("resume", "run").assert_one_line(2, "its length is another", "put it back")
    spool.unlink()
    inside.run("resume", "run").assert_one_line(2, "its copy of standard input is lost", "--resume")
    mark = inside.directory / "run" / "spool.end"
    mark.rename(inside.directory / "mark")
    mark.mkdir()
    spool.write_bytes(records + b"1\n")
    inside.run("resume", "run").assert_one_line(2, "its length is another", "put it back")
    mark.rmdir()
    (inside.directory / "mark").rename(mark)
    assert inside.run(*words, "--deadline", "1m", stdin=records).code == 0
    assert spool.read_bytes() == records


def test_a_run_stopped_before_its_first_byte_goes_on(inside: Inside) -> None:
    """It has no spool yet: standard input given once more is all of it; a resume alone says so."""
    records = b"".join(b'{"n":%d}\n' % n for n in range(5))
    words = ("run", "--resume", "steady", "-", "--out", "run", "--no-report")
    assert inside.run(*words, "-j", "1", "--deadline", "1ms", stdin=records).code == 5
    run = inside.directory / "run"
    for name in ("spool", "spool.end"):
        (run / name).unlink(missing_ok=True)
    (run / "outcomes.jsonl").write_bytes(b"")
    inside.run("resume", "run").assert_one_line(2, "before standard input was read", "--resume")
    # The deadline may have let one out.
    assert inside.run(*words, "--deadline", "1m", "--may-have-run", "send", stdin=records).code == 0
    assert sorted(outcome["seq"] for outcome in inside.outcomes()) == list(range(5))


def test_it_needs_a_directory(inside: Inside) -> None:
    """Without --out there is nothing to find again."""
    inside.write("in.jsonl", 1)
    inside.run("run", "--resume", "fast", "in.jsonl").assert_one_line(2, "--resume goes with --out DIR")


def test_the_library_refuses_another_run_too(tmp_path: Path) -> None:
    """``fanout.run(…, resume=True)`` checks as the command does."""
    out = tmp_path / "run"
    assert fanout.run("f", range(3), transport=Scripted(), concurrency=1, out=out, report=False).ok
    with pytest.raises(fanout.ConfigError, match="holds another run: its function is f, not g"):
        fanout.run("g", range(3), transport=Scripted(), concurrency=1, out=out, resume=True)
    again = fanout.run("f", range(3), transport=Scripted(), concurrency=1, out=out, resume=True)
    assert (again.state, again.records) == ("finished", 3)


def test_no_secret_of_a_url_is_shown(inside: Inside) -> None:
    """Password and signature are in no line, page or summary; the directory is not left either."""
    url = "http://user:hunter2@127.0.0.1:9/x.jsonl?X-Amz-Signature=abcdef"
    refused = inside.run("run", "fast", url, "--out", "run")
    refused.assert_one_line(2, "http://127.0.0.1:9/x.jsonl?…")
    assert "hunter2" not in refused.err
    assert "abcdef" not in refused.err
    assert not (inside.directory / "run").exists()


def test_an_input_refused_at_its_header_leaves_no_directory(inside: Inside) -> None:
    """The mended input finds its place free."""
    path = inside.directory / "in.csv"
    path.write_text("id,id\n1,2\n")
    inside.run("run", "fast", "in.csv", "--out", "run").assert_one_line(2, "in.csv")
    assert not (inside.directory / "run").exists()
    path.write_text("id,qty\n1,2\n")
    assert inside.run("run", "fast", "in.csv", "--out", "run", "--no-report").code == 0


def test_a_name_that_is_not_utf_8(inside: Inside) -> None:
    """Such a file is run, resumed and reported like any other."""
    name = b"in\xff.jsonl".decode("utf-8", "surrogateescape")
    (inside.directory / name).write_text("".join(f"{n}\n" for n in range(20)))
    words = ("run", "steady", name, "--out", "run")
    assert inside.run(*words, "-j", "2", "--deadline", "100ms").code == 5
    assert inside.run("resume", "run", "--deadline", "1m").code == 0
    assert json.loads(inside.run("report", "run", "--json").out)["counts"]["succeeded"] == 20


def test_a_plan_asks_first(inside: Inside) -> None:
    """Without a terminal nobody answers: --yes says it."""
    inside.write("in.jsonl", 5)
    inside.run("plan", "fast", "in.jsonl", "--out", "run").assert_one_line(2, "give --yes")
    assert not (inside.directory / "run").exists()


@pytest.mark.parametrize("verb", ["resume", "redrive", "run"])
def test_a_run_whose_function_has_gone_keeps_what_it_has(inside: Inside, verb: str) -> None:
    """What it did before stays in the JSON, and run.json says why it stopped now, and no more why before."""
    inside.write("in.jsonl", 6)
    assert inside.run("run", "errors", "in.jsonl", "--out", "run", "--take", "3").code == 1
    path = inside.directory / "run/run.json"
    path.write_text(path.read_text().replace('"errors"', '"nosuch"'))
    words = {
        "resume": ["resume", "run", "--take", "6"],
        "redrive": ["redrive", "run"],
        "run": ["run", "nosuch", "in.jsonl", "--out", "run", "--resume", "--take", "6"],
    }
    done = inside.run(*words[verb], "--json", "-q")
    assert (done.code, sum(json.loads(done.out)["counts"].values())) == (4, 3), done
    state = inside.state()
    assert (state["state"], state["halted_by"], state["exit_code"]) == ("fatal", "fatal", 4)
    assert "nosuch" in state["message"]

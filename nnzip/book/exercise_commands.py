"""`python -m nnzip exercises`: list, start, check, unlock, and for a course grade."""

import argparse
import itertools
from pathlib import Path


def options(parser):
    """Add the actions and their options to the command's parser."""
    parser.set_defaults(folder=Path("." if Path.cwd().name == "exercises" else "exercises"), lang=None)
    actions = parser.add_subparsers(title="what to do (without it: list)", metavar="action")
    listed = actions.add_parser("list", help="all exercises, by chapter, with how yours stand")
    start = actions.add_parser("start", help="write a chapter's file of stubs; never over yours")
    start.add_argument("chapter", help="such as 02, or an exercise of it")
    start.set_defaults(run=_start)
    check = actions.add_parser("check", help="grade a chapter's file, an exercise of it, or any other file")
    check.add_argument("what", help="such as 02, or an exercise, or a file")
    check.add_argument("names", nargs="*", default=(), metavar="NAME", help="these exercises only")
    check.add_argument("--gradescope", type=Path, metavar="FILE", help="write results.json too")
    check.set_defaults(run=_check)
    unlock = actions.add_parser("unlock", help="let your function work inside the book: a figure, or numbers")
    unlock.add_argument("name", metavar="NAME", help="an exercise")
    unlock.set_defaults(run=_unlock)
    grade = actions.add_parser("grade", help="a folder of submissions: a table of points, and feedback for each")
    grade.add_argument("submissions", type=Path, metavar="FOLDER")
    grade.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.csv")
    grade.set_defaults(run=_grade)
    for place in (parser, listed, start, check, unlock):  # before the action, or after it
        place.add_argument("--folder", type=Path, default=argparse.SUPPRESS, help="yours (default: exercises)")
        place.add_argument("--lang", choices=("en", "zh"), default=argparse.SUPPRESS, help="default: NNZIP_LANG, or en")
    for graded in (check, grade):
        graded.add_argument("--chapter", help="grade on all of a chapter, such as 02, whatever the file is called")
        graded.add_argument("--seed", type=int, default=0, help="of the inputs that are drawn (default: 0)")


def list_all(asked):
    """Print all exercises by chapter, with the states of the student's own, and what to do next."""
    from nnzip.book import exercises

    known, states, say = exercises.exercises(), exercises.states(asked.folder), exercises.frame_words(asked.lang)
    for chapter, group in itertools.groupby(known.values(), key=lambda exercise: exercise.chapter):
        print(say(f"\nchapter {chapter.replace('_', ' ', 1)}"))
        for e in group:
            where = f"{e.notebook} {e.section}".strip()
            line = f"  {e.name:<32} {'*' * e.difficulty:<4} {states[e.name]:<13}  {where}"
            print(say(line + ", unlocks" * bool(e.unlock)))
    print(say("\n* a line or a few, ** an hour, *** an afternoon: the points that it is worth"))
    print(say("unlocks: once it passes, python -m nnzip exercises unlock NAME shows it at work in the book"))
    print(say(f"{list(states.values()).count('passed')} of {len(known)} passed."), end=" ")
    left = [e.chapter for e in known.values() if states[e.name] != "passed"]
    begun = [chapter for chapter in left if (asked.folder / f"ex{chapter}.py").is_file()]
    if left:
        other = "" if begun else ", or any other chapter"
        print(say(f"Next: python -m nnzip exercises {'check' if begun else 'start'} {(begun or left)[0][:2]}{other}"))


def _start(asked):
    from nnzip.book import exercises

    of_exercise = exercises.exercises().get(asked.chapter)
    path = exercises.start(of_exercise.chapter[:2] if of_exercise else asked.chapter, asked.folder)
    said = f"{path.resolve()} is yours to fill in. Then: python -m nnzip exercises check {asked.chapter}"
    print(exercises.frame_words(asked.lang)(said))


def _check(asked):
    from nnzip.book import exercises
    from nnzip.book.course import write_gradescope

    (path, names), say = _file_and_names(asked), exercises.frame_words(asked.lang)
    if not path.is_file() and not asked.gradescope:
        raise FileNotFoundError(f"no file {path.resolve()}")
    results, coming = itertools.tee(exercises.grade_file(path, names, chapter=asked.chapter, seed=asked.seed))
    for line in exercises.told(coming):  # at once
        print(say(line), flush=True)
    results = list(results)
    if asked.gradescope:
        write_gradescope(asked.gradescope, results)
    passed = [result.state for result in results].count("passed")
    print(say(f"{passed} of {len(results)} passed"))
    return int(passed < len(results))


def _file_and_names(asked):  # `check` takes a chapter, an exercise or a file
    from nnzip.book import exercises

    if Path(asked.what).suffix:
        return Path(asked.what), asked.names
    known = exercises.exercises()
    stems = {e.chapter[3:]: e.chapter[:2] for e in known.values()}  # "pruning" is 05
    if asked.what[:1].isdigit() or asked.what in stems:
        chapter = exercises.exercises(stems.get(asked.what, asked.what))
        names = [exercises.named(chapter, name).name for name in asked.names]
        return exercises.file_of(next(iter(chapter.values())), asked.folder), names
    return exercises.file_of(exercises.named(known, asked.what), asked.folder), [asked.what, *asked.names]


def _unlock(asked):
    from nnzip.book import exercises
    from nnzip.book.plots import save_figure

    exercises.named(exercises.exercises(), asked.name)  # a wrong name first
    print(f"checking {asked.name}, then at work with it: 10 s to a minute ...", flush=True)
    shown = exercises.unlock_file(asked.name, asked.folder)
    if isinstance(shown, str):
        print(shown)
    else:
        path = asked.folder / f"{asked.name}.png"
        save_figure(shown, path)
        print(f"{path}: drawn with your {asked.name}")


def _grade(asked):
    from nnzip.book.course import grade_folder

    for name, points, most in grade_folder(asked.submissions, asked.output, chapter=asked.chapter, seed=asked.seed):
        print(f"{name:<30} {points:3} of {most}", flush=True)
    print(f"{asked.output}; what to tell each student is in {asked.output.parent / 'feedback'}")

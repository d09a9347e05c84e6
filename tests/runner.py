#!/usr/bin/python3
"""Runs stages of tests for tests/run and counts their cases.

A stage is PRESET:SUITE[+SUITE...]; its programs run at the same time, as many as there are cores
(the end-to-end scripts one by one: they measure time and load). A GoogleTest program counts its
cases; a script counts the lines "ok NAME", "FAILED NAME: why" and "skipped NAME: why" that it
prints; any other program is one case. Output is shown only of what failed. A later stage does not run after one
that failed, unless --keep-going. The last line printed is "N passed, N failed, N skipped".
"""

import argparse
import concurrent.futures
import dataclasses
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The first run of sanity builds csi-sanity.
TIMEOUT_S = {"unit": 600, "tidy": 600, "e2e": 900, "sanity": 1500}
# The randomised suites take as long as the seeds asked for.
TIMEOUT_LONG_S = 6 * 3600
# Seeds where none are asked for: a sanitizer build is several times slower than the dev build.
SEEDS_SANITIZED = {"sim": 1000, "crash": 2}
SEEDS_NIGHTLY = {"sim": 100_000, "crash": 100}
# Of the search for each bug that is put into the product (keelson_seeded_bugs_test).
BUG_SEEDS_NIGHTLY = "10000"
# A recorded run has thousands of power cuts; where both suites run, one seed of it for so many.
SIM_SEEDS_PER_CRASH_SEED = 500

# Lines of a passing program that are shown: what a suite measured about itself.
FIGURES = re.compile(r"^(?:note: .*|.* in [\d.]+ s[:,] .*)$", re.MULTILINE)
GTEST_CASE = re.compile(r"\[ +(OK|FAILED|SKIPPED) +\] ([\w/.]+).* \(\d+ ms\)")
SCRIPT_CASE = re.compile(r"^(ok|FAILED|skipped) (.*)$", re.MULTILINE)


@dataclasses.dataclass
class Program:
    suite: str
    name: str
    command: list
    environment: dict


@dataclasses.dataclass
class Outcome:
    passed: int = 0
    failed: list = dataclasses.field(default_factory=list)
    skipped: list = dataclasses.field(default_factory=list)
    output: str = ""
    seconds: float = 0.0


def gtest_outcome(output, code):
    outcome = Outcome(output=output)
    for verdict, name in GTEST_CASE.findall(output):
        if verdict == "OK":
            outcome.passed += 1
        elif verdict == "FAILED":
            outcome.failed.append(name)
        else:
            outcome.skipped.append(name)
    started = re.findall(r"\[ RUN +\] ([\w/.]+)", output)
    if code != 0 and not outcome.failed:
        outcome.failed.append(f"{started[-1] if started else 'start'}: {describe_exit(code)}")
    elif not started and code == 0:
        outcome.failed.append("the program has no test case")
    return outcome


def script_outcome(output, code):
    outcome = Outcome(output=output)
    for verdict, name in SCRIPT_CASE.findall(output):
        if verdict == "ok":
            outcome.passed += 1
        elif verdict == "FAILED":
            outcome.failed.append(name)
        else:
            outcome.skipped.append(name)
    if code != 0 and not outcome.failed:
        outcome.failed.append(f"the script ended early: {describe_exit(code)}")
    elif code == 0 and not (outcome.passed or outcome.failed or outcome.skipped):
        outcome.failed.append("the script checked nothing")
    return outcome


def plain_outcome(output, code):
    if code == 0:
        return Outcome(passed=1, output=output)
    return Outcome(failed=[describe_exit(code)], output=output)


def describe_exit(code):
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


def seed_count(preset, suite):
    """How many seeds the programs of a suite try; None: as many as they like."""
    if preset in ("asan", "tsan"):
        return SEEDS_SANITIZED.get(suite)
    asked = os.environ.get("KEELSON_SEEDS")
    chosen = os.environ.get("KEELSON_SUITE")
    if asked and suite == "crash" and chosen != "crash":
        return max(4, int(asked) // SIM_SEEDS_PER_CRASH_SEED)
    if not asked and chosen == "nightly":
        return SEEDS_NIGHTLY.get(suite)
    return None


def binaries(preset, suite):
    build = ROOT / "build" / preset
    environment = {}
    if seeds := seed_count(preset, suite):
        environment["KEELSON_SEEDS"] = str(seeds)
    if preset == "dev" and os.environ.get("KEELSON_SUITE") == "nightly":
        environment["KEELSON_BUG_SEEDS"] = os.environ.get("KEELSON_BUG_SEEDS", BUG_SEEDS_NIGHTLY)
    if preset == "tsan":
        # The suppressions are for libraries of Debian that were not built with the sanitizer.
        environment["TSAN_OPTIONS"] = f"suppressions={ROOT}/tests/tsan.supp history_size=4"
    for line in (build / "tests.list").read_text().splitlines():
        if not line:
            continue
        label, path, corpus = line.split("\t")
        if label != suite:
            continue
        command = [path]
        if suite == "fuzz" and preset == "fuzz":
            seconds = os.environ.get("KEELSON_FUZZ_SECONDS", "60")
            found = build / "corpus" / pathlib.Path(path).name
            found.mkdir(parents=True, exist_ok=True)
            command += [
                f"-max_total_time={seconds}",
                "-timeout=10",
                "-rss_limit_mb=2048",
                f"-artifact_prefix={found}/",
                str(found),
            ]
        if corpus:
            command.append(corpus)
        yield Program(suite, f"{preset}/{pathlib.Path(path).name}", command, environment)


def programs(preset, suite):
    build = ROOT / "build" / preset
    if suite == "tidy":
        return [
            Program(suite, "tidy", [str(ROOT / "tests/tidy/run"), "--build", str(build)], {}),
            Program(suite, "tidy of tidy", [str(ROOT / "tests/tidy/selftest.py")], {}),
        ]
    if suite == "clang-tidy":
        command = [str(ROOT / "tests/tidy/clang_tidy"), "--build", str(build)]
        return [Program(suite, "clang-tidy", command, {})]
    if suite == "e2e":
        return [
            Program(suite, f"e2e/{script.name}", [str(script)], {"KEELSON_BIN": str(build / "bin")})
            for script in sorted((ROOT / "tests/e2e").glob("*_test.py"))
        ]
    if suite == "sanity":
        command = [str(ROOT / "tests/sanity/run")]
        return [Program(suite, "csi-sanity", command, {"KEELSON_BIN": str(build / "bin")})]
    return list(binaries(preset, suite))


running = set()  # process ids of the programs under way, each the leader of its own session


def interrupted(number, _):
    """Ends what was started (a script unmounts and ends its daemons) and this program."""
    for pid in list(running):
        os.killpg(pid, signal.SIGTERM)
    print(
        f"interrupted by {signal.Signals(number).name}\n0 passed, 1 failed, 0 skipped", flush=True
    )
    os._exit(1)


def run_program(program):
    try:
        return run_started(program)
    except OSError as error:
        return Outcome(failed=[f"cannot be started: {error}"])


def run_started(program):
    started = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            program.command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=os.environ | program.environment,
        )
        running.add(process.pid)
        timed_out = False
        try:
            code = process.wait(TIMEOUT_S.get(program.suite, TIMEOUT_LONG_S))
        except subprocess.TimeoutExpired:
            # The program leads its own session, so this ends what it started and nothing else.
            # A script gets the chance to unmount and to end its daemons.
            timed_out = True
            os.killpg(process.pid, signal.SIGTERM)
            try:
                code = process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
        running.discard(process.pid)
        log.seek(0)
        output = log.read().decode(errors="replace")
    if program.suite in ("tidy", "clang-tidy", "e2e", "sanity"):
        outcome = script_outcome(output, code)
    elif program.suite == "fuzz" and "[ RUN" not in output:
        outcome = plain_outcome(output, code)
    else:
        outcome = gtest_outcome(output, code)
    if timed_out:
        outcome.failed.append("took too long and was ended")
    outcome.seconds = time.monotonic() - started
    return outcome


def report(program, outcome):
    verdict = "FAILED" if outcome.failed else "ok"
    counts = f"{outcome.passed} passed"
    if outcome.failed:
        counts += f", {len(outcome.failed)} failed"
    if outcome.skipped:
        counts += f", {len(outcome.skipped)} skipped"
    if outcome.failed:
        print(f"---- output of {program.name}")
        print(outcome.output[-60000:].rstrip())
        print("----")
    print(f"{verdict:6} {program.name}: {counts} ({outcome.seconds:.1f} s)")
    for figure in [] if outcome.failed else FIGURES.findall(outcome.output):
        print(f"       {figure}")
    for name in outcome.failed:
        print(f"       failed: {name}")
    for name in outcome.skipped:
        print(f"       skipped: {name}")
    sys.stdout.flush()


def run_stage(stage):
    preset, _, suites = stage.partition(":")
    todo = [program for suite in suites.split("+") for program in programs(preset, suite)]
    print(f"== {stage}", flush=True)
    if not todo:
        return Outcome(skipped=[f"{stage} has no tests yet"])
    total = Outcome()
    workers = 1 if "e2e" in suites else os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        running = {pool.submit(run_program, program): program for program in todo}
        for future in concurrent.futures.as_completed(running):
            outcome = future.result()
            report(running[future], outcome)
            total.passed += outcome.passed
            total.failed += outcome.failed
            total.skipped += outcome.skipped
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="+")
    parser.add_argument("--keep-going", action="store_true")
    options = parser.parse_args()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    passed = failed = skipped = 0
    for stage in options.stages:
        if failed and not options.keep_going:
            print(f"not run after the failure: {stage}")
            skipped += 1
            continue
        outcome = run_stage(stage)
        if outcome.skipped and not (outcome.passed or outcome.failed):
            print("\n".join(f"skipped {name}" for name in outcome.skipped))
        passed += outcome.passed
        failed += len(outcome.failed)
        skipped += len(outcome.skipped)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

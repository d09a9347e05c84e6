"""The tidy rules that read one file's text. Each is a function (path, text) -> [(line, problem)].

docs/testing.md lists them for people; selftest.py shows every rule a bad sample.
"""

import re

import cxx

CXX = (".h", ".cc")
SOURCES = (".h", ".cc", ".py", ".proto", ".cmake", "CMakeLists.txt")
LINES_MAX = 600

# Below service/ and frontend/, everything runs the same in the simulated world: one thread, virtual
# time, one seed. So nothing there may know the clock, a thread or a socket...
SIMULATED = tuple(f"blockstore/{folder}/" for folder in ("io", "pool", "replica", "wire", "engine"))
# ...except the few files that are the kernel's side of an interface which the simulation replaces.
KERNEL_SIDE = re.compile(
    r"blockstore/io/\w*(reactor|uring|aio|kernel_|socket|blocking_helper)\w*\.(h|cc)"
    r"|blockstore/io/log\.(h|cc)"
    r"|blockstore/pool/(rocks_meta_store|pool_directory|handoff_queue)\w*\.(h|cc)"
)
BANNED = {
    r"\bstd::(jthread|thread|async)\b": "starts a thread; post work to the reactor",
    r"\bpthread_create\b": "starts a thread; post work to the reactor",
    r"\b(sleep|usleep|nanosleep|sleep_for|sleep_until)\s*\(": "sleeps; await Reactor::SleepFor",
    r"\b(system_clock|steady_clock|high_resolution_clock)\b": "reads a clock: Reactor::NowNanos",
    r"\b(gettimeofday|clock_gettime|absl::Now)\s*\(": "reads a clock: Reactor::NowNanos",
    r"(?<![\w.>:])(std::)?time\s*\(": "reads the wall clock; use Reactor::NowNanos",
    r"(?<![\w.>:])(::)?socket\s*\(": "opens a socket; use Reactor::Listen or Connect",
    r"(?<![\w.>:])(std::)?s?rand\s*\(": "draws randomness; the caller has the seed",
    r"\brandom_device\b": "draws randomness; the caller has the seed",
}
LOCKS = re.compile(
    r"\b(std::(recursive_|shared_|timed_)?mutex|std::condition_variable|absl::Mutex|"
    r"pthread_mutex_\w+)\b"
)
LOCK_FREE = tuple(f"blockstore/{folder}/" for folder in ("pool", "replica", "wire", "engine"))

# Each folder may use what stands below it and nothing above, so that a layer can be read, tested
# and replaced without the ones on top of it (architecture.md, "Three programs, one direction").
BLOCKSTORE_LAYERS = ("io", "pool", "replica", "wire", "engine", "frontend", "service")
PROGRAMS = ("blockstore", "provisioner", "csi")

TOP_LEVEL = {
    "CMakeLists.txt",
    "CMakePresets.json",
    "README.md",
    "LICENSE",
    ".clang-format",
    ".clang-tidy",
    ".gitignore",
    ".ci",
    "proto",
    "blockstore",
    "provisioner",
    "csi",
    "deploy",
    "tests",
    "docs",
}


def include_directions(path, text):
    parts = path.split("/")
    if not path.endswith(CXX) or parts[0] not in PROGRAMS + ("proto",):
        return
    for line, name, _ in cxx.includes(text):
        target = name.split("/")
        if target[0] == "tests":
            yield line, f"includes {name}: the product does not know its tests"
        elif target[0] in PROGRAMS and target[0] != parts[0]:
            yield line, f"includes {name}: {parts[0]} may use proto and nothing of {target[0]}"
        elif (
            parts[0] == "blockstore"
            and target[0] == "blockstore"
            and len(parts) > 2
            and len(target) > 2
        ):
            own, other = (
                BLOCKSTORE_LAYERS.index(folder) if folder in BLOCKSTORE_LAYERS else None
                for folder in (parts[1], target[1])
            )
            if own is None or other is None:
                yield line, f"a folder of blockstore that the layers do not name: {path} or {name}"
            elif other > own:
                yield line, f"includes {name}: {parts[1]} stands below {target[1]}"


def include_style(path, text):
    if not path.endswith(CXX):
        return
    found = list(cxx.includes(text))
    for line, name, quoted in found:
        if quoted and "/" not in name:
            yield line, f'"{name}": include from the root of the repository'
    if path.endswith(".cc") and not path.startswith("tests/"):
        own = path[:-3] + ".h"
        names = [name for _, name, _ in found]
        if own in names and names[0] != own:
            yield found[0][0], f"{own} comes first, so that it is known to need nothing before it"


def banned_calls(path, text):
    if not path.endswith(CXX) or path.startswith("tests/"):
        return
    code = cxx.strip(text)
    for match in re.finditer(r"\bthrow\b", code):
        yield cxx.line_of(code, match.start()), "throws; return an absl::Status"
    if not path.startswith(SIMULATED) or KERNEL_SIDE.fullmatch(path):
        return
    for pattern, why in BANNED.items():
        for match in re.finditer(pattern, code):
            yield cxx.line_of(code, match.start()), f"{match.group(0).strip()} {why}"
    if path.startswith(LOCK_FREE):
        for match in LOCKS.finditer(code):
            yield cxx.line_of(code, match.start()), f"{match.group(0)}: state has one owner reactor"


def unexplained_todo(path, text):
    if path.startswith("tests/tidy/") or path.endswith((".md", "LICENSE")):
        return
    for match in re.finditer(r"\b(TODO(?!\([^)]{3,}\): \S)|FIXME|XXX)\b", text):
        yield (
            cxx.line_of(text, match.start()),
            f"{match.group(0)}: do it, or write TODO(what it waits for): what",
        )


def file_length(path, text):
    lines = text.count("\n")
    if path.endswith(SOURCES) and lines > LINES_MAX:
        yield lines, f"{lines} lines; a file has one subject and at most {LINES_MAX}"


def header_comment(path, text):
    if path.endswith(".h") and not re.match(r"#pragma once\n(//|/\*)", text):
        yield 1, "begins with #pragma once and a comment that says what it is"


def lambda_coroutines(path, text):
    if path.endswith(CXX):
        code = cxx.strip(text)
        for position in cxx.capturing_lambda_coroutines(code):
            yield (
                cxx.line_of(code, position),
                "a lambda coroutine that captures: its captures die before it ends",
            )


def whitespace(path, text):
    if "\r" in text:
        yield 1, "has carriage returns"
    if text and not text.endswith("\n"):
        yield text.count("\n") + 1, "does not end with a newline"
    for match in re.finditer(r"[ \t]+$", text, re.MULTILINE):
        yield cxx.line_of(text, match.start()), "white space at the end of the line"


RULES = {
    "include directions": include_directions,
    "include style": include_style,
    "banned calls": banned_calls,
    "no unexplained TODO": unexplained_todo,
    "file length": file_length,
    "header comments": header_comment,
    "no capturing lambda coroutine": lambda_coroutines,
    "white space": whitespace,
}


def top_level(paths):
    """The top-level entries that architecture.md does not name."""
    return sorted({path.split("/")[0] for path in paths} - TOP_LEVEL)


def dead_files(texts, compiled):
    """.cc files that no target compiles, .h files that nobody includes. `texts`: path -> text."""
    included = {
        name
        for path, text in texts.items()
        if path.endswith(CXX)
        for _, name, _ in cxx.includes(text)
    }
    for path in sorted(texts):
        if path.endswith(".cc") and path not in compiled:
            yield path, "is compiled by no target"
        elif path.endswith(".h") and path not in included:
            yield path, "is included by nothing"

"""The tidy rules that run a compiler tool: clang-format, and every header compiled alone.

What passed is remembered under the build folder by a hash of all that could change the answer.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess

import cxx

CLANG_FORMAT = "clang-format-16"


def compile_commands(build):
    """path relative to the root -> its list of arguments."""
    entries = json.loads((build / "compile_commands.json").read_text())
    return {entry["file"]: shlex.split(entry["command"]) for entry in entries}


def misformatted(root, paths):
    files = [path for path in paths if path.endswith(cxx_suffixes())]
    if not files:
        return []
    done = subprocess.run(
        [CLANG_FORMAT, "--dry-run", "-Werror", "--ferror-limit=1", *files],
        cwd=root,
        capture_output=True,
        text=True,
    )
    if done.returncode == 0:
        return []
    return sorted(
        set(re.findall(r"^([^\s:]+):\d+:\d+: error", done.stderr, re.MULTILINE))
        or [done.stderr.strip()]
    )


def cxx_suffixes():
    return (".h", ".cc")


def _flags(commands, root, header):
    """The compile flags of a neighbour of `header`, or of any file when it has none."""
    folder = str(root / header).rpartition("/")[0]
    neighbours = [file for file in commands if file.startswith(folder + "/")]
    arguments = commands[min(neighbours or commands)]
    kept, take_next = [], False
    for argument in arguments:
        if take_next:
            kept.append(argument)
            take_next = False
        elif argument in ("-isystem", "-I", "-D"):
            kept.append(argument)
            take_next = True
        elif re.match(r"-(std=|f|W|D|I|isystem)", argument):
            kept.append(argument)
    return kept


def _closure(header, texts):
    """`header` and all of our files that it includes, however far."""
    seen, todo = set(), [header]
    while todo:
        path = todo.pop()
        if path in seen or path not in texts:
            continue
        seen.add(path)
        for _, name, _ in cxx.includes(texts[path]):
            todo.append(re.sub(r"(\.grpc)?\.pb\.h$", ".proto", name))
    return sorted(seen)


def headers_not_alone(root, build, texts):
    """(header, compiler's first errors) of headers that do not compile by themselves."""
    cache = build / "tidy-headers"
    cache.mkdir(exist_ok=True)
    commands = compile_commands(build)

    def check(header):
        flags = _flags(commands, root, header)
        key = hashlib.sha256("\0".join(flags).encode())
        for path in _closure(header, texts):
            key.update(f"\0{path}\0{texts[path]}".encode())
        stamp = cache / key.hexdigest()
        if stamp.exists():
            return None
        done = subprocess.run(
            ["g++", "-fsyntax-only", *flags, "-x", "c++", "-"],
            cwd=root,
            input=f'#include "{header}"\n',
            capture_output=True,
            text=True,
        )
        if done.returncode == 0:
            stamp.touch()
            return None
        return header, "\n    ".join(done.stderr.splitlines()[:6])

    headers = [path for path in texts if path.endswith(".h")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return [problem for problem in pool.map(check, sorted(headers)) if problem]


def compiled_files(root, build):
    return {
        str(pathlib.Path(file).relative_to(root))
        for file in compile_commands(build)
        if file.startswith(f"{root}/") and not file.startswith(f"{build}/")
    }

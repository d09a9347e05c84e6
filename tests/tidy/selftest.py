#!/usr/bin/python3
"""Shows every tidy rule something bad, which it must find, and something good, which it must not
mind."""

import pathlib
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import compile_checks  # noqa: E402
import cxx  # noqa: E402
import rules  # noqa: E402

ENGINE = "blockstore/engine/a.cc"
# (rule, path, text, how many problems)
SAMPLES = [
    ("include directions", "blockstore/pool/a.cc", '#include "blockstore/engine/engine.h"\n', 1),
    ("include directions", "blockstore/engine/a.cc", '#include "blockstore/pool/pool.h"\n', 0),
    ("include directions", "provisioner/ctl/a.cc", '#include "blockstore/io/status.h"\n', 1),
    ("include directions", "blockstore/io/a.cc", '#include "csi/node.h"\n', 1),
    ("include directions", "proto/rpc/a.cc", '#include "provisioner/ctl/ctl.h"\n', 1),
    ("include directions", "blockstore/io/a.cc", '#include "tests/sim/world.h"\n', 1),
    ("include directions", "blockstore/misc/a.cc", '#include "blockstore/io/task.h"\n', 1),
    ("include directions", "csi/a.cc", '#include "proto/rpc/channel.h"\n', 0),
    ("include directions", "tests/sim/a.cc", '#include "blockstore/engine/engine.h"\n', 0),
    ("include style", ENGINE, '#include "engine.h"\n', 1),
    ("include style", ENGINE, '#include <vector>\n\n#include "blockstore/engine/a.h"\n', 1),
    ("include style", ENGINE, '#include "blockstore/engine/a.h"\n\n#include <vector>\n', 0),
    ("banned calls", ENGINE, "std::thread worker(run);\n", 1),
    ("banned calls", ENGINE, "std::this_thread::sleep_for(second);\n", 1),
    ("banned calls", ENGINE, "usleep(10);\n", 1),
    ("banned calls", ENGINE, "auto now = std::chrono::steady_clock::now();\n", 1),
    ("banned calls", ENGINE, "gettimeofday(&now, nullptr);\n", 1),
    ("banned calls", ENGINE, "auto now = time(nullptr);\n", 1),
    ("banned calls", ENGINE, "int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);\n", 1),
    ("banned calls", ENGINE, "int roll = rand();\n", 1),
    ("banned calls", ENGINE, "std::mutex mutex_;\n", 1),
    ("banned calls", "blockstore/io/buffer_pool.h", "std::mutex mutex_;\n", 0),
    ("banned calls", "blockstore/service/a.cc", 'throw std::runtime_error("no");\n', 1),
    ("banned calls", "blockstore/service/a.cc", "std::thread worker(run);\n", 0),
    ("banned calls", "blockstore/pool/rocks_meta_store.cc", "std::thread worker(run);\n", 0),
    ("banned calls", ENGINE, '// time() and std::thread in words\nf("rand()");\n', 0),
    ("banned calls", ENGINE, "int x = op.time(); int y = write_time(1); long z = 1'000'000;\n", 0),
    ("no unexplained TODO", ENGINE, "// TODO: later\n", 1),
    ("no unexplained TODO", ENGINE, "// FIXME\n", 1),
    ("no unexplained TODO", ENGINE, "// TODO(a kernel with ublk): measure\n", 0),
    ("file length", ENGINE, "int x;\n" * 601, 1),
    ("file length", ENGINE, "int x;\n" * 600, 0),
    ("header comments", "blockstore/io/a.h", "#pragma once\n\nint x;\n", 1),
    ("header comments", "blockstore/io/a.h", "// A thing.\n#pragma once\n", 1),
    ("header comments", "blockstore/io/a.h", "#pragma once\n// A thing.\n", 0),
    (
        "no capturing lambda coroutine",
        ENGINE,
        "auto t = [this]() -> Task<int> { co_return 1; };\n",
        1,
    ),
    ("no capturing lambda coroutine", ENGINE, "gate.Run([&] { co_await x; });\n", 1),
    (
        "no capturing lambda coroutine",
        ENGINE,
        "return [x](int y) mutable -> Task<> { co_await y; };\n",
        1,
    ),
    (
        "no capturing lambda coroutine",
        ENGINE,
        "auto t = [](A* a) -> Task<> { co_await a->F(); };\n",
        0,
    ),
    (
        "no capturing lambda coroutine",
        ENGINE,
        "post([this] { gate_.Start([](A* a) -> Task<> { co_await a->F(); }(this)); });\n",
        0,
    ),
    ("no capturing lambda coroutine", ENGINE, "a[i] = 1; if (b[j]) { co_await c; }\n", 0),
    ("no capturing lambda coroutine", ENGINE, "[[nodiscard]] Task<> F() { co_return; }\n", 0),
    ("white space", ENGINE, "int x; \n", 1),
    ("white space", ENGINE, "int x;", 1),
    ("white space", ENGINE, "int x;\r\n", 1),
    ("white space", ENGINE, "int x;\n", 0),
]


def check(name, condition):
    print(f"ok {name}" if condition else f"FAILED {name}: the rule is wrong about its sample")
    return condition


def compile_rules():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / ".clang-format").write_text("BasedOnStyle: Google\n")
        texts = {
            "blockstore/bad.h": "#pragma once\n// Bad.\ninline std::string f() { return {}; }\n",
            "blockstore/good.h": "#pragma once\n// Good.\ninline int f() { return 1; }\n",
            "blockstore/ugly.h": "#pragma once\n// Ugly.\ninline  int f( ){return 1;}\n",
        }
        (root / "blockstore").mkdir()
        for path, text in texts.items():
            (root / path).write_text(text)
        (root / "compile_commands.json").write_text(
            f'[{{"file": "{root}/blockstore/a.cc", "command": "g++ -std=c++20 -I {root} -c a.cc"}}]'
        )
        alone = [header for header, _ in compile_checks.headers_not_alone(root, root, texts)]
        format_problems = compile_checks.misformatted(root, list(texts))
    return [
        check("headers compile alone", alone == ["blockstore/bad.h"]),
        check("clang-format", format_problems == ["blockstore/ugly.h"]),
    ]


def main():
    results = []
    for name in rules.RULES:
        wrong = [
            f"{path}: {text!r}: {found}"
            for rule, path, text, count in SAMPLES
            if rule == name
            for found in [list(rules.RULES[rule](path, text))]
            if len(found) != count
        ]
        print("".join(f"  {sample}\n" for sample in wrong), end="")
        sampled = any(rule == name and count for rule, _, _, count in SAMPLES)
        results.append(check(name, sampled and not wrong))
    results.append(
        check(
            "top-level entries",
            rules.top_level(["docs/a.md", "stray.txt", "src/a.cc"]) == ["src", "stray.txt"],
        )
    )
    dead = dict(
        rules.dead_files(
            {"csi/a.cc": '#include "csi/a.h"\n', "csi/a.h": "", "csi/b.h": "", "csi/b.cc": ""},
            {"csi/a.cc"},
        )
    )
    results.append(check("no dead files", sorted(dead) == ["csi/b.cc", "csi/b.h"]))
    results.append(
        check(
            "line numbers survive stripping",
            cxx.strip('a /* x\ny */ "z" // w\nb\n') == "a     \n             \nb\n",
        )
    )
    results += compile_rules()
    # The checker's own entry point must fail when a rule does.
    done = subprocess.run(
        [str(pathlib.Path(__file__).parent / "run"), "--build", "/nonexistent"],
        capture_output=True,
        text=True,
    )
    results.append(check("a tree that was not built is an error", done.returncode != 0))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())

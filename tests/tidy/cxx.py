"""Just enough C++ reading for the tidy rules: text without comments and literals, and lambdas."""

import re

_TOKEN = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"([^()\s\\]{0,16})\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'',
    re.DOTALL,
)
_NOT_SUBSCRIPT = {"return", "co_return", "co_await", "co_yield", "case", "else", "in"}
_COROUTINE = re.compile(r"\bco_(await|return|yield)\b")


def strip(text, keep_strings=False):
    """The text with comments (and literals) blanked; every line keeps its number and length."""

    def blank(match):
        token = match.group(0)
        # A digit separator (1'000'000) is not the start of a character literal.
        before = match.string[match.start() - 1 : match.start()]
        if token[0] == "'" and (before.isdigit() or before in "abcdefABCDEF" and before):
            return token
        if keep_strings and token[0] in "\"'R":
            return token
        return re.sub(r"[^\n]", " ", token)

    return _TOKEN.sub(blank, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def includes(text):
    """(line, name, quoted) of every #include."""
    for match in re.finditer(
        r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">]', text, re.MULTILINE
    ):
        yield line_of(text, match.start()), match.group(2), match.group(1) == '"'


def _closing(code, start):
    """The position of the bracket that closes the one at `start`, or -1."""
    pairs = {"(": ")", "[": "]", "{": "}"}
    stack = []
    for position in range(start, len(code)):
        character = code[position]
        if character in pairs:
            stack.append(pairs[character])
        elif stack and character == stack[-1]:
            stack.pop()
            if not stack:
                return position
    return -1


def _lambda_at(code, start):
    """(capture, body start, body end) of the lambda whose `[` is at `start`, or None."""
    before = re.search(r"(\w+|\S)\s*$", code[:start])
    if before:
        word = before.group(1)
        if (word[-1].isalnum() or word[-1] in "_)]") and word not in _NOT_SUBSCRIPT:
            return None
    if code.startswith("[[", start):
        return None
    end = _closing(code, start)
    if end < 0:
        return None
    capture = code[start + 1 : end].strip()
    position = end + 1
    rest = re.match(r"\s*\(", code[position:])
    if rest:
        position = _closing(code, position + rest.end() - 1) + 1
        if position == 0:
            return None
    body = re.match(r"[\w\s:<>,*&]*(?:->[\w\s:<>,*&]*)?\{", code[position:])
    if not body:
        return None
    opening = position + body.end() - 1
    closing = _closing(code, opening)
    return (capture, opening, closing) if closing > 0 else None


def capturing_lambda_coroutines(code):
    """Positions of lambdas that capture and whose own body, not a nested one, is a coroutine."""
    lambdas = []
    for match in re.finditer(r"\[", code):
        found = _lambda_at(code, match.start())
        if found:
            lambdas.append((match.start(), *found))
    for start, capture, opening, closing in lambdas:
        if not capture:
            continue
        body = list(code[opening:closing])
        for _, _, inner_opening, inner_closing in lambdas:
            if opening < inner_opening and inner_closing < closing:
                for position in range(inner_opening - opening, inner_closing - opening):
                    body[position] = " "
        if _COROUTINE.search("".join(body)):
            yield start

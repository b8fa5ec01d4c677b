"""Command lines that the program parses but does not run, and its output."""

import json


def parse_command(command, words):
    """Parse the words of a command line; raises what the program would print as wrong usage."""
    words = words[: words.index(">")] if ">" in words else words
    context = command.make_context("pneumoscope", list(words))
    while hasattr(command, "commands"):
        name = (context._protected_args + context.args)[0] if hasattr(context, "_protected_args") else context.args[0]
        words = words[words.index(name) + 1 :]
        command = command.commands[name]
        context = command.make_context(name, list(words), parent=context)


def json_objects(out):
    """The objects of JSON lines."""
    return [json.loads(line) for line in out.splitlines()]

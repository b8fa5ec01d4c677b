"""Command lines read by the program itself, up to running them."""


def parse_command(command, words):
    words = words[: words.index(">")] if ">" in words else words
    context = command.make_context("pneumoscope", list(words))
    while hasattr(command, "commands"):
        name = (context._protected_args + context.args)[0] if hasattr(context, "_protected_args") else context.args[0]
        words = words[words.index(name) + 1 :]
        command = command.commands[name]
        context = command.make_context(name, list(words), parent=context)

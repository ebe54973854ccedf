"""The file of ``pick --request``: the body of an OpenAI request, or what routing needs to know in short."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from inferencepool.cli._documents import parse_values
from inferencepool.cli._input_file import display_name, read_text, refuse
from inferencepool.errors import InvalidDocumentError, Issue
from inferencepool.model import InferenceRequest

__all__ = ["read_request_file"]


def read_request_file(file: str) -> InferenceRequest:
    """
    Read a request from a file.

    The file holds the body of an OpenAI request, with `prompt` or `messages`; beside them `headers` and `id` may stand.
    Other fields of a body, such as ``max_tokens``, do not matter for routing and are not looked at. The texts of
    messages are joined with line breaks; several prompts have a prefix each. Without an `id`, the header
    ``x-request-id`` gives it.

    Args:
        file: The name of the file; ``-`` for standard input.

    Raises:
        InvalidDocumentError: The file cannot be read, or holds what is not allowed; all errors are in it, with field.
        MissingExtraError: The file is YAML and PyYAML is not installed.
    """
    values = parse_values(read_text(file), file)
    source = display_name(file)
    if len(values) > 1:
        raise refuse(source, f"holds {len(values)} documents, allowed is 1")
    number, body = values[0]
    issues: list[Issue] = []
    headers = _headers(body.get("headers"), issues)
    prompts = [text.encode() for text in _prompts(body, issues)]
    request = InferenceRequest(
        model=_text(body, "model", issues),
        prompt=prompts[0] if prompts else b"",
        more_prompts=prompts[1:],
        headers=headers,
        id=_text(body, "id", issues) or headers.get("x-request-id", ""),
    )
    if issues:
        raise InvalidDocumentError(issues, source=f"{source}: document {number}")
    return request


def _text(body: Mapping[str, Any], name: str, issues: list[Issue]) -> str:
    value = body.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    issues.append(Issue(name, f"{value!r} is not a string", value))
    return ""


def _headers(value: Any, issues: list[Issue]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        issues.append(Issue("headers", f"{value!r} is not a mapping of names to strings", value))
        return {}
    headers: dict[str, str] = {}
    for name, text in value.items():
        lower = str(name).lower()
        if not isinstance(text, str):
            issues.append(Issue(f"headers.{name}", f"{text!r} is not a string", text))
        elif lower in headers:
            issues.append(Issue(f"headers.{name}", f"header {lower} is given twice; case does not matter", text))
        else:
            headers[lower] = text
    return headers


def _prompts(body: Mapping[str, Any], issues: list[Issue]) -> Sequence[str]:
    prompt, messages = body.get("prompt"), body.get("messages")
    if prompt is not None and messages is not None:
        issues.append(Issue("messages", "stands beside prompt; allowed is one of them", messages))
    if messages is not None:
        return [_messages(messages, issues)]
    if prompt is None or isinstance(prompt, str):
        return [prompt or ""]
    if isinstance(prompt, list) and all(isinstance(each, str) for each in prompt):
        return prompt
    issues.append(Issue("prompt", "is neither a string nor a list of strings", prompt))
    return ()


def _messages(messages: Any, issues: list[Issue]) -> str:
    if not isinstance(messages, list):
        issues.append(Issue("messages", f"{messages!r} is not a list", messages))
        return ""
    texts: list[str] = []
    for at, message in enumerate(messages):
        field = f"messages[{at}]"
        if isinstance(message, dict):
            texts += _content(message.get("content"), f"{field}.content", issues)
        else:
            issues.append(Issue(field, f"{message!r} is not a mapping with role and content", message))
    return "\n".join(texts)


def _content(content: Any, field: str, issues: list[Issue]) -> list[str]:
    """Give the texts of a message's *content*: a string, or a list of parts of which those of other types have none."""
    if content is None:
        # An assistant's message that only calls tools has no content.
        return []
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list):
        issues.append(Issue(field, f"{content!r} is neither a string nor a list of parts", content))
        return []
    texts: list[str] = []
    for at, part in enumerate(content):
        if not isinstance(part, dict):
            issues.append(Issue(f"{field}[{at}]", f"{part!r} is not a mapping with a type", part))
        elif part.get("type") == "text":
            found: list[Issue] = []
            texts.append(_text(part, "text", found))
            issues += [Issue(f"{field}[{at}].{issue.field}", issue.reason, issue.value) for issue in found]
    return texts

"""Texts as the documentation of each model family shows them, and what is read out of them; and broken ones."""
# ruff: noqa: E501 - samples stand as they were written

from __future__ import annotations

import pytest

from quintain.tools import Tool, ToolCall, format_named

WEATHER = Tool(
    dict,
    name="get_current_temperature",
    description="Get the temperature.",
    parameters={
        "properties": {
            "location": {"type": "string"},
            "days": {"type": "integer"},
            "units": {"anyOf": [{"enum": ["celsius", "fahrenheit"]}, {"type": "null"}]},
            "tags": {"type": "array"},
            "exact": {"type": "boolean"},
        }
    },
)
SEARCH = Tool(
    dict, name="search", description="Search.", parameters={"properties": {"query": {"type": "string"}}}
)
SQUARE = Tool(
    dict, name="square", description="Square.", parameters={"properties": {"x": {"type": "number"}}}
)
TOOLS = (WEATHER, SEARCH, SQUARE)

SAMPLES = [
    # Qwen2.5 and Qwen3, Hermes 2 Pro
    ("hermes", '<tool_call>\n{"name": "get_current_temperature", "arguments": {"location": "San Francisco, CA, USA"}}\n</tool_call>\n'
     '<tool_call>\n{"name": "search", "arguments": {"query": "x"}}\n</tool_call>', "",
     [("get_current_temperature", {"location": "San Francisco, CA, USA"}), ("search", {"query": "x"})]),
    ("hermes", "<think>\nOkay, the user asks.\n</think>\n\nIt is warm.", "It is warm.", []),
    # Llama 3.1 and 3.2
    ("llama3", '{"name": "get_current_conditions", "parameters": {"location": "San Francisco, CA", "unit": "Fahrenheit"}}', "",
     [("get_current_conditions", {"location": "San Francisco, CA", "unit": "Fahrenheit"})]),
    ("llama3", '<|python_tag|>{"type": "function", "name": "trending_songs", "parameters": {"n": "10", "genre": "all"}}<|eom_id|>', "",
     [("trending_songs", {"n": "10", "genre": "all"})]),
    ("llama3", '{"name": "a", "parameters": {}}; {"name": "b", "parameters": {"x": 1}}', "", [("a", {}), ("b", {"x": 1})]),
    ("llama3", '[{"name": "a", "arguments": {}}, {"type": "function", "function": {"name": "b", "parameters": {}}}]', "",
     [("a", {}), ("b", {})]),
    ("llama3", '<function=spotify_trending_songs>{"n": "5"}</function><|eom_id|>', "", [("spotify_trending_songs", {"n": "5"})]),
    ("llama3", '<|python_tag|>brave_search.call(query="Menlo Park California weather")<|eom_id|>', "",
     [("brave_search", {"query": "Menlo Park California weather"})]),
    ("llama3", '{"answer": 42}', '{"answer": 42}', []),
    # Mistral 7B v0.3, Nemo; Small 3.2, Magistral, Devstral
    ("mistral", '[TOOL_CALLS] [{"name": "get_current_weather", "arguments": {"location": "Paris, France", "format": "celsius"}, '
     '"id": "VvvODy9mT"}]</s>', "", [("get_current_weather", {"location": "Paris, France", "format": "celsius"})]),
    ("mistral", '[TOOL_CALLS]add[ARGS]{"a": 3, "b": 4}[TOOL_CALLS]sub[CALL_ID]123456789[ARGS]{"a": 1}</s>', "",
     [("add", {"a": 3, "b": 4}), ("sub", {"a": 1})]),
    ("mistral", '[TOOL_CALLS]add{"a": 3.5}', "", [("add", {"a": 3.5})]),
    ("mistral", "[THINK]Let me see[/THINK]I will look.[TOOL_CALLS]search[ARGS]{}", "I will look.", [("search", {})]),
    ("mistral", "<think>Let me see</think>42", "42", []),
    # Llama 3.2 lightweight, Llama 4, ToolACE
    ("pythonic", "[get_weather(city='San Francisco', metric='celsius'), get_weather(city='Seattle', metric='celsius')]", "",
     [("get_weather", {"city": "San Francisco", "metric": "celsius"}), ("get_weather", {"city": "Seattle", "metric": "celsius"})]),
    ("pythonic", '<|python_start|>[get_user_info(user_id=7890, special="black", deep={"a": [1, -2.5, None, True]})]<|python_end|>', "",
     [("get_user_info", {"user_id": 7890, "special": "black", "deep": {"a": [1, -2.5, None, True]}})]),
    ("pythonic", "I look it up.\n[search.web(query='a \\'b\\'\\n', top=(1, 2,), raw=r'\\d')]", "I look it up.",
     [("search.web", {"query": "a 'b'\n", "top": [1, 2], "raw": "\\d"})]),
    ("pythonic", "The list is [1, 2] (as said).", "The list is [1, 2] (as said).", []),
    # Qwen3-Coder
    ("qwen-xml", "I look.\n<tool_call>\n<function=get_current_temperature>\n<parameter=location>\nParis\n</parameter>\n"
     "<parameter=days>\n3\n</parameter>\n<parameter=units>\nnull\n</parameter>\n<parameter=tags>\n['a', \"b\"]\n</parameter>\n"
     "<parameter=exact>\nTrue\n</parameter>\n</function>\n</tool_call>", "I look.",
     [("get_current_temperature", {"location": "Paris", "days": 3, "units": None, "tags": ["a", "b"], "exact": True})]),
    ("qwen-xml", "<function=search><parameter=query>42</parameter></function>", "", [("search", {"query": "42"})]),
    ("qwen-xml", "<tool_call><function=write>\n<parameter=text>\n  if a < b:\n    </parameter> is no end\n\n</parameter>\n"
     "<parameter=n>\n7\n</parameter>\n</function></tool_call>", "",
     [("write", {"text": "  if a < b:\n    </parameter> is no end\n", "n": 7})]),
    ("qwen-xml", "<tool_call>\n<function=get_current_temperature>\n<parameter=days>\nthree\n</parameter>\n</function>\n</tool_call>", "",
     [("get_current_temperature", {"days": "three"})]),
    # ReAct, as in its paper and in LangChain
    ("react", 'Thought: I need it.\nAction: search\nAction Input: {"query": "x"}', "", [("search", {"query": "x"})]),
    ("react", "Thought: Do I need a tool? Yes\nAction: search\nAction Input: who is it?\nObservation: made up\nFinal Answer: 3", "",
     [("search", {"query": "who is it?"})]),
    ("react", "Action: square\nAction Input: 7\nAction: search\nAction Input: 7", "", [("square", {"x": 7}), ("search", {"query": "7"})]),
    ("react", 'Action: search\nAction Input: ```json\n{"query": "x"}\n```', "", [("search", {"query": "x"})]),
    ("react", "Thought: I now know the final answer\nFinal Answer: It is 42.\nIndeed.", "It is 42.\nIndeed.", []),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "content", "calls"), SAMPLES)
def test_what_models_write_is_read(name, text, content, calls):
    reply = format_named(name).parse(text, 0, TOOLS)

    assert reply.parse_error is None
    assert reply.content == content
    assert reply.tool_calls == tuple(
        ToolCall(f"call_{n}", called, args) for n, (called, args) in enumerate(calls)
    )


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("llama3", '{"name": "f", "parameters": {"x": 1}', "Expecting ',' delimiter"),
        ("llama3", '{"name": "f", "parameters": "x"}', '"parameters" must be an object, it is a string'),
        ("llama3", '{"name": "f", "parameters": {}} and so on', "there is text after the JSON"),
        ("llama3", '<|python_tag|>{"parameters": {}}', '"name" must be the name of a tool'),
        ("llama3", "<|python_tag|>", "a name was expected at the end"),
        ("mistral", "[TOOL_CALLS]add[ARGS]3", "after the mark there must be a name and the arguments"),
        ("mistral", '[TOOL_CALLS]add[ARGS]{"a": 1', "Expecting ',' delimiter"),
        ("mistral", '[TOOL_CALLS][{"name": "f"}]', '"arguments" must be an object, it is missing'),
        ("mistral", "add[ARGS]{}", "the mark of tool calls is missing"),
        ("pythonic", "[f(1)]", "name=value was expected at character 3"),
        ("pythonic", "[f(a=1)", "the list of calls is not closed"),
        ("pythonic", "[f(a=b)]", "a value was expected at character 5, before 'b)]'"),
        ("pythonic", "[f(a=__import__('os'))]", "a value was expected"),
        ("pythonic", "[f(a='x)]", "the text that begins at character 5"),
        ("pythonic", "[f(a=1, a=2)]", "the argument 'a' is given twice"),
        ("pythonic", "[f(a=1)] done", "there is text after the list of calls"),
        ("pythonic", "[f(a='\\ud800')]", "half of a surrogate pair"),
        ("pythonic", "[f(a=" + "[" * 100 + ")]", "nested more than 60 deep"),
        ("qwen-xml", "<tool_call>\n<function=f>\n<parameter=a>\n1\n</function>\n</tool_call>", "the parameter 'a' is not closed"),
        ("qwen-xml", "<tool_call>\n<function=f>\n</tool_call>", "between the parameters there is text"),
        ("qwen-xml", "<tool_call>\n{}\n</tool_call>", "its tags do not match"),
        ("qwen-xml", "<tool_call><function=f>x</function></tool_call>", "between the parameters there is text"),
        ("react", "Action: search", "the action 'search' has no input"),
        ("react", "Action Input: {}", "there is an input without an action before it"),
        ("react", "Thought: hm", "there is neither an action nor a final answer"),
        ("react", "Action: get_current_temperature\nAction Input: Paris", "Expecting value at character 0"),
        ("react", "Action: get_current_temperature\nAction Input: 3", "the input must be a JSON object"),
    ],
)  # fmt: skip
def test_what_is_broken_is_told_in_the_syntax_of_the_format(name, text, said):
    made = format_named(name)
    reply = made.parse(text, 0, TOOLS)

    assert reply.parse_error is not None
    assert said in reply.parse_error
    assert reply.parse_error.endswith(made.form)
    assert reply.tool_calls == ()

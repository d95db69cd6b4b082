"""What is particular to one provider or server, where `test_codecs` says what holds for all."""

from __future__ import annotations

import json

import pytest

from agentflow import Agent, cached_step, list_runs, messages as m, workflow
from agentflow.events import ModelRetried
from agentflow.exceptions import ModelHTTPError, RateLimited, UnexpectedModelBehavior, UsageError
from agentflow.models.anthropic import AnthropicModel, Messages
from agentflow.models.google import GenerateContent, GoogleModel
from agentflow.models.ollama import Chat, OllamaModel
from agentflow.models.openai import ChatCompletions
from agentflow.models.openai_responses import Responses
from agentflow.testing import fresh_store

from ._chat import HELLO, answer, event, heard, read, sent
from ._dialects import DIALECTS

TOOL = m.ToolDefinition(name="today")
FORM = m.OutputSchema(name="city", json_schema={"type": "object", "properties": {"name": {"type": "string"}}})
FREE = m.OutputSchema(name="any", json_schema={"type": "object", "additionalProperties": True})
RETURN = m.ToolReturn(tool_call_id="call_a", tool_name="weather", content="Sunny.")


def claude(model="claude-sonnet-5"):
    return Messages(f"anthropic:{model}", model)


def gemini(model="gemini-3-pro"):
    return GenerateContent(f"google:{model}", model)


def chat(url="http://localhost:8000/v1"):
    return ChatCompletions("openai:m", "m", url)


# ---- Anthropic -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "age"),
    [
        ("claude-3-haiku-20240307", (3, 0)),
        ("claude-3-5-sonnet-20241022", (3, 5)),
        ("claude-opus-4-20250514", (4, 0)),
        ("claude-opus-4-1", (4, 1)),
        ("claude-haiku-4-5-20251001", (4, 5)),
        ("claude-sonnet-5", (5, 0)),
        ("anthropic.claude-opus-4-7-v1:0", (4, 7)),
        ("claude-mythos-preview", (99, 0)),
    ],
)
def test_a_claudes_age_is_in_its_name(model, age):
    """What it can do and how it is asked depends on it."""
    schemas = AnthropicModel(model).supports_json_schema
    thinking = sent(claude(model), settings=m.ModelSettings(reasoning="low"))["thinking"]["type"]

    assert schemas == (age >= (4, 5) or age == (4, 1))
    assert thinking == ("adaptive" if age >= (4, 6) else "enabled")


def test_a_budget_to_think_comes_on_top_of_the_most_tokens():
    """The provider counts both together; here `max_tokens` is the answer's."""
    body = sent(
        claude("claude-sonnet-4-5"), settings=m.ModelSettings(max_tokens=500, reasoning="medium", temperature=1)
    )

    assert body["thinking"] == {"type": "enabled", "budget_tokens": 8192}
    assert body["max_tokens"] == 8692
    assert "temperature" not in body


def test_a_claude_that_thinks_is_not_forced_to_call_a_tool():
    """The provider refuses that."""
    forced = {"tools": (TOOL,), "tool_choice": "required"}

    assert sent(claude(), **forced)["tool_choice"] == {"type": "any"}
    assert "tool_choice" not in sent(claude(), **forced, settings=m.ModelSettings(reasoning="low"))


def test_consecutive_messages_of_one_side_are_one_turn():
    """Results of tools and what the user says after them, as the provider wants it; system messages stand above."""
    calls = DIALECTS["anthropic"].rich()
    other = RETURN.model_copy(update={"tool_call_id": "call_b", "is_error": True})
    system = m.SystemMessage(content="Be brief.")

    body = sent(claude(), system, *HELLO.messages, calls, RETURN, other, system, m.UserMessage(content="And?"))

    assert [turn["role"] for turn in body["messages"]] == ["user", "assistant", "user"]
    assert [block["type"] for block in body["messages"][2]["content"]] == ["tool_result", "tool_result", "text"]
    assert [block.get("is_error") for block in body["messages"][2]["content"]] == [None, True, None]
    assert [block["text"] for block in body["system"]] == ["Be brief.", "Be brief."]


def test_empty_texts_are_left_out():
    """The provider refuses them."""
    body = sent(
        claude(), m.UserMessage.of("", "Hello"), DIALECTS["anthropic"].said(m.TextPart(text="")), *HELLO.messages
    )

    assert [[block["text"] for block in turn["content"]] for turn in body["messages"]] == [["Hello", "Hello"]]


def test_cache_marks_stand_where_they_are_set():
    """On the block before the mark, and by the settings at the end of the instructions and of the conversation."""
    message = m.UserMessage.of("A book.", m.CachePoint(ttl="1h"), "Who did it?")

    body = sent(claude(), m.SystemMessage(content="Read."), message, settings=m.ModelSettings(cache_prompt="5m"))

    book, question = body["messages"][0]["content"]
    assert book["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert body["system"][-1]["cache_control"] == question["cache_control"] == {"type": "ephemeral"}


def test_of_too_many_cache_marks_the_last_are_kept():
    """The provider allows four."""
    message = m.UserMessage.of(*(part for number in range(6) for part in (str(number), m.CachePoint())))

    body = sent(claude(), message, tools=(TOOL,), settings=m.ModelSettings(cache_prompt="5m"))

    assert "cache_control" in body["tools"][-1]
    assert [block["text"] for block in body["messages"][0]["content"] if "cache_control" in block] == ["3", "4", "5"]


def test_a_form_that_cannot_be_enforced_is_told():
    """In words, above the conversation."""
    held, told = sent(claude(), output=FORM), sent(claude(), output=FREE)

    assert held["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert "system" not in held
    assert "output_config" not in told
    assert "additionalProperties" in told["system"][0]["text"]


def test_encrypted_thoughts_go_back_as_they_came():
    """In their place among the others."""
    thoughts = [
        m.ReasoningPart(signature="secret", id="redacted_thinking", provider="anthropic"),
        m.ReasoningPart(text="", signature="signed", provider="anthropic"),
    ]
    dialect = DIALECTS["anthropic"]
    response = dialect.said(*thoughts, m.TextPart(text="Yes."))

    again = read(claude(), dialect.whole(response))
    body = sent(claude(), *HELLO.messages, again, *HELLO.messages)

    assert again == response.model_copy(update={"model": "claude-sonnet-5"})
    assert body["messages"][1]["content"][:2] == [
        {"type": "redacted_thinking", "data": "secret"},
        {"type": "thinking", "thinking": "", "signature": "signed"},
    ]


def test_arguments_that_are_no_json_are_told_as_they_were():
    """The provider wants an object, and the model should see what it wrote."""
    call = m.ToolCall(id="call_a", name="weather", arguments="{broken")

    body = sent(claude(), *HELLO.messages, DIALECTS["anthropic"].said(call, finish="tool_calls"), RETURN)

    assert body["messages"][1]["content"][0]["input"] == {"INVALID_JSON": "{broken"}


def test_a_claude_that_refuses_is_an_error():
    """Its answer is none."""
    dialect = DIALECTS["anthropic"]
    whole = dialect.whole(dialect.said(m.TextPart(text="I cannot."))) | {"stop_reason": "refusal"}

    with pytest.raises(UnexpectedModelBehavior, match="refused") as raised:
        read(claude(), whole)

    assert raised.value.body == "I cannot."


def test_an_account_of_nothing_takes_back_no_tokens():
    """Servers like Anthropic's say what was read at the beginning, and nothing, as a number, at the end."""
    pieces = [
        {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 15, "output_tokens": 1}}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"input_tokens": 0, "output_tokens": 7},
        },
    ]

    _, response = heard(claude(), map(event, pieces))

    assert response.usage == m.Usage(requests=1, input_tokens=15, output_tokens=7)


def test_what_the_providers_own_tools_did_is_no_call_of_ours():
    """Also while it is streamed."""
    started = {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}
    pieces = [
        {"type": "content_block_start", "index": 0, "content_block": started},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]

    assert heard(claude(), map(event, pieces))[1].parts == ()


@pytest.mark.parametrize("url", ["https://api.anthropic.com", "https://api.anthropic.com/v1", "https://x.example/v1/"])
def test_the_version_in_anthropics_address_is_there_once(url):
    """Whether the user writes it or not."""
    assert Messages("a:m", "m", url).encode(HELLO, stream=False).url.endswith("/v1/messages")
    assert "/v1/v1" not in Messages("a:m", "m", url).encode(HELLO, stream=False).url


# ---- Google --------------------------------------------------------------------------------------


def test_an_older_gemini_with_tools_is_told_the_form():
    """It cannot be held to it beside tools; a newer one can."""
    alone = sent(gemini("gemini-2.5-flash"), output=FORM)
    older = sent(gemini("gemini-2.5-flash"), output=FORM, tools=(TOOL,))
    newer = sent(gemini("gemini-3-pro"), output=FORM, tools=(TOOL,))

    assert alone["generationConfig"]["responseJsonSchema"] == FORM.json_schema
    assert "generationConfig" not in older
    assert "JSON schema" in older["systemInstruction"]["parts"][0]["text"]
    assert newer["generationConfig"]["responseMimeType"] == "application/json"


def test_single_options_can_be_added_to_a_geminis():
    """Without the others being lost."""
    settings = m.ModelSettings(temperature=0.5, extra={"generationConfig": {"topK": 3}})

    assert sent(gemini(), settings=settings)["generationConfig"] == {"temperature": 0.5, "topK": 3}


def test_a_signed_text_stays_by_itself():
    """It comes back in its place, also where the text is empty."""
    parts = [
        {"text": "Hm, ", "thought": True},
        {"text": "Yes"},
        {"text": "!"},
        {"text": "", "thoughtSignature": "c2ln"},
    ]
    whole = {"candidates": [{"content": {"role": "model", "parts": parts}, "finishReason": "STOP"}]}

    response = read(gemini(), whole)
    body = sent(gemini(), *HELLO.messages, response, *HELLO.messages)

    assert response.text == "Yes!"
    assert body["contents"][1]["parts"] == [{"text": "Yes!"}, {"text": "", "thoughtSignature": "c2ln"}]


def test_a_call_of_another_model_is_let_pass_by_a_gemini():
    """It wants its signature on the first call of a turn, or to be told that there is none."""
    calls = DIALECTS["ollama"].rich()

    body = sent(gemini(), *HELLO.messages, calls, RETURN)

    signatures = [part.get("thoughtSignature") for part in body["contents"][1]["parts"] if "functionCall" in part]
    assert signatures == ["skip_thought_signature_validator", None]
    assert "thoughtSignature" not in json.dumps(sent(gemini("gemini-2.5-pro"), *HELLO.messages, calls, RETURN))


@pytest.mark.parametrize(
    ("content", "is_error", "response"),
    [
        ("Sunny.", False, {"output": "Sunny."}),
        ('{"sun": true}', False, {"sun": True}),
        ("[1]", False, {"output": [1]}),
        ("No.", True, {"error": "No."}),
    ],
)
def test_a_result_is_an_object_for_a_gemini(content, is_error, response):
    """JSON stays JSON."""
    returned = RETURN.model_copy(update={"content": content, "is_error": is_error})

    body = sent(gemini(), *HELLO.messages, DIALECTS["google"].rich(), returned)

    assert body["contents"][2]["parts"][0]["functionResponse"]["response"] == response


def test_results_name_the_calls_of_newer_geminis():
    """Those give every call an id and want it back; older ones know none."""
    calls = DIALECTS["google"].rich()
    again = RETURN.model_copy(update={"tool_call_id": "call_b"})

    newer, older = (
        json.dumps(sent(gemini(model), *HELLO.messages, calls, RETURN, again)["contents"][1:])
        for model in ("gemini-3-pro", "gemini-2.5-pro")
    )

    assert newer.count('"id": "call_a"') == newer.count('"id": "call_b"') == 2
    assert '"id"' not in older


@pytest.mark.parametrize(
    ("reason", "finish"), [("ESCALATION", "content_filter"), ("CONTINUATION", "length"), ("OTHER", None)]
)
def test_newer_reasons_of_a_gemini(reason, finish):
    """An answer that was cut off must not pass for the whole."""
    body = {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": reason, "index": None}]}

    assert read(gemini(), body).finish_reason == finish


def test_a_blocked_prompt_is_an_error():
    """With the reason, whole and streamed."""
    codec, body = gemini(), {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}

    with pytest.raises(UnexpectedModelBehavior, match="SAFETY"):
        read(codec, body)
    with pytest.raises(UnexpectedModelBehavior, match="SAFETY"):
        heard(codec, [event(body)])


@pytest.mark.parametrize("reason", ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"])
def test_a_call_that_the_provider_could_not_read_is_asked_again(reason):
    """It is an error that may pass."""
    body = {"candidates": [{"finishReason": reason, "finishMessage": "Malformed: f("}]}

    with pytest.raises(ModelHTTPError, match="Malformed: f") as raised:
        read(gemini(), body)

    assert raised.value.status is None


def test_either_name_of_googles_key_will_do(monkeypatch):
    """Its own library takes both, and prefers the one."""
    monkeypatch.setenv("GEMINI_API_KEY", "second")
    assert GoogleModel("g").codec().api_key == "second"

    monkeypatch.setenv("GOOGLE_API_KEY", "first")
    assert GoogleModel("g").codec().api_key == "first"


# ---- Ollama --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1:11435", "http://127.0.0.1:11435/api/chat"),
        ("https://ollama.example/x/", "https://ollama.example/x/api/chat"),
        ("", "http://localhost:11434/api/chat"),
    ],
)
def test_ollamas_address_is_often_only_a_host(monkeypatch, host, url):
    """As Ollama itself takes it; no key is needed."""
    monkeypatch.setenv("OLLAMA_HOST", host)

    assert OllamaModel("m").codec().encode(HELLO, stream=False).url == url


def test_ollamas_own_service_needs_a_key(monkeypatch):
    """A server of one's own does not."""
    with pytest.raises(UsageError, match="OLLAMA_API_KEY"):
        OllamaModel("m", base_url="https://ollama.com").codec()


def test_ollama_is_told_the_form_beside_tools():
    """Held to it, the model could not call them; and where it may not call any, it is given none."""
    codec = Chat("ollama:m", "m")

    assert sent(codec, output=FORM)["format"] == FORM.json_schema
    told = sent(codec, output=FORM, tools=(TOOL,))
    assert "format" not in told
    assert "JSON schema" in told["messages"][0]["content"]
    assert "tools" not in sent(codec, tools=(TOOL,), tool_choice="none")


@pytest.mark.parametrize("part", [m.ImagePart(url="https://example.com/a.png"), m.FilePart(data=b"%PDF-1")])
def test_what_ollama_cannot_take_is_refused(part):
    """Before it is sent."""
    with pytest.raises(UsageError, match="takes images as data="):
        sent(Chat("ollama:m", "m"), m.UserMessage.of(part))


def test_ollamas_arguments_may_be_text():
    """Servers in its place send them as OpenAI's do."""
    call = {"function": {"name": "weather", "arguments": '{"city": "Paris"}'}}

    response = read(Chat("ollama:m", "m"), {"message": {"content": None, "tool_calls": [call]}, "done": True})

    assert response.tool_calls[0].arguments == '{"city": "Paris"}'


def test_only_one_family_of_ollamas_models_has_degrees_of_thinking():
    """The others know yes and no."""
    settings = m.ModelSettings(reasoning="high")

    assert sent(Chat("o:m", "qwen3"), settings=settings)["think"] is True
    assert sent(Chat("o:m", "gpt-oss:20b"), settings=settings)["think"] == "high"
    assert sent(Chat("o:m", "gpt-oss:20b"), settings=m.ModelSettings(reasoning="off"))["think"] is False


# ---- OpenAI and servers like it ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_thoughts_go_back_under_the_name_they_came_by(name):
    """To the servers that want them when tools were called, and never to OpenAI's own."""
    call = {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, name: "Hm.", "tool_calls": [call]}
    response = read(chat(), {"choices": [{"message": message, "finish_reason": "tool_calls"}]})

    local = sent(chat(), *HELLO.messages, response, RETURN)
    own = sent(chat("https://api.openai.com/v1"), *HELLO.messages, response, RETURN)

    assert response.reasoning == "Hm."
    assert local["messages"][1][name] == "Hm."
    assert "Hm." not in json.dumps(own)


def test_openrouters_account_of_thoughts_goes_back_as_it_was():
    """Streamed in pieces, which are joined."""
    codec = chat("https://openrouter.ai/api/v1")
    details = [
        {"type": "reasoning.text", "index": 0, "text": "Let "},
        {"type": "reasoning.text", "index": 0, "text": "me.", "signature": "signed"},
        {"type": "reasoning.encrypted", "index": 1, "data": "secret"},
    ]
    call = {"index": 0, "id": "call_a", "function": {"name": "weather", "arguments": "{}"}}
    deltas = [*({"reasoning": each.get("text", ""), "reasoning_details": [each]} for each in details)]
    choices = [{"delta": delta} for delta in [*deltas, {"tool_calls": [call]}]]
    choices.append({"delta": {}, "finish_reason": "tool_calls"})
    _, response = heard(codec, [event({"choices": [choice]}) for choice in choices])

    body = sent(codec, *HELLO.messages, response, RETURN)

    assert response.reasoning == "Let me."
    assert body["messages"][1]["reasoning_details"] == [
        {"type": "reasoning.text", "index": 0, "text": "Let me.", "signature": "signed"},
        {"type": "reasoning.encrypted", "index": 1, "data": "secret"},
    ]


def test_images_of_several_tools_follow_all_their_answers():
    """In a message of the user's, since every call must be answered first."""
    image = m.ImagePart(data=b"\x89PNG\r\n\x1a\n")
    first = RETURN.model_copy(update={"content": (m.TextPart(text="A map:"), image)})
    second = RETURN.model_copy(update={"tool_call_id": "call_b", "content": (image,)})

    body = sent(chat(), *HELLO.messages, DIALECTS["openai"].rich(), first, second)

    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    assert [part["type"] for part in body["messages"][-1]["content"]] == ["text", "image_url"] * 2


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://api.openai.com/v1", {"reasoning_effort": "low"}),
        ("http://localhost:8000/v1", {"reasoning_effort": "low"}),
        ("https://openrouter.ai/api/v1", {"reasoning": {"effort": "low"}}),
    ],
)
def test_how_hard_to_think_is_said_as_the_server_wants_it(url, said):
    """OpenRouter has an option of its own."""
    body = sent(chat(url), settings=m.ModelSettings(reasoning="low"))

    assert {name: value for name, value in body.items() if "reasoning" in name} == said


def test_sound_and_files_of_text_have_forms_of_their_own():
    """Other files are files."""
    parts = [
        m.FilePart(data=b"RIFF\0\0\0\0WAVE"),
        m.FilePart(data=b"a,b", media_type="text/csv", name="a.csv"),
        m.FilePart(data=b"%PDF-1", name="a.pdf"),
    ]

    content = sent(chat(), m.UserMessage.of(*parts))["messages"][0]["content"]

    assert [part["type"] for part in content] == ["input_audio", "text", "file"]
    assert content[1]["text"] == "a.csv:\na,b"


def test_the_responses_api_cannot_be_told_where_to_stop():
    """To leave it out would change the answer."""
    with pytest.raises(UsageError, match=r"settings\.stop"):
        sent(Responses("openai-responses:m", "m"), settings=m.ModelSettings(stop=("x",)))


def test_parts_of_one_thought_go_back_as_one():
    """With all its summaries, under its name."""
    summary = [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}]
    thought = {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "secret"}
    codec = Responses("openai-responses:gpt-5", "gpt-5")
    response = read(codec, {"status": "completed", "output": [thought]})

    body = sent(codec, *HELLO.messages, response, *HELLO.messages)

    assert [part.text for part in response.parts] == ["One.", "Two."]
    assert body["input"][1] == thought
    assert body["include"] == ["reasoning.encrypted_content"]
    assert "include" not in sent(Responses("openai-responses:gpt-4o", "gpt-4o"))


def test_a_thought_without_a_name_goes_back_too():
    """Servers in OpenAI's place may give none; two of them are two."""
    thoughts = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}], "encrypted_content": f"of {text}"}
        for text in ("One.", "Two.")
    ]
    codec = Responses("openai-responses:m", "m")
    response = read(codec, {"status": "completed", "output": thoughts})

    body = sent(codec, *HELLO.messages, response, *HELLO.messages)

    assert body["input"][1:3] == thoughts


@pytest.mark.parametrize("status", ["failed", "cancelled", "in_progress"])
def test_an_answer_of_the_responses_api_that_is_none(status):
    """Whatever is in it so far."""
    with pytest.raises(ModelHTTPError):
        read(Responses("openai-responses:m", "m"), {"status": status, "output": []})


def test_a_failed_answer_of_the_responses_api_is_its_error():
    """Of the class that its code means."""
    body = {"status": "failed", "output": [], "error": {"code": "rate_limit_exceeded", "message": "Slow down."}}

    with pytest.raises(RateLimited, match="Slow down"):
        read(Responses("openai-responses:m", "m"), body)


def test_an_error_event_of_the_responses_api_may_have_a_number():
    """Servers in OpenAI's place number their codes."""
    error = {"type": "error", "code": 429, "message": "Slow down."}

    with pytest.raises(RateLimited, match="Slow down"):
        heard(Responses("openai-responses:m", "m"), [event(error)])


def test_a_refusal_of_the_responses_api_is_an_error():
    """It is no text of the answer."""
    item = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}

    with pytest.raises(UnexpectedModelBehavior, match="I cannot"):
        read(Responses("openai-responses:m", "m"), {"status": "completed", "output": [item]})


# ---- in a run ------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", DIALECTS)
def test_a_repeated_attempt_is_an_event_of_the_run(provider, server):
    """With the model, what went wrong, and how long the wait is."""
    dialect = DIALECTS[provider]
    refused = answer({"error": {"message": "Slow down."}}, 429, {"retry-after": "0"})
    server.will(refused, answer(dialect.whole(dialect.said(m.TextPart(text="Hello!")))))
    agent = Agent(dialect.model(server.url.removesuffix("/v1")))

    @cached_step(name="greet")
    def greet() -> str:
        return agent.run("Say hello").output

    @workflow(name="greeting")
    def greeting() -> str:
        return greet()

    with fresh_store():
        assert greeting() == "Hello!"
        events = list(list_runs()[0].events())

    retried = [event for event in events if isinstance(event, ModelRetried)]
    assert [(event.model, event.pause, event.next_model) for event in retried] == [
        (f"{provider}:{dialect.model_name}", 0.0, None)
    ]
    assert "Slow down." in retried[0].error

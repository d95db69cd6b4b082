"""What servers of each provider say: one answer of ours in the form of each, whole and in pieces.

Written by hand from the providers' documents; `test_oracles` holds it against the types of their own libraries.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from agentflow.messages import ModelResponse, ReasoningPart, TextPart, ToolCall, Usage
from agentflow.models.anthropic import AnthropicModel, Messages
from agentflow.models.google import GenerateContent, GoogleModel
from agentflow.models.ollama import Chat, OllamaModel
from agentflow.models.openai import ChatCompletions, OpenAIModel
from agentflow.models.openai_responses import OpenAIResponsesModel, Responses

from ._chat import answer, stream

CALLS = (("call_a", "weather", '{"city": "Paris"}'), ("call_b", "weather", '{"city": "Zürich\u2028"}'))


def dumps(value):
    return json.dumps(value, ensure_ascii=False)


def halves(text):
    """A text in pieces, none of them empty."""
    middle = max(1, len(text) // 2)
    return [piece for piece in (text[:middle], text[middle:]) if piece]


def parts_of(response, kind):
    return [part for part in response.parts if isinstance(part, kind)]


def used(**tokens):
    """What a rich answer used: of the kinds of tokens that every provider counts always so many."""
    return Usage(requests=1, input_tokens=30, output_tokens=12, **tokens)


def sse(data, name=None):
    """The bytes of one server-sent event."""
    return (f"event: {name}\n" if name else "").encode() + f"data: {dumps(data)}\n\n".encode()


@dataclass(frozen=True)
class Dialect:
    """One provider's way to say things."""

    model_class: type
    codec_class: type
    model_name: str = "m-1"
    json_schema: bool = True
    content_type = "text/event-stream"

    @property
    def provider(self):
        return self.model_class.provider

    def model(self, url, **options):
        return self.model_class(self.model_name, api_key="sk-canary-0001", base_url=url, **options)

    def codec(self):
        return self.codec_class(f"{self.provider}:{self.model_name}", self.model_name, api_key="sk-canary-0001")

    def said(self, *parts, finish="stop", **fields):
        """An answer that this provider can give."""
        fields = {"usage": Usage(requests=1, input_tokens=11, output_tokens=7), **fields}
        return ModelResponse(parts=parts, model=self.model_name, finish_reason=finish, **fields)

    def thought(self, text):
        return ReasoningPart(text=text, provider=self.provider)

    def calls(self, *calls):
        return tuple(ToolCall(id=call_id, name=name, arguments=text) for call_id, name, text in calls)

    usage = used()

    def rich(self):
        """An answer with everything that this provider knows."""
        parts = (self.thought("Let me think."), TextPart(text="Both,\u2028then: 日."), *self.calls(*CALLS))
        return self.said(*parts, finish="tool_calls", usage=self.usage)

    def reply(self, response, *, streamed):
        """What a server does that gives this answer."""
        if streamed:
            return stream(self.events(response), content_type=self.content_type)
        return answer(self.whole(response))

    def cut(self, response, keep):
        """What a server does that breaks off in the middle of this answer."""
        return stream(self.events(response)[:keep], drop=True, content_type=self.content_type)


class ChatDialect(Dialect):
    usage = used(
        cached_input_tokens=5, cache_write_tokens=4, reasoning_tokens=3, audio_input_tokens=2, audio_output_tokens=1
    )

    def thought(self, text):
        return ReasoningPart(text=text, id="reasoning_content", provider="openai")

    def counted(self, usage):
        return {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {
                "cached_tokens": usage.cached_input_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
                "audio_tokens": usage.audio_input_tokens,
            },
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning_tokens,
                "audio_tokens": usage.audio_output_tokens,
            },
        }

    def whole(self, response):
        calls = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in response.tool_calls
        ]
        message = {"role": "assistant", "content": response.text or None, "refusal": None}
        message |= {"tool_calls": calls} if calls else {}
        message |= {"reasoning_content": response.reasoning} if response.reasoning else {}
        choice = {"index": 0, "message": message, "finish_reason": response.finish_reason, "logprobs": None}
        said = {"id": "c1", "object": "chat.completion", "created": 1, "model": response.model, "choices": [choice]}
        return {**said, "usage": self.counted(response.usage)}

    def pieces(self, response):
        deltas = [{"role": "assistant", "content": ""}]
        deltas += [{"reasoning_content": piece} for piece in halves(response.reasoning)]
        deltas += [{"content": piece} for piece in halves(response.text)]
        for index, call in enumerate(response.tool_calls):
            begun = {
                "index": index,
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": ""},
            }
            deltas.append({"tool_calls": [begun]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]} for piece in halves(call.arguments)
            ]
        said = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": response.model}
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "finish_reason": response.finish_reason})
        last = {**said, "choices": [], "usage": self.counted(response.usage)}
        return [*({**said, "choices": [choice]} for choice in choices), last]

    def events(self, response):
        return [*map(sse, self.pieces(response)), b"data: [DONE]\n\n"]

    def failure(self, message):
        return sse({"error": {"message": message, "type": "server_error", "code": 503}})


class ResponsesDialect(Dialect):
    usage = used(cached_input_tokens=5, cache_write_tokens=4, reasoning_tokens=3)

    def thought(self, text):
        return ReasoningPart(text=text, id="rs_1", signature="encrypted", provider="openai-responses")

    def item(self, part, place):
        match part:
            case TextPart():
                content = [{"type": "output_text", "text": part.text, "annotations": []}]
                said = {"type": "message", "id": f"msg_{place}", "role": "assistant", "status": "completed"}
                return {**said, "content": content}
            case ToolCall():
                named = {"type": "function_call", "id": f"fc_{place}", "call_id": part.id, "name": part.name}
                return {**named, "arguments": part.arguments, "status": "completed"}
            case ReasoningPart():
                summary = [{"type": "summary_text", "text": part.text}]
                said = {"type": "reasoning", "id": part.id, "summary": summary}
                return {**said, "encrypted_content": part.signature}

    def whole(self, response, status=None):
        cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(response.finish_reason)
        usage = response.usage
        return {
            "id": "resp_1",
            "object": "response",
            "created_at": 1,
            "status": "incomplete" if cut else "completed",
            "error": None,
            "incomplete_details": {"reason": cut} if cut else None,
            "model": response.model,
            "output": [self.item(part, place) for place, part in enumerate(response.parts)],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": usage.input_tokens,
                "output_tokens": usage.output_tokens,
                "total_tokens": usage.total_tokens,
                "input_tokens_details": {
                    "cached_tokens": usage.cached_input_tokens,
                    "cache_write_tokens": usage.cache_write_tokens,
                },
                "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            },
        }

    def pieces(self, response):
        whole = self.whole(response)
        begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
        events = [{"type": "response.created", "response": begun}]
        for place, (part, item) in enumerate(zip(response.parts, whole["output"], strict=True)):
            where = {"output_index": place, "item_id": item["id"]}
            empty = {"content": [], "arguments": ""}
            opened = {name: empty.get(name, value) for name, value in item.items()}
            events.append({"type": "response.output_item.added", "output_index": place, "item": opened})
            if isinstance(part, TextPart):
                said = {"type": "response.output_text.delta", **where, "content_index": 0, "logprobs": []}
                events += [{**said, "delta": piece} for piece in halves(part.text)]
            if isinstance(part, ToolCall):
                said = {"type": "response.function_call_arguments.delta", **where}
                events += [{**said, "delta": piece} for piece in halves(part.arguments)]
            events.append({"type": "response.output_item.done", "output_index": place, "item": item})
        events.append({"type": f"response.{whole['status']}", "response": whole})
        return [{**event, "sequence_number": number} for number, event in enumerate(events)]

    def events(self, response):
        return [sse(piece, piece["type"]) for piece in self.pieces(response)]

    def failure(self, message):
        return sse({"type": "error", "code": "server_error", "message": message, "param": None, "sequence_number": 9})


class AnthropicDialect(Dialect):
    usage = used(cached_input_tokens=5, cache_write_tokens=4, reasoning_tokens=3)

    def thought(self, text):
        return ReasoningPart(text=text, signature="signed", provider="anthropic")

    def block(self, part):
        match part:
            case TextPart():
                return {"type": "text", "text": part.text, "citations": None}
            case ToolCall():
                return {"type": "tool_use", "id": part.id, "name": part.name, "input": json.loads(part.arguments)}
            case ReasoningPart(id="redacted_thinking"):
                return {"type": "redacted_thinking", "data": part.signature}
            case ReasoningPart():
                return {"type": "thinking", "thinking": part.text, "signature": part.signature}

    def counted(self, usage):
        return {
            "input_tokens": usage.input_tokens - usage.cached_input_tokens - usage.cache_write_tokens,
            "output_tokens": usage.output_tokens,
            "cache_creation_input_tokens": usage.cache_write_tokens,
            "cache_read_input_tokens": usage.cached_input_tokens,
            "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
        }

    def whole(self, response):
        reason = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}[response.finish_reason]
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": response.model,
            "content": [self.block(part) for part in response.parts],
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": self.counted(response.usage),
        }

    def pieces(self, response):
        whole = self.whole(response)
        usage = whole["usage"]
        begun = {**whole, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
        events = [{"type": "message_start", "message": begun}, {"type": "ping"}]
        for index, block in enumerate(whole["content"]):
            empty = {"text": "", "thinking": "", "signature": "", "input": {}}
            opened = {name: empty.get(name, value) for name, value in block.items()}
            deltas = {
                "text": [{"type": "text_delta", "text": piece} for piece in halves(block.get("text", ""))],
                "thinking": [
                    *({"type": "thinking_delta", "thinking": piece} for piece in halves(block.get("thinking", ""))),
                    {"type": "signature_delta", "signature": block.get("signature")},
                ],
                "tool_use": [
                    {"type": "input_json_delta", "partial_json": piece}
                    for piece in ["", *halves(dumps(block.get("input")))]
                ],
            }.get(block["type"], [])
            events.append({"type": "content_block_start", "index": index, "content_block": opened})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        ended = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
        counted = {"output_tokens": usage["output_tokens"], "output_tokens_details": usage["output_tokens_details"]}
        return [*events, {"type": "message_delta", "delta": ended, "usage": counted}, {"type": "message_stop"}]

    def events(self, response):
        return [sse(piece, piece["type"]) for piece in self.pieces(response)]

    def failure(self, message):
        return sse({"type": "error", "error": {"type": "overloaded_error", "message": message}}, "error")


class GoogleDialect(Dialect):
    usage = used(cached_input_tokens=5, reasoning_tokens=3, audio_input_tokens=2, audio_output_tokens=1)

    def calls(self, *calls):
        first, *rest = super().calls(*calls)
        return (first.model_copy(update={"signature": "c2lnbmVk"}), *rest)

    def part(self, part):
        match part:
            case TextPart():
                return {"text": part.text, **({"thoughtSignature": part.signature} if part.signature else {})}
            case ToolCall():
                call = {"functionCall": {"id": part.id, "name": part.name, "args": json.loads(part.arguments)}}
                return {**call, **({"thoughtSignature": part.signature} if part.signature else {})}
            case ReasoningPart():
                return {"text": part.text, "thought": True}

    def content(self, response, parts, *, last):
        reason = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
        usage = response.usage
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0}
        counted = {
            "promptTokenCount": usage.input_tokens,
            "candidatesTokenCount": usage.output_tokens - usage.reasoning_tokens,
            "thoughtsTokenCount": usage.reasoning_tokens,
            "cachedContentTokenCount": usage.cached_input_tokens,
            "totalTokenCount": usage.total_tokens,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": usage.audio_input_tokens}],
            "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": usage.audio_output_tokens}],
        }
        if not last:
            counted = {"promptTokenCount": usage.input_tokens, "totalTokenCount": usage.input_tokens}
        else:
            candidate["finishReason"] = reason[response.finish_reason]
        return {"candidates": [candidate], "usageMetadata": counted, "modelVersion": response.model, "responseId": "r1"}

    def whole(self, response):
        return self.content(response, [self.part(part) for part in response.parts], last=True)

    def pieces(self, response):
        parts = []
        for part in map(self.part, response.parts):
            cut = "text" in part and "thoughtSignature" not in part
            parts += [{**part, "text": piece} for piece in halves(part["text"])] if cut else [part]
        pieces = [self.content(response, [part], last=False) for part in parts]
        return [*pieces, self.content(response, [], last=True)]

    def events(self, response):
        return [*map(sse, self.pieces(response))]

    def failure(self, message):
        return sse({"error": {"code": 503, "message": message, "status": "UNAVAILABLE"}})


class OllamaDialect(Dialect):
    content_type = "application/x-ndjson"

    def whole(self, response):
        calls = [
            {"id": call.id, "function": {"name": call.name, "arguments": json.loads(call.arguments)}}
            for call in response.tool_calls
        ]
        said = {"role": "assistant", "content": response.text}
        said |= {"thinking": response.reasoning} if response.reasoning else {}
        said |= {"tool_calls": calls} if calls else {}
        return self.piece(response, said) | self.ended(response)

    def piece(self, response, said):
        return {"model": response.model, "created_at": "2026-11-22T10:00:00Z", "message": said, "done": False}

    def ended(self, response):
        return {
            "done": True,
            "done_reason": "length" if response.finish_reason == "length" else "stop",
            "total_duration": 5,
            "load_duration": 1,
            "prompt_eval_count": response.usage.input_tokens,
            "prompt_eval_duration": 1,
            "eval_count": response.usage.output_tokens,
            "eval_duration": 1,
        }

    def pieces(self, response):
        said = self.whole(response)["message"]
        pieces = [{"content": "", "thinking": piece} for piece in halves(said.get("thinking", ""))]
        pieces += [{"content": piece} for piece in halves(said["content"])]
        pieces += [{"content": "", "tool_calls": [call]} for call in said.get("tool_calls", ())]
        begun = [self.piece(response, {"role": "assistant", **piece}) for piece in pieces]
        return [*begun, self.piece(response, {"role": "assistant", "content": ""}) | self.ended(response)]

    def events(self, response):
        return [f"{dumps(piece)}\n".encode() for piece in self.pieces(response)]

    def failure(self, message):
        return f"{dumps({'error': message})}\n".encode()


DIALECTS = {
    dialect.provider: dialect
    for dialect in (
        ChatDialect(OpenAIModel, ChatCompletions),
        ResponsesDialect(OpenAIResponsesModel, Responses, model_name="gpt-5"),
        AnthropicDialect(AnthropicModel, Messages, model_name="claude-sonnet-5"),
        GoogleDialect(GoogleModel, GenerateContent, model_name="gemini-3-pro"),
        OllamaDialect(OllamaModel, Chat),
    )
}

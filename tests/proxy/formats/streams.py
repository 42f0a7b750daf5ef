"""Streams and replies as the vendors send them, for the tests of this folder."""

from typing import Final

OPENAI_CHAT: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,'
    b'"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}\n\n'
    b": ping\n\n"
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,'
    b'"delta":{"content":"h\xc3\xa9l"},"finish_reason":null}],"usage":null}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,'
    b'"delta":{"content":"lo"},"finish_reason":null}],"usage":null}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,'
    b'"delta":{"content":" \xf0\x9f\x8c\x8d"},"finish_reason":null}],"usage":null}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[{"index":0,'
    b'"delta":{},"finish_reason":"stop"}],"usage":null}\n\n'
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"gpt-x","choices":[],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":3},'
    b'"completion_tokens_details":{"reasoning_tokens":2}}}\n\n'
    b"data: [DONE]\n\n"
)
OPENAI_SPACED: Final = OPENAI_CHAT.replace(b'":', b'": ').replace(b',"', b', "')
OPENAI_CRLF: Final = OPENAI_CHAT.replace(b"\n", b"\r\n").replace(b"data: ", b"data:")

RESPONSES: Final = (
    b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1",'
    b'"object":"response","model":"gpt-x","status":"in_progress","output":[],"usage":null}}\n\n'
    b'event: response.output_item.added\ndata: {"type":"response.output_item.added","sequence_number":1,'
    b'"output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","content":[]}}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":2,"delta":"h\xc3'
    b'\xa9"}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","sequence_number":3,"delta":"llo"}'
    b"\n\n"
    b'event: response.completed\ndata: {"type":"response.completed","sequence_number":4,"response":{"id":"resp_1",'
    b'"model":"gpt-x-2","status":"completed","created_at":1,"output":[{"type":"message","content":[{"type":'
    b'"output_text","text":"h\xc3\xa9llo"}]}],"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":3},'
    b'"output_tokens":4,"output_tokens_details":{"reasoning_tokens":2},"total_tokens":13}}}\n\n'
)

ANTHROPIC: Final = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
    b'"model":"claude-x","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":5,'
    b'"cache_creation_input_tokens":1,"cache_read_input_tokens":3,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":'
    b'""}}\n\n'
    b'event: ping\ndata: {"type":"ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
    b'"h\xc3\xa9"}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
    b'"llo"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},'
    b'"usage":{"output_tokens":4}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)

GEMINI: Final = (
    b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"h\xc3\xa9"}]},"index":0}],"usageMetadata":'
    b'{"promptTokenCount":9,"candidatesTokenCount":1,"totalTokenCount":10},"modelVersion":"gemini-x"}\r\n\r\n'
    b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"ll"}]},"index":0}],"usageMetadata":'
    b'{"promptTokenCount":9,"candidatesTokenCount":2,"totalTokenCount":11},"modelVersion":"gemini-x"}\r\n\r\n'
    b'data: {"candidates":[{"content":{"role":"model","parts":[{"text":"o"}]},"finishReason":"STOP","index":0}],'
    b'"usageMetadata":{"promptTokenCount":9,"cachedContentTokenCount":3,"candidatesTokenCount":2,'
    b'"thoughtsTokenCount":2,"totalTokenCount":13},"modelVersion":"gemini-x","responseId":"r1"}\r\n\r\n'
)

OLLAMA: Final = (
    b'{"model":"llama-x","created_at":"2026-11-24T00:00:00Z","message":{"role":"assistant","content":"h\xc3\xa9"},'
    b'"done":false}\n'
    b'{"model":"llama-x","created_at":"2026-11-24T00:00:00Z","message":{"role":"assistant","content":"llo"},'
    b'"done":false}\n'
    b'{"model":"llama-x","created_at":"2026-11-24T00:00:00Z","message":{"role":"assistant","content":""},"done":true,'
    b'"done_reason":"stop","prompt_eval_count":9,"eval_count":4}\n'
)

NATIVE: Final = (
    b'data: {"delta":"h\xc3\xa9"}\n\ndata: {"delta":"llo"}\n\n'
    b'event: done\ndata: {"id":"1","model":"m-x","provider":"p","response":"h\xc3\xa9llo","usage":{"inputTokens":9,'
    b'"outputTokens":4,"totalTokens":13},"cached":false,"latencyMs":1.0,"traceId":"t","finishReason":"stop"}\n\n'
)

STREAMS: Final = (
    ("openai", "chat", OPENAI_CHAT),
    ("openai", "chat", OPENAI_SPACED),
    ("openai", "chat", OPENAI_CRLF),
    ("openai", "responses", RESPONSES),
    ("anthropic", "chat", ANTHROPIC),
    ("gemini", "stream_generate", GEMINI),
    ("ollama", "chat", OLLAMA),
    ("native", "chat", NATIVE),
)
"""Format, operation and bytes; each tells 9 input and 4 output tokens."""
